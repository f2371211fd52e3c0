package front

import (
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func withTickets(cert Certificate, tickets TicketsConfig) func(*Config) {
	return func(c *Config) {
		withTLS("1.2", cert)(c)
		c.TLS.SessionTickets = tickets
	}
}

// resumes visits the fronts in turn, and tells at which the session was resumed.
func resumes(t *testing.T, cfg *tls.Config, fronts ...*testFront) string {
	t.Helper()
	cfg.ClientSessionCache = tls.NewLRUClientSessionCache(8)
	got := ""
	for _, tf := range fronts {
		resumed, err := tf.visit(t, cfg, nil)
		if err != nil {
			t.Fatal(err)
		}
		got += map[bool]string{true: "r", false: "-"}[resumed]
	}
	return got
}

func TestTicketsAreShared(t *testing.T) {
	site, file := writeCert(t, "a.test"), filepath.Join(t.TempDir(), "keys")
	shared := withTickets(site, TicketsConfig{File: file, RotateEvery: time.Hour})
	a, b := serveTest(t, shared, reply("ok")), serveTest(t, shared, reply("ok"))
	own := serveTest(t, withTLS("1.2", site), reply("ok"))
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		cfg := &tls.Config{MaxVersion: version}
		if got := resumes(t, cfg, a, b, a, own, own, b); got != "-rr-r-" {
			t.Errorf("version %x: resumed %s; want -rr-r-", version, got)
		}
		cfg.ClientSessionCache = tls.NewLRUClientSessionCache(8)
		visit := func(want bool) {
			t.Helper()
			if resumed, err := b.visit(t, cfg, nil); err != nil || resumed != want {
				t.Errorf("resumed is %v, %v; want %v", resumed, err, want)
			}
		}
		visit(false)
		before := readFile(t, file)
		second := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("k", 32)))
		writeFile(t, file, "# newest first\n"+second+"\n\n"+before)
		visit(true) // the old one still decrypts, and the new one encrypts
		writeFile(t, file, second)
		visit(true)
		writeFile(t, file, "rubbish")
		visit(true) // what was in force stays
		writeFile(t, file, hex.EncodeToString([]byte(strings.Repeat("n", 32))))
		visit(false)
	}
}

func TestTicketFileIsMade(t *testing.T) {
	file := filepath.Join(t.TempDir(), "keys")
	var running sync.WaitGroup
	made := make([][]TicketSecret, 8)
	for i := range made {
		running.Go(func() {
			source := &fileSecrets{path: file, every: time.Hour}
			var err error
			if made[i], err = source.Secrets(time.Now()); err != nil {
				t.Error(err)
			}
		})
	}
	running.Wait()
	for i := range made {
		if len(made[i]) != 1 || made[i][0] != made[0][0] {
			t.Fatalf("got %d and %d secrets, or others; want the same one", len(made[i]), len(made[0]))
		}
	}
	if info, err := os.Stat(file); err != nil || info.Mode() != 0o600 {
		t.Errorf("got %v, %v; want a file of mode 0600", info, err)
	}
	if left, err := os.ReadDir(filepath.Dir(file)); err != nil || len(left) != 1 {
		t.Errorf("got %v, %v; want the file alone", left, err)
	}
	if _, err := (&fileSecrets{path: "/none/keys"}).Secrets(time.Now()); err == nil || !strings.Contains(err.Error(), "/none/keys") {
		t.Errorf("got %v", err)
	}
}

func TestTicketFileRotates(t *testing.T) {
	file := filepath.Join(t.TempDir(), "keys")
	sources := []*fileSecrets{{path: file, every: time.Hour}, {path: file, every: time.Hour}}
	secrets := func(now time.Time) []TicketSecret {
		t.Helper()
		var got []TicketSecret
		for _, s := range sources {
			var err error
			if got, err = s.Secrets(now); err != nil {
				t.Fatal(err)
			}
		}
		return got
	}
	first := secrets(time.Now())[0]
	for want := 1; want <= ticketSecrets+1; want++ {
		// One of them rotates, and the next finds the file young.
		old := time.Now().Add(-time.Hour)
		if err := os.Chtimes(file, old, old); err != nil {
			t.Fatal(err)
		}
		got := secrets(time.Now())
		if len(got) != min(want+1, ticketSecrets) {
			t.Fatalf("got %d secrets after %d rotations", len(got), want)
		}
		if kept := want < ticketSecrets; (got[len(got)-1] == first) != kept {
			t.Errorf("after %d rotations the first secret is kept: %v", want, !kept)
		}
	}
	before, later := readFile(t, file), time.Now().Add(2*time.Hour)
	writeFile(t, file+".lock", "")
	if secrets(time.Now()); readFile(t, file) != before {
		t.Error("rotated under another's lock")
	}
	secrets(later) // takes the lock of a drover that died away, and rotates with the second
	if readFile(t, file) == before {
		t.Error("a lock that nobody holds any more is in the way for good")
	}
	before = readFile(t, file)
	if _, err := (&fileSecrets{path: file}).Secrets(later); err != nil || readFile(t, file) != before {
		t.Errorf("rotated though it is not to: %v", err)
	}
}

func TestParseSecrets(t *testing.T) {
	good := strings.Repeat("ab", 32)
	for text, want := range map[string]string{
		good:                            "",
		good + "\r\n" + good:            "",
		"":                              "got 0 keys",
		"#x\n" + good + "\n" + good[2:]: "got a line 3 that is none; want 32 bytes",
		good + "00":                     "got a line 1",
		strings.Repeat(good+"\n", 65):   "got 65 keys; want 1 to 64",
	} {
		_, err := parseSecrets([]byte(text))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%.80q: got %v; want %q", text, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "abab") {
			t.Errorf("%v tells a secret", err)
		}
	}
}

func TestOwnTickets(t *testing.T) {
	site := writeCert(t, "a.test")
	tf := serveTest(t, withTickets(site, TicketsConfig{}), reply("ok"))
	cfg := &tls.Config{ClientSessionCache: tls.NewLRUClientSessionCache(8)}
	for i, want := range []bool{false, true, true} {
		if resumed, err := tf.visit(t, cfg, nil); err != nil || resumed != want {
			t.Errorf("visit %d: resumed is %v, %v; want %v", i, resumed, err, want)
		}
		next, err := LoadTLS(tf.cfg.TLS) // as for a renewed certificate
		if err != nil {
			t.Fatal(err)
		}
		tf.SetTLS(next)
	}
	without := serveTest(t, func(c *Config) {
		withTickets(site, TicketsConfig{})(c)
		c.HTTP2.Disabled = true
	}, reply("ok"))
	if got := resumes(t, &tls.Config{}, without, without); got != "-r" {
		t.Errorf("without HTTP/2: resumed %s; want -r", got)
	}
	disabled := serveTest(t, withTickets(site, TicketsConfig{Disabled: true}), reply("ok"))
	if got := resumes(t, &tls.Config{}, disabled, disabled); got != "--" {
		t.Errorf("disabled: resumed %s; want --", got)
	}

	own, now := &ownSecrets{}, time.Now()
	first, _ := own.Secrets(now)
	same, _ := own.Secrets(now.Add(ownRotation - 1))
	second, _ := own.Secrets(now.Add(ownRotation))
	if len(first) != 1 || len(same) != 1 || len(second) != 2 || second[1] != first[0] || second[0] == first[0] {
		t.Errorf("got %d, %d and %d secrets, or the wrong ones", len(first), len(same), len(second))
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
