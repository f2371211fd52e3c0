package proxy

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"drover/exchange"
	"drover/proxy/front"
	"drover/units"
)

// pattern is a body whose every part differs from the others.
func pattern(size int) string {
	var b bytes.Buffer
	for i := 0; b.Len() < size; i++ {
		fmt.Fprintf(&b, "%08x.", i)
	}
	return b.String()[:size]
}

// chunked frames a body in chunks of the given size, with a trailer field.
func chunked(body string, size int) string {
	var b strings.Builder
	for len(body) > 0 {
		n := min(size, len(body))
		fmt.Fprintf(&b, "%x\r\n%s\r\n", n, body[:n])
		body = body[n:]
	}
	return b.String() + "0\r\nX-End: yes\r\n\r\n"
}

// heard is a request that a server read to its end.
type heard struct{ body, trailer string }

// hearing is a server that tells what it read and answers 200.
func hearing(got chan heard) script {
	return func(c net.Conn, r *bufio.Reader) {
		for {
			req, body, err := readRequest(r)
			if err != nil {
				return
			}
			got <- heard{string(body), req.Trailer.Get("X-End")}
			if _, err := io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"); err != nil {
				return
			}
		}
	}
}

// resetAfter reads so many bytes behind the head, all when negative, and resets.
func resetAfter(n int64) script {
	return func(c net.Conn, r *bufio.Reader) {
		defer reset(c)
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		if n < 0 {
			_, _ = io.Copy(io.Discard, req.Body)
			return
		}
		_, _ = io.CopyN(io.Discard, req.Body, n)
	}
}

const busy = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"

func retrying(limit units.Size) func(*RouteConfig) {
	return func(c *RouteConfig) {
		c.Retry.On = []string{"connect", "stale", "reset", "timeout", "503"}
		c.Retry.MaxBufferedBody = limit
	}
}

func TestReplay(t *testing.T) {
	const limit = 96 << 10
	for _, c := range []struct {
		what   string
		method string
		size   int
		chunk  int // 0: of known length
		first  script
		limit  units.Size
		again  bool
	}{
		{"whole body read", "PUT", 90_000, 0, resetAfter(-1), limit, true},
		{"part of the body read", "PUT", 90_000, 0, resetAfter(50_000), limit, true},
		{"nothing read", "PUT", 90_000, 0, resetAfter(0), limit, true},
		{"chunks", "PUT", 90_000, 7_777, resetAfter(-1), limit, true},
		{"large chunks", "PUT", 90_000, 50_000, resetAfter(-1), limit, true},
		{"small", "PUT", 100, 0, resetAfter(-1), limit, true},
		{"empty", "PUT", 0, 0, resetAfter(-1), limit, true},
		{"empty chunked", "PUT", 0, 1, resetAfter(-1), limit, true},
		{"as large as may be", "PUT", limit, 0, resetAfter(-1), limit, true},
		{"as large as may be, chunked", "PUT", limit, 10_000, resetAfter(-1), limit, true},
		{"one too large", "PUT", limit + 1, 0, resetAfter(-1), limit, false},
		{"one too large, chunked", "PUT", limit + 1, 10_000, resetAfter(-1), limit, false},
		{"far too large, chunked", "PUT", 10 * limit, 10_000, resetAfter(-1), limit, false},
		{"busy", "PUT", 90_000, 0, answering(busy), limit, true},
		{"busy, chunked", "PUT", 90_000, 10_000, answering(busy), limit, true},
		{"busy, too large", "PUT", limit + 1, 0, answering(busy), limit, false},
		{"not idempotent", "POST", 90_000, 0, resetAfter(-1), limit, false},
		{"not idempotent, busy", "POST", 90_000, 0, answering(busy), limit, false},
		{"not idempotent, small", "POST", 100, 0, resetAfter(-1), limit, false},
		{"nothing may be kept", "PUT", 90_000, 0, resetAfter(-1), 0, false},
		{"nothing may be kept, small", "PUT", 100, 0, resetAfter(-1), 0, false},
		{"nothing may be kept, empty", "PUT", 0, 0, resetAfter(-1), 0, true},
		{"not reached", "POST", 90_000, 0, nil, limit, true},
		{"not reached, too large", "POST", 90_000, 10_000, nil, 1 << 10, true},
		{"not reached, nothing may be kept", "POST", 100, 0, nil, 0, true},
	} {
		t.Run(c.what, func(t *testing.T) {
			first := refusing(t)
			if c.first != nil {
				first = startServer(t, c.first)
			}
			got := make(chan heard, 2)
			b := startBed(t, setup{servers: []string{first, startServer(t, hearing(got))}, route: retrying(c.limit)})
			body := pattern(c.size)
			request := fmt.Sprintf("%s / HTTP/1.1\r\nHost: a\r\n", c.method)
			want := heard{body: body}
			if c.chunk > 0 {
				request += "Transfer-Encoding: chunked\r\nTrailer: X-End\r\n\r\n" + chunked(body, c.chunk)
				want.trailer = "yes"
			} else {
				request += fmt.Sprintf("Content-Length: %d\r\n\r\n%s", c.size, body)
			}
			v := b.dial(t)
			go io.WriteString(v, request) //nolint:errcheck // drover may stop to read it.
			resp, _ := v.answer()
			result := b.result(t)
			if !c.again {
				if resp.StatusCode == 200 || result.Attempts != 1 {
					t.Errorf("status %d after %d attempts; want one, which failed", resp.StatusCode, result.Attempts)
				}
				return
			}
			if resp.StatusCode != 200 || result.Attempts != 2 {
				t.Fatalf("status %d after %d attempts; want 200 after 2", resp.StatusCode, result.Attempts)
			}
			if h := <-got; h != want {
				t.Errorf("the second server got %d bytes, trailer %q; want %d, %q, and the same bytes",
					len(h.body), h.trailer, len(want.body), want.trailer)
			}
			if result.Received != int64(c.size) && c.size > 8<<10 {
				t.Errorf("received %d; want %d", result.Received, c.size)
			}
			v.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n") // the connection lives on.
			if resp, _ := v.answer(); resp.StatusCode != 200 && resp.StatusCode != 503 && resp.StatusCode != 502 {
				t.Errorf("next request: status %d", resp.StatusCode)
			}
		})
	}
}

// TestReplayWhileTheClientSends: the first server fails while the client has not sent
// everything; the second gets what there was and then the rest.
func TestReplayWhileTheClientSends(t *testing.T) {
	for what, first := range map[string]script{"reset": resetAfter(10_000), "busy": func(c net.Conn, r *bufio.Reader) {
		if _, err := http.ReadRequest(r); err == nil {
			_, _ = io.WriteString(c, busy)
			_, _ = io.Copy(io.Discard, r)
		}
	}} {
		t.Run(what, func(t *testing.T) {
			body, got, begun := pattern(90_000), make(chan heard, 1), make(chan bool)
			second := startServer(t, func(c net.Conn, r *bufio.Reader) {
				if _, err := r.Peek(1); err == nil {
					begun <- true
				}
				hearing(got)(c, r)
			})
			b := startBed(t, setup{servers: []string{startServer(t, first), second}, route: retrying(units.MiB)})
			v := b.dial(t)
			v.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 90000\r\n\r\n" + body[:40_000])
			receive(t, begun, "the second attempt")
			v.send(body[40_000:])
			if resp, _ := v.answer(); resp.StatusCode != 200 || resp.Close {
				t.Errorf("status %d, close %v; want 200 and the connection open", resp.StatusCode, resp.Close)
			}
			if h := receive(t, got, "the body"); h.body != body {
				t.Errorf("the second server got %d bytes; want %d, and the same", len(h.body), len(body))
			}
		})
	}
}

// TestReplayStreamsOn: a body of many times the limit passes whole, and none of it is
// waited for.
func TestReplayStreamsOn(t *testing.T) {
	parts := make(chan byte)
	server := startServer(t, func(c net.Conn, r *bufio.Reader) {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		buf := make([]byte, 20_000)
		for {
			if _, err := io.ReadFull(req.Body, buf); err != nil {
				break
			}
			parts <- buf[0]
		}
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	})
	b := startBed(t, setup{servers: []string{server}, route: retrying(64 << 10)})
	v := b.dial(t)
	v.send("PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
	for i := range byte(40) {
		v.send("4e20\r\n" + strings.Repeat(string('A'+rune(i)), 20_000) + "\r\n")
		if got := receive(t, parts, "a part"); got != 'A'+i {
			t.Fatalf("part %d begins with %q; want %q", i, got, 'A'+i)
		}
	}
	v.send("0\r\n\r\n")
	if resp, _ := v.answer(); resp.StatusCode != 200 {
		t.Errorf("status %d; want 200", resp.StatusCode)
	}
}

// TestUploadOutlived: the answer comes before the body has. Nobody waits for the rest,
// and the client is told.
func TestUploadOutlived(t *testing.T) {
	for _, limit := range []units.Size{0, units.MiB} {
		server := startServer(t, func(c net.Conn, r *bufio.Reader) {
			if _, err := http.ReadRequest(r); err == nil {
				_, _ = io.WriteString(c, "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
				_, _ = io.Copy(io.Discard, r)
			}
		})
		b := startBed(t, setup{servers: []string{server}, route: retrying(limit)})
		v := b.dial(t)
		v.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 90000\r\n\r\n" + pattern(20_000))
		if resp, _ := v.answer(); resp.StatusCode != 403 || !resp.Close {
			t.Errorf("limit %d: status %d, close %v; want 403 and close", limit, resp.StatusCode, resp.Close)
		}
		if result := b.result(t); result.Reason != exchange.ReasonNone {
			t.Errorf("limit %d: reason %q; want none", limit, result.Reason)
		}
	}
}

// TestUploadBreaks tells a server that fails under an upload from a client that does.
func TestUploadBreaks(t *testing.T) {
	const head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 90000\r\n\r\n"
	for _, limit := range []units.Size{0, units.MiB} {
		for _, c := range []struct {
			what   string
			server script
			client func(v *visitor)
			status int // 0: no answer
			reason exchange.Reason
		}{
			{"server resets", resetAfter(10_000), func(*visitor) {}, 502, exchange.ReasonReset},
			{"client stalls", resetAfter(-1), func(*visitor) {}, 408, exchange.ReasonClientTimeout},
			{"client ends", resetAfter(-1), func(v *visitor) { _ = v.CloseWrite() }, 0, exchange.ReasonClientGone},
			{"client resets", resetAfter(-1), func(v *visitor) { reset(v); _ = v.Close() }, 0, exchange.ReasonClientGone},
		} {
			t.Run(fmt.Sprintf("%s, limit %d", c.what, limit), func(t *testing.T) {
				began := make(chan bool, 1)
				server := startServer(t, func(conn net.Conn, r *bufio.Reader) {
					_, _ = r.Peek(1)
					began <- true
					c.server(conn, r)
				})
				b := startBed(t, setup{
					servers: []string{server}, route: retrying(limit),
					listener: func(cfg *front.Config) {
						if c.status == 408 {
							cfg.BodyIdleTimeout = 50 * time.Millisecond
						}
					},
				})
				v := b.dial(t)
				v.send(head + pattern(20_000))
				receive(t, began, "the request")
				c.client(v)
				if c.status != 0 {
					if resp, _ := v.answer(); resp.StatusCode != c.status {
						t.Errorf("status %d; want %d", resp.StatusCode, c.status)
					}
				}
				if result := b.result(t); result.Reason != c.reason || result.Status != c.status {
					t.Errorf("result %d %q; want %d %q", result.Status, result.Reason, c.status, c.reason)
				}
			})
		}
	}
}
