package proxy

import (
	"bufio"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"drover/exchange"
	"drover/metrics"
)

// short is a time-out under test; the others stay at their defaults, so that a test
// which ends proves the one that it is about.
const short = 50 * time.Millisecond

func echoing(c net.Conn, r *bufio.Reader) { _, _ = io.Copy(c, r) }

func silent(_ net.Conn, r *bufio.Reader) { _, _ = io.Copy(io.Discard, r) }

func TestTunnelIsCut(t *testing.T) { inEach(t, tunnelIsCut) }

func tunnelIsCut(t *testing.T, open func(*testing.T, *bed) clientEnd) {
	for name, c := range map[string]struct {
		change func(*TunnelConfig)
		play   script // nil for a server that reads nothing
		flood  bool   // the client sends without end, and reads nothing
		want   exchange.Reason
	}{
		"idle":              {change: func(c *TunnelConfig) { c.IdleTimeout = short }, play: silent, want: "TI"},
		"lifetime":          {change: func(c *TunnelConfig) { c.MaxLifetime = short }, play: silent, want: "TL"},
		"lifetime, flood":   {change: func(c *TunnelConfig) { c.MaxLifetime = short }, play: echoing, flood: true, want: "TL"},
		"lifetime, one way": {change: func(c *TunnelConfig) { c.MaxLifetime = short }, play: silent, flood: true, want: "TL"},
		"server reads not":  {change: func(c *TunnelConfig) { c.WriteIdleTimeout = short }, flood: true, want: "UT"},
		"client reads not":  {change: func(c *TunnelConfig) { c.WriteIdleTimeout = short }, play: talking, want: "CS"},
	} {
		t.Run(name, func(t *testing.T) {
			if c.play == nil {
				c.play = func(net.Conn, *bufio.Reader) { <-t.Context().Done() }
			}
			b := startBed(t, setup{
				servers: []string{startServer(t, upgrading("", c.play))},
				route:   func(r *RouteConfig) { c.change(&r.Tunnel) },
			})
			tunnel := open(t, b)
			if c.flood {
				go flood(tunnel)
			}
			if result := b.result(t); result.Reason != c.want || result.Status != 101 {
				t.Errorf("got %d %q; want 101 %q", result.Status, result.Reason, c.want)
			}
			_, _ = io.Copy(io.Discard, tunnel) // it ends.
		})
	}
}

// talking writes without end.
func talking(c net.Conn, _ *bufio.Reader) { flood(c) }

func flood(to io.Writer) {
	block := make([]byte, 64<<10)
	for {
		if _, err := to.Write(block); err != nil {
			return
		}
	}
}

// TestTunnelBreaksBothWays: a server that is gone ends the tunnel, also while its client
// takes nothing of what the server had said.
func TestTunnelBreaksBothWays(t *testing.T) { inEach(t, tunnelBreaksBothWays) }

func tunnelBreaksBothWays(t *testing.T, open func(*testing.T, *bed) clientEnd) {
	b := startBed(t, setup{servers: []string{startServer(t, upgrading("", func(c net.Conn, _ *bufio.Reader) {
		for block := make([]byte, 64<<10); c.SetWriteDeadline(time.Now().Add(10*short)) == nil; {
			if _, err := c.Write(block); err != nil {
				break // nobody takes any more.
			}
		}
		reset(c)
	}))}})
	go flood(open(t, b))
	if result := b.result(t); result.Status != 101 {
		t.Errorf("got %d; want 101", result.Status)
	}
}

// TestTunnelIdleCountsBothSides: one side that speaks keeps both directions.
func TestTunnelIdleCountsBothSides(t *testing.T) {
	for _, fromServer := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			far, server := net.Pipe()
			client, near := net.Pipe()
			if !fromServer {
				far, near = near, far
			}
			tun := newTunnel(TunnelConfig{IdleTimeout: time.Hour, WriteIdleTimeout: time.Minute})
			ended := make(chan int64, 2)
			go func() { ended <- tun.pump(server, client, "") }()
			go func() { ended <- tun.pump(client, server, "") }()
			go io.Copy(io.Discard, near) //nolint:errcheck // it ends with the pipe.
			start := time.Now()
			for range 10 {
				time.Sleep(time.Hour - time.Second)
				if _, err := io.WriteString(far, "ping"); err != nil {
					t.Fatalf("after %v: %v", time.Since(start), err)
				}
			}
			last := time.Now()
			n := <-ended + <-ended
			if n != 40 || time.Since(last) != time.Hour || tun.why.Load() == nil || *tun.why.Load() != exchange.ReasonTunnelIdle {
				t.Errorf("pumped %d, ended %v after the last byte, %v; want 40, 1h, TI", n, time.Since(last), tun.why.Load())
			}
			for _, c := range []net.Conn{server, far, near, client} {
				_ = c.Close()
			}
		})
	}
}

// TestTunnelKeepsItsBounds: a reload with other bounds leaves a running tunnel alone.
func TestTunnelKeepsItsBounds(t *testing.T) { inEach(t, tunnelKeepsItsBounds) }

func tunnelKeepsItsBounds(t *testing.T, open func(*testing.T, *bed) clientEnd) {
	b := startBed(t, setup{servers: []string{startServer(t, upgrading("", echoing))}})
	tunnel := open(t, b)
	cfg := routeTo("app", func(r *RouteConfig) { r.Tunnel.MaxLifetime = time.Nanosecond })
	old := b.table.Load()
	next, err := NewTable(TableOptions{
		Routes: []RouteConfig{cfg}, Upstreams: map[string]*Upstream{"app": b.up}, Metrics: metrics.New(0, "test"),
	})
	if err != nil {
		t.Fatal(err)
	}
	b.SetTable(next)
	open(t, b)
	if result := b.result(t); result.Reason != "TL" {
		t.Errorf("the new tunnel: %q; want TL", result.Reason)
	}
	echoesPing(t, tunnel, "the old tunnel")
	b.SetTable(old)
}

func TestTunnelConfigThatIsRefused(t *testing.T) {
	var c TunnelConfig
	c.SetDefaults()
	if err := c.Validate(); err != nil || c.IdleTimeout != time.Hour || c.MaxLifetime != 0 || c.WriteIdleTimeout != time.Minute {
		t.Errorf("defaults %+v, %v", c, err)
	}
	c = TunnelConfig{IdleTimeout: -1, MaxLifetime: -1}
	err := c.Validate()
	for _, key := range []string{"idle_timeout", "max_lifetime", "write_idle_timeout"} {
		if err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("got %v; want a fault of %s", err, key)
		}
	}
}
