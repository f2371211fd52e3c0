package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"drover/config"
	"drover/metrics"

	"github.com/gorilla/websocket"
	"go.uber.org/goleak"
	"go.uber.org/zap"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/golang/glog.(*fileSink).flushDaemon"),
		goleak.Cleanup(func(code int) {
			removeBinary()
			os.Exit(code)
		}))
}

// peer is a server behind drover: real sockets, and faults at the test's wish.
type peer struct {
	name    string
	address string
	http    *http.Server
	conns   sync.Map // net.Conn
	gate    sync.RWMutex
	done    chan struct{}

	requests atomic.Int64
	seen     sync.Map // id of a POST → how often it was executed
	down     atomic.Bool
	handler  atomic.Pointer[http.HandlerFunc]
}

func startPeer(t *testing.T, name string) *peer {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &peer{name: name, address: ln.Addr().String(), done: make(chan struct{})}
	p.http = &http.Server{
		Handler: http.HandlerFunc(p.serve),
		ConnState: func(c net.Conn, s http.ConnState) {
			if s == http.StateNew {
				p.conns.Store(c, true)
			}
		},
	}
	go func() {
		defer close(p.done)
		_ = p.http.Serve(ln)
	}()
	t.Cleanup(func() {
		_ = p.http.Close()
		<-p.done
	})
	return p
}

func (p *peer) serve(w http.ResponseWriter, r *http.Request) {
	p.gate.RLock()
	defer p.gate.RUnlock()
	if r.URL.Path == "/healthz" {
		if p.down.Load() {
			w.WriteHeader(503)
		}
		return
	}
	p.requests.Add(1)
	if h := p.handler.Load(); h != nil {
		(*h)(w, r)
		return
	}
	if r.URL.Path == "/ws" {
		p.echo(w, r)
		return
	}
	if id := r.Header.Get("X-Request-Number"); id != "" && r.Method == http.MethodPost {
		n, _ := p.seen.LoadOrStore(id, new(atomic.Int64))
		n.(*atomic.Int64).Add(1)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	w.Header().Set("X-Server", p.name)
	_, _ = fmt.Fprintf(w, "%s %s %d", r.Method, p.name, len(body))
}

// echo must not hold the gate: it lasts as long as its client likes.
func (p *peer) echo(w http.ResponseWriter, r *http.Request) {
	upgrader := websocket.Upgrader{}
	c, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	p.gate.RUnlock()
	defer p.gate.RLock()
	defer c.Close()
	for {
		kind, message, err := c.ReadMessage()
		if err != nil || c.WriteMessage(kind, message) != nil {
			return
		}
	}
}

// kill ends the server as kill -9 would between two requests: nothing is said, open
// connections are reset, nobody listens any more.
func (p *peer) kill() {
	p.gate.Lock()
	defer p.gate.Unlock()
	p.conns.Range(func(key, _ any) bool {
		if tcp, ok := key.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		return true
	})
	_ = p.http.Close()
}

// node is a running drover with a configuration file.
type node struct {
	*engine
	path   string
	listen string
}

// freeAddress gives a loopback address that nobody listens on, over TCP or UDP. Over TCP
// it stays the test's own: a socket that is bound, and does not listen, keeps the kernel
// from giving the port to anybody, and SO_REUSEADDR lets those bind it who ask for it by
// number.
func freeAddress(t *testing.T) string {
	t.Helper()
	for {
		address := reserve(t)
		if udp, err := net.ListenPacket("udp", address); err == nil {
			_ = udp.Close() // it was free.
			return address
		}
	}
}

func reserve(t *testing.T) string {
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

// startNode runs drover with a configuration in which LISTEN stands for a free
// loopback address.
func startNode(t *testing.T, yaml string) *node {
	t.Helper()
	logger := zap.NewNop()
	if testing.Verbose() {
		logger = zap.Must(zap.NewDevelopment(zap.AddStacktrace(zap.DPanicLevel)))
	}
	return startLoggedNode(t, yaml, logger)
}

// startLoggedNode is startNode for a test that reads the log.
func startLoggedNode(t *testing.T, yaml string, logger *zap.Logger) *node {
	t.Helper()
	n := &node{path: filepath.Join(t.TempDir(), "drover.yaml"), listen: freeAddress(t)}
	n.engine = newEngine(logger, nil, metrics.New(0, "test"))
	n.write(t, yaml)
	n.mustReload(t)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		n.shutdown(ctx)
	})
	return n
}

const preamble = `admin: { address: "" }
`

const withoutAccessLog = `access_log: { format: "off" }
`

func (n *node) write(t *testing.T, yaml string) {
	t.Helper()
	text := preamble + withoutAccessLog
	if strings.Contains(yaml, "access_log:") {
		text = preamble
	}
	if strings.HasPrefix(yaml, "admin:") {
		text = strings.TrimPrefix(text, preamble)
	}
	text += strings.ReplaceAll(yaml, "LISTEN", n.listen)
	if err := os.WriteFile(n.path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (n *node) reloadFile(ctx context.Context) error {
	cfg, err := config.Load(config.Options{Path: n.path})
	return n.reload(ctx, cfg, err)
}

func (n *node) mustReload(t *testing.T) {
	t.Helper()
	if err := n.reloadFile(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// url is a listener's.
func (n *node) url(listener string) string {
	return "http://" + n.listeners[listener].socket.ln.Addr().String()
}

// eventually waits for a condition, looking often.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	deadline := time.NewTimer(time.Minute) // for busy machines
	defer deadline.Stop()
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for !cond() {
		select {
		case <-look.C:
		case <-deadline.C:
			t.Fatalf("still not so after a minute: %s", what)
		}
	}
}

// client is an HTTP client that keeps connections, or none.
func client(t *testing.T, keep bool) *http.Client {
	t.Helper()
	tr := &http.Transport{DisableKeepAlives: !keep, DisableCompression: true}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 20 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}
}

func fetch(t *testing.T, c *http.Client, method, url, body string, header ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		if header[i] == "Host" {
			req.Host = header[i+1]
		}
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(got)
}
