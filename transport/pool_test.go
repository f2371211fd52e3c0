package transport

import (
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"drover/backend"
	"drover/exchange"
)

const okAnswer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

// open makes an exchange and leaves it open.
func open(t *testing.T, p *Pool) *Response {
	t.Helper()
	resp := new(Response)
	if err := p.RoundTrip(&exchange.Exchange{Client: &fakeClient{}}, get("GET"), noDeadline, resp); err != nil {
		t.Fatal(err)
	}
	return resp
}

// numbered is a server whose answers' bodies are the number of the connection.
func numbered(t testing.TB) backend.ID {
	return script(t, func(n int, p *peer) {
		for p.head() != "" {
			p.say("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n" + string(rune('0'+n)))
		}
	})
}

// TestPoolReuse: the connection that came back last goes out first, so that the others
// grow old.
func TestPoolReuse(t *testing.T) {
	pool := newPool(t, numbered(t))
	a, b := open(t, pool), open(t, pool)
	for _, r := range []*Response{b, a} {
		if _, err := io.ReadAll(r.Body()); err != nil {
			t.Fatal(err)
		}
		r.Close()
		r.Close() // twice is once
	}
	for range 3 {
		if r := run(pool, get("GET")); r.err != nil || r.body != "0" {
			t.Errorf("got %+v; want the connection that came back last", r)
		}
	}
	if s := pool.Stats(); s != (Stats{Open: 2, Idle: 2, Dials: 2, Reused: 3}) {
		t.Errorf("stats %+v", s)
	}
}

// TestPoolUnreadBody: a body that nobody wanted costs the connection unless it is
// there already.
func TestPoolUnreadBody(t *testing.T) {
	pool := newPool(t, answer(t, okAnswer))
	r := open(t, pool)
	eventually(t, "the body is there", func() bool { return r.Buffered() >= 2 || r.conn.fill(wait{r: r}) == nil })
	r.Close()
	if s := pool.Stats(); s.Idle != 1 {
		t.Errorf("stats %+v; want the connection kept, all of its answer had come", s)
	}
	pool = newPool(t, answer(t, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok"))
	open(t, pool).Close()
	if s := pool.Stats(); s.Idle != 0 || s.Open != 0 {
		t.Errorf("stats %+v; want the connection closed, a byte is still to come", s)
	}
}

// TestPoolIdleLimits: no more than idle_connections are kept, and none for longer than
// idle_timeout.
func TestPoolIdleLimits(t *testing.T) {
	pool := newPool(t, answer(t, okAnswer), func(c *Config) { c.IdleConnections, c.IdleTimeout = 2, 20*time.Millisecond })
	var all []*Response
	for range 4 {
		all = append(all, open(t, pool))
	}
	for _, r := range all {
		_, _ = io.ReadAll(r.Body())
	}
	pool.mu.Lock() // the sweep must not run in between
	go func() {
		for _, r := range all {
			r.Close()
		}
		pool.mu.Lock()
		pool.mu.Unlock() //nolint:staticcheck // all are back.
	}()
	pool.mu.Unlock()
	eventually(t, "two are closed", func() bool { return pool.Stats().Open <= 2 })
	eventually(t, "all have grown old", func() bool { s := pool.Stats(); return s.Open == 0 && s.Idle == 0 })
	if r := run(pool, get("GET")); r.err != nil {
		t.Error(r.err)
	}
}

// TestPoolServerCloses: a connection that the server closed while it was unused is
// seen before anything is written.
func TestPoolServerCloses(t *testing.T) {
	end := make(chan struct{}, 1)
	id := script(t, func(_ int, p *peer) {
		p.head()
		p.say(okAnswer)
		<-end
	})
	pool := newPool(t, id)
	if r := run(pool, get("GET")); r.err != nil {
		t.Fatal(r.err)
	}
	end <- struct{}{}
	eventually(t, "the end arrives", func() bool {
		pool.mu.Lock()
		defer pool.mu.Unlock()
		return pool.idle[0].state() == connClosed
	})
	if r := run(pool, get("GET")); r.err != nil {
		t.Errorf("after the server closed: %v; want a new connection", r.err)
	}
	if s := pool.Stats(); s.Stale != 1 || s.Dials != 2 || s.Reused != 0 {
		t.Errorf("stats %+v; want one stale, two dials", s)
	}
	end <- struct{}{}
}

// TestMaybeExecuted: what is known of a request that got no answer. The kernel tells
// whether the server's kernel took its bytes; if not, the server cannot have acted.
func TestMaybeExecuted(t *testing.T) {
	blind := func(c *conn) { c.probe = nil } // as if the end came just behind the probe
	for _, c := range []struct {
		name   string
		second func(p *peer) // what the server does about the second request
		want   backend.Failure
		maybe  bool
	}{
		{"it had closed", func(p *peer) {}, backend.FailureStale, false},
		{"it had reset", func(p *peer) { p.reset() }, backend.FailureStale, false},
		{"it reads and closes", func(p *peer) { p.head() }, backend.FailureReset, true},
		{"it reads and resets", func(p *peer) { p.head(); p.reset() }, backend.FailureReset, true},
		{"it reads half and closes", func(p *peer) { p.take(3) }, backend.FailureReset, true},
		{"half a head comes", func(p *peer) { p.head(); p.say("HTTP/1.1 200 OK\r\nX") }, backend.FailureReset, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			played := make(chan struct{})
			id := script(t, func(_ int, p *peer) {
				p.head()
				p.say(okAnswer)
				c.second(p)
				_ = p.Close()
				close(played)
			})
			pool := newPool(t, id)
			if r := run(pool, get("GET")); r.err != nil {
				t.Fatal(r.err)
			}
			if c.want == backend.FailureStale {
				<-played
			}
			blind(pool.idle[0])
			wantFailure(t, run(pool, get("POST")).err, c.want, c.maybe)
		})
	}
	t.Run("a new connection, closed unread", func(t *testing.T) {
		// The server's kernel acknowledges bytes that its application never reads, and
		// nobody can tell the two apart.
		id := script(t, func(_ int, p *peer) {
			one := make([]byte, 1)
			_, _ = p.Read(one)
			p.reset()
		})
		wantFailure(t, run(newPool(t, id), get("POST")).err, backend.FailureReset, true)
	})
}

// TestPoolSetConfig: new settings are for connections that exist as well.
func TestPoolSetConfig(t *testing.T) {
	id := script(t, func(_ int, p *peer) {
		p.head()
		p.say(okAnswer)
		p.rest()
	})
	pool := newPool(t, id)
	if r := run(pool, get("GET")); r.err != nil {
		t.Fatal(r.err)
	}
	var cfg Config
	cfg.SetDefaults()
	cfg.ResponseHeaderTimeout = 50 * time.Millisecond
	if err := pool.SetConfig(&cfg); err != nil {
		t.Fatal(err)
	}
	wantFailure(t, run(pool, get("GET")).err, backend.FailureTimeout, true)
	if s := pool.Stats(); s.Dials != 1 {
		t.Errorf("stats %+v; want that a time-out's change keeps the connection", s)
	}
}

// TestPoolClose: unused connections go at once, used ones when they come back, and
// none are made any more.
func TestPoolClose(t *testing.T) {
	pool := newPool(t, answer(t, okAnswer))
	if r := run(pool, get("GET")); r.err != nil {
		t.Fatal(r.err)
	}
	busy, second := open(t, pool), open(t, pool)
	second.Close()
	if err := pool.Close(); err != nil {
		t.Fatal(err)
	}
	if s := pool.Stats(); s.Idle != 0 || s.Open != 1 {
		t.Errorf("stats %+v; want the used one only", s)
	}
	got, err := io.ReadAll(busy.Body())
	if err != nil || string(got) != "ok" {
		t.Errorf("the running exchange got %q, %v; want its answer", got, err)
	}
	busy.Close()
	if s := pool.Stats(); s.Open != 0 {
		t.Errorf("stats %+v; want none", s)
	}
	wantFailure(t, run(pool, get("GET")).err, backend.FailureConnect, false)
}

// TestBrokenPool fails each exchange as if there were no connection.
func TestBrokenPool(t *testing.T) {
	cause := errors.New("no certificate")
	pool := BrokenPool(backend.ID{Scheme: "https", Host: "h", Port: 1}, cause)
	r := run(pool, get("GET"))
	wantFailure(t, r.err, backend.FailureConnect, false)
	if !errors.Is(r.err, cause) || !strings.Contains(r.err.Error(), "no certificate") {
		t.Errorf("error %v; want the cause", r.err)
	}
	if err := pool.Close(); err != nil {
		t.Error(err)
	}
}

// TestPoolConcurrency: many exchanges at once, on connections that break now and then,
// while settings change and the pool closes. The race detector watches.
func TestPoolConcurrency(t *testing.T) {
	id := script(t, func(n int, p *peer) {
		for i := 0; p.head() != ""; i++ {
			if n%3 == 0 && i == 5 {
				return
			}
			p.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")
		}
	})
	pool := newPool(t, id, func(c *Config) { c.IdleConnections = 3 })
	var workers sync.WaitGroup
	for range 8 {
		workers.Go(func() {
			for range 200 {
				if r := run(pool, get("GET")); r.err == nil && r.body != "ok" {
					t.Errorf("got %+v", r)
				}
			}
		})
	}
	workers.Go(func() {
		var cfg Config
		cfg.SetDefaults()
		for i := range 50 {
			cfg.IdleConnections = i % 4
			if err := pool.SetConfig(&cfg); err != nil {
				t.Error(err)
			}
		}
	})
	workers.Wait()
	_ = pool.Close()
	if s := pool.Stats(); s.Open != 0 || s.Idle != 0 {
		t.Errorf("stats %+v; want nothing open", s)
	}
}
