package proxy

import (
	"bytes"
	"strings"
)

// pathNode is a place in the tree of path segments: the node of "/a/b" is the child
// "b" of the child "a" of the root. The tree is as deep as the longest path of a
// route, so a request's path is followed no further than that.
type pathNode struct {
	parent   *pathNode
	children map[string]*pathNode

	// Routes by how they end at this node, each list in the file's order.
	exact      []*Route // path: /a/b
	exactSlash []*Route // path: /a/b/
	prefix     []*Route // path_prefix: /a/b, what is here or below
	below      []*Route // path_prefix: /a/b/, what is below
}

// add puts a route under its path or prefix.
func (n *pathNode) add(path string, exact bool, route *Route) {
	for segment := range strings.SplitSeq(strings.Trim(path, "/"), "/") {
		if segment != "" {
			n = n.child(segment)
		}
	}
	slash := strings.HasSuffix(path, "/")
	switch {
	case exact && slash:
		n.exactSlash = append(n.exactSlash, route)
	case exact:
		n.exact = append(n.exact, route)
	case slash:
		n.below = append(n.below, route)
	default:
		n.prefix = append(n.prefix, route)
	}
}

func (n *pathNode) child(segment string) *pathNode {
	next := n.children[segment]
	if next == nil {
		if n.children == nil {
			n.children = map[string]*pathNode{}
		}
		next = &pathNode{parent: n}
		n.children[segment] = next
	}
	return next
}

// find gives the first route in rank that takes the request: it follows the path down
// as far as the tree goes, and comes back up to shorter prefixes.
func (n *pathNode) find(path []byte, l *lookup) *Route {
	rest := path // begins with "/", or is "" when the path ended without one
	for len(rest) > 1 {
		segment := rest[1:]
		if end := bytes.IndexByte(segment, '/'); end >= 0 {
			segment = segment[:end]
		}
		next := n.children[string(segment)]
		if next == nil {
			break
		}
		n, rest = next, rest[1+len(segment):]
	}
	var route *Route
	switch len(rest) {
	case 0:
		route = l.firstOf(n.exact)
	case 1:
		route = l.firstOf(n.exactSlash)
	}
	ended := len(rest) == 0
	for ; n != nil && route == nil; n, ended = n.parent, false {
		if !ended {
			route = l.firstOf(n.below)
		}
		if route == nil {
			route = l.firstOf(n.prefix)
		}
	}
	return route
}
