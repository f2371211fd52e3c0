package front

import (
	"testing"
	"time"

	"drover/exchange"

	"golang.org/x/net/http2"
)

// TestH2KeepAlive: a connection ends that long after its last request, also where it was
// read from with more patience before.
func TestH2KeepAlive(t *testing.T) {
	inBubble(t, func(c *Config) { c.KeepAliveTimeout = 5 * time.Second }, func(ex *exchange.Exchange) {
		time.Sleep(3 * time.Second)
		said(ex)
	}, func(t *testing.T, tf *testFront, l *pipes) {
		p := l.dialH2(t)
		began := time.Now()
		for i := range 2 {
			time.Sleep(2 * time.Second)
			p.open(stream(i), true, getLines...)
			p.expect("HEADERS :status: 200 | content-length: 12", "DATA END GET / a.test")
		}
		p.expect("GOAWAY NO_ERROR")
		if took := time.Since(began); took != 15*time.Second {
			t.Errorf("the connection ended after %v; want 15s", took)
		}
		if got := tf.rejected(); got != "" {
			t.Errorf("reported %q", got)
		}
	})
}

// pings counts the pings until a connection ends, and answers the first ones.
func (p *h2Peer) pings(answered int) (count int, end string) {
	for {
		f, err := p.ReadFrame()
		if err != nil {
			return count, end
		}
		switch f := f.(type) {
		case *http2.PingFrame:
			if count++; count <= answered {
				p.must(p.WritePing(true, f.Data))
			}
		case *http2.GoAwayFrame:
			end = f.ErrCode.String()
		}
	}
}

// TestH2Liveness: a client that waits for an answer is asked for a sign of life, and
// given up without one.
func TestH2Liveness(t *testing.T) {
	why := make(chan exchange.Reason, 1)
	inBubble(t, nil, func(ex *exchange.Exchange) {
		for !ex.Client.Gone() {
			time.Sleep(100 * time.Millisecond)
		}
		why <- ex.Client.(exchange.Breaker).Broke()
		ex.Result.Aborted = true
	}, func(t *testing.T, _ *testFront, l *pipes) {
		why = make(chan exchange.Reason, 1)
		p := l.dialH2(t)
		began := time.Now()
		p.open(1, true, getLines...)
		count, end := p.pings(2)
		if took := time.Since(began); count != 3 || end != "NO_ERROR" || took.Round(time.Second) != 2*time.Minute {
			t.Errorf("got %d pings and the end %q after %v; want 3 and NO_ERROR after 2m", count, end, took)
		}
		if got := <-why; got != exchange.ReasonClientGone {
			t.Errorf("the handler got %q; want CG", got)
		}
	})
}

// TestH2WriteIdle: an answer that its client takes nothing of is given up: where only its
// stream has no room, that stream, else the connection.
func TestH2WriteIdle(t *testing.T) {
	why := make(chan exchange.Reason, 1)
	until := func(ex *exchange.Exchange) {
		_ = ex.Client.Start(&exchange.Response{Status: 200, ContentLength: exchange.LengthUnknown})
		for block := make([]byte, 64<<10); ; {
			if _, err := ex.Client.Write(block); err != nil {
				if !isTimeout(err) {
					t.Errorf("got %v; want a time-out", err)
				}
				why <- ex.Client.(exchange.Breaker).Broke()
				ex.Result.Aborted = true
				return
			}
		}
	}
	late := func(t *testing.T, began time.Time) {
		t.Helper()
		if got := <-why; got != exchange.ReasonClientSlow {
			t.Errorf("the handler got %q; want CS", got)
		}
		if took := time.Since(began); took != 7*time.Second {
			t.Errorf("it took %v; want 7s", took)
		}
	}
	quick := func(c *Config) { c.WriteIdleTimeout = 7 * time.Second }
	t.Run("stream", func(t *testing.T) {
		inBubble(t, quick, until, func(t *testing.T, _ *testFront, l *pipes) {
			why = make(chan exchange.Reason, 1)
			p := l.dialH2(t, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 4})
			began := time.Now()
			p.open(1, true, getLines...)
			p.expect("HEADERS :status: 200", "DATA \x00\x00\x00\x00", "RST INTERNAL_ERROR")
			late(t, began)
		})
	})
	t.Run("connection", func(t *testing.T) {
		inBubble(t, quick, until, func(t *testing.T, _ *testFront, l *pipes) {
			why = make(chan exchange.Reason, 1)
			p := l.dialH2(t)
			for range 3 { // settings, a window, an acknowledgement
				if _, err := p.ReadFrame(); err != nil {
					t.Fatal(err)
				}
			}
			began := time.Now()
			p.open(1, true, getLines...) // and reads nothing more
			late(t, began)
		})
	})
}
