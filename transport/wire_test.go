package transport

import (
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"

	"drover/exchange"
)

func field(name, value string) exchange.Field {
	return exchange.Field{Name: []byte(name), Value: []byte(value)}
}

// TestRequestBytes: what a server gets is what the request says, to the byte, and
// nothing of our own.
func TestRequestBytes(t *testing.T) {
	buffered := func(r *exchange.Request, body string) *exchange.Request {
		r.Body, r.Buffered, r.ContentLength = strings.NewReader(body), []byte(body), int64(len(body))
		r.Header = exchange.Header{field("content-length", fmt.Sprint(len(body)))}
		return r
	}
	plain := get("GET")
	plain.Target = []byte("/a//b/../%2F?x=%00&&y")
	plain.Header = exchange.Header{field("zULU", "1"), field("HOST", "ignored"), field("a", ""), field("zULU", "2"), field("Accept", "*/*;q=0.1")}
	bare := get("BREW")
	bare.Host = nil
	trailers := post(strings.NewReader("abc"), exchange.LengthUnknown)
	trailers.Trailer = func() exchange.Header { return exchange.Header{field("X-Sum", "9"), field("X-Sum", "8")} }
	large := strings.Repeat("x", maxInline+1)
	for _, c := range []struct {
		name string
		req  *exchange.Request
		want string
	}{
		{"fields in order", plain, "GET /a//b/../%2F?x=%00&&y HTTP/1.1\r\nzULU: 1\r\nHOST: h\r\na: \r\nzULU: 2\r\nAccept: */*;q=0.1\r\n\r\n"},
		{"no host", bare, "BREW / HTTP/1.1\r\nHost: SERVER\r\n\r\n"},
		{"small body in memory", buffered(get("POST"), "abc"), "POST / HTTP/1.1\r\nHost: h\r\ncontent-length: 3\r\n\r\nabc"},
		{"large body in memory", buffered(get("POST"), large), "POST / HTTP/1.1\r\nHost: h\r\ncontent-length: 16385\r\n\r\n" + large},
		{"empty body", buffered(get("POST"), ""), "POST / HTTP/1.1\r\nHost: h\r\ncontent-length: 0\r\n\r\n"},
		{"streamed with a length", post(strings.NewReader("abc"), 3), "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc"},
		{"streamed in chunks", post(strings.NewReader("abc"), exchange.LengthUnknown), "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"},
		{"streamed, empty", post(strings.NewReader(""), exchange.LengthUnknown), "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
		{"trailers", trailers, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 9\r\nX-Sum: 8\r\n\r\n"},
		{"a chunk as large as the buffer", post(strings.NewReader(strings.Repeat("y", 1<<16)), exchange.LengthUnknown), "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(strings.Repeat("y", 1<<16), copyBufferSize-chunkHeadRoom-2)},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := make(chan string, 1)
			id := script(t, func(_ int, p *peer) {
				want := strings.ReplaceAll(c.want, "SERVER", p.LocalAddr().String())
				sent := p.take(len(want))
				p.say("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
				got <- sent + p.rest() // more than was wanted shows too
			})
			if r := run(newPool(t, id), c.req); r.err != nil || r.status != 204 {
				t.Fatalf("got %+v", r)
			}
			if sent, want := <-got, strings.ReplaceAll(c.want, "SERVER", id.Address()); sent != want {
				t.Errorf("the server got\n%.300q\nwant\n%.300q", sent, want)
			}
		})
	}
}

// chunked frames a body in chunks of a size.
func chunked(body string, size int) string {
	var b strings.Builder
	for len(body) > 0 {
		n := min(size, len(body))
		fmt.Fprintf(&b, "%x\r\n%s\r\n", n, body[:n])
		body = body[n:]
	}
	return b.String() + "0\r\n\r\n"
}

// TestResponses: heads and bodies in every framing, and whether the connection lives.
func TestResponses(t *testing.T) {
	long := strings.Repeat("0123456789", 5000)
	for _, c := range []struct {
		name, method, answer, text, body string
		keep                             bool
	}{
		{"length", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", "200 OK Content-Length=3", "abc", true},
		{"length of 0", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "200 OK Content-Length=0", "", true},
		{"fields as they were sent", "GET", "HTTP/1.1 200 Fine by me\r\nzULU:1\r\nSet-Cookie: a\r\nset-cookie:\t b \r\nX-Empty:\r\nContent-Length: 0\r\n\r\n", "200 Fine by me zULU=1 Set-Cookie=a set-cookie=b X-Empty= Content-Length=0", "", true},
		{"no reason", "GET", "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", "200  Content-Length=0", "", true},
		{"chunks", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n002 ;ext=\"x\"\r\nbc\r\nA\r\n0123456789\r\n0\r\n\r\n", "200 OK Transfer-Encoding=chunked |", "abc0123456789", true},
		{"no chunks", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n0\r\n\r\n", "200 OK Transfer-Encoding=Chunked |", "", true},
		{"trailers", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-Sum: 1\r\nx-sum: 2\r\n\r\n", "200 OK Transfer-Encoding=chunked | X-Sum=1 x-sum=2", "a", true},
		{"until the end", "GET", "HTTP/1.1 200 OK\r\n\r\nabc", "200 OK", "abc", false},
		{"old", "GET", "HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc", "200 OK Content-Length=3", "abc", false},
		{"old but kept", "GET", "HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 3\r\n\r\nabc", "200 OK Connection=Keep-Alive Content-Length=3", "abc", true},
		{"closes", "GET", "HTTP/1.1 200 OK\r\nConnection: x, CLOSE\r\nContent-Length: 3\r\n\r\nabc", "200 OK Connection=x, CLOSE Content-Length=3", "abc", false},
		{"HEAD", "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", "200 OK Content-Length=3", "", false},
		{"HEAD in chunks", "HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "200 OK Transfer-Encoding=chunked", "", false},
		{"204", "GET", "HTTP/1.1 204 No Content\r\n\r\n", "204 No Content", "", true},
		{"304 of a length", "GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", "304 Not Modified Content-Length=9", "", false},
		{"interim", "GET", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na", "200 OK Content-Length=1", "a", true},
		{"many times the buffer", "GET", fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(long), long), "200 OK Content-Length=50000", long, true},
		{"many times the buffer in chunks", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(long, 7), "200 OK Transfer-Encoding=chunked |", long, true},
		{"a long head", "GET", "HTTP/1.1 200 OK\r\nX: " + long + "\r\nContent-Length: 1\r\n\r\na", "200 OK X=" + long + " Content-Length=1", "a", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			check := func(t *testing.T, how string, r trip) {
				t.Helper()
				if r.err != nil || r.text != c.text || r.body != c.body {
					t.Errorf("%s: got %.100q, %.100q, %v; want %.100q, %.100q", how, r.text, r.body, r.err, c.text, c.body)
				}
				if strings.HasPrefix(c.name, "interim") && strings.Join(r.client.informed, "; ") != "100 Continue; 103 Early Hints Link=<a>; 102 Processing" {
					t.Errorf("%s: the client was told %q", how, r.client.informed)
				}
			}
			conns := make(chan int, 10)
			id := script(t, func(n int, p *peer) {
				conns <- n
				for p.head() != "" {
					p.say(c.answer)
					if !c.keep {
						return
					}
				}
			})
			pool := newPool(t, id)
			check(t, "at once", run(pool, get(c.method)))
			check(t, "again", run(pool, get(c.method)))
			if want := map[bool]int{true: 1, false: 2}[c.keep]; len(conns) != want {
				t.Errorf("two requests took %d connections; want %d", len(conns), want)
			}
			if len(c.answer) > 1000 {
				return
			}
			// The same bytes, cut in two at every place.
			var cut atomic.Int64
			id = script(t, func(_ int, p *peer) {
				for p.head() != "" {
					at := cut.Load()
					p.say(c.answer[:at])
					p.say(c.answer[at:])
					if !c.keep {
						return
					}
				}
			})
			pool = newPool(t, id)
			for ; cut.Load() <= int64(len(c.answer)); cut.Add(1) {
				check(t, fmt.Sprint("cut at ", cut.Load()), run(pool, get(c.method)))
			}
		})
	}
}

// TestUpgrade: a 101 gives the connection away, with what the server had already sent.
func TestUpgrade(t *testing.T) {
	id := script(t, func(_ int, p *peer) {
		p.head()
		p.say("HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\n\r\nahead")
		p.say("<" + p.rest() + ">")
	})
	pool := newPool(t, id)
	req := get("GET")
	req.Upgrade = "echo"
	var resp Response
	if err := pool.RoundTrip(&exchange.Exchange{Client: &fakeClient{}}, req, noDeadline, &resp); err != nil {
		t.Fatal(err)
	}
	defer resp.Close()
	conn, err := resp.Conn()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "hello"); err != nil {
		t.Fatal(err)
	}
	if err := conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(conn)
	if err != nil || string(got) != "ahead<hello>" {
		t.Errorf("got %q, %v; want what came behind the 101, and the echo", got, err)
	}
	if _, err := resp.Conn(); err == nil {
		t.Error("the connection is given away twice")
	}
	if s := pool.Stats(); s.Idle != 0 {
		t.Errorf("stats %+v; want nothing kept", s)
	}
}
