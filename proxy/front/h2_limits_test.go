package front

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"drover/exchange"

	"golang.org/x/net/http2"
)

// pipes is a listener in memory, for tests under a clock of their own.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), closed: make(chan struct{})} }

func (l *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipes) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (*pipes) Addr() net.Addr { return &net.TCPAddr{} }

// dialH2 connects and exchanges settings. Nothing bounds how long the test takes, which
// is no time at all.
func (l *pipes) dialH2(t *testing.T, settings ...http2.Setting) *h2Peer {
	t.Helper()
	near, far := net.Pipe()
	l.conns <- near
	p := newH2Peer(t, far, settings...)
	_ = far.SetDeadline(time.Time{})
	t.Cleanup(func() { _ = far.Close() })
	return p
}

// inBubble runs a test with a Front under a clock of its own.
func inBubble(t *testing.T, change func(*Config), handler Handler, test func(t *testing.T, tf *testFront, l *pipes)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := newPipes()
		test(t, serveOn(t, l, change, handler, quietLogger()), l)
	})
}

// upload answers as the request path does, with 200 where the body came whole.
func upload(ex *exchange.Exchange) {
	status, reason := 200, exchange.ReasonNone
	if ex.Request.Body != nil {
		switch _, err := io.Copy(io.Discard, ex.Request.Body); {
		case err == nil:
		case errors.Is(err, exchange.ErrBodyTooLarge):
			status, reason = 413, exchange.ReasonBodyTooLarge
		case errors.Is(err, exchange.ErrBodyTimeout):
			status, reason = 408, exchange.ReasonClientTimeout
		default:
			ex.Result.Aborted = true
			return
		}
	}
	r, body := exchange.Answer(status, reason, nil)
	if ex.Client.Start(r) == nil {
		_, _ = ex.Client.Write(body) // the test sees what came.
	}
}

// answered reads up to an answer's head, or the end, and gives the status or that.
func (p *h2Peer) answered() string {
	for {
		got := p.event()
		if head, ok := strings.CutPrefix(got, "HEADERS "); ok {
			status, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(head, "END "), ":status: "), " ")
			return status
		}
		if strings.HasPrefix(got, "GOAWAY ") || strings.HasPrefix(got, "end: ") || strings.HasPrefix(got, "RST ") {
			return got
		}
	}
}

// drip sends bytes one by one.
func (p *h2Peer) drip(text []byte, every time.Duration) {
	for i := range text {
		time.Sleep(every)
		if _, err := p.conn.Write(text[i : i+1]); err != nil {
			return // the end is what the test looks for.
		}
	}
}

// frameOf gives a frame's bytes.
func frameOf(kind http2.FrameType, flags http2.Flags, id uint32, payload []byte) []byte {
	n := len(payload)
	head := []byte{byte(n >> 16), byte(n >> 8), byte(n), byte(kind), byte(flags)}
	return append(binary.BigEndian.AppendUint32(head, id), payload...)
}

func postLines(more ...string) []string {
	return append([]string{":method: POST", ":scheme: http", ":authority: a.test", ":path: /"}, more...)
}

// h2Limits holds clients at each limit of a listener, by default settings but for what a
// row changes.
var h2Limits = map[string]struct {
	change  func(*Config)
	act     func(p *h2Peer)
	want    string        // status, or how the connection ends
	after   time.Duration // when that comes
	rejects string        // reported by the front itself
}{
	"fields": {
		change: func(c *Config) { c.MaxHeaderFields = 4 },
		act:    func(p *h2Peer) { p.open(1, true, append(getLines[:4:4], "a: 1", "b: 2", "c: 3", "d: 4", "e: 5")...) },
		want:   "431", rejects: "431 HL",
	},
	"as many fields": {
		change: func(c *Config) { c.MaxHeaderFields = 4 },
		act:    func(p *h2Peer) { p.open(1, true, append(getLines[:4:4], "a: 1", "b: 2", "c: 3", "d: 4")...) },
		want:   "200",
	},
	"announced body": {
		change: func(c *Config) { c.MaxBodySize = 10 },
		act:    func(p *h2Peer) { p.open(1, false, postLines("content-length: 11")...) },
		want:   "413", rejects: "413 BL",
	},
	"streamed body": {
		change: func(c *Config) { c.MaxBodySize = 10 },
		act: func(p *h2Peer) {
			p.open(1, false, postLines()...)
			p.must(p.WriteData(1, true, []byte("elevenbytes")))
		},
		want: "413",
	},
	"as large a body": {
		change: func(c *Config) { c.MaxBodySize = 10 },
		act: func(p *h2Peer) {
			p.open(1, false, postLines()...)
			p.must(p.WriteData(1, true, []byte("ten bytes.")))
		},
		want: "200",
	},
	"no body comes": {
		act:  func(p *h2Peer) { p.open(1, false, postLines("content-length: 5")...) },
		want: "408", after: 10 * time.Second, rejects: "408 CT",
	},
	"idle in a small body": {
		change: func(c *Config) { c.BodyIdleTimeout = 3 * time.Second },
		act: func(p *h2Peer) {
			p.open(1, false, postLines("content-length: 5")...)
			p.must(p.WriteData(1, false, []byte("body")))
		},
		want: "408", after: 3 * time.Second, rejects: "408 CT",
	},
	"idle in a streamed body": {
		act: func(p *h2Peer) {
			p.open(1, false, postLines()...)
			p.must(p.WriteData(1, false, []byte("body")))
		},
		want: "408", after: 30 * time.Second,
	},
	"idle in a frame of it": {
		act: func(p *h2Peer) {
			p.open(1, false, postLines()...)
			p.drip(frameOf(http2.FrameData, 0, 1, make([]byte, 100))[:11], 0)
		},
		want: "408", after: 30 * time.Second,
	},
	"slow small body": {
		act: func(p *h2Peer) {
			p.open(1, false, postLines("content-length: 1000")...)
			for range 1000 {
				time.Sleep(time.Second)
				p.frame(http2.FrameData, 0, 1, []byte("x"))
			}
		},
		want: "408", after: 10100 * time.Millisecond, rejects: "408 CT",
	},
	"slow large body": {
		act: func(p *h2Peer) {
			p.open(1, false, postLines("content-length: 100000")...)
			for range 1000 {
				time.Sleep(time.Second)
				p.frame(http2.FrameData, 0, 1, []byte("x"))
			}
		},
		want: "408", after: 10100 * time.Millisecond,
	},
	"slow frame": {
		act: func(p *h2Peer) {
			p.open(1, false, postLines("content-length: 10000")...)
			p.drip(frameOf(http2.FrameData, 0, 1, make([]byte, 10000)), 900*time.Millisecond)
		},
		want: "408", after: 10020 * time.Millisecond,
	},
	"fast enough": {
		act: func(p *h2Peer) {
			p.open(1, false, postLines("content-length: 1200")...)
			p.drip(frameOf(http2.FrameData, http2.FlagDataEndStream, 1, make([]byte, 1200)), 10*time.Millisecond)
		},
		want: "200", after: 12090 * time.Millisecond,
	},
	"no rate is wanted": {
		change: func(c *Config) { c.MinBodyRate = 0 },
		act: func(p *h2Peer) {
			p.open(1, false, postLines("content-length: 20")...)
			p.drip(frameOf(http2.FrameData, http2.FlagDataEndStream, 1, make([]byte, 20)), time.Second)
		},
		want: "200", after: 29 * time.Second,
	},
	"a stream has no rate": {
		act: func(p *h2Peer) {
			p.open(1, false, postLines()...)
			for range 10 {
				time.Sleep(20 * time.Second)
				p.frame(http2.FrameData, 0, 1, []byte("x"))
			}
			p.frame(http2.FrameData, http2.FlagDataEndStream, 1, nil)
		},
		want: "200", after: 200 * time.Second,
	},
	"nor has a frame of it": {
		act: func(p *h2Peer) {
			p.open(1, false, postLines()...)
			whole := frameOf(http2.FrameData, http2.FlagDataEndStream, 1, make([]byte, 20))
			p.drip(whole[:9], 0)
			p.drip(whole[9:], 25*time.Second)
		},
		want: "200", after: 500 * time.Second,
	},
	"no end of a head": {
		act: func(p *h2Peer) {
			p.frame(http2.FrameHeaders, http2.FlagHeadersEndStream, 1, p.block(getLines...))
		},
		want: "GOAWAY NO_ERROR", after: 10 * time.Second, rejects: "408 CT",
	},
	"slow head": {
		act: func(p *h2Peer) {
			p.drip(frameOf(http2.FrameHeaders, http2.FlagHeadersEndHeaders, 1, p.block(getLines...)), 900*time.Millisecond)
		},
		want: "GOAWAY NO_ERROR", after: 10900 * time.Millisecond, rejects: "408 CT",
	},
	"slow continuation": {
		act: func(p *h2Peer) {
			p.frame(http2.FrameHeaders, 0, 1, p.block(getLines...))
			time.Sleep(5 * time.Second)
			p.drip(frameOf(http2.FrameContinuation, http2.FlagContinuationEndHeaders, 1, p.block("x: "+strings.Repeat("y", 99))), time.Second)
		},
		want: "GOAWAY NO_ERROR", after: 10 * time.Second, rejects: "408 CT",
	},
	"slow ping beside a request": {
		act: func(p *h2Peer) {
			p.open(1, false, postLines()...)
			p.drip(frameOf(http2.FramePing, 0, 0, make([]byte, 8)), 3*time.Second)
		},
		want: "GOAWAY NO_ERROR", after: 13 * time.Second,
	},
	"slow frame of no stream": {
		act: func(p *h2Peer) {
			p.open(1, true, append(getLines[:3:3], "x: y")...) // broken, and reset
			p.drip(frameOf(http2.FrameData, 0, 1, make([]byte, 100)), 3*time.Second)
		},
		want: "GOAWAY NO_ERROR", after: 13 * time.Second,
	},
	"idle": {
		act:  func(*h2Peer) {},
		want: "GOAWAY NO_ERROR", after: 30 * time.Second,
	},
}

func TestH2Limits(t *testing.T) {
	for name, c := range h2Limits {
		t.Run(name, func(t *testing.T) {
			inBubble(t, c.change, upload, func(t *testing.T, tf *testFront, l *pipes) {
				p := l.dialH2(t)
				synctest.Wait()
				began := time.Now()
				var acting sync.WaitGroup
				acting.Go(func() { c.act(p) })
				got := p.answered()
				for got == "RST PROTOCOL_ERROR" {
					got = p.answered() // of the stream that a row breaks
				}
				if took := time.Since(began); got != c.want || took != c.after {
					t.Errorf("got %q after %v; want %q after %v", got, took, c.want, c.after)
				}
				_ = p.conn.Close()
				acting.Wait()
				if got := tf.rejected(); got != c.rejects {
					t.Errorf("reported %q; want %q", got, c.rejects)
				}
			})
		})
	}
}

// TestH2EndedUpload: what is left of a frame whose stream has ended holds the connection
// for no longer than any other frame.
func TestH2EndedUpload(t *testing.T) {
	inBubble(t, nil, upload, func(t *testing.T, _ *testFront, l *pipes) {
		p := l.dialH2(t)
		began := time.Now()
		p.open(1, false, postLines("content-length: 10000")...)
		var dripping sync.WaitGroup
		dripping.Go(func() {
			text := frameOf(http2.FrameData, 0, 1, make([]byte, 10000))
			p.drip(text[:9], 0)
			p.drip(text[9:], 8*time.Second)
		})
		p.expect("HEADERS :status: 408 | content-type: text/plain; charset=utf-8 | cache-control: no-store | content-length: 20",
			"DATA END 408 Request Timeout\n", "RST NO_ERROR")
		p.expect("GOAWAY NO_ERROR")
		want := 10*time.Second + 80*time.Millisecond/8 + 10*time.Second // a byte has earned its part
		if took := time.Since(began); took != want {
			t.Errorf("the connection ended after %v; want %v", took, want)
		}
		_ = p.conn.Close()
		dripping.Wait()
	})
}

// TestH2NoRoomToSend: a client that others of its uploads keep from sending is not late
// with this one.
func TestH2NoRoomToSend(t *testing.T) {
	var read chan struct{}
	inBubble(t, nil, func(ex *exchange.Exchange) {
		if string(ex.Request.Target) == "/busy" {
			<-read
		}
		upload(ex)
	}, func(t *testing.T, _ *testFront, l *pipes) {
		read = make(chan struct{})
		p := l.dialH2(t)
		block := make([]byte, 16<<10)
		const busy = 8 // streams fill the connection's window
		statuses := make(chan string, busy+1)
		var reading sync.WaitGroup
		reading.Go(func() {
			for range busy + 1 {
				statuses <- p.answered()
			}
		})
		for i := range busy {
			p.open(stream(i), false, ":method: POST", ":scheme: http", ":authority: a.test", ":path: /busy")
			for range 8 {
				p.must(p.WriteData(stream(i), false, block))
			}
		}
		p.open(stream(busy), false, postLines("content-length: 4")...)
		for range 3 {
			time.Sleep(20 * time.Second)
			p.must(p.WritePing(false, [8]byte{})) // a sign of life
		}
		close(read)
		synctest.Wait()
		p.must(p.WriteData(stream(busy), true, []byte("body")))
		for i := range busy {
			p.must(p.WriteData(stream(i), true, nil))
		}
		for range busy + 1 {
			if got := <-statuses; got != "200" {
				t.Errorf("got %q; want 200", got)
			}
		}
		_ = p.conn.Close()
		reading.Wait()
	})
}
