package proxy

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"drover/internal/h2tunnel"
)

const askUpgrade = "GET /t HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"

// upgrading is a server that switches protocols, says ahead in the same segment, and
// goes on with play.
func upgrading(ahead string, play script) script {
	return func(c net.Conn, r *bufio.Reader) {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		switching := "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: " + req.Header.Get("Upgrade") + "\r\n\r\n"
		if _, err := io.WriteString(c, switching+ahead); err == nil {
			play(c, r)
		}
	}
}

// enter reads the 101 of a tunnel.
func (v *visitor) enter() {
	v.t.Helper()
	resp, err := http.ReadResponse(v.r, nil)
	if err != nil || resp.StatusCode != 101 || resp.Header.Get("Upgrade") != "echo" {
		v.t.Fatalf("got %+v, %v; want 101", resp, err)
	}
}

// clientEnd is the client's end of a tunnel.
type clientEnd interface {
	io.ReadWriter
	CloseWrite() error
}

// entered is a visitor in its tunnel.
type entered struct{ *visitor }

func (e entered) Read(p []byte) (int, error) { return e.r.Read(p) }

// tunnelOpeners open a tunnel, in each protocol that has them.
var tunnelOpeners = map[string]func(t *testing.T, b *bed) clientEnd{
	"HTTP/1.1": func(t *testing.T, b *bed) clientEnd {
		t.Helper()
		v := b.dial(t)
		v.send(askUpgrade)
		v.enter()
		return entered{v}
	},
	"HTTP/2": func(t *testing.T, b *bed) clientEnd {
		t.Helper()
		tunnel, err := h2tunnel.Dial(t.Context(), b.address, "/t", nil)
		if err != nil {
			t.Fatal(err)
		}
		late := time.AfterFunc(patience, func() { _ = tunnel.Close() })
		t.Cleanup(func() { late.Stop(); _ = tunnel.Close() })
		return tunnel
	},
}

// inEach runs a test of tunnels in each protocol that has them.
func inEach(t *testing.T, test func(t *testing.T, open func(t *testing.T, b *bed) clientEnd)) {
	for protocol, open := range tunnelOpeners {
		t.Run(protocol, func(t *testing.T) { test(t, open) })
	}
}

func send(t *testing.T, to io.Writer, text string) {
	t.Helper()
	if _, err := io.WriteString(to, text); err != nil {
		t.Fatal(err)
	}
}

func rest(t *testing.T, from io.Reader) string {
	t.Helper()
	text, err := io.ReadAll(from)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// echoesPing sees a tunnel echo.
func echoesPing(t *testing.T, tunnel clientEnd, when string) {
	t.Helper()
	send(t, tunnel, "ping")
	echo := make([]byte, 4)
	if _, err := io.ReadFull(tunnel, echo); err != nil || string(echo) != "ping" {
		t.Errorf("%s: got %q, %v; want ping", when, echo, err)
	}
}

// TestTunnelClientEndsFirst: the server still has its word when the client has said
// its last one, and nothing of what was sent with the heads is lost.
func TestTunnelClientEndsFirst(t *testing.T) {
	large := pattern(3_000_000)
	b := startBed(t, setup{servers: []string{startServer(t, upgrading("server ahead,", func(c net.Conn, r *bufio.Reader) {
		heard, err := io.ReadAll(r) // to the client's end
		if err == nil {
			_, _ = c.Write(heard)
		}
	}))}})
	v := b.dial(t)
	v.send(askUpgrade + "client ahead,")
	v.enter()
	go func() {
		_, _ = io.WriteString(v, large)
		_ = v.CloseWrite()
	}()
	if got, want := rest(t, v.r), "server ahead,client ahead,"+large; got != want {
		t.Errorf("got %d bytes, %.40q…; want %d, %.40q…", len(got), got, len(want), want)
	}
	result := b.result(t)
	if want := int64(len("client ahead," + large)); result.Received != want || result.Sent != want+int64(len("server ahead,")) {
		t.Errorf("counted %d received and %d sent; want %d and %d more", result.Received, result.Sent, want, len("server ahead,"))
	}
	if result.Status != 101 || result.Aborted || result.Reason != "" {
		t.Errorf("result %+v; want 101 and nothing wrong", result)
	}
}

func TestTunnelServerEndsFirst(t *testing.T) { inEach(t, tunnelServerEndsFirst) }

func tunnelServerEndsFirst(t *testing.T, open func(*testing.T, *bed) clientEnd) {
	heard := make(chan string, 1)
	b := startBed(t, setup{servers: []string{startServer(t, upgrading("", func(c net.Conn, r *bufio.Reader) {
		_, _ = io.WriteString(c, "bye")
		_ = c.(*net.TCPConn).CloseWrite()
		text, _ := io.ReadAll(r)
		heard <- string(text)
	}))}})
	tunnel := open(t, b)
	if got := rest(t, tunnel); got != "bye" {
		t.Errorf("the client got %q; want bye and the end", got)
	}
	send(t, tunnel, "last word")
	_ = tunnel.CloseWrite()
	if got := receive(t, heard, "the client's last word"); got != "last word" {
		t.Errorf("the server got %q; want the client's last word", got)
	}
	b.result(t)
}

// TestTunnelReset: what breaks on one side ends the other, and the exchange.
func TestTunnelReset(t *testing.T) {
	ended := make(chan bool, 1)
	servers := map[string]script{
		"server": func(c net.Conn, _ *bufio.Reader) { reset(c) },
		"client": func(_ net.Conn, r *bufio.Reader) { _, _ = io.Copy(io.Discard, r); ended <- true },
	}
	for who, play := range servers {
		t.Run(who, func(t *testing.T) {
			b := startBed(t, setup{servers: []string{startServer(t, upgrading("", play))}})
			v := b.dial(t)
			v.send(askUpgrade)
			if who == "client" {
				v.enter()
				reset(v)
				_ = v.Close()
				receive(t, ended, "the server's end")
			} else {
				_, _ = io.ReadAll(v.r)
			}
			b.result(t)
			if n := b.members[0].InFlight(); n != 0 {
				t.Errorf("%d in flight behind the tunnel; want 0", n)
			}
		})
	}
}

// TestTunnelDrain: a drained listener leaves a tunnel alone until its time is up.
func TestTunnelDrain(t *testing.T) { inEach(t, tunnelDrain) }

func tunnelDrain(t *testing.T, open func(*testing.T, *bed) clientEnd) {
	b := startBed(t, setup{servers: []string{startServer(t, upgrading("", echoing))}})
	tunnel := open(t, b)
	ctx, cancel := context.WithCancel(t.Context())
	drained := make(chan error, 1)
	go func() { drained <- b.front.Drain(ctx) }()
	for { // until nothing new is accepted
		c, err := net.Dial("tcp", b.address)
		if err != nil {
			break
		}
		_ = c.Close()
	}
	echoesPing(t, tunnel, "while draining")
	cancel()
	if err := receive(t, drained, "the end of Drain"); !errors.Is(err, context.Canceled) {
		t.Errorf("drain: %v; want that it was cut short", err)
	}
	_, _ = io.ReadAll(tunnel)
	if result := b.result(t); result.Reason != "DR" {
		t.Errorf("reason %q; want DR", result.Reason)
	}
}

// TestNoTunnelUnasked: a 101 that nobody asked for is no answer.
func TestNoTunnelUnasked(t *testing.T) {
	b := startBed(t, setup{servers: []string{startServer(t, upgrading("", func(net.Conn, *bufio.Reader) {}))}})
	v := b.dial(t)
	v.send(get("/"))
	if resp, _ := v.answer(); resp.StatusCode != 502 {
		t.Errorf("status %d; want 502", resp.StatusCode)
	}
}

// TestUpgradeRefused: the server's plain answer comes through.
func TestUpgradeRefused(t *testing.T) {
	b := startBed(t, setup{servers: []string{startServer(t, answering("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno"))}})
	v := b.dial(t)
	v.send(askUpgrade)
	if resp, body := v.answer(); resp.StatusCode != 403 || body != "no" {
		t.Errorf("got %d %q; want 403 no", resp.StatusCode, body)
	}
}

// halfPipe is one end of a pipe that can be half-closed.
type halfPipe struct {
	net.Conn
	closed atomic.Bool
}

func (h *halfPipe) CloseWrite() error {
	h.closed.Store(true)
	return nil
}

// TestTunnelHalfClosedEnds: a direction whose other one has ended does not last for
// ever.
func TestTunnelHalfClosedEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		far, to := net.Pipe()
		defer far.Close()
		defer to.Close()
		half := &halfPipe{Conn: to}
		from, end := net.Pipe()
		_ = end.Close()
		start := time.Now()
		if n := newTunnel(TunnelConfig{WriteIdleTimeout: time.Minute}).pump(half, from, ""); n != 0 || !half.closed.Load() {
			t.Errorf("pumped %d, closed %v; want 0 and the end passed on", n, half.closed.Load())
		}
		_, err := to.Read(make([]byte, 1))
		if took := time.Since(start); !errors.Is(err, os.ErrDeadlineExceeded) || took != halfClosed {
			t.Errorf("the other direction: %v after %v; want a time-out after %v", err, took, halfClosed)
		}
		_ = from.Close()
	})
}

// TestTunnelHalfClosedGoesOn: a direction that still speaks lasts as long as it does so.
func TestTunnelHalfClosedGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, from := net.Pipe()
		to, client := net.Pipe()
		half := newTunnel(TunnelConfig{WriteIdleTimeout: time.Minute})
		half.half.Store(true)
		_ = from.SetReadDeadline(time.Now().Add(halfClosed))
		pumped := make(chan int64, 1)
		go func() { pumped <- half.pump(to, from, "") }()
		go io.Copy(io.Discard, client) //nolint:errcheck // it ends with the pipe.
		start := time.Now()
		for range 10 {
			time.Sleep(halfClosed - time.Second)
			if _, err := io.WriteString(server, "x"); err != nil {
				t.Fatalf("after %v: %v", time.Since(start), err)
			}
		}
		if n := <-pumped; n != 10 || time.Since(start) != 11*halfClosed-10*time.Second {
			t.Errorf("pumped %d in %v; want 10 and the end %v after the last", n, time.Since(start), halfClosed)
		}
		for _, c := range []net.Conn{server, from, to, client} {
			_ = c.Close()
		}
	})
}

// TestTunnelCannotHalfClose: where the end cannot be passed on, the other direction ends too.
func TestTunnelCannotHalfClose(t *testing.T) {
	far, to := net.Pipe()
	defer far.Close()
	defer to.Close()
	if n := newTunnel(TunnelConfig{WriteIdleTimeout: time.Minute}).pump(to, &endedConn{to, strings.NewReader("")}, ""); n != 0 {
		t.Errorf("pumped %d; want 0", n)
	}
	if _, err := to.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the other direction: %v; want it ended", err)
	}
}

type endedConn struct {
	net.Conn
	r io.Reader
}

func (e *endedConn) Read(p []byte) (int, error) { return e.r.Read(p) }
