// Package exchange is the neutral form of a request and its response: every front
// fills it, every part of the request path reads it, and it knows neither fasthttp
// nor net/http.
package exchange

import "slices"

// Field is one header or trailer field as it stood on the wire. Both parts may be
// views into a connection's buffer: they are valid until the exchange ends, and
// whoever keeps one longer copies it.
type Field struct {
	Name, Value []byte
}

// Header is a list of fields in wire order, names in the sender's spelling,
// duplicates kept. Names compare without regard to ASCII case.
type Header []Field

// Clone gives a copy that shares no memory with h.
func (h Header) Clone() Header {
	size := 0
	for i := range h {
		size += len(h[i].Name) + len(h[i].Value)
	}
	text := make([]byte, 0, size)
	keep := func(p []byte) []byte {
		text = append(text, p...)
		return text[len(text)-len(p) : len(text) : len(text)]
	}
	c := make(Header, len(h))
	for i := range h {
		c[i] = Field{Name: keep(h[i].Name), Value: keep(h[i].Value)}
	}
	return c
}

// Get gives the first value of a name, nil when there is none.
func (h Header) Get(name string) []byte {
	for i := range h {
		if EqualFold(h[i].Name, name) {
			return h[i].Value
		}
	}
	return nil
}

// Has reports whether a field of that name is present.
func (h Header) Has(name string) bool {
	return slices.ContainsFunc(h, func(f Field) bool { return EqualFold(f.Name, name) })
}

// Count gives the number of fields of that name.
func (h Header) Count(name string) int {
	n := 0
	for i := range h {
		if EqualFold(h[i].Name, name) {
			n++
		}
	}
	return n
}

// Add appends a field.
func (h *Header) Add(name, value string) {
	*h = append(*h, Field{Name: []byte(name), Value: []byte(value)})
}

// Set gives the name one value: the first field of that name keeps its place and
// spelling, further ones go, and a missing one is appended.
func (h *Header) Set(name, value string) {
	for i := range *h {
		if EqualFold((*h)[i].Name, name) {
			(*h)[i].Value = []byte(value)
			rest := (*h)[i+1:]
			*h = (*h)[:i+1+len(deleteFields(rest, name))]
			return
		}
	}
	h.Add(name, value)
}

// Del removes every field of that name.
func (h *Header) Del(name string) { *h = deleteFields(*h, name) }

func deleteFields(h Header, name string) Header {
	return slices.DeleteFunc(h, func(f Field) bool { return EqualFold(f.Name, name) })
}

// EqualFold compares a name from the wire with one from code, ASCII case ignored.
// It does not allocate.
func EqualFold(a []byte, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}
