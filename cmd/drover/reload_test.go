package main

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"drover/internal/h2tunnel"

	"github.com/gorilla/websocket"
)

// unwatched is longer than a watched change may take, and shorter than the look that
// the watcher takes now and then without having been told anything.
const unwatched = 8 * time.Second

// prompt does a change and waits for its effect, which must not be left to chance.
func prompt(t *testing.T, change, effect func()) {
	t.Helper()
	begin := time.Now()
	change()
	effect()
	if took := time.Since(begin); took > unwatched {
		t.Errorf("took %s: the change was not noticed, but looked for", took)
	}
}

// configMap is a folder as a kubelet mounts a ConfigMap: the names are links through
// ..data, which is swapped as a whole. The version before is removed some time later:
// here with the next swap, so that its removal cannot be what is noticed.
type configMap struct {
	dir     string
	version int
}

func (m *configMap) write(t *testing.T, files map[string]string) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	data := filepath.Join(m.dir, "..data")
	must(os.RemoveAll(filepath.Join(m.dir, fmt.Sprintf("..version_%d", m.version-1))))
	m.version++
	version := fmt.Sprintf("..version_%d", m.version)
	must(os.Mkdir(filepath.Join(m.dir, version), 0o700))
	for name, text := range files {
		must(os.WriteFile(filepath.Join(m.dir, version, name), []byte(text), 0o600))
	}
	must(os.Symlink(version, data+"_tmp"))
	must(os.Rename(data+"_tmp", data))
	for name := range files {
		if err := os.Symlink(filepath.Join("..data", name), filepath.Join(m.dir, name)); err != nil && !os.IsExist(err) {
			t.Fatal(err)
		}
	}
}

// openWebSockets opens one in HTTP/1.1 and one in HTTP/2, over TLS unless secure is nil,
// and gives a function that sees both echo.
func openWebSockets(t *testing.T, address string, secure *tls.Config) (echoes func()) {
	t.Helper()
	scheme := "ws://"
	if secure != nil {
		scheme = "wss://"
	}
	dialer := websocket.Dialer{TLSClientConfig: secure}
	ws, resp, err := dialer.Dial(scheme+address+"/ws", nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	t.Cleanup(func() { _ = ws.Close() })
	stream, err := h2tunnel.Dial(t.Context(), address, "/ws", secure)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = stream.Close() })
	n := 0
	return func() {
		t.Helper()
		n++
		want := fmt.Sprint("message ", n)
		if err := ws.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if err := ws.WriteMessage(websocket.TextMessage, []byte(want)); err != nil {
			t.Fatalf("the WebSocket takes no more: %v", err)
		}
		if _, got, err := ws.ReadMessage(); err != nil || string(got) != want {
			t.Fatalf("the WebSocket gave %q, %v; want %q", got, err, want)
		}
		if err := stream.Echoes(want); err != nil {
			t.Fatalf("in HTTP/2: %v", err)
		}
	}
}

// openConnection gives a function that sees requests answered on one connection.
func openConnection(t *testing.T, address string) (answers func(want string)) {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	r := bufio.NewReader(c)
	return func(want string) {
		t.Helper()
		if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(c, "GET /kept HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatalf("the connection did not outlive the reload: %v", err)
		}
		defer resp.Body.Close()
		if body, err := io.ReadAll(resp.Body); err != nil || string(body) != want {
			t.Errorf("the connection gave %q, %v; want %q", body, err, want)
		}
	}
}

// TestConfigMap swaps the configuration as Kubernetes does, several times, under a
// WebSocket and a kept connection.
func TestConfigMap(t *testing.T) {
	a, b := startPeer(t, "a"), startPeer(t, "b")
	s := &setup{listen: freeAddress(t), admin: freeAddress(t)}
	m := &configMap{dir: t.TempDir()}
	s.path = filepath.Join(m.dir, "drover.yaml")
	write := func(yaml string) {
		t.Helper()
		m.write(t, map[string]string{"drover.yaml": s.fill(yaml), "other": "x"})
	}
	write(fmt.Sprintf(oneUpstream, a.address))
	p := s.run(t)
	echoes, kept := openWebSockets(t, s.listen, nil), openConnection(t, s.listen)
	echoes()
	kept("GET a 0")
	for _, next := range []*peer{b, a, b} {
		prompt(t, func() { write(fmt.Sprintf(oneUpstream, next.address)) }, func() { s.answers(t, "GET "+next.name+" 0") })
		echoes()
		kept("GET " + next.name + " 0")
	}
	prompt(t, func() { write("routes: [") }, func() { p.logs(t, s.path+":1:", 1) })
	s.answers(t, "GET b 0")
	prompt(t, func() {
		write(strings.Replace(fmt.Sprintf(oneUpstream, a.address), "name: web", "name: web, via: true, max_body_size: 1KiB", 1))
	}, func() { s.answers(t, "GET a 0") })
	echoes()
	kept("GET a 0")
	if strings.Contains(p.stderr.String(), "SIGHUP") {
		t.Error("there was a signal")
	}
}

// TestEditors saves the file in the ways that editors do.
func TestEditors(t *testing.T) {
	for name, save := range map[string]func(t *testing.T, path, text string){
		"a new file is renamed over the old one": func(t *testing.T, path, text string) {
			put(t, path+".swp", text)
			move(t, path+".swp", path)
		},
		"the old file becomes a backup": func(t *testing.T, path, text string) {
			move(t, path, path+"~")
			put(t, path, text)
		},
		"in place": put,
		"removed first": func(t *testing.T, path, text string) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			put(t, path, text)
		},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := startPeer(t, "a"), startPeer(t, "b")
			s := newSetup(t, fmt.Sprintf(oneUpstream, a.address))
			s.run(t)
			s.answers(t, "GET a 0")
			echoes, kept := openWebSockets(t, s.listen, nil), openConnection(t, s.listen)
			echoes()
			for _, next := range []*peer{b, a} {
				prompt(t, func() { save(t, s.path, s.fill(fmt.Sprintf(oneUpstream, next.address))) },
					func() { s.answers(t, "GET "+next.name+" 0") })
				echoes()
				kept("GET " + next.name + " 0")
			}
		})
	}
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func move(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

// TestIncludedDirectory adds, changes, breaks and removes files of an include, and
// files that are none.
func TestIncludedDirectory(t *testing.T) {
	a, b := startPeer(t, "a"), startPeer(t, "b")
	s := newSetup(t, "")
	dir := filepath.Join(filepath.Dir(s.path), "conf.d")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	s.write(t, `include: conf.d
admin: { address: "ADMIN" }
listeners: [ { name: web, address: "LISTEN" } ]
`)
	site := func(name, address string) string {
		return fmt.Sprintf("upstreams: [ { name: %s, servers: [ { address: %q } ] } ]\nroutes: [ { path_prefix: /%s, upstream: %s } ]\n", name, address, name, name)
	}
	gives := func(path, want string) func() {
		return func() {
			t.Helper()
			c := client(t, false)
			eventually(t, path+" gives "+want, func() bool {
				resp, body := fetch(t, c, "GET", "http://"+s.listen+path, "")
				return body == want || fmt.Sprint(resp.StatusCode) == want
			})
		}
	}
	one, two := filepath.Join(dir, "one.yaml"), filepath.Join(dir, "two.yml")
	put(t, one, site("one", a.address))
	put(t, filepath.Join(dir, "README"), "not YAML: [")
	put(t, filepath.Join(dir, ".two.yaml"), "not YAML: [")
	p := s.run(t)
	gives("/one", "GET a 0")()
	gives("/two", "404")()
	prompt(t, func() { put(t, two, site("two", a.address)) }, gives("/two", "GET a 0"))
	prompt(t, func() { put(t, two, site("two", b.address)) }, gives("/two", "GET b 0"))
	prompt(t, func() { put(t, two, site("two", a.address)+"log: { level: debug }\n") }, func() { p.logs(t, two+":3:", 1) })
	p.logs(t, fmt.Sprintf(`configuration files changed	{"files": [%q]}`, two), 1)
	gives("/two", "GET b 0")()
	prompt(t, func() { move(t, two, two+".off") }, gives("/two", "404"))
	gives("/one", "GET a 0")()
	prompt(t, func() { put(t, one, site("one", b.address)) }, gives("/one", "GET b 0"))
	p.Signal(syscall.SIGTERM)
	p.wantExit(t, exitOK)
}
