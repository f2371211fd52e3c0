package proxy

import (
	"errors"
	"fmt"
	"strings"
)

// maxHostLength bounds the hosts that are looked up. DNS names have up to 253 bytes
// (RFC 1035, section 2.3.4).
const maxHostLength = 255

// appendHost appends the host of an authority in lower case, without port and trailing
// dot. It appends nothing for one that is too long to be a name.
func appendHost(dst, authority []byte) []byte {
	host := hostOnly(authority)
	if len(host) > maxHostLength {
		return dst
	}
	for _, c := range host {
		dst = append(dst, lowerByte(c))
	}
	return dst
}

func lowerByte(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// parseHost reads a route's host and gives it as appendHost spells it.
func parseHost(text string) (string, error) {
	host := strings.ToLower(strings.TrimSuffix(text, "."))
	name, _ := strings.CutPrefix(host, "*.")
	if strings.Count(name, ":") > 1 && !strings.HasPrefix(name, "[") {
		host = "[" + name + "]" // an IPv6 address, which a Host field holds in brackets
		name = host
	}
	switch {
	case name == "":
		return "", errors.New("got an empty host; want a name, or no host for any")
	case text == "*":
		return "", errors.New(`got "*"; want no host for any, or "*.example.com"`)
	case strings.Contains(name, "*"):
		return "", fmt.Errorf(`got %q; want "*." in front of a name and nowhere else`, text)
	case strings.Contains(name, "/"):
		return "", fmt.Errorf("got %q; want a host name without scheme and path", text)
	case len(hostOnly([]byte(name))) != len(name):
		return "", fmt.Errorf("got %q; want a host without port (listeners can be named in listeners)", text)
	case len(name) > maxHostLength:
		return "", fmt.Errorf("got a host of %d bytes; want at most %d", len(name), maxHostLength)
	case !isHostName([]byte(name)), strings.HasPrefix(name, "."), strings.Contains(name, ".."):
		return "", fmt.Errorf("got %q; want letters, digits, dots, - and _ (names in other scripts in their xn-- form)", text)
	}
	return host, nil
}

// wildcardSuffix gives what stands behind the "*." of a host.
func wildcardSuffix(host string) (suffix string, wildcard bool) { return strings.CutPrefix(host, "*.") }

// hostRoutes are the routes of one host, or of none.
type hostRoutes struct {
	root    pathNode
	regexps []*Route // in the file's order
	others  []*Route // without a condition on the path
}

func (h *hostRoutes) add(route *Route) {
	switch p := &route.path; {
	case p.regexp != nil:
		h.regexps = append(h.regexps, route)
	case p.exact != "":
		h.root.add(p.exact, true, route)
	case p.prefix != "":
		h.root.add(p.prefix, false, route)
	default:
		h.others = append(h.others, route)
	}
}

// find gives the first route in rank that takes the request. A nil path is none.
func (h *hostRoutes) find(path []byte, l *lookup) *Route {
	if path != nil {
		if route := h.root.find(path, l); route != nil {
			return route
		}
		for _, route := range h.regexps {
			if route.path.regexp.Match(path) && l.accepts(route) {
				return route
			}
		}
	}
	return l.firstOf(h.others)
}

// firstOf gives the first of some routes whose conditions hold.
func (l *lookup) firstOf(routes []*Route) *Route {
	for _, route := range routes {
		if l.accepts(route) {
			return route
		}
	}
	return nil
}
