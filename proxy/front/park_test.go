package front

import (
	"context"
	"crypto/tls"
	"strings"
	"testing"
	"time"
)

// waitParked waits until so many idle connections have given up their buffers.
func (tf *testFront) waitParked(t *testing.T, want int) {
	t.Helper()
	late := time.After(patience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		parked := 0
		for _, c := range tf.Front.open() {
			c.wire.mu.Lock()
			if c.wire.phase == phaseParked {
				parked++
			}
			c.wire.mu.Unlock()
		}
		if parked == want {
			return
		}
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("%d connections are parked; want %d", parked, want)
		}
	}
}

// parkedConn gives a connection that was used and then parked.
func (tf *testFront) parkedConn(t *testing.T) *testConn {
	t.Helper()
	c := tf.dial(t).send(get11)
	c.exactly(contentLength(t, c.head()))
	tf.waitParked(t, 1)
	return c
}

func TestParkedConnectionServes(t *testing.T) {
	t.Parallel() // it waits most of the time
	tf := serveTest(t, nil, echo)
	c := tf.parkedConn(t)
	c.send(get11+"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", "0\r\n\r\n")
	for _, want := range []string{"length=-2", `length=-1 body="abc"`} {
		if got := c.exactly(contentLength(t, c.head())); !strings.HasSuffix(got, want) {
			t.Errorf("got %q; want %q", got, want)
		}
	}
	tf.waitParked(t, 1) // and again
	c.send("G")
	c.send("ET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
	if got := c.rest(); !strings.HasSuffix(got, "length=-2") {
		t.Errorf("got %q", got)
	}
}

func TestParkedConnectionIsAsStrict(t *testing.T) {
	t.Parallel() // it waits most of the time
	tf := serveTest(t, func(c *Config) { c.HeaderTimeout = 10 * short }, echo)
	for raw, want := range map[string]string{
		"GET / HTTP/1.1\nHost: a\r\n\r\n": "HTTP/1.1 400 ",
		"GET / HTTP/1.1\nHost: a\n\n":     "HTTP/1.1 400 ",
		"GET":                             "HTTP/1.1 408 ",
	} {
		if got := tf.parkedConn(t).send(raw).rest(); !strings.HasPrefix(got, want) {
			t.Errorf("%q got %q; want %q", raw, got, want)
		}
		tf.waitOpen(t, 0)
	}
}

func TestParkedConnectionEnds(t *testing.T) {
	t.Parallel() // it waits most of the time
	tf := serveTest(t, func(c *Config) { c.KeepAliveTimeout = parkAfter + 4*short }, echo)
	start := time.Now()
	if got := tf.parkedConn(t).rest(); got != "" {
		t.Errorf("got %q after the keep-alive time-out", got)
	}
	if took := time.Since(start); took < tf.cfg.KeepAliveTimeout {
		t.Errorf("closed after %v; want the whole of %v", took, tf.cfg.KeepAliveTimeout)
	}
	_ = tf.parkedConn(t).Close()
	tf.waitOpen(t, 0)
	if got := tf.rejected(); got != "" {
		t.Errorf("reported %q", got)
	}
}

func TestDrainOfParkedConnections(t *testing.T) {
	t.Parallel() // it waits most of the time
	tf := serveTest(t, nil, reply("ok"))
	c := tf.dial(t).send(get11)
	racing := tf.dial(t).send(get11)
	for _, c := range []*testConn{c, racing} {
		c.head()
		c.exactly(2)
	}
	tf.waitParked(t, 2)
	drained := make(chan error, 1)
	go func() { drained <- tf.Drain(context.Background()) }()
	<-tf.stopped
	if got := racing.send(get11).rest(); !strings.HasSuffix(got, "ok") {
		t.Errorf("the racing request got %q", got)
	}
	if got := c.rest(); got != "" {
		t.Errorf("got %q", got)
	}
	if err := <-drained; err != nil {
		t.Error(err)
	}
}

func TestParkedTLS(t *testing.T) {
	t.Parallel() // it waits most of the time
	tf := serveTest(t, withTLS("1.2", writeCert(t, "a.test")), echo)
	c := tf.mustDialTLS(t).send(get11)
	c.exactly(contentLength(t, c.head()))
	tf.waitParked(t, 1)
	c.send(upgrade[:len(upgrade)-2] + "Connection: close\r\n\r\n") // echo refuses the upgrade
	if got := c.exactly(contentLength(t, c.head())); !strings.Contains(got, "upgrade=echo") {
		t.Errorf("got %q", got)
	}
	_ = c.Conn.(*tls.Conn).CloseWrite()
	if got := c.rest(); got != "" {
		t.Errorf("got %q", got)
	}
}
