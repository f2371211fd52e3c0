// Package invalid carries what is wrong with a configuration from the package that
// owns a setting to the one that knows where in which file it stands.
package invalid

import (
	"errors"
	"fmt"
)

// Field is one faulty setting. Path is relative to the struct that was validated,
// in configuration spelling: "interval", "servers[2].address". Err says what was
// found and what was wanted.
type Field struct {
	Path string
	Err  error
}

func (f *Field) Error() string {
	if f.Path == "" {
		return f.Err.Error()
	}
	return f.Path + ": " + f.Err.Error()
}

func (f *Field) Unwrap() error { return f.Err }

// Fieldf makes a Field from a format.
func Fieldf(path, format string, args ...any) error {
	return &Field{Path: path, Err: fmt.Errorf(format, args...)}
}

// In puts the faults of a nested struct under a path. A nil err stays nil.
func In(path string, err error) error {
	var found []error
	for _, f := range Fields(err) {
		switch {
		case f.Path == "":
			found = append(found, &Field{Path: path, Err: f.Err})
		case f.Path[0] == '[':
			found = append(found, &Field{Path: path + f.Path, Err: f.Err})
		default:
			found = append(found, &Field{Path: path + "." + f.Path, Err: f.Err})
		}
	}
	return errors.Join(found...)
}

// Fields lists the faults in err, which may be one, several joined, or an error of
// another kind, which becomes a Field without a path.
func Fields(err error) []*Field {
	if err == nil {
		return nil
	}
	if f, ok := err.(*Field); ok { //nolint:errorlint // the tree is walked here, node by node.
		return []*Field{f}
	}
	// What joins errors and adds words of its own is one fault.
	joined, ok := err.(interface{ Unwrap() []error }) //nolint:errorlint // see above.
	if ok && err.Error() == errors.Join(joined.Unwrap()...).Error() {
		var all []*Field
		for _, e := range joined.Unwrap() {
			all = append(all, Fields(e)...)
		}
		return all
	}
	return []*Field{{Err: err}}
}
