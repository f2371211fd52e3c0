package main

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"drover/config"
)

// TestReferenceLoads checks the file of every key as `drover check` does. TestExamplesRun
// starts the others.
func TestReferenceLoads(t *testing.T) {
	if _, err := config.Load(config.Options{Path: "../../examples/reference.yaml"}); err != nil {
		t.Error(err)
	}
}

// TestReadmeConfiguration loads the README's configuration.
func TestReadmeConfiguration(t *testing.T) {
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(text), "\n"); n > 200 {
		t.Errorf("README has %d lines; want at most 200", n)
	}
	_, rest, found := strings.Cut(string(text), "```yaml\n")
	yaml, _, closed := strings.Cut(rest, "```")
	if !found || !closed {
		t.Fatal("README has no configuration")
	}
	path := filepath.Join(t.TempDir(), "drover.yaml")
	if err := os.WriteFile(path, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := config.Load(config.Options{Path: path}); err != nil {
		t.Error(err)
	}
}

// TestReadmeReasons holds the README's table of reasons against the code.
func TestReadmeReasons(t *testing.T) {
	source, err := os.ReadFile("../../exchange/reason.go")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]bool{}
	for _, m := range regexp.MustCompile(`Reason = "([A-Z]+)"`).FindAllStringSubmatch(string(source), -1) {
		want[m[1]] = true
	}
	got := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^\| ((?:[A-Z]{2}(?:, )?)+) \|`).FindAllStringSubmatch(string(text), -1) {
		for code := range strings.SplitSeq(m[1], ", ") {
			got[code] = true
		}
	}
	if len(want) == 0 || !maps.Equal(got, want) {
		t.Errorf("README explains %v; want %v", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
	}
}
