package config

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var rewrite = flag.Bool("rewrite", false, "write the expected results anew; read the difference before you commit it")

// TestGoodFiles loads every testdata/*.good.yaml.
func TestGoodFiles(t *testing.T) {
	for _, path := range glob(t, "testdata/*.good.yaml") {
		t.Run(filepath.Base(path), func(t *testing.T) {
			if _, err := Load(Options{Path: path}); err != nil {
				t.Errorf("cannot load: %v", err)
			}
		})
	}
}

// TestBadFiles compares all that is reported about every testdata/*.bad.yaml with the
// *.bad.txt beside it.
func TestBadFiles(t *testing.T) {
	paths := glob(t, "testdata/*.bad.yaml")
	if len(paths) < 40 {
		t.Errorf("got %d bad files; want at least 40", len(paths))
	}
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) {
			_, err := Load(Options{Path: path})
			var all *Errors
			if !errors.As(err, &all) {
				t.Fatalf("got error %v; want *Errors", err)
			}
			compareGolden(t, strings.TrimSuffix(path, ".yaml")+".txt", plain(t, err.Error())+"\n")
		})
	}
}

// plain takes what differs between machines out of a message.
func plain(t *testing.T, message string) string {
	t.Helper()
	dir, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(message, dir+"/", "testdata/")
}

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	paths, err := filepath.Glob(pattern)
	if err != nil || len(paths) == 0 {
		t.Fatalf("got files %v and error %v for %s; want some", paths, err, pattern)
	}
	return paths
}

func compareGolden(t *testing.T, path, got string) {
	t.Helper()
	if *rewrite {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil { //nolint:gosec // test data, for all to read.
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got:\n%s\nwant (%s):\n%s", got, path, want)
	}
}
