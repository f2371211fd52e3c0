package transport

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"drover/backend"
	"drover/exchange"
)

// TestProtocolErrors: what is not HTTP/1.1, or can be read in two ways, is refused and
// its connection not used again. (RFC 9112, sections 2.2, 4, 5, 6 and 7.)
func TestProtocolErrors(t *testing.T) {
	head := func(lines string) string { return "HTTP/1.1 200 OK\r\n" + lines + "\r\n" }
	for name, text := range map[string]string{
		"not HTTP":                   "SSH-2.0-OpenSSH_9.2\r\n\r\n",
		"HTTP/2":                     "HTTP/2 200 OK\r\n\r\n",
		"HTTP/1.2":                   "HTTP/1.2 200 OK\r\n\r\n",
		"lower case":                 "http/1.1 200 OK\r\n\r\n",
		"two spaces":                 "HTTP/1.1  200 OK\r\n\r\n",
		"status of two digits":       "HTTP/1.1 20 OK\r\n\r\n",
		"status of four digits":      "HTTP/1.1 2000 OK\r\n\r\n",
		"status below 100":           "HTTP/1.1 099 OK\r\n\r\n",
		"status with a sign":         "HTTP/1.1 +20 OK\r\n\r\n",
		"control byte in the reason": "HTTP/1.1 200 O\x00K\r\n\r\n",
		"empty line first":           "\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
		"bare LF":                    "HTTP/1.1 200 OK\nContent-Length: 0\n\n",
		"bare LF at the end":         "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\n",
		"bare CR":                    head("X: a\rb\r\n"),
		"folded line":                head("X: a\r\n b\r\nContent-Length: 0\r\n"),
		"folded first line":          head(" X: a\r\nContent-Length: 0\r\n"),
		"space before the colon":     head("Content-Length : 0\r\n"),
		"no colon":                   head("Content-Length\r\n"),
		"no name":                    head(": x\r\n"),
		"name that is no token":      head("Con{tent: 0\r\n"),
		"NUL in a value":             head("X: a\x00b\r\n"),
		"two lengths":                head("Content-Length: 1\r\nContent-Length: 2\r\n"),
		"one length twice":           head("Content-Length: 1\r\nContent-Length: 1\r\n"),
		"list of lengths":            head("Content-Length: 1, 1\r\n"),
		"length with a sign":         head("Content-Length: +1\r\n"),
		"negative length":            head("Content-Length: -1\r\n"),
		"length in hexadecimal":      head("Content-Length: 0x1\r\n"),
		"empty length":               head("Content-Length:\r\n"),
		"length of too many digits":  head("Content-Length: 9223372036854775808\r\n"),
		"both framings":              head("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"),
		"both framings, other order": head("Transfer-Encoding: chunked\r\nContent-Length: 1\r\n"),
		"unknown coding":             head("Transfer-Encoding: gzip, chunked\r\n"),
		"chunked twice":              head("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
		"chunked with a tail":        head("Transfer-Encoding: chunked;q=1\r\n"),
		"chunked in HTTP/1.0":        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
		"101 that nobody asked for":  "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
		"head that is too large":     head("X: " + strings.Repeat("x", 70<<10) + "\r\n"),
		"too many fields":            head(strings.Repeat("X: 1\r\n", maxFields+1)),
		"interim answers for ever":   strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", maxInterim+1),
	} {
		t.Run(name, func(t *testing.T) {
			pool := newPool(t, answer(t, text))
			r := run(pool, get("GET"))
			if r.err == nil {
				t.Fatalf("taken as %q %q", r.text, r.body)
			}
			wantFailure(t, r.err, backend.FailureProtocol, true)
			if s := pool.Stats(); s.Idle != 0 || s.Open != 0 {
				t.Errorf("stats %+v; want the connection closed", s)
			}
		})
	}
}

// TestBrokenBodies: a body that does not come whole is never a clean end, and its
// connection is not used again.
func TestBrokenBodies(t *testing.T) {
	const chunks = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
	for _, c := range []struct{ name, answer, body string }{
		{"shorter than its length", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabc", "abc"},
		{"none of its length", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n", ""},
		{"before a chunk", chunks, ""},
		{"in a size", chunks + "1\r\na\r\n1", "a"},
		{"behind a size", chunks + "1\r\na\r\n2\r\n", "a"},
		{"in a chunk", chunks + "5\r\nab", "ab"},
		{"behind a chunk", chunks + "1\r\na", "a"},
		{"in a chunk's CRLF", chunks + "1\r\na\r", "a"},
		{"before the last chunk", chunks + "1\r\na\r\n", "a"},
		{"in the last chunk", chunks + "1\r\na\r\n0\r\n", "a"},
		{"in the last CRLF", chunks + "1\r\na\r\n0\r\n\r", "a"},
		{"in the trailers", chunks + "1\r\na\r\n0\r\nX: 1\r\n", "a"},
		// Not cut, but wrong.
		{"more than the chunk's size", chunks + "1\r\nab\r\n0\r\n\r\n", "a"},
		{"no size", chunks + "\r\na\r\n0\r\n\r\n", ""},
		{"a size with a sign", chunks + "+1\r\na\r\n0\r\n\r\n", ""},
		{"a size with a prefix", chunks + "0x1\r\na\r\n0\r\n\r\n", ""},
		{"a negative size", chunks + "-1\r\na\r\n0\r\n\r\n", ""},
		{"a size that overflows", chunks + "10000000000000001\r\na\r\n0\r\n\r\n", ""},
		{"a size behind a space", chunks + " 1\r\na\r\n0\r\n\r\n", ""},
		{"a size that ends in LF", chunks + "1\na\r\n0\r\n\r\n", ""},
		{"a chunk that ends in LF", chunks + "1\r\na\n0\r\n\r\n", "a"},
		{"a CR in an extension", chunks + "1;\rx\r\na\r\n0\r\n\r\n", ""},
		{"an extension for ever", chunks + "1;" + strings.Repeat("x", 2*maxChunkLine) + "\r\na\r\n0\r\n\r\n", ""},
		{"a trailer that is none", chunks + "0\r\nX\r\n\r\n", ""},
		{"a folded trailer", chunks + "0\r\nX: 1\r\n 2\r\n\r\n", ""},
		{"trailers for ever", chunks + "0\r\n" + strings.Repeat("X: 1\r\n", maxFields+1) + "\r\n", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			id := script(t, func(_ int, p *peer) {
				p.head()
				p.say(c.answer)
				_ = p.CloseWrite()
				p.rest()
			})
			pool := newPool(t, id)
			r := run(pool, get("GET"))
			if r.body != c.body {
				t.Errorf("body %q; want %q, as far as it came", r.body, c.body)
			}
			wantFailure(t, r.err, backend.FailureBody, true)
			if s := pool.Stats(); s.Idle != 0 || s.Open != 0 {
				t.Errorf("stats %+v; want the connection closed", s)
			}
		})
	}
}

// CloseWrite ends the server's direction.
func (p *peer) CloseWrite() error {
	return p.Conn.(interface{ CloseWrite() error }).CloseWrite()
}

// TestReset: a reset in the middle of a body is a broken body in every framing, the one
// that ends with the connection too.
func TestReset(t *testing.T) {
	for name, head := range map[string]string{
		"length":        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n",
		"chunks":        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n",
		"until the end": "HTTP/1.1 200 OK\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			seen := make(chan struct{})
			id := script(t, func(_ int, p *peer) {
				p.head()
				p.say(head + "abc")
				<-seen // a reset throws away what was not read
				p.reset()
			})
			pool := newPool(t, id)
			var resp Response
			if err := pool.RoundTrip(&exchange.Exchange{Client: &fakeClient{}}, get("GET"), noDeadline, &resp); err != nil {
				t.Fatal(err)
			}
			defer resp.Close()
			var got string
			buf := make([]byte, 10)
			for got != "abc" {
				n, err := resp.Body().Read(buf)
				if got += string(buf[:n]); err != nil {
					t.Fatalf("got %q, %v", got, err)
				}
			}
			close(seen)
			_, err := resp.Body().Read(buf)
			wantFailure(t, err, backend.FailureBody, true)
		})
	}
}

// TestLeftovers: bytes that nobody asked for would be the next client's answer.
func TestLeftovers(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n"
	t.Run("in the same packet", func(t *testing.T) {
		pool := newPool(t, answer(t, ok+"aHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"))
		for range 3 {
			if r := run(pool, get("GET")); r.err != nil || r.body != "a" {
				t.Errorf("got %+v; want the answer to this request", r)
			}
		}
		if s := pool.Stats(); s.Idle != 0 || s.Dials != 3 {
			t.Errorf("stats %+v; want a connection each", s)
		}
	})
	t.Run("behind HEAD", func(t *testing.T) {
		pool := newPool(t, answer(t, ok+"a"))
		for range 3 {
			if r := run(pool, get("HEAD")); r.err != nil || r.body != "" {
				t.Errorf("got %+v", r)
			}
		}
		if s := pool.Stats(); s.Dials+s.Unsolicited < 3 {
			t.Errorf("stats %+v; want that no connection with a body behind HEAD is used again", s)
		}
	})
	t.Run("later", func(t *testing.T) {
		say := make(chan struct{})
		id := script(t, func(_ int, p *peer) {
			p.head()
			p.say(ok + "a")
			<-say
			p.say("HTTP/1.1 408 Request Timeout\r\n\r\n")
			p.rest()
		})
		pool := newPool(t, id)
		if r := run(pool, get("GET")); r.err != nil {
			t.Fatal(r.err)
		}
		close(say)
		eventually(t, "the bytes arrive", func() bool {
			pool.mu.Lock()
			defer pool.mu.Unlock()
			return pool.idle[0].state() != connAlive
		})
		if r := run(pool, get("GET")); r.err != nil || r.status != 200 {
			t.Errorf("got %+v; want an answer from a new connection", r)
		}
		if s := pool.Stats(); s.Unsolicited != 1 || s.Dials != 2 {
			t.Errorf("stats %+v; want one unsolicited, two dials", s)
		}
	})
}

// TestAnnouncedContent: a server that answers HEAD with the content, or sends some with
// an answer that has none, may be slow to do it: the connection may be with its next
// request by then. One on which content is announced has no next request.
func TestAnnouncedContent(t *testing.T) {
	for _, c := range []struct {
		name, method, answer string
		kept                 bool
	}{
		{"HEAD of a length", "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", false},
		{"HEAD in chunks", "HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", false},
		{"HEAD of any length", "HEAD", "HTTP/1.1 200 OK\r\n\r\n", false},
		{"HEAD of nothing", "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", true},
		{"HEAD, 304", "HEAD", "HTTP/1.1 304 Not Modified\r\n\r\n", true},
		{"204 of a length", "GET", "HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\n", false},
		{"204 in chunks", "GET", "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", false},
		{"204 of nothing", "GET", "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", true},
		{"204", "GET", "HTTP/1.1 204 No Content\r\n\r\n", true},
		{"304 of a length", "GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\n", false},
		{"304 in chunks", "GET", "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n", false},
		{"304", "GET", "HTTP/1.1 304 Not Modified\r\n\r\n", true},
		{"205 of a length", "GET", "HTTP/1.1 205 Reset Content\r\nContent-Length: 3\r\n\r\n", false},
		{"205 in chunks", "GET", "HTTP/1.1 205 Reset Content\r\nTransfer-Encoding: chunked\r\n\r\n", false},
		{"205 of any length", "GET", "HTTP/1.1 205 Reset Content\r\n\r\n", false},
		{"205 of nothing", "GET", "HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			pool := newPool(t, answer(t, c.answer))
			for range 2 {
				if r := run(pool, get(c.method)); r.err != nil || r.body != "" {
					t.Errorf("got %+v", r)
				}
			}
			if s := pool.Stats(); s.Reused == 1 != c.kept {
				t.Errorf("stats %+v; want the connection kept: %v", s, c.kept)
			}
		})
	}
}

// TestLeftoversTLS: nor may they under TLS, where they can be decrypted already, or wait
// to be, and show in no poll then.
func TestLeftoversTLS(t *testing.T) {
	const head = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"
	const poison = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nPOISON"
	f := func(name string, unsolicited bool, play func(p *peer, wire *corked, read <-chan struct{})) {
		t.Run(name, func(t *testing.T) {
			read, said := make(chan struct{}, 2), make(chan struct{})
			id := scriptTLS(t, func(n int, p *peer, wire *corked) {
				p.head()
				if n > 0 {
					p.say(head + "next")
				} else {
					play(p, wire, read)
					close(said)
				}
				p.rest()
			})
			pool := newPool(t, id, sure)
			first := open(t, pool)
			read <- struct{}{} // the head was.
			if body, err := io.ReadAll(first.Body()); err != nil || string(body) != "good" {
				t.Fatalf("got %q, %v", body, err)
			}
			first.Close()
			read <- struct{}{} // the body was, and the connection is idle.
			<-said
			if r := run(pool, get("GET")); r.err != nil || r.body != "next" {
				t.Errorf("got %+v; want an answer from a new connection", r)
			}
			if s := pool.Stats(); s.Dials != 2 || unsolicited && s.Unsolicited != 1 {
				t.Errorf("stats %+v; want two dials, unsolicited bytes: %v", s, unsolicited)
			}
		})
	}
	f("in the same record", false, func(p *peer, _ *corked, _ <-chan struct{}) { p.say(head + "good" + poison) })
	f("in the body's record", true, func(p *peer, _ *corked, read <-chan struct{}) {
		p.say(head)
		<-read
		p.say("good" + poison)
	})
	f("in the same packet", true, func(p *peer, wire *corked, _ <-chan struct{}) {
		wire.cork()
		p.say(head + "good")
		p.say(poison)
		wire.letGo(-1)
	})
	f("later", true, func(p *peer, _ *corked, read <-chan struct{}) {
		p.say(head + "good")
		<-read
		<-read
		p.say(poison)
	})
	f("half of it later", true, func(p *peer, wire *corked, read <-chan struct{}) {
		p.say(head + "good")
		<-read
		<-read
		wire.cork()
		p.say(poison)
		wire.letGo(9)
	})
	f("an end later", false, func(p *peer, _ *corked, read <-chan struct{}) {
		p.say(head + "good")
		<-read
		<-read
		_ = p.Close() // close_notify, and the FIN behind it
	})
}

// TestTickets: session tickets that come while a connection is unused are read, and do
// not cost it.
func TestTickets(t *testing.T) {
	id := scriptTLS(t, func(_ int, p *peer, _ *corked) {
		for p.head() != "" {
			p.say(okAnswer)
		}
	})
	pool := newPool(t, id, sure, func(c *Config) { c.Protocol = ProtocolH1 })
	c, err := pool.dial(noDeadline, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	pool.adopt(c)
	eventually(t, "the tickets are taken", func() bool {
		pool.mu.Lock()
		defer pool.mu.Unlock()
		if s := pool.idle[0].state(); s != connAlive {
			t.Fatalf("state %v; want that tickets are nobody's answer", s)
		}
		_, there := c.settings.tls.ClientSessionCache.Get("127.0.0.1")
		return there
	})
	if r := run(pool, get("GET")); r.err != nil || pool.Stats().Dials != 1 {
		t.Errorf("got %+v, %+v; want the connection that got the tickets", r, pool.Stats())
	}
}

// TestTimeouts: each wait has its own key, and the deadline bounds what precedes the
// body.
func TestTimeouts(t *testing.T) {
	const short = 50 * time.Millisecond
	silent := func(t *testing.T, text string) backend.ID {
		return script(t, func(_ int, p *peer) {
			p.head()
			p.say(text)
			p.rest()
		})
	}
	header := func(c *Config) { c.ResponseHeaderTimeout = short }
	idle := func(c *Config) { c.BodyIdleTimeout = short }
	t.Run("head", func(t *testing.T) {
		wantFailure(t, run(newPool(t, silent(t, ""), header), get("GET")).err, backend.FailureTimeout, true)
	})
	t.Run("half a head", func(t *testing.T) {
		wantFailure(t, run(newPool(t, silent(t, "HTTP/1.1 200 OK\r\nX:"), header), get("GET")).err, backend.FailureTimeout, true)
	})
	t.Run("interim answers do not put it off", func(t *testing.T) {
		id := script(t, func(_ int, p *peer) {
			p.head()
			for range maxInterim {
				p.say("HTTP/1.1 102 Processing\r\n\r\n")
				<-time.After(short / 4) // a server that is busy for long
			}
			p.rest()
		})
		wantFailure(t, run(newPool(t, id, header), get("GET")).err, backend.FailureTimeout, true)
	})
	t.Run("deadline", func(t *testing.T) {
		r := runFor(newPool(t, silent(t, "")), &fakeClient{}, get("GET"), time.Now().Add(short))
		wantFailure(t, r.err, backend.FailureTimeout, true)
	})
	t.Run("deadline is not the body's", func(t *testing.T) {
		deadline := time.Now().Add(patience / 2)
		late := make(chan struct{})
		id := script(t, func(_ int, p *peer) {
			p.head()
			p.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na")
			<-late
			p.say("b")
			p.rest()
		})
		pool := newPool(t, id)
		var resp Response
		if err := pool.RoundTrip(&exchange.Exchange{Client: &fakeClient{}}, get("GET"), deadline, &resp); err != nil {
			t.Fatal(err)
		}
		defer resp.Close()
		resp.deadline = time.Now().Add(-time.Second) // it passes
		close(late)
		var got [2]byte
		for n := 0; n < 2; {
			m, err := resp.Body().Read(got[n:])
			if err != nil {
				t.Fatalf("got %q, %v", got[:n], err)
			}
			n += m
		}
	})
	for name, text := range map[string]string{
		"body of a length": "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab",
		"body in chunks":   "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n",
		"body to the end":  "HTTP/1.1 200 OK\r\n\r\nab",
	} {
		t.Run(name, func(t *testing.T) {
			r := run(newPool(t, silent(t, text), idle), get("GET"))
			wantFailure(t, r.err, backend.FailureBody, true)
			if r.body != "ab" || failure(t, r.err).Err != errTimeout { //nolint:errorlint // this very one.
				t.Errorf("got %q, %v; want what came, and a time-out", r.body, r.err)
			}
		})
	}
	t.Run("connect", func(t *testing.T) {
		// A backlog of none that is full: the kernel drops what comes after.
		id := fullBacklog(t)
		r := run(newPool(t, id, func(c *Config) { c.ConnectTimeout = short }), get("GET"))
		wantFailure(t, r.err, backend.FailureConnect, false)
	})
	t.Run("refused", func(t *testing.T) {
		id := answer(t, "")
		id.Port = 1 // nobody listens on it
		wantFailure(t, run(newPool(t, id), get("GET")).err, backend.FailureConnect, false)
	})
}

// TestClientGone: whoever asked has left; the server is told by the connection's end.
func TestClientGone(t *testing.T) {
	for name, text := range map[string]string{"head": "", "body": "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab"} {
		t.Run("before the "+name, func(t *testing.T) {
			ended := make(chan string, 1)
			client := &fakeClient{}
			id := script(t, func(_ int, p *peer) {
				p.head()
				p.say(text)
				client.gone.Store(true)
				ended <- p.rest()
			})
			r := runFor(newPool(t, id), client, get("GET"), noDeadline)
			wantFailure(t, r.err, backend.FailureClient, true)
			select {
			case <-ended:
			case <-time.After(patience):
				t.Error("the server's connection stays open")
			}
		})
	}
}

// TestClientLeft: where the front tells at once that the client has gone, the server
// hears of it without anybody having asked: here, the answer to that would be no.
func TestClientLeft(t *testing.T) {
	for name, text := range map[string]string{"head": "", "body": "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab"} {
		for _, after := range []time.Duration{0, 3 * readSlice} {
			t.Run(fmt.Sprintf("before the %s, after %v", name, after), func(t *testing.T) {
				ended, left := make(chan string, 1), make(chan struct{})
				id := script(t, func(_ int, p *peer) {
					p.head()
					p.say(text)
					<-time.After(after)
					close(left)
					ended <- p.rest()
				})
				var resp Response
				err := newPool(t, id).RoundTrip(&exchange.Exchange{Client: &fakeClient{}, Left: left}, get("GET"), noDeadline, &resp)
				if err == nil {
					_, err = io.ReadAll(resp.Body())
					resp.Close()
				}
				wantFailure(t, err, backend.FailureClient, true)
				select {
				case <-ended:
				case <-time.After(patience):
					t.Error("the server's connection stays open")
				}
			})
		}
	}
}
