package format

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// object is a JSON object whose values are read leniently: writers put numbers into
// strings, and null for what they leave out.
type object map[string]json.RawMessage

func parseObject(data []byte) (object, error) {
	var o object
	if err := json.Unmarshal(data, &o); err != nil {
		return nil, fmt.Errorf("cannot parse JSON %.64q: %w", data, err)
	}
	if o == nil {
		return nil, fmt.Errorf("got JSON null; want an object")
	}
	return o, nil
}

// has reports whether a key has a value other than null.
func (o object) has(key string) bool {
	v, ok := o[key]
	return ok && len(v) > 0 && !bytes.Equal(bytes.TrimSpace(v), []byte("null"))
}

func (o object) keys() string {
	keys := slices.Sorted(maps.Keys(o))
	if len(keys) > 8 {
		keys = append(keys[:8], "…")
	}
	return strings.Join(keys, ", ")
}

// text gives a string, number or boolean as text, "" for null and for none.
func (o object) text(key string) (string, error) {
	if !o.has(key) {
		return "", nil
	}
	raw := bytes.TrimSpace(o[key])
	switch raw[0] {
	case '{', '[':
		return "", fmt.Errorf("got %.32q as %s; want a text or a number", raw, key)
	case '"':
		var s string
		err := json.Unmarshal(raw, &s)
		return s, err
	}
	return string(raw), nil
}

// number gives an integer, written as a number or as a text; found tells whether
// there is one.
func (o object) number(key string) (n int64, found bool, err error) {
	text, err := o.text(key)
	if err != nil || text == "" {
		return 0, false, err
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || f != float64(int64(f)) {
		return 0, false, fmt.Errorf("got %.32q as %s; want a whole number", text, key)
	}
	return int64(f), true, nil
}

// object gives a nested object, an empty one for null and for none, or for a value of
// another kind.
func (o object) object(key string) object {
	if !o.has(key) {
		return object{}
	}
	nested, err := parseObject(o[key])
	if err != nil {
		return object{}
	}
	return nested
}
