package front

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"drover/exchange"
)

// Time-outs under test are this short; the others stay at their defaults, so that a
// test which ends proves the one it is about.
const short = 50 * time.Millisecond

func TestHeaderTimeout(t *testing.T) {
	tf := serveTest(t, func(c *Config) { c.HeaderTimeout = short }, echo)
	if got := tf.dial(t).rest(); got != "" {
		t.Errorf("a silent client got %q; want nothing", got)
	}
	if got := tf.rejected(); got != "" {
		t.Errorf("a silent client was reported: %q", got)
	}
	if got := tf.dial(t).send("GET / HTTP/1.1\r\nHost").rest(); !strings.HasPrefix(got, "HTTP/1.1 408 ") {
		t.Errorf("a slow first head got %q", got)
	}
	c := tf.dial(t).send(get11)
	c.exactly(contentLength(t, c.head()))
	if got := c.send("GET / HTTP/1.1\r\nHo").rest(); !strings.HasPrefix(got, "HTTP/1.1 408 ") {
		t.Errorf("a slow second head got %q", got)
	}
	if got := tf.rejected(); got != "408 CT, 408 CT" {
		t.Errorf("reported %q", got)
	}
}

// The head's time is absolute: bytes that trickle in do not extend it.
func TestHeaderTimeoutIsAbsolute(t *testing.T) {
	tf := serveTest(t, func(c *Config) { c.HeaderTimeout = short }, echo)
	c := tf.dial(t).send("GET / HTTP/1.1\r\n")
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(short / 10)
		defer tick.Stop()
		for range tick.C {
			if _, err := io.WriteString(c.Conn, "X: y\r\n"); err != nil {
				return
			}
		}
	}()
	if got := c.head(); !strings.HasPrefix(got, "HTTP/1.1 408 ") {
		t.Errorf("got %q", got)
	}
	_ = c.Close()
	<-done
}

func TestKeepAliveTimeout(t *testing.T) {
	tf := serveTest(t, func(c *Config) { c.KeepAliveTimeout = short }, reply("ok"))
	c := tf.dial(t).send(get11)
	c.head()
	if got := c.rest(); got != "ok" {
		t.Errorf("got %q; want the answer and a quiet end", got)
	}
	if got := tf.rejected(); got != "" {
		t.Errorf("reported %q", got)
	}
}

func TestBodyIdleTimeout(t *testing.T) {
	t.Parallel() // it waits most of the time
	ended := make(chan error, 1)
	tf := serveTest(t, func(c *Config) { c.BodyIdleTimeout = short }, func(ex *exchange.Exchange) {
		_, err := io.Copy(io.Discard, ex.Request.Body)
		ended <- err
		r, body := exchange.Answer(408, exchange.ReasonClientTimeout, nil)
		_ = ex.Client.Start(r)
		_, _ = ex.Client.Write(body)
	})
	for name, raw := range map[string]string{
		"length":        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10000\r\n\r\na",
		"chunked":       chunkedPost + "5\r\na",
		"in chunk size": chunkedPost + "5",
		"in trailer":    chunkedPost + "0\r\nX: y",
	} {
		c := tf.dial(t).send(raw)
		if err := <-ended; !errors.Is(err, exchange.ErrBodyTimeout) {
			t.Errorf("%s: got %v; want %v", name, err, exchange.ErrBodyTimeout)
		}
		if got := c.rest(); !strings.HasPrefix(got, "HTTP/1.1 408 ") || !strings.Contains(got, "Connection: close") {
			t.Errorf("%s: got %q", name, got)
		}
	}
	// A small body is waited for before the handler runs, and so is the first byte
	// of every body whose length is known.
	for _, sent := range []string{"abc", ""} {
		c := tf.dial(t).send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n", sent)
		if got := c.rest(); !strings.HasPrefix(got, "HTTP/1.1 408 ") {
			t.Errorf("small body, %q sent: got %q", sent, got)
		}
	}
	if got := tf.rejected(); got != "408 CT, 408 CT" {
		t.Errorf("reported %q", got)
	}
}

// An upload may take longer than every time-out as long as it goes on.
func TestSlowUpload(t *testing.T) {
	t.Parallel() // it waits most of the time
	tf := serveTest(t, func(c *Config) {
		c.BodyIdleTimeout = 40 * short
		c.HeaderTimeout, c.KeepAliveTimeout, c.WriteIdleTimeout = short, short, short
	}, echo)
	c := tf.dial(t).send(chunkedPost)
	tick := time.NewTicker(short / 5)
	defer tick.Stop()
	for range 20 { // four times the other time-outs
		<-tick.C
		c.send("1\r\nx\r\n")
	}
	c.send("0\r\n\r\n")
	if got := c.exactly(contentLength(t, c.head())); !strings.HasSuffix(got, `body="xxxxxxxxxxxxxxxxxxxx"`) {
		t.Errorf("got %q", got)
	}
}

// unwilling is a handler that writes without end and tells how that ended.
func unwilling(ended chan<- error) Handler {
	return func(ex *exchange.Exchange) {
		_ = ex.Client.Start(&exchange.Response{Status: 200, ContentLength: exchange.LengthUnknown})
		block := make([]byte, 32<<10)
		for {
			if _, err := ex.Client.Write(block); err != nil {
				ended <- err
				return
			}
		}
	}
}

func TestWriteIdleTimeout(t *testing.T) {
	ended := make(chan error, 1)
	tf := serveTest(t, func(c *Config) { c.WriteIdleTimeout = short }, unwilling(ended))
	tf.dial(t).send(get11) // and reads nothing
	if err := <-ended; !isTimeout(err) {
		t.Errorf("got %v; want a time-out", err)
	}
	tf.waitOpen(t, 0)
}

// A client that reads slowly is not cut as long as it reads.
func TestSlowReader(t *testing.T) {
	t.Parallel()          // it waits most of the time
	const size = 32 << 20 // more than all buffers between the two
	wrote := make(chan error, 1)
	tf := serveTest(t, func(c *Config) { c.WriteIdleTimeout = 20 * short }, func(ex *exchange.Exchange) {
		_ = ex.Client.Start(&exchange.Response{Status: 200, ContentLength: size})
		_, err := ex.Client.Write(make([]byte, size)) // one write, longer than the time-out
		wrote <- err
	})
	c := tf.dial(t)
	c.send(get11)
	c.head()
	tick := time.NewTicker(short)
	defer tick.Stop()
	buf := make([]byte, 64<<10)
	start := time.Now()
	read := 0
	for time.Since(start) < 30*short {
		<-tick.C
		n, err := c.r.Read(buf)
		if read += n; err != nil {
			t.Fatalf("cut after %d bytes: %v", read, err)
		}
	}
	n, err := io.Copy(io.Discard, io.LimitReader(c.r, int64(size-read)))
	if err != nil || read+int(n) != size {
		t.Errorf("got %d bytes, %v; want %d", read+int(n), err, size)
	}
	if err := <-wrote; err != nil {
		t.Error(err)
	}
}

func TestMaxHeaderSize(t *testing.T) {
	tf := serveTest(t, func(c *Config) { c.MaxHeaderSize = 1 << 10 }, reply("ok"))
	fits := "GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("y", 1024-len(get11)-len("X: \r\n")) + "\r\n\r\n"
	over := strings.Replace(fits, "y", "yy", 1)
	c := tf.dial(t).send(fits, fits)
	for range 2 {
		if got := c.head(); !strings.HasPrefix(got, "HTTP/1.1 200 ") {
			t.Errorf("a head of %d bytes got %q", len(fits), got)
		}
		c.exactly(2)
	}
	for _, c := range []*testConn{c, tf.dial(t)} {
		if got := c.send(over).head(); !strings.HasPrefix(got, "HTTP/1.1 431 ") {
			t.Errorf("a head of %d bytes got %q", len(over), got)
		}
	}
	if got := tf.rejected(); got != "431 HL, 431 HL" {
		t.Errorf("reported %q", got)
	}
}

// Another size is for connections that begin, or have been idle. The others go on.
func TestUpdateMaxHeaderSize(t *testing.T) {
	t.Parallel() // it waits most of the time
	tf := serveTest(t, func(c *Config) { c.MaxHeaderSize = 1 << 10 }, reply("ok"))
	large := "GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("y", 1500) + "\r\n\r\n"
	gets := func(c *testConn, raw, want string) {
		t.Helper()
		if got := c.send(raw).head(); !strings.HasPrefix(got, want) {
			t.Errorf("a head of %d bytes got %q; want %q", len(raw), got, want)
		}
	}
	gets(tf.dial(t), large, "HTTP/1.1 431 ")
	idle := tf.parkedConn(t)
	busy := tf.dial(t).send(get11)
	busy.exactly(contentLength(t, busy.head()))
	cfg := tf.cfg
	cfg.MaxHeaderSize = 2 << 10
	tf.Update(cfg)
	gets(busy, get11, "HTTP/1.1 200 ")
	gets(idle, large, "HTTP/1.1 200 ")
	gets(tf.dial(t), large, "HTTP/1.1 200 ")
	tf.Update(tf.cfg)
	gets(tf.dial(t), large, "HTTP/1.1 431 ")
}

func TestUpdateAppliesToOpenConnections(t *testing.T) {
	tf := serveTest(t, nil, reply("ok"))
	c := tf.dial(t).send(get11)
	c.head()
	c.exactly(2)
	cfg := tf.cfg
	cfg.MaxHeaderFields = 1
	cfg.KeepAliveTimeout = short
	tf.Update(cfg)
	c.send(get11)
	c.head()
	c.exactly(2)
	if got := c.send("GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n").head(); !strings.HasPrefix(got, "HTTP/1.1 431 ") {
		t.Errorf("got %q; want the new limit in force", got)
	}
	c = tf.dial(t).send(get11)
	c.head()
	if got := c.rest(); got != "ok" {
		t.Errorf("got %q; want the new time-out in force", got)
	}
}

func TestAbortBody(t *testing.T) {
	reading := make(chan struct{})
	ended := make(chan error, 2)
	tf := serveTest(t, nil, func(ex *exchange.Exchange) {
		go func() {
			buf := make([]byte, 10)
			_, _ = io.ReadFull(ex.Request.Body, buf[:3])
			close(reading)
			for range 2 { // a blocked read, and a later one
				_, err := ex.Request.Body.Read(buf)
				ended <- err
			}
		}()
		<-reading
		ex.Client.AbortBody()
		for range 2 {
			if err := <-ended; !errors.Is(err, errBodyAborted) {
				t.Errorf("got %v; want %v", err, errBodyAborted)
			}
		}
		respond(ex, "ok")
	})
	c := tf.dial(t).send(chunkedPost, "3\r\nabc\r\n")
	if got := c.head(); !strings.Contains(got, "Connection: close") {
		t.Errorf("got %q; want the connection to end", got)
	}
	if got := c.rest(); got != "ok" {
		t.Errorf("got %q", got)
	}
}

// With the whole body read there is nothing to abort, and the connection stays.
func TestAbortCompleteBody(t *testing.T) {
	tf := serveTest(t, nil, func(ex *exchange.Exchange) {
		if ex.Request.Body != nil {
			_, _ = io.Copy(io.Discard, ex.Request.Body)
		}
		ex.Client.AbortBody()
		respond(ex, "ok")
	})
	for _, raw := range []string{get11, chunkedPost + "3\r\nabc\r\n0\r\n\r\n", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"} {
		c := tf.dial(t)
		for range 2 {
			c.send(raw)
			if got := c.head(); strings.Contains(got, "close") {
				t.Errorf("got %q", got)
			}
			c.exactly(2)
		}
	}
}

func TestGone(t *testing.T) {
	for name, leave := range map[string]func(c *testConn){
		"close":      func(c *testConn) { _ = c.Close() },
		"half-close": func(c *testConn) { c.closeWrite() },
		"reset": func(c *testConn) {
			_ = c.Conn.(*net.TCPConn).SetLinger(0)
			_ = c.Close()
		},
	} {
		t.Run(name, func(t *testing.T) {
			started, result := make(chan struct{}), make(chan bool, 1)
			tf := serveTest(t, nil, func(ex *exchange.Exchange) {
				if ex.Client.Gone() {
					t.Error("a client that is there is called gone")
				}
				close(started)
				late := time.After(patience)
				tick := time.NewTicker(time.Millisecond)
				defer tick.Stop()
				for !ex.Client.Gone() {
					select {
					case <-tick.C:
					case <-late:
						result <- false
						return
					}
				}
				ex.Result.Aborted = true
				result <- true
			})
			// A request behind the first one must not be read, or hide the end.
			c := tf.dial(t).send(get11, get11)
			<-started
			leave(c)
			if !<-result {
				t.Error("the client left and nobody noticed")
			}
		})
	}
}
