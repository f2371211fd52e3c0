package config

import (
	"encoding"
	"reflect"
	"strings"
	"time"
)

// field is one key of a block.
type field struct {
	key   string
	index []int // as reflect.Value.FieldByIndex takes it
	typ   reflect.Type
	owner reflect.Type // the struct that declares it
	name  string       // its Go name there
}

var (
	durationType        = reflect.TypeFor[time.Duration]()
	textUnmarshalerType = reflect.TypeFor[encoding.TextUnmarshaler]()
	includeType         = reflect.TypeFor[Include]()
)

// schema remembers the keys of the struct types that it was asked about. One decoder
// uses one schema, in one goroutine.
type schema map[reflect.Type][]field

// fields lists the keys of a struct type in its order, those of inlined structs in
// their place.
func (s schema) fields(t reflect.Type) []field {
	if known, ok := s[t]; ok {
		return known
	}
	var all []field
	for i := range t.NumField() {
		f := t.Field(i)
		key, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		switch {
		case !f.IsExported() || key == "-":
		case options == "inline":
			for _, inner := range s.fields(f.Type) {
				inner.index = append([]int{i}, inner.index...)
				all = append(all, inner)
			}
		default:
			all = append(all, field{key: key, index: []int{i}, typ: f.Type, owner: t, name: f.Name})
		}
	}
	s[t] = all
	return all
}

func (s schema) keys(t reflect.Type) []string {
	fields := s.fields(t)
	keys := make([]string, len(fields))
	for i, f := range fields {
		keys[i] = f.key
	}
	return keys
}

// isBlock reports whether a type is written as a mapping, as opposed to a text that
// the type reads itself.
func isBlock(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && !reflect.PointerTo(t).Implements(textUnmarshalerType)
}

// setDefaults gives a struct, and every struct in it, its defaults. The outer one
// comes last, so that it may choose other defaults for a block than the block itself.
func (s schema) setDefaults(v reflect.Value) {
	for i := range v.NumField() {
		if v.Type().Field(i).IsExported() && isBlock(v.Field(i).Type()) {
			s.setDefaults(v.Field(i))
		}
	}
	if d, ok := v.Addr().Interface().(interface{ SetDefaults() }); ok {
		d.SetDefaults()
	}
}

// WithDefaults gives a configuration block as it is when nothing is written for it.
func WithDefaults[Block any]() Block {
	var block Block
	schema{}.setDefaults(reflect.ValueOf(&block).Elem())
	return block
}
