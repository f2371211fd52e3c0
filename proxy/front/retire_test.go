package front

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"drover/exchange"
	"drover/internal/h2tunnel"
)

// TestRetireKeepsTunnels: a front that is retired cuts requests when their time is up, and
// tunnels when theirs is.
func TestRetireKeepsTunnels(t *testing.T) {
	why := make(chan exchange.Reason, 2)
	serve := func(ex *exchange.Exchange) {
		if ex.Request.Upgrade != "" {
			tunnelEcho(t)(ex)
			return
		}
		if ex.Client.Start(&exchange.Response{Status: 200, ContentLength: exchange.LengthUnknown}) == nil {
			_ = ex.Client.Flush() // what comes of it is seen below.
		}
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for !ex.Client.Gone() {
			<-tick.C
		}
		why <- ex.Client.(exchange.Breaker).Broke()
		ex.Result.Aborted = true
	}
	h2Request := func(t *testing.T, tf *testFront) {
		p := tf.dialH2(t)
		p.open(1, true, getLines...)
		p.expect("HEADERS :status: 200")
	}
	for name, enter := range map[string]func(t *testing.T) (tf *testFront, tunnel io.ReadWriter){
		"HTTP/1.1": func(t *testing.T) (*testFront, io.ReadWriter) {
			tf := serveTest(t, nil, serve)
			c := tf.dial(t).send(upgrade)
			c.head()
			tf.dial(t).send(get11).head()
			return tf, struct {
				io.Reader
				io.Writer
			}{c.r, c}
		},
		"HTTP/2": func(t *testing.T) (*testFront, io.ReadWriter) {
			tf := serveTest(t, nil, serve)
			tunnel, err := h2tunnel.Dial(t.Context(), tf.addr, "/", nil)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = tunnel.Close() })
			h2Request(t, tf)
			return tf, tunnel
		},
		"HTTP/3": func(t *testing.T) (*testFront, io.ReadWriter) {
			hf := serveHTTP3(t, nil, serve)
			connect := makeRequest(t, http.MethodConnect, "https://a.test/", nil)
			connect.Proto = "websocket"
			tunnel := open(t, hf.mustDialQUIC(t), connect)
			if resp, err := tunnel.ReadResponse(); err != nil || resp.StatusCode != 200 {
				t.Fatalf("got %+v, %v; want a tunnel", resp, err)
			}
			other := open(t, hf.mustDialQUIC(t), makeRequest(t, "GET", "https://a.test/", nil))
			_ = other.Close() // the answer tells.
			if resp, err := other.ReadResponse(); err != nil || resp.StatusCode != 200 {
				t.Fatalf("got %+v, %v; want an answer", resp, err)
			}
			return hf.testFront, tunnel
		},
	} {
		t.Run(name, func(t *testing.T) {
			tf, tunnel := enter(t)
			echoes := func() {
				t.Helper()
				echo := make([]byte, 4)
				if _, err := io.WriteString(tunnel, "ping"); err != nil {
					t.Error(err)
				}
				if _, err := io.ReadFull(tunnel, echo); err != nil || string(echo) != "ping" {
					t.Errorf("got %q, %v; want ping", echo, err)
				}
			}
			requests, cutRequests := context.WithCancel(t.Context())
			tunnels, cutTunnels := context.WithCancel(t.Context())
			defer cutTunnels()
			retired := make(chan error, 1)
			go func() { retired <- tf.Retire(requests, tunnels) }()
			<-tf.stopped
			echoes()
			cutRequests()
			select {
			case got := <-why:
				if got != exchange.ReasonDrained {
					t.Errorf("the request ended with %q; want DR", got)
				}
			case <-time.After(patience):
				t.Fatal("the request goes on")
			}
			tf.waitOpen(t, 1)
			echoes()
			select {
			case err := <-retired:
				t.Fatalf("over while the tunnel is open: %v", err)
			default:
			}
			cutTunnels()
			if err := <-retired; !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "2 are left") {
				t.Errorf("got %v; want both connections counted", err)
			}
			if rest, _ := io.ReadAll(tunnel); len(rest) != 0 {
				t.Errorf("got %q; want nothing more", rest)
			}
		})
	}
}

// TestRetireEndsWithTunnels: the last tunnel's end is a retired front's, and takes along a
// request that has lasted on its connection.
func TestRetireEndsWithTunnels(t *testing.T) {
	t.Parallel() // it waits most of the time
	finish := make(chan struct{})
	tf := serveTest(t, nil, func(ex *exchange.Exchange) {
		if ex.Request.Upgrade != "" {
			if ex.Client.Start(&exchange.Response{Status: 101, ContentLength: exchange.NoBody}) == nil {
				_, _ = ex.Client.Hijack() // the client sees the head.
			}
			<-finish
			return
		}
		_ = ex.Client.Start(&exchange.Response{Status: 200, ContentLength: exchange.LengthUnknown})
		_ = ex.Client.Flush()
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for !ex.Client.Gone() {
			<-tick.C
		}
		ex.Result.Aborted = true
	})
	p := tf.dialH2(t)
	p.open(1, false, ":method: CONNECT", ":protocol: websocket", ":scheme: http", ":authority: a.test", ":path: /")
	p.expect("HEADERS :status: 200")
	p.open(3, true, getLines...)
	p.expect("HEADERS :status: 200")
	requests, cutRequests := context.WithCancel(t.Context())
	cutRequests()
	retired := make(chan error, 1)
	go func() { retired <- tf.Retire(requests, t.Context()) }()
	p.expect("GOAWAY NO_ERROR", "GOAWAY NO_ERROR")
	tf.waitOpen(t, 1)
	close(finish)
	if err := <-retired; !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "1 are left") {
		t.Errorf("got %v; want the request cut", err)
	}
	tf.waitOpen(t, 0)
}
