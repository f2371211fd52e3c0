// Package regress has a test for each class of hole that has hit proxies, against the
// drover binary. README.md is its index.
package regress

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "regress-")
	if err == nil {
		binary = filepath.Join(dir, "drover")
		if out, failed := exec.Command("go", "build", "-o", binary, "drover/cmd/drover").CombinedOutput(); failed != nil {
			err = fmt.Errorf("cannot build: %w\n%s", failed, out)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// output is what the program has written so far.
type output struct {
	mu   sync.Mutex
	text strings.Builder
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// drover is a running binary.
type drover struct {
	web, admin string
	log        *output
	process    *os.Process
	ended      chan struct{}
}

// start runs the binary with a configuration in which WEB stands for the address of the
// listener, and ADMIN for that of the operator's interface if it begins by setting that.
// Wrap is a shell command that runs "$@", "" for none.
func start(t *testing.T, yaml, wrap string) *drover {
	t.Helper()
	d := &drover{web: freeAddress(t), admin: freeAddress(t), log: &output{}}
	path := filepath.Join(t.TempDir(), "drover.yaml")
	if !strings.HasPrefix(yaml, "admin:") {
		yaml = "admin: { address: ADMIN }\n" + yaml
	}
	text := strings.NewReplacer("WEB", d.web, "ADMIN", d.admin).Replace(yaml)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{binary, "run", "-c", path}
	if wrap != "" {
		args = append([]string{"sh", "-c", wrap, "sh"}, args...)
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = d.log, d.log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	d.process, d.ended = cmd.Process, make(chan struct{})
	go func() { defer close(d.ended); _ = cmd.Wait() }()
	t.Cleanup(func() { _ = cmd.Process.Kill(); <-d.ended })
	eventually(t, "ready", func() bool {
		select {
		case <-d.ended:
			t.Fatalf("drover has ended:\n%s", d.log)
		default:
		}
		resp, err := http.Get("http://" + d.admin + "/readyz")
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return resp.StatusCode == 200
	})
	return d
}

// toOrigin is a configuration with one route to a server.
func toOrigin(origin, routes string) string {
	if routes == "" {
		routes = "[{ upstream: u }]"
	}
	return fmt.Sprintf("listeners: [{ name: web, address: WEB }]\nupstreams: [{ name: u, servers: [{ address: %q }] }]\nroutes: %s\n", origin, routes)
}

// freeAddress gives a loopback address that stays the test's own: see cmd/drover.
func freeAddress(t *testing.T) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	syscall.CloseOnExec(fd)
	t.Cleanup(func() { _ = syscall.Close(fd) })
	if err := errors.Join(
		syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1),
		syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}),
	); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("127.0.0.1:%d", name.(*syscall.SockaddrInet4).Port)
}

func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !cond(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("still not so after 30s: %s", what)
		}
	}
}

// origin is a server that records what reaches it.
type origin struct {
	address string
	mu      sync.Mutex
	seen    []string // "METHOD target host body", and X-Forwarded-For if there is one
	headers []http.Header
}

func startOrigin(t *testing.T, h http.HandlerFunc) *origin {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o := &origin{address: ln.Addr().String()}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		line := fmt.Sprintf("%s %s %s %s", r.Method, r.RequestURI, r.Host, body)
		if err != nil {
			line += " broken"
		}
		o.mu.Lock()
		o.seen, o.headers = append(o.seen, line), append(o.headers, r.Header)
		o.mu.Unlock()
		if h != nil {
			h(w, r)
		}
	}), Protocols: new(http.Protocols)}
	s.Protocols.SetHTTP1(true)
	s.Protocols.SetUnencryptedHTTP2(true)
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(ln) }()
	t.Cleanup(func() { _ = s.Close(); <-done })
	return o
}

func (o *origin) requests() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]string(nil), o.seen...)
}

// scripted is a server of bytes: each connection is given to serve, by its number.
func scripted(t *testing.T, serve func(n int, c net.Conn, r *bufio.Reader)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		for n := 0; ; n++ {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			_ = c.SetDeadline(time.Now().Add(30 * time.Second))
			running.Go(func() { defer c.Close(); serve(n, c, bufio.NewReader(c)) })
		}
	})
	t.Cleanup(func() { _ = ln.Close(); running.Wait() })
	return ln.Addr().String()
}

// head reads a message's head.
func head(r *bufio.Reader) (text string, err error) {
	for {
		line, err := r.ReadString('\n')
		if text += line; err != nil || line == "\r\n" {
			return text, err
		}
	}
}

func dial(t *testing.T, address string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// exchange sends bytes and gives all that comes until drover closes. The last request
// must ask for that, or be one that is refused.
func exchange(t *testing.T, address, text string) string {
	t.Helper()
	c := dial(t, address)
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(c)
	if err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%q: %v after %q", text, err, got)
	}
	return string(got)
}

// refuses wants a 4xx or 5xx and then nothing, with nothing passed on.
func refuses(t *testing.T, d *drover, o *origin, texts ...string) {
	t.Helper()
	for _, text := range texts {
		before := len(o.requests())
		got := exchange(t, d.web, text)
		if !strings.HasPrefix(got, "HTTP/1.1 4") && !strings.HasPrefix(got, "HTTP/1.1 5") || strings.Count(got, "HTTP/1.1 ") != 1 {
			t.Errorf("%q: got %q; want one refusal", text, got)
		}
		if seen := o.requests(); len(seen) != before {
			t.Errorf("%q: the server got %q; want nothing", text, seen[before:])
		}
	}
}

// serves wants a server's answer to a plain request: drover lives.
func serves(t *testing.T, d *drover) {
	t.Helper()
	if got := exchange(t, d.web, "GET /alive HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 200") {
		t.Errorf("a plain request: got %q; want 200", got)
	}
}
