package proxy

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// TestTrailersPassBothWays: the server's are sent when its connection serves others.
func TestTrailersPassBothWays(t *testing.T) {
	seen := make(chan http.Header, 1)
	b := startBed(t, setup{servers: []string{startServer(t, func(c net.Conn, r *bufio.Reader) {
		req, _, err := readRequest(r)
		if err != nil {
			return
		}
		seen <- req.Trailer
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 2\r\n\r\n")
	})}})
	v := b.dial(t)
	v.send("POST / HTTP/1.1\r\nHost: a\r\nTrailer: X-Check\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Check: 3\r\n\r\n")
	resp, body := v.answer()
	if body != "ok" || resp.Trailer.Get("X-Sum") != "2" {
		t.Errorf("the client got %q and %v; want ok and X-Sum: 2", body, resp.Trailer)
	}
	if got := receive(t, seen, "the request").Get("X-Check"); got != "3" {
		t.Errorf("the server got X-Check %q; want 3", got)
	}
}

// TestAnswersWithoutBody: what has none leaves the connection where the next answer
// begins.
func TestAnswersWithoutBody(t *testing.T) {
	for _, c := range []struct {
		method, answer string
		status         int
		length         string
	}{
		{"HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n", 200, "12345"},
		{"HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 200, ""},
		{"GET", "HTTP/1.1 204 No Content\r\n\r\n", 204, ""},
		{"GET", "HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n", 205, "0"},
		{"GET", "HTTP/1.1 205 Reset Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 205, "0"},
		{"GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n", 304, "7"},
	} {
		b := startBed(t, setup{servers: []string{startServer(t, answering(c.answer))}})
		v := b.dial(t)
		for range 2 {
			v.send(c.method + " / HTTP/1.1\r\nHost: a\r\n\r\n")
			resp, err := http.ReadResponse(v.r, &http.Request{Method: c.method})
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			if resp.StatusCode != c.status || len(body) > 0 || err != nil || resp.Header.Get("Content-Length") != c.length {
				t.Errorf("%s, %q: got %d, length %q, body %q, %v", c.method, c.answer, resp.StatusCode, resp.Header.Get("Content-Length"), body, err)
			}
		}
	}
}

// TestServersConnectionStays: clients that close, or mean to, leave the connection to the
// server to the next one, and the server hears nothing of it.
func TestServersConnectionStays(t *testing.T) {
	rec := &recorder{}
	b := startBed(t, setup{servers: []string{startServer(t, rec.play)}})
	const post = " HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n"
	for _, raw := range []string{
		get("/"), "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nconnection: X-A, CLOSE\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nProxy-Connection: close\r\nKeep-Alive: timeout=0\r\n\r\n", "HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
		"POST /" + post + "Connection: close\r\n\r\nhello", "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
		"POST /" + post + "Connection: close\r\nExpect: 100-continue\r\n\r\nhello",
		"GET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n", "POST / HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello",
	} {
		v := b.dial(t)
		v.send(raw)
		method, _, _ := strings.Cut(raw, " ")
		if m, err := readStrictAnswer(v.r, method); err != nil || m.status != 200 {
			t.Fatalf("%q: got %+v, %v", raw, m, err)
		}
		b.result(t)
		_ = v.Close()
	}
	for range 2 {
		c := b.dialFrames(t)
		if m, err := c.ask(1, "HEADERS END "+headOf("GET")); err != nil || m.status != 200 {
			t.Fatalf("HTTP/2: got %+v, %v", m, err)
		}
		b.result(t)
		_ = c.Close()
	}
	got, errs := rec.taken()
	if len(got) != 13 || len(errs) > 0 {
		t.Fatalf("%d requests arrived, and %v", len(got), errs)
	}
	for _, g := range got {
		if list := values(g.fields, "Connection"); g.conn != 1 || len(list) > 0 {
			t.Errorf("a request came on connection %d, with Connection %q; want all on one, without", g.conn, list)
		}
	}
}
