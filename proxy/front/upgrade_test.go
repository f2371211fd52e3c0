package front

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"drover/exchange"
)

const upgrade = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"

// tunnelEcho switches protocols and sends back what it gets.
func tunnelEcho(t *testing.T) Handler {
	return func(ex *exchange.Exchange) {
		r := &exchange.Response{Status: 101, ContentLength: exchange.NoBody, Header: fields("Connection", "upgrade", "Upgrade", "echo", "X", "y")}
		if err := ex.Client.Start(r); err != nil {
			t.Error(err)
			return
		}
		conn, err := ex.Client.Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		if _, err := io.Copy(conn, conn); err == nil {
			if err := conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestUpgrade(t *testing.T) {
	tf := serveTest(t, nil, tunnelEcho(t))
	c := tf.dial(t).send(upgrade + "ahead") // in one segment with the head
	if got, want := c.head(), "HTTP/1.1 101 Switching Protocols | Upgrade: echo | X: y | Connection: Upgrade"; got != want {
		t.Errorf("got %q; want %q", got, want)
	}
	if got := c.exactly(5); got != "ahead" {
		t.Errorf("got %q; want what was read ahead", got)
	}
	large := strings.Repeat("0123456789", 100000)
	go func() {
		_, _ = io.WriteString(c.Conn, large)
		_ = c.Conn.(*net.TCPConn).CloseWrite()
	}()
	if got := c.rest(); got != large {
		t.Errorf("got %d bytes, or wrong ones; want %d", len(got), len(large))
	}
	tf.waitOpen(t, 0)
}

// No time-out of requests applies to a tunnel; deadlines that its user sets do.
func TestTunnelDeadlines(t *testing.T) {
	t.Parallel() // it waits most of the time
	ended := make(chan error, 1)
	tf := serveTest(t, func(c *Config) { c.HeaderTimeout, c.KeepAliveTimeout, c.BodyIdleTimeout = short, short, short },
		func(ex *exchange.Exchange) {
			_ = ex.Client.Start(&exchange.Response{Status: 101})
			conn, err := ex.Client.Hijack()
			if err != nil {
				ended <- err
				return
			}
			buf := make([]byte, 1)
			if _, err = conn.Read(buf); err == nil { // after every time-out
				_ = conn.SetReadDeadline(time.Now().Add(short))
				_, err = conn.Read(buf)
			}
			ended <- err
		})
	c := tf.dial(t).send(upgrade)
	c.head()
	<-time.After(3 * short) // the time-outs must have had their chance
	c.send("x")
	if err := <-ended; !isTimeout(err) {
		t.Errorf("got %v; want a time-out of the second read", err)
	}
}

// The proxy ends a blocked write of one direction from the goroutine of the other.
func TestTunnelWriteDeadline(t *testing.T) {
	ended := make(chan error, 1)
	tf := serveTest(t, nil, func(ex *exchange.Exchange) {
		_ = ex.Client.Start(&exchange.Response{Status: 101})
		conn, err := ex.Client.Hijack()
		if err != nil {
			ended <- err
			return
		}
		started := make(chan struct{})
		go func() {
			<-started
			_ = conn.SetWriteDeadline(time.Unix(1, 0))
		}()
		block := make([]byte, 1<<20)
		close(started)
		for err == nil {
			_, err = conn.Write(block)
		}
		ended <- err
	})
	c := tf.dial(t).send(upgrade)
	c.head()
	if err := <-ended; !isTimeout(err) {
		t.Errorf("got %v; want a time-out", err)
	}
}

func TestUpgradeRefusedByServer(t *testing.T) {
	tf := serveTest(t, nil, func(ex *exchange.Exchange) {
		respond(ex, "no")
		if _, err := ex.Client.Hijack(); !errors.Is(err, exchange.ErrNoUpgrade) {
			t.Errorf("hijack gave %v", err)
		}
	})
	c := tf.dial(t).send(upgrade, strings.Repeat("x", 100000))
	if got := c.head(); got != "HTTP/1.1 200 OK | Content-Length: 2 | Connection: close" {
		t.Errorf("got %q", got)
	}
	if got := c.rest(); got != "no" {
		t.Errorf("got %q", got)
	}
}

func TestPanicInUpgrade(t *testing.T) {
	tf := serveOn(t, listenTest(t), nil, func(ex *exchange.Exchange) {
		if string(ex.Request.Target) == "/late" {
			_ = ex.Client.Start(&exchange.Response{Status: 101})
			_, _ = ex.Client.Hijack()
		}
		panic("upgrade")
	}, quietLogger())
	if got := tf.dial(t).send(upgrade).head(); !strings.HasPrefix(got, "HTTP/1.1 500 ") {
		t.Errorf("got %q", got)
	}
	c := tf.dial(t).send(strings.Replace(upgrade, "/", "/late", 1))
	c.head()
	if got := c.rest(); got != "" {
		t.Errorf("got %q", got)
	}
}

func TestDrainWaitsForTunnels(t *testing.T) {
	t.Parallel() // it waits most of the time
	tf := serveTest(t, nil, tunnelEcho(t))
	c := tf.dial(t).send(upgrade)
	c.head()
	drained := make(chan error, 1)
	go func() { drained <- tf.Drain(context.Background()) }()
	<-tf.stopped
	c.send("still here")
	if got := c.exactly(10); got != "still here" {
		t.Errorf("got %q", got)
	}
	select {
	case err := <-drained:
		t.Fatalf("drained under an open tunnel: %v", err)
	default:
	}
	c.closeWrite()
	if got := c.rest(); got != "" {
		t.Errorf("got %q", got)
	}
	if err := <-drained; err != nil {
		t.Error(err)
	}
}

func TestDrainCutsTunnelsAtItsDeadline(t *testing.T) {
	tf := serveTest(t, nil, tunnelEcho(t))
	c := tf.dial(t).send(upgrade)
	c.head()
	ctx, cancel := context.WithTimeout(context.Background(), short)
	defer cancel()
	if err := tf.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "1 are left") {
		t.Errorf("got %v", err)
	}
	if _, err := c.r.ReadByte(); err == nil {
		t.Error("the tunnel is still open")
	}
}
