package transport

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"drover/backend"
	"drover/exchange"
)

// TestFullDuplex: a server that answers while it reads gets 8 MiB and gives them back,
// though neither side's buffers hold nearly as much.
func TestFullDuplex(t *testing.T) {
	const size = 8 << 20
	for name, length := range map[string]int64{"with a length": size, "in chunks": exchange.LengthUnknown} {
		t.Run(name, func(t *testing.T) {
			id := script(t, func(_ int, p *peer) {
				p.head()
				p.say("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
				_, _ = io.Copy(p.Conn, p.in) // the frames come back as well
			})
			sent, got := sha256.New(), sha256.New()
			source := io.TeeReader(io.LimitReader(rand.NewChaCha8([32]byte{}), size), sent)
			pool := newPool(t, id)
			var resp Response
			if err := pool.RoundTrip(&exchange.Exchange{Client: &fakeClient{}}, post(source, length), noDeadline, &resp); err != nil {
				t.Fatal(err)
			}
			defer resp.Close()
			if length >= 0 {
				if n, err := io.CopyN(got, resp.Body(), size); err != nil {
					t.Fatalf("%d bytes, %v", n, err)
				}
			} else {
				back := &body{r: &resp, kind: bodyChunked} // what was echoed is a chunked body again
				if n, err := io.Copy(got, back); n != size || err != nil {
					t.Fatalf("%d bytes, %v", n, err)
				}
			}
			eventually(t, "the upload ends", func() bool { return !resp.Uploading() })
			if string(sent.Sum(nil)) != string(got.Sum(nil)) {
				t.Error("what came back is not what was sent")
			}
		})
	}
}

// blockedBody gives some bytes and then nothing, until it is aborted.
type blockedBody struct {
	first string
	abort chan struct{}
}

func (b *blockedBody) Read(p []byte) (int, error) {
	if b.first != "" {
		n := copy(p, b.first)
		b.first = b.first[n:]
		return n, nil
	}
	<-b.abort
	return 0, errors.New("aborted")
}

// TestEarlyAnswer: a server that has heard enough answers; the client gets that answer,
// its upload is ended, and the connection is not used again.
func TestEarlyAnswer(t *testing.T) {
	rest := make(chan string, 1)
	id := script(t, func(_ int, p *peer) {
		p.head()
		p.take(4)
		p.say("HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno")
		rest <- p.rest()
	})
	pool := newPool(t, id)
	source := &blockedBody{"some", make(chan struct{})}
	client := &fakeClient{onAbort: func() { close(source.abort) }}
	r := runFor(pool, client, post(source, 100), noDeadline)
	if r.err != nil || r.status != 413 || r.body != "no" {
		t.Errorf("got %+v; want the server's answer", r)
	}
	if !client.aborted.Load() {
		t.Error("the client's body is still read")
	}
	select {
	case <-rest:
	case <-time.After(patience):
		t.Error("the server's connection stays open")
	}
	if s := pool.Stats(); s.Idle != 0 || s.Open != 0 {
		t.Errorf("stats %+v; want the connection closed", s)
	}
}

// TestEarlyAnswerOfSmallUpload: where the upload was complete all the same, the
// connection is as good as any.
func TestEarlyAnswerOfSmallUpload(t *testing.T) {
	id := script(t, func(_ int, p *peer) {
		for p.head() != "" {
			p.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			p.take(4)
		}
	})
	pool := newPool(t, id)
	for range 3 {
		if r := run(pool, post(strings.NewReader("some"), 4)); r.err != nil || r.body != "ok" {
			t.Fatalf("got %+v", r)
		}
	}
	if s := pool.Stats(); s.Dials != 1 {
		t.Errorf("stats %+v; want one connection", s)
	}
}

// TestBrokenUpload: a client's body that breaks is the client's failure, and must not
// look whole to the server.
func TestBrokenUpload(t *testing.T) {
	broken := errors.New("the client cut it")
	cut := func(text string) io.Reader { return io.MultiReader(strings.NewReader(text), failing{broken}) }
	for _, c := range []struct {
		name   string
		source io.Reader
		length int64
		sent   string // what the server may see at most
	}{
		{"with a length", cut("abc"), 10, "abc"},
		{"in chunks", cut("abc"), exchange.LengthUnknown, "3\r\nabc\r\n"},
		{"shorter than its length", strings.NewReader("abc"), 10, "abc"},
		{"longer than its length", strings.NewReader("abcdef"), 3, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := make(chan string, 1)
			id := script(t, func(_ int, p *peer) {
				p.head()
				got <- p.rest()
			})
			wantFailure(t, run(newPool(t, id), post(c.source, c.length)).err, backend.FailureClient, true)
			if body := <-got; body != c.sent {
				t.Errorf("the server got %q; want %q and the end", body, c.sent)
			}
		})
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// TestUploadTimeouts: a server that stops taking bytes is given up after
// body_idle_timeout; one that takes them slowly is not. The wait for the head begins
// when the upload has ended.
func TestUploadTimeouts(t *testing.T) {
	t.Run("a server that reads nothing", func(t *testing.T) {
		done := make(chan struct{})
		id := script(t, func(_ int, p *peer) { <-done })
		defer close(done)
		pool := newPool(t, id, func(c *Config) {
			c.BodyIdleTimeout, c.ResponseHeaderTimeout = 100*time.Millisecond, 100*time.Millisecond
		})
		r := run(pool, post(io.LimitReader(rand.NewChaCha8([32]byte{}), 1<<30), 1<<30))
		wantFailure(t, r.err, backend.FailureTimeout, true)
	})
	t.Run("an upload longer than the wait for the head", func(t *testing.T) {
		id := script(t, func(_ int, p *peer) {
			p.head()
			p.take(5)
			p.say(okAnswer)
			p.rest()
		})
		pool := newPool(t, id, func(c *Config) { c.ResponseHeaderTimeout = 100 * time.Millisecond })
		r := run(pool, post(&slowBody{left: 5, every: 60 * time.Millisecond}, 5))
		if r.err != nil || r.body != "ok" {
			t.Errorf("got %+v; want that the wait begins behind the upload", r)
		}
	})
}

// slowBody gives a byte now and then: a client on a bad line.
type slowBody struct {
	left  int
	every time.Duration
}

func (s *slowBody) Read(p []byte) (int, error) {
	if s.left == 0 {
		return 0, io.EOF
	}
	<-time.After(s.every)
	s.left--
	p[0] = 'x'
	return 1, nil
}

// TestServerEndsDuringUpload: the answer that a server gave before it closed counts,
// though writing to it has failed; without one, it may have acted on what it read.
func TestServerEndsDuringUpload(t *testing.T) {
	for _, c := range []struct{ name, answer string }{
		{"with an answer", "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"},
		{"without one", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			id := script(t, func(_ int, p *peer) {
				p.head()
				p.take(1000)
				p.say(c.answer)
				_ = p.CloseWrite()
				p.rest()
			})
			source := &blockedBody{strings.Repeat("x", 1000), make(chan struct{})}
			client := &fakeClient{onAbort: func() { close(source.abort) }}
			r := runFor(newPool(t, id), client, post(source, 1<<20), noDeadline)
			if c.answer == "" {
				wantFailure(t, r.err, backend.FailureReset, true)
			} else if r.err != nil || r.status != 503 {
				t.Errorf("got %+v; want the server's answer", r)
			}
		})
	}
}

// TestUploadSizes: bodies around the sizes of buffers arrive whole, framed either way.
func TestUploadSizes(t *testing.T) {
	type received struct {
		n   int
		sum string
	}
	got := make(chan received, 1)
	id := script(t, func(_ int, p *peer) {
		for {
			head := p.head()
			if head == "" {
				return
			}
			var n int
			if _, err := fmt.Sscanf(head[strings.Index(head, "Content-Length"):], "Content-Length: %d", &n); err != nil {
				return
			}
			sum := sha256.Sum256([]byte(p.take(n)))
			got <- received{n, string(sum[:])}
			p.say(okAnswer)
		}
	})
	pool := newPool(t, id)
	for _, size := range []int{0, 1, copyBufferSize - chunkHeadRoom - 3, copyBufferSize - chunkHeadRoom - 2, copyBufferSize, copyBufferSize + 1, 1 << 20} {
		body := strings.Repeat("0123456789abcdef", size/16+1)[:size]
		if r := run(pool, post(strings.NewReader(body), int64(size))); r.err != nil {
			t.Fatalf("%d bytes: %v", size, r.err)
		}
		sum := sha256.Sum256([]byte(body))
		if r := <-got; r.n != size || r.sum != string(sum[:]) {
			t.Errorf("the server got %d bytes, or others; want %d", r.n, size)
		}
	}
}
