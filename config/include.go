package config

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"drover/proxy"
	"drover/proxy/front"
)

// Include is the `include` key: a directory, or a list of files and directories,
// relative to the file that names them. Of a directory, the files *.yaml and *.yml are
// read in name order; hidden ones are left out.
type Include []string

// fragment is what an included file may hold.
type fragment struct {
	Listeners []front.Config      `yaml:"listeners"`
	Upstreams []Upstream          `yaml:"upstreams"`
	Routes    []proxy.RouteConfig `yaml:"routes"`
}

// include reads the included files and appends what is in them.
func (l *loader) include(path string) {
	seen := map[string]bool{filepath.Clean(path): true}
	for i, entry := range l.cfg.Include {
		at := "include"
		if len(l.cfg.Include) > 1 {
			at = indexed(at, i)
		}
		if !filepath.IsAbs(entry) {
			entry = filepath.Join(filepath.Dir(path), entry)
		}
		files, err := l.listIncluded(entry)
		if err != nil {
			l.at(at, "%w", err)
			continue
		}
		for _, file := range files {
			if seen[file] {
				l.at(at, "got %q again; want each file once", file)
				continue
			}
			seen[file] = true
			l.includeFile(at, file)
		}
	}
}

// listIncluded gives the files that an entry stands for.
func (l *loader) listIncluded(entry string) ([]string, error) {
	info, err := os.Stat(entry)
	if err != nil {
		l.note(entry, nil)
		return nil, fmt.Errorf("cannot include: %w", err)
	}
	if !info.IsDir() {
		return []string{filepath.Clean(entry)}, nil
	}
	names, err := includable(entry)
	if err != nil {
		return nil, fmt.Errorf("cannot include: %w", err)
	}
	l.note(entry, listing(names))
	for i, name := range names {
		names[i] = filepath.Join(entry, name)
	}
	return names, nil
}

// includable lists the names in a directory that an include reads, in order. Names
// that begin with a dot are editors' and Kubernetes' own.
func includable(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		ext := filepath.Ext(e.Name())
		if (ext == ".yaml" || ext == ".yml") && !strings.HasPrefix(e.Name(), ".") {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}

// listing stands for a directory where files stand for their content.
func listing(names []string) []byte { return []byte(strings.Join(names, "\n")) }

func (l *loader) includeFile(at, file string) {
	text, err := l.read(file)
	if err != nil {
		l.at(at, "cannot include: %w", err)
		return
	}
	var part fragment
	doc := l.decode(file, text, &part)
	l.cfg.Listeners = appendMoved(l, doc, "listeners", l.cfg.Listeners, part.Listeners)
	l.cfg.Upstreams = appendMoved(l, doc, "upstreams", l.cfg.Upstreams, part.Upstreams)
	l.cfg.Routes = appendMoved(l, doc, "routes", l.cfg.Routes, part.Routes)
}

func appendMoved[T any](l *loader, doc *document, key string, all, more []T) []T {
	for i := range more {
		whole := indexed(key, len(all)+i)
		l.moved[whole] = origin{doc, indexed(key, i)}
	}
	return append(all, more...)
}

// unknownKey ends the error about a key that a block does not have.
func unknownKey(key, path string, known []string, block reflect.Type) string {
	if block == reflect.TypeFor[fragment]() && path == "" {
		switch main := (schema{}).keys(reflect.TypeFor[Config]()); {
		case key == "include":
			return "want no include in an included file"
		case slices.Contains(main, key):
			return "want it in the main file, not in an included one"
		}
	}
	return didYouMean(key, known)
}
