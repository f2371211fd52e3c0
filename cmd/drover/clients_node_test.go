package main

import (
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"drover/internal/zktest"
)

// TestNodeClients: undici, ws and Node's own HTTP/2 through drover, step by step as
// testdata/node/clients.js has them.
func TestNodeClients(t *testing.T) {
	t.Parallel()
	npm, err := exec.LookPath("npm")
	if err != nil {
		zktest.Missing(t, "npm", "npm")
	}
	dir := t.TempDir()
	for _, name := range []string{"package.json", "package-lock.json", "clients.js"} {
		text, err := os.ReadFile(filepath.Join("testdata", "node", name))
		if err != nil {
			t.Fatal(err)
		}
		put(t, filepath.Join(dir, name), string(text))
	}
	install := exec.CommandContext(t.Context(), npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	install.Dir = dir
	if out, err := install.CombinedOutput(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("cannot install undici and ws: %v\n%s", err, out)
		}
		t.Skipf("cannot install undici and ws: %v", err)
	}
	o := startOrigin(t)
	gone := make(chan string, 16) // the requests whose end the server has seen
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/count":
			if _, err := io.Copy(io.Discard, r.Body); err != nil {
				gone <- r.URL.Path
			}
		case "/endless":
			block := make([]byte, 16<<10)
			for {
				if _, err := w.Write(block); err != nil {
					gone <- r.URL.Path
					return
				}
			}
		default:
			serveOrigin(w, r)
		}
	})
	o.handler.Store(&h)
	for _, step := range []string{"pipelining", "aborts", "sockets", "streams", "socketStream"} {
		t.Run(step, func(t *testing.T) {
			got := foreign(t, "nodejs", "node", filepath.Join(dir, "clients.js"), step, strings.TrimPrefix(o.plain, "http://"), o.secure)
			if got != "ok\n" {
				t.Errorf("got %q; want ok", got)
			}
		})
	}
	eventually(t, "the server has seen both requests given up", func() bool { return len(gone) == 2 })
}
