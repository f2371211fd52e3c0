package config

import (
	"reflect"
	"strconv"
	"strings"
)

// maxValues bounds the values that one file may come to once its aliases are
// resolved: "billion laughs" files double with every line.
const maxValues = 1_000_000

// document is one decoded file.
type document struct {
	file   string
	places map[string]Place // by key path within the file
}

// find gives the place of a key, or of the nearest block around it when the key
// itself is not written.
func (d *document) find(path string) Place {
	for {
		if at, ok := d.places[path]; ok {
			return at
		}
		cut := strings.LastIndexAny(path, ".[")
		if cut < 0 {
			return d.whole()
		}
		path = path[:cut]
	}
}

func (d *document) whole() Place {
	if d.file == "" {
		return Place{}
	}
	return Place{File: d.file, Line: 1, Column: 1}
}

// decoder fills one struct from one file.
type decoder struct {
	doc    *document
	schema schema
	faults *faults
	values int
}

// decode fills a struct, given by pointer and already holding its defaults, from
// YAML. What is wrong goes to faults; then the struct is filled only in part.
func decode(file string, text []byte, into any, found *faults) *document {
	d := &decoder{
		doc:    &document{file: file, places: map[string]Place{}},
		schema: schema{},
		faults: found,
	}
	root, parseFaults := parse(text)
	for _, f := range parseFaults {
		found.add(d.place(f.at), f.path, "%w", f.err)
	}
	if root != nil {
		d.value(root, reflect.ValueOf(into).Elem(), "")
	}
	return d.doc
}

func (d *decoder) place(at position) Place {
	return Place{File: d.doc.file, Line: at.line, Column: at.column}
}

func (d *decoder) fault(n *node, path, format string, args ...any) {
	d.faults.add(d.place(n.at), path, format, args...)
}

// value decodes any node into any type that a configuration struct may hold.
func (d *decoder) value(n *node, v reflect.Value, path string) {
	if d.values++; d.values >= maxValues {
		if d.values == maxValues {
			d.fault(n, path, "got more than %d values; want fewer (do aliases multiply?)", maxValues)
		}
		return
	}
	if _, written := d.doc.places[path]; !written && path != "" {
		d.doc.places[path] = d.place(n.at)
	}
	switch {
	case n.kind == kindBroken:
	case v.Kind() == reflect.Pointer && isBlock(v.Type().Elem()):
		if v.IsNil() && n.kind == kindMap {
			v.Set(reflect.New(v.Type().Elem()))
			d.schema.setDefaults(v.Elem())
		}
		d.block(n, v.Elem(), v.Type().Elem(), path)
	case isBlock(v.Type()):
		d.block(n, v, v.Type(), path)
	case v.Type() == includeType && n.kind == kindText:
		v.Set(reflect.ValueOf(Include{n.text}))
	case v.Kind() == reflect.Slice && !reflect.PointerTo(v.Type()).Implements(textUnmarshalerType):
		d.list(n, v, path)
	default:
		switch err := setScalar(n, v); {
		case err != nil && strings.HasSuffix(path, ".secret"):
			d.fault(n, path, "got a value of another kind; want text in quotes") // without the value.
		case err != nil:
			d.fault(n, path, "%w", err)
		}
	}
}

// block decodes a mapping into a struct. V is invalid when n is no mapping and the
// block was absent so far.
func (d *decoder) block(n *node, v reflect.Value, t reflect.Type, path string) {
	switch n.kind {
	case kindMap:
	case kindNull:
		d.fault(n, path, "got null; want a mapping, such as {} for the defaults")
		return
	default:
		d.fault(n, path, "got %s; want a mapping of %s", n, strings.Join(d.schema.keys(t), ", "))
		return
	}
	fields := d.schema.fields(t)
	for _, p := range n.pairs {
		at := join(path, p.key)
		known := false
		for _, f := range fields {
			if f.key == p.key {
				known = true
				d.key(p, at)
				d.value(p.value, v.FieldByIndex(f.index), at)
			}
		}
		if !known {
			d.faults.add(d.place(p.at), at, "got an unknown key; %s", unknownKey(p.key, path, d.schema.keys(t), t))
		}
	}
}

// key notes the key's own place for blocks and lists, whose values may begin lines
// further down.
func (d *decoder) key(p pair, path string) {
	if p.value.kind == kindMap || p.value.kind == kindList {
		d.doc.places[path] = d.place(p.at)
	}
}

// list decodes a sequence. What the slice held before, its default, goes.
func (d *decoder) list(n *node, v reflect.Value, path string) {
	switch n.kind {
	case kindList:
	case kindNull:
		d.fault(n, path, "got null; want a list, such as [] for none")
		return
	default:
		d.fault(n, path, "got %s; want a list, such as [ %s ]", n, listExample(n))
		return
	}
	elem := v.Type().Elem()
	out := reflect.MakeSlice(v.Type(), len(n.items), len(n.items))
	for i, item := range n.items {
		if d.values >= maxValues {
			break
		}
		if isBlock(elem) {
			d.schema.setDefaults(out.Index(i))
		}
		if item.kind == kindInt && elem.Kind() == reflect.String {
			// In a list of words such as [ connect, 503 ] a number is one of the words.
			item = &node{kind: kindText, at: item.at, text: item.text}
		}
		d.value(item, out.Index(i), indexed(path, i))
	}
	v.Set(out)
}

func listExample(n *node) string {
	switch {
	case n.kind == kindMap:
		return "{…}"
	case n.quoted:
		return strconv.Quote(n.text)
	default:
		return n.text
	}
}

// join puts a key under a path.
func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}
