package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"drover/transport"

	"golang.org/x/net/http2"
)

// half is a part of an upload that no front reads ahead and no window holds up.
const half = 20_000

// early is a server that answers when it has half of a body of two halves.
type early struct {
	mu     sync.Mutex
	conns  int
	final  bool // the answer is whole; else it ends behind the upload
	status int
	ended  chan string // how the exchange ended that was answered
}

func (e *early) connection() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.conns++
}

func (e *early) play(c net.Conn, r *bufio.Reader) {
	e.connection()
	for {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		if req.Method == http.MethodGet {
			_, _ = io.WriteString(c, ok200) // the client sees.
			continue
		}
		_, _ = io.CopyN(io.Discard, req.Body, half)
		if e.final {
			_, _ = fmt.Fprintf(c, "HTTP/1.1 %d Early\r\nContent-Length: 5\r\n\r\nearly", e.status)
			_, _ = io.Copy(io.Discard, r)
			e.ended <- "connection"
			return
		}
		_, _ = fmt.Fprintf(c, "HTTP/1.1 %d Early\r\nTransfer-Encoding: chunked\r\n\r\n", e.status)
		n, err := io.Copy(io.Discard, req.Body)
		text := fmt.Sprint(half+n, err)
		_, _ = fmt.Fprintf(c, "%x\r\n%s\r\n0\r\n\r\n", len(text), text)
		e.ended <- "whole"
	}
}

func (e *early) playH2(c net.Conn, r *bufio.Reader) {
	e.connection()
	got := map[uint32]int{}
	for p := acceptH2(c, r); p != nil; {
		f, err := p.ReadFrame()
		if err != nil {
			return
		}
		id := f.Header().StreamID
		switch f := f.(type) {
		case *http2.MetaHeadersFrame:
			if f.StreamEnded() {
				p.say(id, "HEADERS :status: 200", "DATA END ok")
			}
		case *http2.DataFrame:
			before := got[id]
			got[id] += len(f.Data())
			if before < half && got[id] >= half {
				p.say(id, fmt.Sprint("HEADERS :status: ", e.status))
				if e.final {
					p.say(id, "DATA END early")
				}
			}
			if f.StreamEnded() {
				p.say(id, fmt.Sprint("DATA END ", got[id], " <nil>"))
				e.ended <- "whole"
			}
		case *http2.RSTStreamFrame:
			e.ended <- "stream"
		}
	}
}

// TestEarlyAnswers: an answer that comes while the upload goes on reaches the client at
// once. One that is whole ends the upload; behind another that is not, it is heard to its
// end.
func TestEarlyAnswers(t *testing.T) {
	for server, h2 := range map[string]bool{"HTTP1": false, "HTTP2": true} {
		for _, c := range []struct {
			status int
			final  bool
			body   string
		}{{413, true, "early"}, {200, true, "early"}, {200, false, fmt.Sprint(2*half, " <nil>")}} {
			for client, upload := range map[string]func(*testing.T, *bed, bool) *message{
				"HTTP1, length": uploadLength, "HTTP1, chunks": uploadChunks, "HTTP2": uploadH2,
			} {
				t.Run(fmt.Sprintf("%s, %d, final %v, to %s", client, c.status, c.final, server), func(t *testing.T) {
					e := &early{final: c.final, status: c.status, ended: make(chan string, 8)}
					s := setup{}
					if s.servers = []string{startServer(t, e.play)}; h2 {
						s = setup{servers: []string{startServer(t, e.playH2)}, transport: func(c *transport.Config) { c.Protocol = transport.ProtocolH2C }}
					}
					b := startBed(t, s)
					if got := upload(t, b, c.final); got.status != c.status || got.body != c.body {
						t.Errorf("got %d %q; want %d %q", got.status, got.body, c.status, c.body)
					}
					want, conns := "whole", 1
					if c.final && h2 {
						want = "stream"
					} else if c.final {
						want, conns = "connection", 2
					}
					if got := receive(t, e.ended, "the exchange's end"); got != want {
						t.Errorf("the server saw the end of the %s; want that of the %s", got, want)
					}
					v := b.dial(t)
					v.send(get("/"))
					if resp, body := v.answer(); resp.StatusCode != 200 || body != "ok" {
						t.Errorf("the next request got %d %q", resp.StatusCode, body)
					}
					if e.mu.Lock(); e.conns != conns {
						t.Errorf("the server saw %d connections; want %d", e.conns, conns)
					}
					e.mu.Unlock()
				})
			}
		}
	}
}

func uploadLength(t *testing.T, b *bed, final bool) *message {
	part := strings.Repeat("x", half)
	return uploadH1(t, b, final, fmt.Sprintf("Content-Length: %d", 2*half), part, part)
}

func uploadChunks(t *testing.T, b *bed, final bool) *message {
	part := fmt.Sprintf("%x\r\n%s\r\n", half, strings.Repeat("x", half))
	return uploadH1(t, b, final, "Transfer-Encoding: chunked", part, part+"0\r\n\r\n")
}

// uploadH1 sends the second part only where the answer waits for it. The connection ends
// either way, as the client is told: what it had yet to send was unknown.
func uploadH1(t *testing.T, b *bed, final bool, framing, first, second string) *message {
	t.Helper()
	v := b.dial(t)
	v.send("POST / HTTP/1.1\r\nHost: a\r\n" + framing + "\r\n\r\n" + first)
	if _, err := v.r.Peek(1); err != nil {
		t.Fatal(err)
	}
	if !final {
		v.send(second)
	}
	m, err := readStrictAnswer(v.r, "POST")
	if err != nil || !slices.Equal(values(m.fields, "Connection"), []string{"close"}) {
		t.Errorf("got %+v, %v; want a whole answer and close", m, err)
	}
	if rest, err := io.ReadAll(v.r); len(rest) > 0 || err != nil {
		t.Errorf("got %q, %v behind the answer; want the end", rest, err)
	}
	return m
}

// uploadH2 is told by RST_STREAM not to send the rest (RFC 9113, section 8.1). Other
// streams go on.
func uploadH2(t *testing.T, b *bed, final bool) *message {
	t.Helper()
	v := b.dialFrames(t)
	part := "2 DATA " + strings.Repeat("x", half/2)
	v.say(1, "HEADERS :method: POST | :scheme: http | :authority: a | :path: /", part)
	v.headed(t, 1)
	if !final {
		v.say(1, part, "DATA END")
	}
	id, m, err := v.next()
	if err != nil || id != 1 {
		t.Fatalf("got %+v on stream %d, %v; want a whole answer", m, id, err)
	}
	if final {
		if id, _, err := v.next(); id != 1 || err == nil || !strings.Contains(err.Error(), "NO_ERROR") {
			t.Errorf("got %v on stream %d; want RST_STREAM with NO_ERROR", err, id)
		}
	}
	if next, err := v.ask(3, "HEADERS END :method: GET | :scheme: http | :authority: a | :path: /"); err != nil || next.status != 200 {
		t.Errorf("the next stream got %+v, %v", next, err)
	}
	return m
}
