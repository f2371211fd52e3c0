package config

import (
	"fmt"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// node converts one parsed value. It never gives nil: what cannot be converted is
// reported and becomes kindBroken.
func (t *tree) node(from ast.Node) *node {
	at := place(from.GetToken())
	switch from := from.(type) {
	case *ast.NullNode:
		if from.Token.Type == token.ImplicitNullType {
			return &node{kind: kindNull, at: at} // nothing is written.
		}
		return &node{kind: kindNull, at: at, text: from.Token.Value}
	case *ast.BoolNode:
		return &node{kind: kindBool, at: at, text: from.Token.Value}
	case *ast.IntegerNode:
		return &node{kind: kindInt, at: at, text: from.Token.Value}
	case *ast.FloatNode:
		return &node{kind: kindFloat, at: at, text: from.Token.Value}
	case *ast.InfinityNode:
		return &node{kind: kindFloat, at: at, text: from.Token.Value}
	case *ast.NanNode:
		return &node{kind: kindFloat, at: at, text: from.Token.Value}
	case *ast.StringNode:
		quoted := from.Token.Type == token.SingleQuoteType || from.Token.Type == token.DoubleQuoteType
		return &node{kind: kindText, at: at, text: from.Value, quoted: quoted}
	case *ast.LiteralNode:
		return &node{kind: kindText, at: at, text: from.Value.Value, quoted: true}
	case *ast.SequenceNode:
		list := &node{kind: kindList, at: at}
		for i, item := range from.Values {
			list.items = append(list.items, t.under(indexed(t.path, i), item))
		}
		return list
	case *ast.MappingNode:
		return t.mapping(at, from.Values)
	case *ast.MappingValueNode:
		return t.mapping(at, []*ast.MappingValueNode{from})
	case *ast.AnchorNode:
		return t.anchor(from)
	case *ast.AliasNode:
		return t.alias(from)
	case *ast.TagNode:
		return t.tag(from)
	default:
		t.add(at, "got YAML of an unexpected kind (%s); want a mapping, a list or a value", from.Type())
		return &node{kind: kindBroken, at: at}
	}
}

func (t *tree) anchor(from *ast.AnchorNode) *node {
	value := &node{kind: kindNull, at: place(from.Start)}
	if from.Value != nil {
		value = t.node(from.Value)
	}
	if from.Name != nil {
		// Known only from here on: an alias inside the anchored value would make the
		// value contain itself.
		t.anchors[from.Name.GetToken().Value] = value
	}
	return value
}

func (t *tree) alias(from *ast.AliasNode) *node {
	name := ""
	if from.Value != nil {
		name = from.Value.GetToken().Value
	}
	if known := t.anchors[name]; known != nil {
		return known
	}
	t.add(place(from.Start), "got alias *%s; want an anchor &%s before it", name, name)
	return &node{kind: kindBroken, at: place(from.Start)}
}

// tag accepts the tags that only repeat what the schema wants anyway.
func (t *tree) tag(from *ast.TagNode) *node {
	tag := from.Start.Value
	value := &node{kind: kindNull, at: place(from.Start)}
	if from.Value != nil {
		value = t.node(from.Value)
	}
	switch tag {
	case "!!str":
		value.kind, value.quoted = kindText, true
	case "!!int", "!!float", "!!bool", "!!null", "!!seq", "!!map":
	default:
		t.add(place(from.Start), "got YAML tag %s; want none", tag)
	}
	return value
}

// mapping converts a map, reports keys that stand twice, and resolves merge keys: an
// explicit key wins over a merged one, an earlier merged map over a later one.
func (t *tree) mapping(at position, values []*ast.MappingValueNode) *node {
	m := &node{kind: kindMap, at: at}
	seen := map[string]position{}
	var merged []*node
	for i, from := range values {
		keyAt := place(from.Key.GetToken())
		if i == 0 && keyAt.line <= at.line {
			m.at = keyAt
		}
		if from.Key.IsMergeKey() {
			merged = append(merged, t.mergeSources(from.Value)...)
			continue
		}
		key, ok := t.key(from.Key)
		if !ok {
			continue
		}
		path := join(t.path, key)
		value := &node{kind: kindNull, at: keyAt}
		if from.Value != nil {
			value = t.under(path, from.Value)
		}
		if value.kind == kindNull && value.text == "" {
			value = &node{kind: kindNull, at: keyAt} // what is not written has no place of its own.
		}
		if first, twice := seen[key]; twice {
			t.faults = append(t.faults, fault{keyAt, path, fmt.Errorf("got the key again; want it once (the first is in line %d)", first.line)})
			continue
		}
		seen[key] = keyAt
		m.pairs = append(m.pairs, pair{key, keyAt, value})
	}
	for _, source := range merged {
		for _, p := range source.pairs {
			if _, known := seen[p.key]; !known {
				seen[p.key] = p.at
				m.pairs = append(m.pairs, p)
			}
		}
	}
	return m
}

// mergeSources gives the maps that the value of a merge key names.
func (t *tree) mergeSources(from ast.Node) []*node {
	if from == nil {
		return nil
	}
	value := t.under(join(t.path, "<<"), from)
	sources := []*node{value}
	if value.kind == kindList {
		sources = value.items
	}
	for _, source := range sources {
		if source.kind != kindMap {
			t.add(source.at, "<< got %s; want a mapping, or a list of mappings, to merge", source)
			return nil
		}
	}
	return sources
}

func (t *tree) key(from ast.MapKeyNode) (string, bool) {
	var inner ast.Node = from
	if explicit, ok := from.(*ast.MappingKeyNode); ok && explicit.Value != nil {
		inner = explicit.Value
	}
	scalar := t.node(inner)
	if scalar.kind == kindList || scalar.kind == kindMap {
		t.add(scalar.at, "got %s as a key; want a word", scalar)
		return "", false
	}
	return scalar.text, true
}
