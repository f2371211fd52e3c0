package regress

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestIndex: each row names tests that exist, or why there are none.
func TestIndex(t *testing.T) {
	declared := map[string]bool{}
	here := map[string]bool{}
	function := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	err := filepath.WalkDir("../..", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range function.FindAllSubmatch(text, -1) {
			declared[string(m[1])] = true
			if filepath.Dir(path) == "../../internal/regress" {
				here[string(m[1])] = true
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	rows, table := map[string]int{}, ""
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "| class") || strings.HasPrefix(line, "| trap") {
			table = strings.TrimSpace(strings.Split(line, "|")[1])
			continue
		}
		if !strings.HasPrefix(line, "| ") {
			continue
		}
		rows[table]++
		names := regexp.MustCompile("`((?:Test|Fuzz)\\w+)`").FindAllStringSubmatch(line, -1)
		if len(names) == 0 && !strings.Contains(line, "not used because") && !strings.Contains(line, "none: ") {
			t.Errorf("no test and no reason in %q", line)
		}
		for _, m := range names {
			if !declared[m[1]] {
				t.Errorf("%s is not there", m[1])
			}
			delete(here, m[1])
		}
	}
	delete(here, "TestMain")
	delete(here, "TestIndex")
	if want := map[string]int{"class": 22, "trap: requests": 33, "trap: answers": 20, "trap: server, pool, platform": 19}; !maps.Equal(rows, want) {
		t.Errorf("rows: got %v; want %v", rows, want)
	}
	if len(here) != 0 {
		t.Errorf("not named: %v", here)
	}
}
