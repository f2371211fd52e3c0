package config

import (
	"encoding"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"

	"drover/units"
)

var sizeType = reflect.TypeFor[units.Size]()

// String says what a node is, in the words of an error: `"web"`, `5`, `a list`.
func (n *node) String() string {
	switch {
	case n.kind == kindNull:
		return "null"
	case n.kind == kindList:
		return "a list"
	case n.kind == kindMap:
		return "a mapping"
	case n.kind == kindText:
		return quote(n.text)
	default:
		return n.text
	}
}

// quote quotes a value for an error, the beginning of a long one.
func quote(s string) string {
	const long = 80
	if len(s) > long {
		s = strings.ToValidUTF8(s[:long], "") + "…"
	}
	return strconv.Quote(s)
}

// wanted describes the values of a type.
func wanted(t reflect.Type) string {
	switch {
	case t == durationType:
		return "a duration with a unit such as 5s"
	case t == sizeType:
		return "a size with a unit such as 32KiB"
	}
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Float64, reflect.Float32:
		return "a number"
	case reflect.String, reflect.Struct:
		return "text"
	case reflect.Slice:
		return "a list"
	default:
		return "a whole number"
	}
}

// setScalar sets a value from a node of the file. It is strict: text is text and a
// number is a number, since `timeout: 5` and `min_version: 1.2` mean something else to
// their writer than to a lenient reader.
func setScalar(n *node, v reflect.Value) error {
	t := v.Type()
	if v.Kind() == reflect.Pointer {
		return fmt.Errorf("got %s; want nothing: keys of type %s cannot be set", n, t)
	}
	textual := t == durationType || t == sizeType || v.Kind() == reflect.String ||
		reflect.PointerTo(t).Implements(textUnmarshalerType)
	switch {
	case n.kind == kindList, n.kind == kindMap, n.kind == kindNull:
		return fmt.Errorf("got %s; want %s", n, wanted(t))
	case textual && n.kind == kindText:
		return setText(n.text, v)
	case (t == durationType || t == sizeType) && n.kind == kindInt && n.text == "0":
		return setText("0", v) // zero needs no unit.
	case textual && (t == durationType || t == sizeType):
		return fmt.Errorf("got %s; want %s", n, wanted(t))
	case textual:
		return fmt.Errorf("got %s, which is no text in YAML; want it in quotes: %s", n, strconv.Quote(n.text))
	case n.kind == kindText && n.quoted:
		return fmt.Errorf("got text %s; want %s without quotes", n, wanted(t))
	}
	if err := setText(n.text, v); err != nil {
		return fmt.Errorf("got %s; want %s", n, wanted(t))
	}
	return nil
}

// setText sets a value from its spelling. Flags and environment variables come here
// directly, since they are all text.
func setText(text string, v reflect.Value) error {
	switch {
	case v.Type() == durationType:
		return setDuration(text, v)
	case v.Type() == sizeType:
		size, err := units.ParseSize(text)
		if err != nil {
			return mismatch(text, v)
		}
		v.SetInt(int64(size))
		return nil
	}
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		return u.UnmarshalText([]byte(text))
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Bool:
		if text != "true" && text != "false" {
			return mismatch(text, v)
		}
		v.SetBool(text == "true")
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		i, err := strconv.ParseInt(text, 10, v.Type().Bits())
		if err != nil {
			return mismatch(text, v)
		}
		v.SetInt(i)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		u, err := strconv.ParseUint(text, 10, v.Type().Bits())
		if err != nil {
			return mismatch(text, v)
		}
		v.SetUint(u)
	case reflect.Float32, reflect.Float64:
		f, err := strconv.ParseFloat(text, v.Type().Bits())
		if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
			return mismatch(text, v)
		}
		v.SetFloat(f)
	default:
		return fmt.Errorf("got %s; want nothing: keys of type %s cannot be set", quote(text), v.Type())
	}
	return nil
}

func setDuration(text string, v reflect.Value) error {
	d, err := time.ParseDuration(text)
	switch {
	case err != nil:
		return mismatch(text, v)
	case d < 0:
		return fmt.Errorf("got %s; want a duration of 0 or more", text)
	}
	v.SetInt(int64(d))
	return nil
}

func mismatch(text string, v reflect.Value) error {
	return fmt.Errorf("got %s; want %s", quote(text), wanted(v.Type()))
}
