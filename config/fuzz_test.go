package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// FuzzDecode wants every text to be decoded or refused: no panic, no endless run, and
// errors with a place in the text.
func FuzzDecode(f *testing.F) {
	paths, err := filepath.Glob("testdata/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	for _, odd := range []string{"a:\n- b: c\n- \n", "0::", "{{},<<}", "<<", "<<: &a", "&a", "*a", "!", "!!", "? ", "- ? - :", "a: |9\n x", "%", "---", "...", "a: &\n", "- &a !x *a", "{?:,}"} {
		f.Add([]byte(odd))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		began := time.Now()
		l := newLoader(Options{})
		l.main = decode("x.yaml", text, l.cfg, &l.faults)
		if took := time.Since(began); took > 20*time.Second {
			t.Errorf("took %v", took)
		}
		err := l.faults.err()
		if err == nil {
			l.cfg.Include = nil
			l.validateBlocks()
			l.crossValidate()
			err = l.faults.err()
		}
		var all *Errors
		if err == nil || !errors.As(err, &all) {
			return
		}
		lines := strings.Count(string(text), "\n") + strings.Count(string(text), "\r") + 2
		for _, e := range all.List {
			if e.File != "x.yaml" || e.Line < 1 || e.Line > lines || e.Column < 1 {
				t.Errorf("got an error at %q for a text of %d lines", e.Place, lines)
			}
		}
	})
}

// FuzzNearest holds the edit distance against what every distance must be.
func FuzzNearest(f *testing.F) {
	f.Add("adress", "address")
	f.Add("", "x")
	f.Fuzz(func(t *testing.T, a, b string) {
		d := editDistance(a, b)
		if d != editDistance(b, a) {
			t.Errorf("got unlike distances there and back for %q and %q", a, b)
		}
		if (d == 0) != (a == b) && len(a) <= 64 {
			t.Errorf("got distance %d for %q and %q", d, a, b)
		}
		if d > max(len(a), len(b)) && len(a) <= 64 && len(b) <= 64 {
			t.Errorf("got distance %d for %q and %q", d, a, b)
		}
	})
}
