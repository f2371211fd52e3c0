package front

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"drover/exchange"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait for something that must happen. No test passes by it.
const patience = 20 * time.Second

// testFront is a Front on a real socket, and what it reported.
type testFront struct {
	*Front
	addr string
	cfg  Config

	mu      sync.Mutex
	rejects []string // "400 BR"
	open    int      // by OnConn
	changed chan struct{}
}

func testConfig() Config {
	cfg := Config{Name: "web", Address: "127.0.0.1:0"}
	cfg.SetDefaults()
	return cfg
}

// serveTest starts a Front, and drains it at the end of the test.
func serveTest(t *testing.T, change func(*Config), handler Handler) *testFront {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return serveOn(t, ln, change, handler, zaptest.NewLogger(t, zaptest.Level(zap.ErrorLevel)))
}

func serveOn(t *testing.T, ln net.Listener, change func(*Config), handler Handler, logger *zap.Logger) *testFront {
	t.Helper()
	tf := &testFront{addr: ln.Addr().String(), cfg: testConfig(), changed: make(chan struct{}, 1)}
	if change != nil {
		change(&tf.cfg)
	}
	var err error
	tf.Front, err = New(tf.cfg, handler, Options{Logger: logger, OnConn: tf.onConn, OnReject: tf.onReject})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- tf.Serve(ln) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := tf.Drain(ctx); err != nil {
			t.Errorf("drain: %v", err)
		}
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
		tf.mu.Lock()
		defer tf.mu.Unlock()
		if tf.open != 0 {
			t.Errorf("%d connections were not reported as closed", tf.open)
		}
	})
	return tf
}

func (tf *testFront) signal() {
	select {
	case tf.changed <- struct{}{}:
	default:
	}
}

func (tf *testFront) onConn(delta int) {
	tf.mu.Lock()
	tf.open += delta
	tf.mu.Unlock()
	tf.signal()
}

func (tf *testFront) onReject(ex *exchange.Exchange) {
	tf.mu.Lock()
	tf.rejects = append(tf.rejects, fmt.Sprintf("%d %s", ex.Result.Status, ex.Result.Reason))
	tf.mu.Unlock()
	tf.signal()
}

// rejected gives what was rejected so far.
func (tf *testFront) rejected() string {
	tf.mu.Lock()
	defer tf.mu.Unlock()
	return strings.Join(tf.rejects, ", ")
}

// waitOpen waits until so many connections are open.
func (tf *testFront) waitOpen(t *testing.T, want int) {
	t.Helper()
	late := time.After(patience)
	for {
		tf.mu.Lock()
		got := tf.open
		tf.mu.Unlock()
		if got == want {
			return
		}
		select {
		case <-tf.changed:
		case <-late:
			t.Fatalf("%d connections are open; want %d", got, want)
		}
	}
}

// testConn is a client that says exactly what it is told.
type testConn struct {
	t *testing.T
	net.Conn
	r *bufio.Reader
}

func (tf *testFront) dial(t *testing.T) *testConn {
	t.Helper()
	nc, err := net.Dial("tcp", tf.addr)
	if err != nil {
		t.Fatal(err)
	}
	return wrapConn(t, nc)
}

func wrapConn(t *testing.T, nc net.Conn) *testConn {
	t.Cleanup(func() { _ = nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(patience))
	return &testConn{t, nc, bufio.NewReader(nc)}
}

func (c *testConn) send(parts ...string) *testConn {
	c.t.Helper()
	for _, p := range parts {
		if _, err := io.WriteString(c.Conn, p); err != nil {
			c.t.Fatalf("cannot send %.60q: %v", p, err)
		}
	}
	return c
}

// closeWrite ends the client's side.
func (c *testConn) closeWrite() *testConn {
	c.t.Helper()
	if err := c.Conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		c.t.Fatal(err)
	}
	return c
}

// line reads one line without its CRLF.
func (c *testConn) line() string {
	c.t.Helper()
	s, err := c.r.ReadString('\n')
	if err != nil {
		c.t.Fatalf("cannot read a line: %v (got %q)", err, s)
	}
	return strings.TrimSuffix(s, "\r\n")
}

// head reads a response head as one string, lines joined with " | ".
func (c *testConn) head() string {
	c.t.Helper()
	var lines []string
	for {
		l := c.line()
		if l == "" {
			return strings.Join(lines, " | ")
		}
		lines = append(lines, l)
	}
}

// exactly reads n bytes.
func (c *testConn) exactly(n int) string {
	c.t.Helper()
	b := make([]byte, n)
	if _, err := io.ReadFull(c.r, b); err != nil {
		c.t.Fatalf("cannot read %d bytes: %v", n, err)
	}
	return string(b)
}

// rest reads to the end, which must be clean.
func (c *testConn) rest() string {
	c.t.Helper()
	b, err := io.ReadAll(c.r)
	if err != nil {
		c.t.Fatalf("the connection did not end cleanly: %v (after %q)", err, b)
	}
	return string(b)
}

// reply makes a handler that answers 200 with a fixed text.
func reply(text string) Handler {
	return func(ex *exchange.Exchange) { respond(ex, text) }
}

func respond(ex *exchange.Exchange, text string) {
	r := &exchange.Response{Status: 200, ContentLength: int64(len(text))}
	if ex.Client.Start(r) == nil {
		_, _ = io.WriteString(ex.Client, text)
	}
}

// echo answers with what the handler saw: request line, host, fields, body, trailer.
func echo(ex *exchange.Exchange) {
	var b strings.Builder
	q := &ex.Request
	fmt.Fprintf(&b, "%s %s 1.%d host=%s", q.Method, q.Target, q.ProtoMinor, q.Host)
	for _, f := range q.Header {
		fmt.Fprintf(&b, " | %s: %s", f.Name, f.Value)
	}
	fmt.Fprintf(&b, " | length=%d", q.ContentLength)
	if q.Body != nil {
		body, err := io.ReadAll(q.Body)
		fmt.Fprintf(&b, " body=%q", body)
		if err != nil {
			fmt.Fprintf(&b, " error=%v", err)
		}
		for _, f := range q.Trailer() {
			fmt.Fprintf(&b, " trailer %s: %s", f.Name, f.Value)
		}
	}
	if q.Upgrade != "" {
		fmt.Fprintf(&b, " upgrade=%s", q.Upgrade)
	}
	respond(ex, b.String())
}
