package main

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestServerFaults sees each fault as a client without a proxy does: a fault that does
// not happen would be measured as one that was dealt with.
func TestServerFaults(t *testing.T) {
	s, err := startServer()
	if err != nil {
		t.Fatal(err)
	}
	defer s.stop()
	l := &load{url: "http://" + s.address, client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: timeout}}
	set := func(f fault) {
		t.Helper()
		if err := s.set(f); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name  string
		fault fault
		want  string // in the error; "" for none
	}{
		{"none", none, ""},
		{"gone", gone, "connection refused"},
		{"reset", reset, ""},
		{"cut", cut, "unexpected EOF"},
		{"503", status503, "status 503"},
		{"none again", none, ""},
	} {
		set(c.fault)
		for _, l.method = range []string{"GET", "POST"} {
			err := l.request()
			switch {
			case c.fault == reset && err == nil:
				t.Errorf("%s of %s succeeded; want it broken", l.method, c.name)
			case c.fault == reset: // either end may be the first to notice.
			case c.want == "" && err != nil, c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("%s of %s: got %v; want %q", l.method, c.name, err, c.want)
			}
		}
	}
	set(blackHole)
	l.client.Timeout = 50 * time.Millisecond
	if err := l.request(); err == nil || !strings.Contains(err.Error(), "Client.Timeout exceeded") {
		t.Errorf("a black hole gave %v; want nothing at all", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, n := range s.executed {
		if n != 1 {
			t.Errorf("POST %s was counted %d times; want 1", id, n)
		}
	}
	if len(s.executed) != 3 {
		t.Errorf("%d POSTs were executed; want those of none, cut and none again", len(s.executed))
	}
}

// TestRows measures drover in two rows, for a moment each.
func TestRows(t *testing.T) {
	dir := t.TempDir()
	drover := proxies[len(proxies)-1]
	moment := timing{200 * time.Millisecond, time.Second, 200 * time.Millisecond}
	for _, r := range rows {
		if r.fault != reset {
			continue
		}
		o, err := measure(drover, r, dir, moment)
		if err != nil {
			t.Fatal(err)
		}
		if o.sent == 0 || o.doubled > 0 {
			t.Errorf("%s: %s: sent %d, executed twice %d; want some and none", r.method, r.name, o.sent, o.doubled)
		}
		// Without a proxy a third of the requests would fail for most of the time.
		if o.failed > o.sent/10 {
			t.Errorf("%s: %s: %d of %d failed; want few %s", r.method, r.name, o.failed, o.sent, o.first)
		}
	}
}

// TestTable runs the program for a moment and reads what it writes.
func TestTable(t *testing.T) {
	out := filepath.Join(t.TempDir(), "table.md")
	moment := timing{50 * time.Millisecond, 50 * time.Millisecond, 50 * time.Millisecond}
	if err := run("Drover", "GET: 503", out, moment); err != nil && !errors.Is(err, errMissed) {
		t.Fatal(err)
	}
	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	want := `^\| fault \(failed / slower than 1 s\) \| drover \| goal \|\n\|---\|---\|---\|\n\| GET: 503 \| \d+ / \d+ \| 0 / 0 \|\n$`
	if !regexp.MustCompile(want).Match(text) {
		t.Errorf("got table\n%s\nwant it to match %s", text, want)
	}
}

// TestWrongUse wants an error where nothing would be measured.
func TestWrongUse(t *testing.T) {
	for _, c := range [][3]string{
		{"squid", "", `unknown proxy "squid"`},
		{"drover", "earthquake", `"earthquake", which is in no row`},
	} {
		if err := run(c[0], c[1], "", quick); err == nil || !strings.Contains(err.Error(), c[2]) {
			t.Errorf("run %s: got %v; want %s", fmt.Sprint(c[:2]), err, c[2])
		}
	}
}

// TestPublishedRows wants FAULTS.md to have the rows and goals of the program.
func TestPublishedRows(t *testing.T) {
	text, err := os.ReadFile("../FAULTS.md")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	if len(lines) != len(rows)+2 {
		t.Fatalf("FAULTS.md has %d rows; want %d", len(lines)-2, len(rows))
	}
	for i, r := range rows {
		line := lines[i+2]
		if begin, end := "| "+r.method+": "+r.name+" |", fmt.Sprintf("| %d / %d |", r.failed, r.slow); !strings.HasPrefix(line, begin) || !strings.HasSuffix(line, end) {
			t.Errorf("FAULTS.md has %q; want %s … %s", line, begin, end)
		}
	}
}
