package main

import (
	"os"
	"path/filepath"
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
