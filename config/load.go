package config

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"drover/invalid"
)

// Options says where a configuration comes from.
type Options struct {
	// Path is the file. "" looks at --config, DROVER_CONFIG, ./drover.yaml and
	// /etc/drover/drover.yaml, in this order.
	Path string
	// Flags are the parsed flags that RegisterFlags added, nil for none.
	Flags *pflag.FlagSet
	// Warn, when set, is told what is legal and probably not meant.
	Warn func(*Error)
	// OnRead, when set, is told each file and include directory with the bytes that
	// were read: Watcher.Note, so that a change during the load is not missed.
	OnRead func(path string, content []byte)
}

// Load reads, completes and validates a configuration, for a start, a reload and a
// check alike. All that is wrong with it comes as one *Errors; an error of another
// kind means that the file cannot be found or read.
func Load(opts Options) (*Config, error) {
	over, err := newOverrides(opts.Flags)
	if err != nil {
		return nil, err
	}
	asked := opts.Path
	if asked == "" {
		asked = over.file()
	}
	path, err := locate(asked)
	if err != nil {
		return nil, err
	}
	l := newLoader(opts)
	text, err := l.read(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read configuration: %w", err)
	}
	l.main = l.decode(path, text, l.cfg)
	l.include(path)
	checkEnvironment(&l.faults)
	if l.broken {
		return nil, l.faults.err()
	}
	return l.finish(over)
}

// loader carries one Load.
type loader struct {
	opts   Options
	cfg    *Config
	main   *document
	faults faults
	// broken says that a file could not be taken apart at all, so that what refers to
	// its content cannot be judged.
	broken bool
	// moved tells where an element of a merged list is written, by its path in the
	// whole: "upstreams[4]".
	moved map[string]origin
	// contents holds the certificates and secrets that were read, by path.
	contents map[string][]byte
	// remarks are for Options.Warn.
	remarks []*Error
}

// origin is a path within one file.
type origin struct {
	doc  *document
	path string
}

func newLoader(opts Options) *loader {
	cfg := WithDefaults[Config]()
	return &loader{
		opts:     opts,
		cfg:      &cfg,
		main:     &document{places: map[string]Place{}},
		moved:    map[string]origin{},
		contents: map[string][]byte{},
	}
}

// read reads a file that belongs to the configuration.
func (l *loader) read(path string) ([]byte, error) {
	content, err := readBounded(path)
	if err != nil {
		content = nil
	}
	l.note(path, content)
	return content, err
}

func (l *loader) note(path string, content []byte) {
	if absolute, err := filepath.Abs(path); err == nil {
		path = absolute
	}
	l.cfg.addFile(path, nil)
	if l.opts.OnRead != nil {
		l.opts.OnRead(path, content)
	}
}

// decode decodes one file and makes the paths in it absolute: they are meant from the
// file they stand in.
func (l *loader) decode(path string, text []byte, into any) *document {
	before := len(l.faults.list)
	doc := decode(path, text, into, &l.faults)
	if len(l.faults.list) > before && len(doc.places) == 0 {
		l.broken = true
	}
	resolvePaths(reflect.ValueOf(into).Elem(), filepath.Dir(path))
	return doc
}

// finish applies overrides and validates.
func (l *loader) finish(over *overrides) (*Config, error) {
	if over != nil {
		over.apply(l.cfg, l.main, &l.faults)
		resolvePaths(reflect.ValueOf(l.cfg).Elem(), ".")
	}
	l.cfg.nameRoutes()
	l.readReferenced()
	unread := l.faults.list
	l.faults.list = nil
	l.validateBlocks()
	l.crossValidate()
	l.faults.list = append(unread, withoutEchoes(l.faults.list, unread)...)
	if err := l.faults.err(); err != nil {
		return nil, err
	}
	if l.opts.Warn != nil {
		l.warn()
	}
	return l.cfg, nil
}

// at adds a fault at a path of the merged configuration.
func (l *loader) at(path, format string, args ...any) {
	at, local := l.find(path)
	l.faults.add(at, local, format, args...)
}

// find gives the place of a path of the merged configuration, and the path within its
// file.
func (l *loader) find(path string) (Place, string) {
	if end := strings.IndexByte(path, ']'); end >= 0 {
		if from, ok := l.moved[path[:end+1]]; ok {
			local := from.path + path[end+1:]
			return from.doc.find(local), local
		}
	}
	return l.main.find(path), path
}

// written reports whether a path of the merged configuration stands in a file, as
// opposed to a default.
func (l *loader) written(path string) bool {
	if end := strings.IndexByte(path, ']'); end >= 0 {
		if from, ok := l.moved[path[:end+1]]; ok {
			_, there := from.doc.places[from.path+path[end+1:]]
			return there
		}
	}
	_, there := l.main.places[path]
	return there
}

// validateBlocks asks every block of the configuration whether it is valid.
func (l *loader) validateBlocks() {
	known := schema{}
	eachBlock(known, reflect.ValueOf(l.cfg).Elem(), "", func(v reflect.Value, path string) {
		block, ok := v.Addr().Interface().(interface{ Validate() error })
		if !ok {
			return
		}
		for _, f := range invalid.Fields(block.Validate()) {
			switch {
			case f.Path == "":
				l.at(path, "%w", f.Err)
			case f.Path[0] == '[':
				l.at(path+f.Path, "%w", f.Err)
			default:
				l.at(join(path, f.Path), "%w", f.Err)
			}
		}
	})
}

// eachBlock visits a struct and every block in it, outer ones first.
func eachBlock(known schema, v reflect.Value, path string, visit func(v reflect.Value, path string)) {
	visit(v, path)
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if f.IsExported() && f.Tag.Get("yaml") == ",inline" {
			visit(v.Field(i), path)
		}
	}
	for _, f := range known.fields(v.Type()) {
		at, value := join(path, f.key), v.FieldByIndex(f.index)
		switch {
		case value.Kind() == reflect.Pointer && isBlock(value.Type().Elem()):
			if !value.IsNil() {
				eachBlock(known, value.Elem(), at, visit)
			}
		case isBlock(value.Type()):
			eachBlock(known, value, at, visit)
		case value.Kind() == reflect.Slice && isBlock(value.Type().Elem()):
			for i := range value.Len() {
				eachBlock(known, value.Index(i), indexed(at, i), visit)
			}
		}
	}
}

// withoutEchoes drops what was found wrong in a block that could not be read in full:
// it would mostly repeat, in other words, that a key is misspelt.
func withoutEchoes(found, unread []*Error) []*Error {
	type place struct{ file, path string }
	faulty, around := map[place]bool{}, map[place]bool{}
	for _, e := range unread {
		faulty[place{e.File, e.Path}] = true
		around[place{e.File, parent(e.Path)}] = true
	}
	return slices.DeleteFunc(found, func(e *Error) bool {
		echo := around[place{e.File, e.Path}] || around[place{e.File, parent(e.Path)}]
		for path := e.Path; path != "" && !echo; path = parent(path) {
			echo = faulty[place{e.File, path}]
		}
		return echo
	})
}

func parent(path string) string {
	return path[:max(0, strings.LastIndexAny(path, ".["))]
}

// readBounded reads a file that should be small.
func readBounded(path string) ([]byte, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, err
	case info.IsDir():
		return nil, fmt.Errorf("got directory %q; want a file", path)
	case info.Size() > maxFileSize:
		return nil, fmt.Errorf("got %d bytes in %q; want at most %d", info.Size(), path, maxFileSize)
	}
	return os.ReadFile(path)
}
