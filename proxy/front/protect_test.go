package front

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"drover/exchange"
)

// TestStalledWithin30Seconds: by default, no client that says nothing keeps its
// connection for longer, whatever it waits in the middle of; the tests of the time-outs
// show that they hold.
func TestStalledWithin30Seconds(t *testing.T) {
	cfg := testConfig()
	for name, limit := range map[string]time.Duration{
		"header_timeout": cfg.HeaderTimeout, "body_idle_timeout": cfg.BodyIdleTimeout, "keep_alive_timeout": cfg.KeepAliveTimeout,
	} {
		if limit <= 0 || limit > 30*time.Second {
			t.Errorf("%s is %v; want at most 30s", name, limit)
		}
	}
}

func TestMaxConnectionsPerClient(t *testing.T) {
	tf := serveTest(t, func(c *Config) { c.MaxConnectionsPerClient = 2 }, reply("ok"))
	first, second := tf.dial(t), tf.dial(t)
	tf.waitOpen(t, 2)
	if got := tf.dial(t).rest(); !strings.HasPrefix(got, "HTTP/1.1 429 ") || !strings.Contains(got, "Connection: close") {
		t.Errorf("one too many got %q; want 429 and the end", got)
	}
	if got := tf.rejected(); got != "429 CC" {
		t.Errorf("reported %q; want 429 CC", got)
	}
	_ = first.Close()
	tf.waitOpen(t, 1)
	third := tf.dial(t)
	for _, c := range []*testConn{second, third} {
		if got := c.send(get11).head(); !strings.HasPrefix(got, "HTTP/1.1 200 ") {
			t.Errorf("got %q", got)
		}
		c.exactly(2)
	}
	cfg := tf.cfg
	cfg.MaxConnectionsPerClient = 3
	tf.Update(cfg)
	if got := tf.dial(t).send(get11).head(); !strings.HasPrefix(got, "HTTP/1.1 200 ") {
		t.Errorf("with a higher limit: %q", got)
	}
	_, _ = second.Close(), third.Close()
}

func TestClientKey(t *testing.T) {
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{"10.0.0.1", "10.0.0.1", true},
		{"10.0.0.1", "10.0.0.2", false},
		{"2001:db8::1", "2001:db8::ffff:0:0:1", true},
		{"2001:db8::1", "2001:db8:0:1::1", false},
		{"fe80::1%eth0", "fe80::2%eth1", true},
	} {
		if got := clientKey(netip.MustParseAddr(c.a)) == clientKey(netip.MustParseAddr(c.b)); got != c.same {
			t.Errorf("%s and %s are one client: %v; want %v", c.a, c.b, got, c.same)
		}
	}
	if clientKey(netip.Addr{}).IsValid() {
		t.Error("what has no address is a client")
	}
}

// TestWhyBroken: a handler learns who ended the connection.
func TestWhyBroken(t *testing.T) {
	started, why := make(chan bool, 1), make(chan exchange.Reason, 1)
	until := func(ex *exchange.Exchange) {
		started <- true
		_ = ex.Client.Start(&exchange.Response{Status: 200, ContentLength: exchange.LengthUnknown})
		block := make([]byte, 64<<10)
		for {
			if _, err := ex.Client.Write(block); err != nil {
				why <- ex.Client.(exchange.Breaker).Broke()
				ex.Result.Aborted = true
				return
			}
		}
	}
	t.Run("client", func(t *testing.T) {
		c := serveTest(t, nil, until).dial(t).send(get11)
		<-started
		_ = c.Close()
		if got := <-why; got != exchange.ReasonClientGone {
			t.Errorf("got %q; want CG", got)
		}
	})
	t.Run("slow", func(t *testing.T) {
		c := serveTest(t, func(c *Config) { c.WriteIdleTimeout = short }, until).dial(t).send(get11)
		<-started
		if got := <-why; got != exchange.ReasonClientSlow {
			t.Errorf("got %q; want CS", got)
		}
		_, _ = io.Copy(io.Discard, c.r)
	})
	t.Run("drain", func(t *testing.T) {
		tf := serveTest(t, nil, until)
		c := tf.dial(t).send(get11)
		<-started
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := tf.Drain(ctx); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if got := <-why; got != exchange.ReasonDrained {
			t.Errorf("got %q; want DR", got)
		}
		_ = c.Close()
	})
}
