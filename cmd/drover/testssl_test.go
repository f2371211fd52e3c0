package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"drover/internal/zktest"
)

// TestTestSSL: testssl.sh finds no old protocol, no weak cipher and no known hole in a
// listener with nothing but a certificate. What it calls LOW is left: the CBC ciphers
// of TLS 1.2, which crypto/tls keeps for old clients.
func TestTestSSL(t *testing.T) {
	t.Parallel() // it takes 20 s, little of it work
	tool, err := exec.LookPath("testssl")
	if err != nil {
		zktest.Missing(t, "testssl", "testssl.sh")
	}
	dir, p := t.TempDir(), startPeer(t, "a")
	writePair(t, dir, 1)
	secure := freeAddress(t)
	s := newSetup(t, secureToo(dir, secure, p.address))
	s.run(t)
	file := filepath.Join(dir, "findings.json")
	// Its exit code counts findings of any kind, so that the file is what tells.
	out, _ := exec.CommandContext(t.Context(), tool, "--quiet", "--color", "0", "--warnings", "batch", "--nodns", "none", "--ip", "127.0.0.1",
		"--jsonfile", file, "-p", "-s", "-f", "-U", secure).CombinedOutput()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var findings []struct{ ID, Severity, Finding string }
	if err := json.Unmarshal(text, &findings); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	found := map[string]string{}
	for _, f := range findings {
		found[f.ID] = f.Finding
		if slices.Contains([]string{"MEDIUM", "HIGH", "CRITICAL", "FATAL"}, f.Severity) {
			t.Errorf("%s: %s: %s", f.Severity, f.ID, f.Finding)
		}
	}
	for _, row := range []struct{ id, want string }{
		{"SSLv2", "not offered"}, {"SSLv3", "not offered"}, {"TLS1", "not offered"}, {"TLS1_1", "not offered"},
		{"TLS1_2", "offered"}, {"TLS1_3", "offered"}, {"ALPN_HTTP2", "h2"}, {"cipherlist_3DES_IDEA", "not offered"},
		{"heartbleed", "not vulnerable"}, {"RC4", "not vulnerable"}, // the last of all
	} {
		if !strings.HasPrefix(found[row.id], row.want) {
			t.Errorf("%s: got %q; want %q\n%s", row.id, found[row.id], row.want, out)
		}
	}
}
