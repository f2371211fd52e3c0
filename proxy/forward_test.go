package proxy

import (
	"bufio"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"drover/backend"
	"drover/exchange"
)

// retryRoute compiles a route with a retry rule.
func retryRoute(t testing.TB, change func(c *RetryConfig)) *Route {
	t.Helper()
	return mustCompile(t, routeTo("a", func(c *RouteConfig) { change(&c.Retry) })).Routes()[0]
}

// TestMayRetry goes over every method, condition and knowledge of what the server did.
func TestMayRetry(t *testing.T) {
	idempotent := map[string]bool{"GET": true, "HEAD": true, "OPTIONS": true, "PUT": true, "DELETE": true, "TRACE": true}
	conditions := map[string]RetryCondition{
		"connect": RetryConnect, "stale": RetryStale, "reset": RetryReset, "timeout": RetryTimeout,
		"502": Retry502, "503": Retry503, "504": Retry504,
	}
	r := newRig(t, nil, func(o *UpstreamOptions, _ *RouteConfig) { o.Budget.Percent, o.Budget.MinPerSecond = 0, 1e6 })
	for _, allowed := range [][]string{nil, {"POST"}, {"GET", "PATCH"}} {
		for listed, cond := range conditions {
			for _, on := range [][]string{{}, {listed}, {"connect", "stale"}} {
				route := retryRoute(t, func(c *RetryConfig) {
					if c.On = on; allowed != nil {
						c.Methods = allowed
					}
				})
				for _, method := range []string{"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE", "POST", "PATCH", "get", "X"} {
					for _, maybe := range []bool{false, true} {
						rq := &request{ex: requestFor(method, "a.test", "/"), route: route, target: target{upstream: r.up}}
						rq.ex.Client, rq.ex.Result.Attempts = &client{}, 1
						repeatable := idempotent[method]
						if allowed != nil {
							repeatable = strings.Contains(strings.Join(allowed, " "), method)
						}
						want := strings.Contains(strings.Join(on, " "), listed) && (!maybe || repeatable)
						if got := rq.mayRetry(cond, maybe, time.Time{}); got != want {
							t.Errorf("%s, %s, maybe executed %v, on %v, methods %v: got %v, want %v", method, listed, maybe, on, allowed, got, want)
						}
					}
				}
			}
		}
	}
}

func TestMayRetryBounds(t *testing.T) {
	none := func(*request) {}
	streamed := func(rq *request) { rq.out.Body = strings.NewReader("body") }
	for _, tc := range []struct {
		what     string
		attempts int // allowed
		made     int
		change   func(rq *request)
		deadline time.Duration // 0 for none
		want     bool
	}{
		{"none made of two", 2, 0, none, 0, true},
		{"one made of two", 2, 1, none, 0, true},
		{"two made of two", 2, 2, none, 0, false},
		{"15 made of 16", 16, 15, none, 0, true},
		{"16 made of 16", 16, 16, none, 0, false},
		{"one attempt", 1, 1, none, 0, false},
		{"no attempts named", 0, 1, none, 0, false},
		{"time left", 2, 1, none, time.Hour, true},
		{"no time left", 2, 1, none, -time.Second, false},
		{"client left", 2, 1, func(rq *request) { rq.ex.Client.(*client).left.Store(true) }, 0, false},
		{"body not begun", 2, 1, streamed, 0, true},
		{"body begun", 2, 1, func(rq *request) { streamed(rq); rq.body.n = 1 }, 0, false},
		{"body broken", 2, 1, func(rq *request) { streamed(rq); rq.body.err = io.ErrUnexpectedEOF }, 0, false},
		{"body in memory", 2, 1, func(rq *request) { streamed(rq); rq.out.Buffered = []byte("body") }, 0, true},
		{"no budget", 2, 1, func(rq *request) { rq.target.upstream.budget.balance.Store(0) }, 0, false},
	} {
		r := newRig(t, nil, func(o *UpstreamOptions, _ *RouteConfig) { o.Budget.Percent, o.Budget.MinPerSecond = 100, 0 })
		r.up.budget.deposit()
		rq := &request{
			ex: requestFor("GET", "a.test", "/"), target: target{upstream: r.up},
			route: retryRoute(t, func(c *RetryConfig) { c.Attempts = tc.attempts }),
		}
		rq.ex.Client, rq.ex.Result.Attempts = &client{}, tc.made
		tc.change(rq)
		deadline := time.Time{}
		if tc.deadline != 0 {
			deadline = time.Now().Add(tc.deadline)
		}
		before := r.up.budget.balance.Load()
		if got := rq.mayRetry(RetryConnect, false, deadline); got != tc.want {
			t.Errorf("%s: got %v, want %v", tc.what, got, tc.want)
		}
		paid := before - r.up.budget.balance.Load()
		if want := map[bool]int64{true: retryUnit}[tc.want]; paid != want {
			t.Errorf("%s: took %d from the budget, want %d", tc.what, paid, want)
		}
		exhausted := strings.HasSuffix(r.metric("drover_upstream_retry_budget_exhausted_total{"), " 1")
		if want := tc.what == "no budget"; exhausted != want {
			t.Errorf("%s: budget exhausted: got %v, want %v", tc.what, exhausted, want)
		}
	}
}

// scripted is a server that plays the same on each connection, after the head of a
// request, and closes it.
func scripted(t testing.TB, play func(c *net.TCPConn)) backend.ID {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var workers sync.WaitGroup
	workers.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			workers.Go(func() {
				defer conn.Close()
				in := bufio.NewReader(conn)
				for line := ""; line != "\r\n"; {
					if line, err = in.ReadString('\n'); err != nil {
						return
					}
				}
				play(conn.(*net.TCPConn))
			})
		}
	})
	t.Cleanup(func() { _ = ln.Close(); workers.Wait() })
	return backend.ID{Scheme: "http", Host: "127.0.0.1", Port: uint16(ln.Addr().(*net.TCPAddr).Port)}
}

func says(text string) func(c *net.TCPConn) {
	return func(c *net.TCPConn) { _, _ = io.WriteString(c, text) }
}

func hangs(c *net.TCPConn) { _, _ = io.Copy(io.Discard, c) }

// absent is a server that is not there.
func absent(t testing.TB) backend.ID {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return backend.ID{Scheme: "http", Host: "127.0.0.1", Port: uint16(ln.Addr().(*net.TCPAddr).Port)}
}

// empty ends a head. A scripted server closes each connection, and says so: one that is
// taken for kept may be used again just before its end shows.
const empty = "Connection: close\r\nContent-Length: 0\r\n\r\n"

// TestRetries plays failures on the first server; the second is well.
func TestRetries(t *testing.T) {
	reset := func(c *net.TCPConn) { _ = c.SetLinger(0) }
	every := []string{"connect", "stale", "reset", "timeout", "502", "503", "504"}
	for _, tc := range []struct {
		what    string
		play    func(c *net.TCPConn) // nil: nobody listens
		on      string               // what it is in a rule's words
		maybe   bool
		status  int // without a retry
		reason  exchange.Reason
		noRetry bool // whatever the rule
	}{
		{"refused", nil, "connect", false, 502, exchange.ReasonConnect, false},
		{"reset", reset, "reset", true, 502, exchange.ReasonReset, false},
		{"hangs", hangs, "timeout", true, 504, exchange.ReasonTimeout, false},
		{"502", says("HTTP/1.1 502 X\r\n" + empty), "502", true, 502, "", false},
		{"503", says("HTTP/1.1 503 X\r\n" + empty), "503", true, 503, "", false},
		{"504", says("HTTP/1.1 504 X\r\n" + empty), "504", true, 504, "", false},
		{"500", says("HTTP/1.1 500 X\r\n" + empty), "", true, 500, "", true},
		{"no HTTP", says("nonsense\r\n\r\n"), "", true, 502, exchange.ReasonProtocol, true},
		{"cut body", says("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\ncut"), "", true, 200, exchange.ReasonBodyCut, true},
	} {
		bad := absent(t)
		if tc.play != nil {
			bad = scripted(t, tc.play)
		}
		members := []*backend.Member{member(t, bad), member(t, scripted(t, says("HTTP/1.1 204 OK\r\nConnection: close\r\n\r\n")))}
		for _, method := range []string{"GET", "POST"} {
			for _, on := range [][]string{every, {}, {"connect", "stale"}} {
				r := newRig(t, members, func(_ *UpstreamOptions, c *RouteConfig) {
					c.Retry.On = on
					if tc.on == "timeout" {
						c.Retry.PerTryTimeout = 50 * time.Millisecond
					}
				})
				ruled := tc.on != "" && strings.Contains(strings.Join(on, " "), tc.on)
				wantStatus, wantReason, wantAttempts := tc.status, tc.reason, 1
				if ruled && !tc.noRetry && (!tc.maybe || method == "GET") {
					wantStatus, wantReason, wantAttempts = 204, "", 2
				}
				c, result := r.serve(requestFor(method, "a.test", "/"))
				if c.response.Status != wantStatus || result.Reason != wantReason || result.Attempts != wantAttempts {
					t.Errorf("%s, %s, on %v: got %d, %q, %d attempts, want %d, %q, %d", method, tc.what, on,
						c.response.Status, result.Reason, result.Attempts, wantStatus, wantReason, wantAttempts)
				}
				for _, m := range members {
					if n := m.InFlight(); n != 0 {
						t.Errorf("%s, %s, on %v: %d in flight at the end", method, tc.what, on, n)
					}
				}
			}
		}
	}
}

// TestAttemptsAndTimeout: neither more attempts nor more time than the route allows.
func TestAttemptsAndTimeout(t *testing.T) {
	var dead, hanging []*backend.Member
	for range 5 {
		dead = append(dead, member(t, absent(t)))
		hanging = append(hanging, member(t, scripted(t, hangs)))
	}
	for _, tc := range []struct {
		what     string
		members  []*backend.Member
		attempts int
		perTry   time.Duration
		timeout  time.Duration
		least    int
		most     int
		status   int
	}{
		{"all refuse", dead, 3, 0, 0, 3, 3, 502},
		{"all refuse, one attempt", dead, 1, 0, 0, 1, 1, 502},
		{"more attempts than servers", dead, 8, 0, 0, 8, 8, 502},
		{"time-out of each", hanging, 3, 20 * time.Millisecond, 0, 3, 3, 504},
		{"time-out of all", hanging, 5, 0, 50 * time.Millisecond, 1, 1, 504},
		{"time-out of all comes first", hanging, 5, time.Hour, 50 * time.Millisecond, 1, 1, 504},
		{"time-out of all cuts the last", hanging, 16, 40 * time.Millisecond, 100 * time.Millisecond, 1, 3, 504},
	} {
		r := newRig(t, tc.members, func(_ *UpstreamOptions, c *RouteConfig) {
			c.Retry.Attempts, c.Retry.PerTryTimeout, c.Timeout = tc.attempts, tc.perTry, tc.timeout
			c.Retry.On = []string{"connect", "timeout"}
		})
		c, result := r.serve(requestFor("GET", "a.test", "/"))
		if c.response.Status != tc.status || result.Attempts < tc.least || result.Attempts > tc.most {
			t.Errorf("%s: got %d after %d attempts, want %d after %d to %d",
				tc.what, c.response.Status, result.Attempts, tc.status, tc.least, tc.most)
		}
	}
}

type panicking struct{}

func (panicking) Report(*backend.Member, backend.Outcome) { panic("a bug") }

func TestPanicGivesPlacesBack(t *testing.T) {
	m := member(t, absent(t))
	r := newRig(t, []*backend.Member{m}, func(o *UpstreamOptions, _ *RouteConfig) {
		o.Reporter, o.Limits.MaxRequests, o.Limits.MaxRequestsPerServer = panicking{}, 1, 1
	})
	for range 2 {
		if c, result := r.serve(requestFor("GET", "a.test", "/")); c.response.Status != 500 || result.Reason != exchange.ReasonPanic {
			t.Errorf("got %d, %q, want 500, %q", c.response.Status, result.Reason, exchange.ReasonPanic)
		}
	}
	if n, running := m.InFlight(), r.up.gate.running.Load(); n != 0 || running != 0 {
		t.Errorf("%d in flight on the server and %d on the upstream, want 0", n, running)
	}
}

// TestDeadlineInTheQueue: the route's time-out bounds the wait for a place as well, and
// is told as what it is; no server is dialled, let alone blamed.
func TestDeadlineInTheQueue(t *testing.T) {
	for name, limits := range map[string]LimitConfig{
		"on the upstream": {MaxRequests: 1},
		"on a server":     {MaxRequestsPerServer: 1},
	} {
		t.Run(name, func(t *testing.T) {
			m := member(t, absent(t))
			r := newRig(t, []*backend.Member{m}, func(o *UpstreamOptions, c *RouteConfig) {
				o.Limits.MaxRequests, o.Limits.MaxRequestsPerServer = limits.MaxRequests, limits.MaxRequestsPerServer
				o.Limits.Queue = QueueConfig{Size: 1, Timeout: patience}
				c.Timeout = 20 * time.Millisecond
			})
			if !r.up.gate.enter() || !m.Acquire(1) {
				t.Fatal("no place")
			}
			if limits.MaxRequests == 0 {
				r.up.gate.leave()
			}
			c, result := r.serve(requestFor("GET", "a.test", "/"))
			if c.response.Status != 504 || result.Reason != exchange.ReasonTimeout || result.Attempts != 0 {
				t.Errorf("got %d %s after %d attempts; want 504 UT after none", c.response.Status, result.Reason, result.Attempts)
			}
		})
	}
}
