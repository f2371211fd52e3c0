package front

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"

	"drover/exchange"
)

func writeFile(t testing.TB, name, content string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// bodyErrors makes a handler that reports how each body ended.
func bodyErrors(ended chan<- error) Handler {
	return func(ex *exchange.Exchange) {
		_, err := io.Copy(io.Discard, ex.Request.Body)
		ended <- err
		respond(ex, "ok")
	}
}

const chunkedPost = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"

// A client that goes away in the middle of a body must not look like one that has
// sent it all.
func TestCutBodies(t *testing.T) {
	ended := make(chan error, 1)
	tf := serveTest(t, nil, bodyErrors(ended))
	for name, raw := range map[string]string{
		"length":                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10000\r\n\r\nabc",
		"between chunks":        chunkedPost + "3\r\nabc\r\n",
		"no chunk":              chunkedPost,
		"in a chunk":            chunkedPost + "5\r\nabc",
		"behind a chunk":        chunkedPost + "3\r\nabc",
		"in a size":             chunkedPost + "3\r\nabc\r\n5",
		"in a size line":        chunkedPost + "3\r\nabc\r\n5\r",
		"behind the last size":  chunkedPost + "3\r\nabc\r\n0",
		"behind the last chunk": chunkedPost + "3\r\nabc\r\n0\r\n",
		"before the last LF":    chunkedPost + "3\r\nabc\r\n0\r\n\r",
		"in the trailer":        chunkedPost + "3\r\nabc\r\n0\r\nX: y",
		"behind the trailer":    chunkedPost + "3\r\nabc\r\n0\r\nX: y\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			tf.dial(t).send(raw).closeWrite()
			if err := <-ended; !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("got %v; want %v", err, io.ErrUnexpectedEOF)
			}
		})
	}
	t.Run("small", func(t *testing.T) {
		// A small body is read before the handler runs, which then never does.
		c := tf.dial(t).send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc").closeWrite()
		if got := c.rest(); !strings.HasPrefix(got, "HTTP/1.1 400 ") {
			t.Errorf("got %q", got)
		}
	})
	t.Run("no byte", func(t *testing.T) {
		c := tf.dial(t).send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n").closeWrite()
		if got := c.rest(); !strings.HasPrefix(got, "HTTP/1.1 400 ") {
			t.Errorf("got %q", got)
		}
	})
}

func TestCompleteBodiesWithFIN(t *testing.T) {
	ended := make(chan error, 1)
	tf := serveTest(t, nil, bodyErrors(ended))
	for name, raw := range map[string]string{
		"length":        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10000\r\n\r\n" + strings.Repeat("x", 10000),
		"small":         "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
		"chunked":       chunkedPost + "3\r\nabc\r\n0\r\n\r\n",
		"with trailers": chunkedPost + "3\r\nabc\r\n0\r\nX: y\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			c := tf.dial(t).send(raw).closeWrite()
			if err := <-ended; err != nil {
				t.Errorf("got %v; want a complete body", err)
			}
			if got := c.rest(); !strings.HasSuffix(got, "\r\n\r\nok") {
				t.Errorf("got %q", got)
			}
		})
	}
}

func TestMalformedBodies(t *testing.T) {
	ended := make(chan error, 1)
	tf := serveTest(t, nil, bodyErrors(ended))
	for name, chunks := range map[string]string{
		"no size":                 "\r\n",
		"not hex":                 "x\r\nabc\r\n",
		"0x":                      "0x3\r\nabc\r\n",
		"signed":                  "+3\r\nabc\r\n",
		"size overflows":          "fffffffffffffffff\r\nabc\r\n",
		"bare LF behind size":     "3\nabc\r\n",
		"bare LF in extension":    "3;x\nabc\r\n",
		"bare LF behind chunk":    "3\r\nabc\n0\r\n\r\n",
		"bytes behind chunk":      "3\r\nabcd\r\n0\r\n\r\n",
		"space before size":       " 3\r\nabc\r\n",
		"bare CR in extension":    "3;\rabc\r\n",
		"length in trailer":       "0\r\nContent-Length: 3\r\n\r\n",
		"coding in trailer":       "0\r\nTransfer-Encoding: chunked\r\n\r\n",
		"host in trailer":         "0\r\nHost: b\r\n\r\n",
		"space in trailer's name": "0\r\nX Y: b\r\n\r\n",
		"control in trailer":      "0\r\nX: \x01\r\n\r\n",
		"too many trailers":       "0\r\n" + strings.Repeat("X: y\r\n", 200) + "\r\n",
		"endless extension":       "1;" + strings.Repeat("x", 300<<10) + "\r\na\r\n0\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			c := tf.dial(t)
			go func() { _, _ = io.WriteString(c.Conn, chunkedPost+chunks+get11) }()
			if err := <-ended; !errors.Is(err, exchange.ErrBodyMalformed) {
				t.Errorf("got %v; want %v", err, exchange.ErrBodyMalformed)
			}
			// Whatever the handler says, the connection cannot be used any more.
			if got := c.rest(); strings.Count(got, "HTTP/1.1 ") != 1 {
				t.Errorf("got %q; want one answer and the end", got)
			}
		})
	}
}

// A body may break after its answer has promised to keep the connection.
func TestBodyBreaksBehindAnswer(t *testing.T) {
	tf := serveTest(t, nil, func(ex *exchange.Exchange) {
		respond(ex, "ok")
		if _, err := io.Copy(io.Discard, ex.Request.Body); !errors.Is(err, exchange.ErrBodyMalformed) {
			t.Errorf("got %v", err)
		}
	})
	c := tf.dial(t).send(chunkedPost+"0\r\nX Y: b\r\n\r\n", get11)
	if got := c.rest(); strings.Count(got, "HTTP/1.1 ") != 1 {
		t.Errorf("got %q; want one answer and the end", got)
	}
}

// eagerConn gives its last bytes and the end in one Read, as crypto/tls may do.
type eagerConn struct{ net.Conn }

func (c eagerConn) Read(p []byte) (int, error) {
	n, err := io.ReadFull(c.Conn, p)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = io.EOF
	}
	return n, err
}

type eagerListener struct{ net.Listener }

func (l eagerListener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	return eagerConn{nc}, err
}

func TestEndComesWithLastBytes(t *testing.T) {
	tf := serveOn(t, eagerListener{listenTest(t)}, nil, echo, quietLogger())
	c := tf.dial(t).send(chunkedPost + "3\r\nabc\r\n0\r\n\r\n").closeWrite()
	if got := c.rest(); !strings.HasSuffix(got, `body="abc"`) {
		t.Errorf("got %q", got)
	}
}

func TestBodyTooLarge(t *testing.T) {
	ended := make(chan error, 1)
	tf := serveTest(t, func(c *Config) { c.MaxBodySize = 100 }, bodyErrors(ended))
	c := tf.dial(t).send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 101\r\n\r\n") // and no byte of it
	if got := c.rest(); !strings.HasPrefix(got, "HTTP/1.1 413 ") {
		t.Errorf("got %q", got)
	}
	c = tf.dial(t).send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 101\r\n\r\n")
	if got := c.rest(); !strings.HasPrefix(got, "HTTP/1.1 413 ") {
		t.Errorf("with Expect: got %q", got)
	}
	if got := tf.rejected(); got != "413 BL, 413 BL" {
		t.Errorf("reported %q", got)
	}
	tf.dial(t).send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n", strings.Repeat("x", 100))
	if err := <-ended; err != nil {
		t.Errorf("100 bytes: %v", err)
	}
	c = tf.dial(t).send(chunkedPost, "64\r\n", strings.Repeat("x", 100), "\r\n1\r\ny\r\n0\r\n\r\n")
	if err := <-ended; !errors.Is(err, exchange.ErrBodyTooLarge) {
		t.Errorf("chunked: got %v; want %v", err, exchange.ErrBodyTooLarge)
	}
	if got := c.rest(); !strings.HasPrefix(got, "HTTP/1.1 200 ") {
		t.Errorf("got %q", got)
	}
}

// What a handler leaves of a body is dropped when that is quick, and must never be
// taken for the next request.
func TestUnreadBodies(t *testing.T) {
	tf := serveTest(t, nil, reply("ok"))
	const next = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
	small := next + strings.Repeat("x", 9000)
	for name, raw := range map[string]string{
		"small":   fmt.Sprintf("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", len(next), next),
		"length":  fmt.Sprintf("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", len(small), small),
		"chunked": chunkedPost + fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(small), small),
		"HEAD":    fmt.Sprintf("HEAD / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", len(small), small),
	} {
		t.Run(name, func(t *testing.T) {
			c := tf.dial(t).send(raw, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
			if got := c.rest(); strings.Count(got, "HTTP/1.1 200") != 2 {
				t.Errorf("got %q; want two answers", got)
			}
		})
	}
}

// With more than that to come the connection ends, but not before the client could
// read the answer.
func TestUnreadLargeBodies(t *testing.T) {
	tf := serveTest(t, nil, reply("ok"))
	block := strings.Repeat("x", 64<<10)
	for name, head := range map[string]string{
		"length":  "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n",
		"chunked": chunkedPost + "ffffff\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			c := tf.dial(t).send(head)
			for range 32 { // 2 MiB, sent before the answer is read.
				c.send(block)
			}
			got := c.head()
			if !strings.HasPrefix(got, "HTTP/1.1 200 ") {
				t.Errorf("got %q", got)
			}
			if closes := strings.Contains(got, "Connection: close"); closes != (name == "length") {
				t.Errorf("got %q; want the end to be announced where it is known", got)
			}
			if rest := c.rest(); rest != "ok" {
				t.Errorf("got %q; want ok and the end", rest)
			}
		})
	}
}

func TestExpectContinue(t *testing.T) {
	tf := serveTest(t, nil, echo)
	for _, version := range []string{"1.1", "1.2"} {
		c := tf.dial(t).send("POST / HTTP/" + version + "\r\nHost: a\r\nexpect: 100-Continue\r\nContent-Length: 3\r\n\r\n")
		if got, want := c.head(), "HTTP/1.1 100 Continue"; got != want {
			t.Fatalf("got %q; want %q", got, want)
		}
		head := c.send("abc").head()
		if got := c.exactly(contentLength(t, head)); !strings.HasSuffix(got, `length=3 body="abc"`) {
			t.Errorf("got %q", got)
		}
	}
	// The expectation comes second on a connection whose first answer fasthttp has
	// not flushed, and the body comes without waiting.
	c := tf.dial(t).send(get11 + "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
	c.exactly(contentLength(t, c.head()))
	if got, want := c.head(), "HTTP/1.1 100 Continue"; got != want {
		t.Fatalf("got %q; want %q", got, want)
	}
	if got := c.exactly(contentLength(t, c.head())); !strings.HasSuffix(got, `length=-1 body="abc"`) {
		t.Errorf("got %q", got)
	}
}

// A client that waits to be asked for its body is not asked by an answer that does not
// need it. Whether it sends the body all the same is unknown, so the connection ends.
func TestExpectRefused(t *testing.T) {
	tf := serveTest(t, nil, func(ex *exchange.Exchange) {
		_ = ex.Client.Inform(&exchange.Response{Status: 103})
		respond(ex, "no")
	})
	for _, framing := range []string{"Content-Length: 3", "Content-Length: 20000", "Transfer-Encoding: chunked"} {
		for _, body := range []string{"", get11} {
			c := tf.dial(t).send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n" + framing + "\r\n\r\n" + body)
			got := c.rest()
			if want := "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n"; !strings.HasPrefix(got, want) ||
				!strings.Contains(got, "Connection: close\r\n") || !strings.HasSuffix(got, "\r\n\r\nno") {
				t.Errorf("%s, body %q: got %q", framing, body, got)
			}
		}
	}
	// Without a body there is nothing to wait for.
	c := tf.dial(t).send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 0\r\n\r\n" + get11)
	for range 2 {
		if head := c.skip103().head(); !strings.HasPrefix(head, "HTTP/1.1 200") {
			t.Errorf("got %q", head)
		}
		c.exactly(2)
	}
}

// skip103 reads the interim answer.
func (c *testConn) skip103() *testConn {
	c.t.Helper()
	if head := c.head(); !strings.HasPrefix(head, "HTTP/1.1 103") {
		c.t.Fatalf("got %q; want 103", head)
	}
	return c
}

// A body that starts to arrive late must not be lost or delay the handler for more
// than its first byte.
func TestBodyStreams(t *testing.T) {
	got := make(chan string)
	tf := serveTest(t, nil, func(ex *exchange.Exchange) {
		if ex.Request.Buffered != nil {
			t.Error("a body that is on its way is called buffered")
		}
		buf := make([]byte, 100)
		for {
			n, err := ex.Request.Body.Read(buf)
			if n > 0 {
				got <- string(buf[:n])
			}
			if err != nil {
				break
			}
		}
		respond(ex, "ok")
	})
	for _, raw := range [][]string{
		{"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 20000\r\n\r\na", "b", "c"},
		{chunkedPost + "1\r\na\r\n", "1\r\nb\r\n", "1\r\nc\r\n"},
	} {
		c := tf.dial(t)
		for i, part := range raw {
			c.send(part)
			if g := <-got; g != "abc"[i:i+1] {
				t.Errorf("got %q; want %q", g, "abc"[i:i+1])
			}
		}
		_ = c.Close()
		tf.waitOpen(t, 0)
	}
}

func TestSmallBodyIsBuffered(t *testing.T) {
	tf := serveTest(t, nil, func(ex *exchange.Exchange) {
		body, err := io.ReadAll(ex.Request.Body)
		if err != nil || string(body) != "abc" || string(ex.Request.Buffered) != "abc" {
			t.Errorf("got %q, %v and %q buffered", body, err, ex.Request.Buffered)
		}
		respond(ex, "ok")
	})
	c := tf.dial(t).send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n", "a", "b", "c")
	if got := c.head(); !strings.HasPrefix(got, "HTTP/1.1 200 ") {
		t.Errorf("got %q", got)
	}
}
