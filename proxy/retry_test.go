package proxy

import (
	"bufio"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"drover/backend"
	"drover/exchange"
	"drover/metrics"
	"drover/transport"
)

// sentBody is how much of a request's body has gone out when an attempt fails.
type sentBody int

const (
	noBody   sentBody = iota
	unsent            // there is one, nothing was read of it
	inMemory          // the front has it
	kept              // read in part, and kept
	overLong          // read in part, and more than may be kept
	lost              // read in part, and not kept
)

// failedRequest is a request after its first attempt.
func failedRequest(t *testing.T, m *metrics.Metrics, method string, sent sentBody, change func(*RouteConfig)) *request {
	t.Helper()
	up := NewUpstream(UpstreamOptions{Name: "app", Metrics: m, Budget: BudgetConfig{Percent: 20, MinPerSecond: 10}})
	ex := requestFor(method, "a", "/")
	ex.Client, ex.Result.Attempts = newBodyClient(), 1
	rq := &request{ex: ex, route: mustCompile(t, routeTo("app", change)).Routes()[0], target: target{upstream: up}}
	if sent != noBody {
		ex.Request.Body, ex.Request.ContentLength = strings.NewReader("hello"), 5
	}
	rq.body.reader = ex.Request.Body
	switch sent {
	case noBody:
		return rq
	case inMemory:
		rq.out.Buffered = []byte("hello")
	case unsent:
	case lost:
		_, _ = rq.body.Read(make([]byte, 2))
	case kept, overLong:
		rq.kept = keep(ex, &rq.body, map[sentBody]int64{kept: 5, overLong: 3}[sent])
		t.Cleanup(rq.kept.close)
		_, _ = io.ReadFull(rq.kept, make([]byte, 2))
		for range 2 { // until it is known how long the body is.
			_, _ = rq.kept.Read(make([]byte, 2))
		}
	}
	rq.out.Body = &rq.body
	return rq
}

// TestRetryRules is the whole table: method, fault, body and the route's setting.
func TestRetryRules(t *testing.T) {
	every := []RetryCondition{RetryConnect, RetryStale, RetryReset, RetryTimeout, Retry502, Retry503, Retry504}
	m, names := metrics.New(0, "test"), map[RetryCondition]string{}
	for name, cond := range retryConditions {
		names[cond] = name
	}
	for _, method := range []string{"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE", "POST", "PATCH", "get", "PROPFIND"} {
		listed := slices.Contains([]string{"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"}, method)
		for sent := noBody; sent <= lost; sent++ {
			for _, cond := range every {
				for _, on := range []string{"default", "this", "others", "none"} {
					for _, executed := range []bool{false, true} {
						rq := failedRequest(t, m, method, sent, func(c *RouteConfig) {
							switch on {
							case "this":
								c.Retry.On = []string{names[cond]}
							case "others":
								c.Retry.On = slices.DeleteFunc(slices.Sorted(func(yield func(string) bool) {
									for name := range retryConditions {
										if !yield(name) {
											return
										}
									}
								}), func(name string) bool { return name == names[cond] })
							case "none":
								c.Retry.On = nil
							}
						})
						asked := on == "this" || on == "default" && (cond == RetryConnect || cond == RetryStale)
						want := asked && (listed || !executed) && sent != overLong && sent != lost
						if got := rq.mayRetry(cond, executed, time.Time{}); got != want {
							t.Errorf("%s, body %d, fault %s, retried on %s, executed %v: %v; want %v",
								method, sent, names[cond], on, executed, got, want)
						}
					}
				}
			}
		}
	}
}

// TestRetryEnds has what forbids every retry.
func TestRetryEnds(t *testing.T) {
	for _, c := range []struct {
		what     string
		route    func(*RouteConfig)
		change   func(*request)
		deadline time.Time
		want     bool
	}{
		{"nothing", nil, func(*request) {}, time.Time{}, true},
		{"time left", nil, func(*request) {}, time.Now().Add(time.Hour), true},
		{"no time left", nil, func(*request) {}, time.Now().Add(-time.Second), false},
		{"attempts used up", nil, func(rq *request) { rq.ex.Result.Attempts = 2 }, time.Time{}, false},
		{"no attempts", func(c *RouteConfig) { c.Retry.Attempts = 0 }, func(*request) {}, time.Time{}, false},
		{"one attempt", func(c *RouteConfig) { c.Retry.Attempts = 1 }, func(*request) {}, time.Time{}, false},
		{"more attempts", func(c *RouteConfig) { c.Retry.Attempts = 3 }, func(rq *request) { rq.ex.Result.Attempts = 2 }, time.Time{}, true},
		{"client gone", nil, func(rq *request) { rq.ex.Client.(*bodyClient).left = true }, time.Time{}, false},
		{"budget spent", nil, func(rq *request) { granted(rq.target.upstream.budget, time.Now()) }, time.Time{}, false},
		{"body in memory, too large", func(c *RouteConfig) { c.Retry.MaxBufferedBody = 4 },
			func(rq *request) { rq.out.Body, rq.out.Buffered = &rq.body, []byte("hello") }, time.Time{}, false},
	} {
		rq := failedRequest(t, metrics.New(0, "test"), "GET", noBody, c.route)
		c.change(rq)
		if got := rq.mayRetry(RetryStale, false, c.deadline); got != c.want {
			t.Errorf("%s: %v; want %v", c.what, got, c.want)
		}
	}
}

// TestFaults has a server for each fault that a socket can show, and what becomes of a
// request to it when the route retries on everything, and when it does so by default.
func TestFaults(t *testing.T) {
	silent := func(c net.Conn, _ *bufio.Reader) { _, _ = io.Copy(io.Discard, c) }
	status := func(line string) script {
		return answering("HTTP/1.1 " + line + "\r\nContent-Length: 0\r\n\r\n")
	}
	for _, c := range []struct {
		what       string
		server     script
		method     string
		status     int // with nothing retried
		reason     exchange.Reason
		everything bool // retried where the route asks for everything
		byDefault  bool
	}{
		{"refused", nil, "GET", 502, exchange.ReasonConnect, true, true},
		{"refused", nil, "POST", 502, exchange.ReasonConnect, true, true},
		{"reset", resetAfter(-1), "GET", 502, exchange.ReasonReset, true, false},
		{"reset", resetAfter(-1), "POST", 502, exchange.ReasonReset, false, false},
		{"closed", func(_ net.Conn, r *bufio.Reader) { _, _, _ = readRequest(r) }, "GET", 502, exchange.ReasonReset, true, false},
		{"half a head", answering("HTTP/1.1 200 OK\r\nConte"), "GET", 504, exchange.ReasonTimeout, true, false},
		{"silent", silent, "GET", 504, exchange.ReasonTimeout, true, false},
		{"silent", silent, "POST", 504, exchange.ReasonTimeout, false, false},
		{"502", status("502 Bad Gateway"), "GET", 502, "", true, false},
		{"503", status("503 Service Unavailable"), "GET", 503, "", true, false},
		{"503", status("503 Service Unavailable"), "POST", 503, "", false, false},
		{"504", status("504 Gateway Timeout"), "GET", 504, "", true, false},
		{"500", status("500 Internal Server Error"), "GET", 500, "", false, false},
		{"no HTTP", answering("SSH-2.0-OpenSSH\r\n\r\n"), "GET", 502, exchange.ReasonProtocol, false, false},
	} {
		for _, everything := range []bool{true, false} {
			t.Run(c.what+" "+c.method, func(t *testing.T) {
				t.Parallel()
				first := refusing(t)
				if c.server != nil {
					first = startServer(t, c.server)
				}
				b := startBed(t, setup{
					servers: []string{first, startServer(t, answering(ok200))},
					route: func(cfg *RouteConfig) {
						if everything {
							cfg.Retry.On = []string{"connect", "stale", "reset", "timeout", "502", "503", "504"}
						}
					},
					transport: func(cfg *transport.Config) { cfg.ResponseHeaderTimeout = 300 * time.Millisecond },
				})
				v := b.dial(t)
				v.send(c.method + " / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
				resp, _ := v.answer()
				status, reason, attempts := c.status, c.reason, 1
				if everything && c.everything || c.byDefault {
					status, reason, attempts = 200, "", 2
				}
				result := b.result(t)
				if resp.StatusCode != status || result.Reason != reason || result.Attempts != attempts {
					t.Errorf("retried on everything %v: %d %q after %d attempts; want %d %q after %d",
						everything, resp.StatusCode, result.Reason, result.Attempts, status, reason, attempts)
				}
			})
		}
	}
}

// TestCutAnswerIsNotRetried: what has reached the client is not begun anew.
func TestCutAnswerIsNotRetried(t *testing.T) {
	b := startBed(t, setup{
		servers: []string{
			startServer(t, func(c net.Conn, r *bufio.Reader) {
				_, _, _ = readRequest(r)
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart")
			}),
			startServer(t, answering(ok200)),
		},
		route: retrying(1 << 20),
	})
	v := b.dial(t)
	v.send(get("/"))
	text, err := io.ReadAll(v.r)
	if !strings.HasSuffix(string(text), "\r\n\r\npart") || err != nil && !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %q, %v; want the part and the end", text, err)
	}
	if result := b.result(t); result.Reason != exchange.ReasonBodyCut || !result.Aborted || result.Attempts != 1 {
		t.Errorf("result %+v; want UB, aborted, one attempt", result)
	}
}

// TestFailureTables: every failure of an attempt has its answer.
func TestFailureTables(t *testing.T) {
	for f := backend.FailureConnect; f < backend.FailureClient; f++ {
		if answer := failureAnswer[f]; answer.status < 500 || answer.reason == exchange.ReasonNone {
			t.Errorf("failure %v has the answer %+v", f, answer)
		}
	}
}
