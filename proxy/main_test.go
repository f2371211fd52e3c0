package proxy

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"testing"
	"time"

	"drover/backend"
	"drover/exchange"
	"drover/metrics"
	"drover/proxy/front"
	"drover/transport"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait for something that must happen. No test passes by it.
const patience = 20 * time.Second

// script plays a server on one connection.
type script func(c net.Conn, r *bufio.Reader)

// startServer runs a script for every connection on a socket of its own. A script's
// connection is closed behind it, and at the end of the test.
func startServer(t *testing.T, play script) (address string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	running.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, c)
			mu.Unlock()
			running.Go(func() {
				defer c.Close()
				play(c, bufio.NewReader(c))
			})
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		mu.Lock()
		for _, c := range open {
			_ = c.Close()
		}
		mu.Unlock()
		running.Wait()
	})
	return ln.Addr().String()
}

// readRequest reads a whole request.
func readRequest(r *bufio.Reader) (*http.Request, []byte, error) {
	req, err := http.ReadRequest(r)
	if err != nil {
		return nil, nil, err
	}
	body, err := io.ReadAll(req.Body)
	return req, body, err
}

const ok200 = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

func get(target string) string { return "GET " + target + " HTTP/1.1\r\nHost: a\r\n\r\n" }

// answering is a server that gives every request the same answer.
func answering(answer string) script {
	return func(c net.Conn, r *bufio.Reader) {
		for {
			if _, _, err := readRequest(r); err != nil {
				return
			}
			if _, err := io.WriteString(c, answer); err != nil {
				return
			}
		}
	}
}

// reset makes the close that follows a reset.
func reset(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
}

// refusing gives an address that nobody listens on: that of a connection's other end,
// which nobody else gets until the test ends.
func refusing(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c.LocalAddr().String()
}

// inOrder is a Balancer that picks the first server that was not tried, or else the
// first.
type inOrder []*backend.Member

func (o inOrder) Pick(_ uint64, tried *backend.Tried) *backend.Member {
	for _, m := range o {
		if !tried.Has(m.Live) {
			return m
		}
	}
	if len(o) > 0 {
		return o[0]
	}
	return nil
}

func (o inOrder) PickFree(limit int, tried *backend.Tried) *backend.Member {
	for _, m := range o {
		if !tried.Has(m.Live) && m.InFlight() < limit {
			return m
		}
	}
	return nil
}

func (o inOrder) Find(uint64) *backend.Member { return nil }

// setup is what a test wants of a bed.
type setup struct {
	servers   []string
	route     func(*RouteConfig)
	upstream  func(*UpstreamOptions)
	transport func(*transport.Config)
	listener  func(*front.Config)
	options   ListenerOptions
	access    *AccessLog
	accessCfg AccessLogConfig
}

// bed is a Proxy between a real listener and real servers, with one route to one
// upstream.
type bed struct {
	*Proxy
	up      *Upstream
	members inOrder
	address string
	front   *front.Front
	results chan exchange.Result // of each exchange, in the order of their ends
}

func startBed(t *testing.T, s setup) *bed {
	t.Helper()
	b := &bed{results: make(chan exchange.Result, 64)}
	m := metrics.New(0, "test")
	for _, address := range s.servers {
		b.members = append(b.members, newMember(t, address, s.transport))
	}
	handles := NewServerHandles("app", m)
	handles.Sync(b.members)
	options := UpstreamOptions{
		Name: "app", Balancer: b.members, Metrics: m, Servers: handles,
		Members: func() (int, int) { return len(b.members), len(b.members) },
	}
	options.Limits.SetDefaults()
	options.Budget.SetDefaults()
	if s.upstream != nil {
		s.upstream(&options)
	}
	b.up = NewUpstream(options)
	table, err := NewTable(TableOptions{
		Routes: []RouteConfig{routeTo("app", s.route)}, Upstreams: map[string]*Upstream{"app": b.up},
		Listeners: map[string]ListenerOptions{"web": s.options}, AccessLog: s.accessCfg, Log: s.access, Metrics: m,
	})
	if err != nil {
		t.Fatal(err)
	}
	logger := zaptest.NewLogger(t, zaptest.Level(zap.ErrorLevel))
	b.Proxy = New(table, logger)
	b.listen(t, s.listener, logger)
	return b
}

func newMember(t *testing.T, address string, change func(*transport.Config)) *backend.Member {
	t.Helper()
	at := netip.MustParseAddrPort(address)
	id := backend.ID{Scheme: "http", Host: at.Addr().String(), Port: at.Port()}
	var cfg transport.Config
	cfg.SetDefaults()
	if change != nil {
		change(&cfg)
	}
	conns, err := transport.NewPool(id, &cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conns.Close() })
	return &backend.Member{Server: backend.Server{ID: id, Weight: 1}, Live: &backend.Live{Conns: conns}}
}

func (b *bed) listen(t *testing.T, change func(*front.Config), logger *zap.Logger) {
	t.Helper()
	cfg := front.Config{Name: "web", Address: "127.0.0.1:0"}
	cfg.SetDefaults()
	if change != nil {
		change(&cfg)
	}
	ln, err := net.Listen("tcp", cfg.Address)
	if err != nil {
		t.Fatal(err)
	}
	serve := func(ex *exchange.Exchange) {
		b.Serve(ex)
		b.results <- ex.Result
	}
	if b.front, err = front.New(cfg, serve, front.Options{Logger: logger, OnReject: b.Rejected}); err != nil {
		t.Fatal(err)
	}
	b.address = ln.Addr().String()
	served := make(chan error, 1)
	go func() { served <- b.front.Serve(ln) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := b.front.Drain(ctx); err != nil {
			t.Errorf("drain: %v", err)
		}
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
}

// visitor is a client's connection.
type visitor struct {
	*net.TCPConn
	t *testing.T
	r *bufio.Reader
}

func (b *bed) dial(t *testing.T) *visitor {
	t.Helper()
	c := b.connect(t)
	return &visitor{c.(*net.TCPConn), t, bufio.NewReader(c)}
}

// connect opens a connection that lasts as long as the test's patience.
func (b *bed) connect(t *testing.T) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", b.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return c
}

func (v *visitor) send(text string) {
	v.t.Helper()
	if _, err := io.WriteString(v, text); err != nil {
		v.t.Fatal(err)
	}
}

// answer reads a response.
func (v *visitor) answer() (*http.Response, string) {
	v.t.Helper()
	resp, err := http.ReadResponse(v.r, nil)
	if err != nil {
		v.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		v.t.Fatal(err)
	}
	return resp, string(body)
}

// result waits for the end of an exchange.
func (b *bed) result(t *testing.T) exchange.Result {
	t.Helper()
	select {
	case r := <-b.results:
		return r
	case <-time.After(patience):
		t.Fatal("no exchange ended")
		return exchange.Result{}
	}
}

// receive takes what must come from a channel.
func receive[T any](t *testing.T, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("%s did not come", what)
		panic("unreachable")
	}
}
