package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Place says where a setting was made: in a file, in an environment variable or by a
// flag. The zero value is "nowhere": a default, or a configuration made in code.
type Place struct {
	File         string
	Line, Column int    // from 1; 0 when the file is meant as a whole
	Source       string // "flag --log-level", "environment variable DROVER_LOG_LEVEL"; "" for a file
}

// String gives "file:line:column", or the flag or variable.
func (p Place) String() string {
	switch {
	case p.Source != "":
		return p.Source
	case p.Line == 0:
		return p.File
	default:
		return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
	}
}

// Error is one fault of a configuration.
type Error struct {
	Place
	// Path is the key's full path in its file, "upstreams[1].check.interval"; "" when
	// the fault is in no one key.
	Path string
	// Err says what was found and what was wanted.
	Err error
}

// Error gives "drover.yaml:3:5: listeners[0].address: got …; want …".
func (e *Error) Error() string {
	parts := make([]string, 0, 3)
	if at := e.Place.String(); at != "" {
		parts = append(parts, at)
	}
	if e.Path != "" {
		parts = append(parts, e.Path)
	}
	return strings.Join(append(parts, e.Err.Error()), ": ")
}

// Unwrap gives what was found and wanted, without the place.
func (e *Error) Unwrap() error { return e.Err }

// Errors is everything that is wrong with a configuration, in the order of its files
// and lines.
type Errors struct {
	List []*Error
}

// Error gives one line per fault.
func (e *Errors) Error() string {
	lines := make([]string, len(e.List))
	for i, one := range e.List {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap gives the faults one by one.
func (e *Errors) Unwrap() []error {
	all := make([]error, len(e.List))
	for i, one := range e.List {
		all[i] = one
	}
	return all
}

// faults gathers errors while a configuration is read.
type faults struct {
	list []*Error
}

func (f *faults) add(at Place, path, format string, args ...any) {
	f.list = append(f.list, &Error{Place: at, Path: path, Err: fmt.Errorf(format, args...)})
}

// err gives what was gathered, nil when nothing was. Files come in the order in
// which they first had a fault, which is the order in which they were read.
func (f *faults) err() error {
	if len(f.list) == 0 {
		return nil
	}
	order := map[string]int{}
	for _, e := range f.list {
		if _, known := order[e.File]; !known {
			order[e.File] = len(order)
		}
	}
	slices.SortStableFunc(f.list, func(a, b *Error) int {
		return cmp.Or(cmp.Compare(order[a.File], order[b.File]), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	// A part may check a nested block that the walk over all blocks checks too.
	seen := map[string]bool{}
	f.list = slices.DeleteFunc(f.list, func(e *Error) bool {
		text := e.Error()
		twice := seen[text]
		seen[text] = true
		return twice
	})
	return &Errors{List: f.list}
}
