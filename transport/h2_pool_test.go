package transport

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"drover/backend"
	"drover/exchange"

	"golang.org/x/net/http2"
)

// begin makes an exchange up to its head; the test closes it.
func begin(t *testing.T, p *Pool, req *exchange.Request) *Response {
	t.Helper()
	resp := &Response{}
	if err := p.RoundTrip(&exchange.Exchange{Client: &fakeClient{}}, req, noDeadline, resp); err != nil {
		t.Fatal(err)
	}
	return resp
}

// greeter is a connection that greets, takes a greeting and fails.
type greeter struct {
	net.Conn
	in     io.Reader
	writes atomic.Int32
	failed chan struct{}
}

func (g *greeter) Read(p []byte) (int, error) { return g.in.Read(p) }

func (g *greeter) Write(p []byte) (int, error) {
	if g.writes.Add(1) == 2 {
		close(g.failed)
		return 0, net.ErrClosed
	}
	return len(p), nil
}

// SetDeadline ends the greeting. It lets a write that came too early fail first.
func (g *greeter) SetDeadline(at time.Time) error {
	if at.IsZero() {
		select {
		case <-g.failed:
		case <-time.After(50 * time.Millisecond):
		}
	}
	return nil
}

func (g *greeter) SetWriteDeadline(time.Time) error { return nil }

func (g *greeter) Close() error { return nil }

// TestH2GreetAndLeave: a server that is gone as soon as it has greeted meets a
// connection that is made.
func TestH2GreetAndLeave(t *testing.T) {
	var settings bytes.Buffer
	_ = http2.NewFramer(&settings, nil).WriteSettings()
	g := &greeter{in: &settings, failed: make(chan struct{})}
	pool := newPool(t, backend.ID{Scheme: "http", Host: "h", Port: 1}, h2c)
	pool.counts.open.Add(1)
	c := &conn{pool: pool, settings: pool.settings.Load(), wire: &wire{Conn: g}}
	c.Conn = c.wire
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := newH2(ctx, c); err != nil {
		t.Fatal(err)
	}
	<-g.failed
}

// TestH2MaxStreams: a server's limit on streams is kept, and what exceeds it takes
// another connection, as far as max_connections goes.
func TestH2MaxStreams(t *testing.T) {
	id := scriptH2(t, func(n int, p *h2peer) {
		_ = p.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 1})
		for id := p.next(http2.FrameHeaders); id != 0; id = p.next(http2.FrameHeaders) {
			p.head(id, false, ":status: 200", fmt.Sprint("n: ", n))
		}
	})
	known := func(pool *Pool) {
		eventually(t, "the server's limit has come", func() bool {
			pool.h2.mu.Lock()
			defer pool.h2.mu.Unlock()
			for _, c := range pool.h2.conns {
				c.mu.Lock()
				limit := c.maxStreams
				c.mu.Unlock()
				if limit != 1 {
					return false
				}
			}
			return true
		})
	}
	pool := newPool(t, id, h2c)
	first := begin(t, pool, get("GET"))
	known(pool)
	second := begin(t, pool, get("GET"))
	if pool.Stats().Dials != 2 {
		t.Errorf("%+v; want a second connection for a second stream", pool.Stats())
	}
	first.Close()
	second.Close()
	begin(t, pool, get("GET")).Close()
	if pool.Stats().Dials != 2 {
		t.Errorf("%+v; want a third stream on an old connection", pool.Stats())
	}

	narrow := newPool(t, id, h2c, func(c *Config) { c.MaxConnections = 1 })
	first = begin(t, narrow, get("GET"))
	known(narrow)
	late := runFor(narrow, &fakeClient{}, get("GET"), time.Now().Add(50*time.Millisecond))
	wantFailure(t, late.err, backend.FailureConnect, false)
	waiting := make(chan error, 1)
	go func() {
		var resp Response
		waiting <- narrow.RoundTrip(&exchange.Exchange{Client: &fakeClient{}}, get("GET"), noDeadline, &resp)
		resp.Close()
	}()
	first.Close()
	if err := <-waiting; err != nil || narrow.Stats().Dials != 1 {
		t.Errorf("got %v, %+v; want the place of the first", err, narrow.Stats())
	}
}

// TestH2SharedDial: requests that come before there is a connection share one, also
// where the server is yet to choose its protocol.
func TestH2SharedDial(t *testing.T) {
	id := standard(t, true, func(p *http.Protocols) { p.SetHTTP1(true); p.SetHTTP2(true) }, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Proto)
	})
	pool := newPool(t, id, func(c *Config) { c.TLS.InsecureSkipVerify = true })
	var running sync.WaitGroup
	for range 50 {
		running.Go(func() {
			if got := run(pool, get("GET")); got.err != nil || got.body != "HTTP/2.0" {
				t.Errorf("got %+v", got)
			}
		})
	}
	running.Wait()
	if dials := pool.Stats().Dials; dials != 1 {
		t.Errorf("%d connections for 50 requests; want one", dials)
	}
}

// TestH2GoAwayStreams: of the streams that run, those that the server has not taken
// are known not to have been executed; the others finish.
func TestH2GoAwayStreams(t *testing.T) {
	pool := newPool(t, scriptH2(t, func(_ int, p *h2peer) {
		first := p.next(http2.FrameHeaders)
		p.head(first, false, ":status: 200")
		p.next(http2.FrameHeaders)
		_ = p.WriteGoAway(first, http2.ErrCodeNo, nil)
		_ = p.WriteData(first, true, []byte("whole"))
	}), h2c)
	first := begin(t, pool, get("POST"))
	wantFailure(t, run(pool, get("POST")).err, backend.FailureStale, false)
	if body, err := io.ReadAll(first.Body()); err != nil || string(body) != "whole" {
		t.Errorf("got %q, %v of a stream that was taken", body, err)
	}
	first.Close()
	eventually(t, "the connection is closed", func() bool { return pool.Stats().Open == 0 })
}

// TestH2ClientGone: the server hears that nobody waits any more.
func TestH2ClientGone(t *testing.T) {
	seen := make(chan []string, 1)
	client := &fakeClient{}
	pool := newPool(t, scriptH2(t, func(_ int, p *h2peer) {
		p.next(http2.FrameHeaders)
		client.gone.Store(true)
		seen <- p.frames()
	}), h2c)
	wantFailure(t, runFor(pool, client, get("GET"), noDeadline).err, backend.FailureClient, true)
	if got := strings.Join(<-seen, ","); got != "RST CANCEL" {
		t.Errorf("the server saw %s", got)
	}
}

// TestH2ClientLeft: at once, where the front tells.
func TestH2ClientLeft(t *testing.T) {
	for name, answer := range map[string]func(p *h2peer, id uint32){
		"head": func(*h2peer, uint32) {},
		"body": func(p *h2peer, id uint32) { p.head(id, false, ":status: 200") },
	} {
		t.Run("before the "+name, func(t *testing.T) {
			seen, left := make(chan []string, 1), make(chan struct{})
			pool := newPool(t, scriptH2(t, func(_ int, p *h2peer) {
				answer(p, p.next(http2.FrameHeaders))
				close(left)
				seen <- p.frames()
			}), h2c)
			var resp Response
			err := pool.RoundTrip(&exchange.Exchange{Client: &fakeClient{}, Left: left}, get("GET"), noDeadline, &resp)
			if err == nil {
				_, err = io.ReadAll(resp.Body())
				resp.Close()
			}
			wantFailure(t, err, backend.FailureClient, true)
			if got := strings.Join(<-seen, ","); got != "RST CANCEL" {
				t.Errorf("the server saw %s", got)
			}
		})
	}
}

// TestH2Timeouts: the time-outs are those of HTTP/1.1, and cost the stream alone, but
// for a connection on which nothing at all has come.
func TestH2Timeouts(t *testing.T) {
	f := func(name string, want backend.Failure, reused bool, play func(p *h2peer, id uint32)) {
		t.Run(name, func(t *testing.T) {
			pool := newPool(t, scriptH2(t, func(_ int, p *h2peer) {
				p.head(p.next(http2.FrameHeaders), true, ":status: 204")
				play(p, p.next(http2.FrameHeaders))
				for id := p.next(http2.FrameHeaders); id != 0; id = p.next(http2.FrameHeaders) {
					p.head(id, true, ":status: 204")
				}
			}), h2c, func(c *Config) {
				c.ResponseHeaderTimeout, c.BodyIdleTimeout = 50*time.Millisecond, 50*time.Millisecond
			})
			if got := run(pool, get("GET")); got.err != nil {
				t.Fatal(got.err)
			}
			wantFailure(t, run(pool, get("GET")).err, want, true)
			var next Config
			next.SetDefaults()
			next.Protocol = ProtocolH2C
			if err := pool.SetConfig(&next); err != nil {
				t.Fatal(err)
			}
			_ = run(pool, get("GET"))
			if dials := pool.Stats().Dials; (dials == 1) != reused {
				t.Errorf("%d connections; want the first reused: %v", dials, reused)
			}
		})
	}
	f("no head", backend.FailureTimeout, true, func(p *h2peer, id uint32) { p.head(id, false, ":status: 103") })
	f("nothing", backend.FailureTimeout, false, func(*h2peer, uint32) {})
	f("no body", backend.FailureBody, true, func(p *h2peer, id uint32) { p.head(id, false, ":status: 200") })
}

// TestH2Idle: connections go when unused for idle_timeout, or beyond idle_connections.
func TestH2Idle(t *testing.T) {
	id := scriptH2(t, func(_ int, p *h2peer) {
		for id := p.next(http2.FrameHeaders); id != 0; id = p.next(http2.FrameHeaders) {
			p.head(id, true, ":status: 204")
		}
	})
	kept := newPool(t, id, h2c)
	short := newPool(t, id, h2c, func(c *Config) { c.IdleTimeout = 20 * time.Millisecond })
	none := newPool(t, id, h2c, func(c *Config) { c.IdleConnections = 0 })
	for _, pool := range []*Pool{kept, short, none} {
		if got := run(pool, get("GET")); got.err != nil {
			t.Fatal(got.err)
		}
	}
	for _, pool := range []*Pool{short, none} {
		eventually(t, "an unused connection is closed", func() bool { return pool.Stats().Open == 0 })
	}
	if s := kept.Stats(); s.Open != 1 || s.Idle != 1 {
		t.Errorf("%+v; want one idle connection", s)
	}
}

// TestH2Reload: new settings of the wire take new connections; what runs runs on.
func TestH2Reload(t *testing.T) {
	id := standard(t, false, func(p *http.Protocols) { p.SetHTTP1(true); p.SetUnencryptedHTTP2(true) }, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Proto+" ")
		w.(http.Flusher).Flush()
		_, _ = io.Copy(w, r.Body)
	})
	pool := newPool(t, id, h2c)
	in, out := io.Pipe()
	running := begin(t, pool, post(in, exchange.LengthUnknown))
	var next Config
	next.SetDefaults()
	if err := pool.SetConfig(&next); err != nil {
		t.Fatal(err)
	}
	if got := run(pool, get("GET")); got.body != "HTTP/1.1 " {
		t.Errorf("after the change: %+v; want HTTP/1.1", got)
	}
	go func() {
		_, _ = io.WriteString(out, "and on")
		_ = out.Close()
	}()
	if body, err := io.ReadAll(running.Body()); err != nil || string(body) != "HTTP/2.0 and on" {
		t.Errorf("got %q, %v of what ran", body, err)
	}
	running.Close()
	eventually(t, "the connection of before is closed", func() bool { return pool.Stats().Open == 1 })
}

// TestH2WithoutALPN: a server that chooses nothing has not chosen HTTP/2.
func TestH2WithoutALPN(t *testing.T) {
	ca := newAuthority(t)
	pair := ca.pair(t, "127.0.0.1")
	id := script(t, func(_ int, p *peer) {
		_, _ = io.Copy(io.Discard, tls.Server(p.Conn, &tls.Config{Certificates: []tls.Certificate{pair}}))
	})
	id.Scheme = "https"
	pool := newPool(t, id, func(c *Config) { c.Protocol, c.TLS.CAFile = ProtocolH2, ca.file })
	got := run(pool, get("GET"))
	wantFailure(t, got.err, backend.FailureConnect, false)
	if !errors.Is(got.err, errNoH2) {
		t.Errorf("got %v; want %v", got.err, errNoH2)
	}
}

// TestH2Upgrade: what HTTP/2 has no words for goes by HTTP/1.1, where that may be.
func TestH2Upgrade(t *testing.T) {
	id := standard(t, true, func(p *http.Protocols) { p.SetHTTP1(true); p.SetHTTP2(true) }, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") == "" {
			_, _ = io.WriteString(w, r.Proto)
			return
		}
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Upgrade", "echo")
		w.WriteHeader(http.StatusSwitchingProtocols)
		conn, _, err := w.(http.Hijacker).Hijack()
		if err == nil {
			_, _ = io.WriteString(conn, "switched")
			_ = conn.Close()
		}
	})
	upgrade := func() *exchange.Request {
		r := get("GET")
		r.Upgrade = "echo"
		r.Header.Add("Connection", "Upgrade")
		r.Header.Add("Upgrade", "echo")
		return r
	}
	insecure := func(c *Config) { c.TLS.InsecureSkipVerify = true }
	pool := newPool(t, id, insecure)
	for range 2 {
		if got := run(pool, get("GET")); got.body != "HTTP/2.0" {
			t.Errorf("got %+v; want HTTP/2", got)
		}
		resp := begin(t, pool, upgrade())
		conn, err := resp.Conn()
		if err != nil {
			t.Fatal(err)
		}
		if text, err := io.ReadAll(conn); err != nil || string(text) != "switched" {
			t.Errorf("got %q, %v through the tunnel", text, err)
		}
		_ = conn.Close()
	}
	only := newPool(t, id, insecure, func(c *Config) { c.Protocol = ProtocolH2 })
	wantFailure(t, run(only, upgrade()).err, backend.FailureProtocol, false)
}
