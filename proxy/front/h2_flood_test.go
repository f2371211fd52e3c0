package front

import (
	"bytes"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"drover/exchange"

	"golang.org/x/net/http2"
)

const (
	// floodFrames and floodTime are when a flood must have ended at the latest: that is
	// said to a client before it could have sent more, or been at it for longer.
	floodFrames = 2000
	floodTime   = 8 * time.Second
	// floodMemory is what a flood may cost while it lasts.
	floodMemory = 1 << 20
)

// flood sends one round of a flood, and gives how many frames that were.
type flood func(p *h2Peer, round int) (frames int)

func stream(round int) uint32 { return uint32(2*round + 1) } //nolint:gosec // floods are short.

// frame writes a frame that the Framer would not.
func (p *h2Peer) frame(kind http2.FrameType, flags http2.Flags, id uint32, payload []byte) {
	_ = p.WriteRawFrame(kind, flags, id, payload) // the connection may end at any time.
}

// floods holds one client of each kind. The client that opens streams which get nowhere
// is apart.
var floods = map[string]flood{
	// CVE-2023-44487
	"rapid reset": func(p *h2Peer, round int) int {
		p.frame(http2.FrameHeaders, http2.FlagHeadersEndHeaders|http2.FlagHeadersEndStream, stream(round), p.block(getLines...))
		p.frame(http2.FrameRSTStream, 0, stream(round), []byte{0, 0, 0, 8})
		return 2
	},
	// CVE-2025-8671
	"made you reset": func(p *h2Peer, round int) int {
		p.frame(http2.FrameHeaders, http2.FlagHeadersEndHeaders, stream(round), p.block(getLines...))
		p.frame(http2.FrameWindowUpdate, 0, stream(round), []byte{0, 0, 0, 0})
		return 2
	},
	// CVE-2023-45288
	"continuation": func(p *h2Peer, round int) int {
		return p.blockFlood(round, bytes.Repeat([]byte{0x40, 1, 'a', 1, 'b'}, 20))
	},
	"empty continuation": func(p *h2Peer, round int) int { return p.blockFlood(round, nil) },
	// CVE-2019-9512, CVE-2019-9515, CVE-2019-9518
	"ping": func(p *h2Peer, _ int) int {
		p.frame(http2.FramePing, 0, 0, make([]byte, 8))
		return 1
	},
	"settings": func(p *h2Peer, _ int) int {
		p.frame(http2.FrameSettings, 0, 0, nil)
		return 1
	},
	"empty data": func(p *h2Peer, round int) int {
		if round == 0 {
			p.frame(http2.FrameHeaders, http2.FlagHeadersEndHeaders, 1, p.block(":method: POST", ":scheme: http", ":authority: a.test", ":path: /"))
		}
		p.frame(http2.FrameData, 0, 1, nil)
		return 1
	},
	// CVE-2019-9513
	"priority": func(p *h2Peer, _ int) int {
		p.frame(http2.FramePriority, 0, 1, []byte{0, 0, 0, 3, 7})
		return 1
	},
	"window update": func(p *h2Peer, _ int) int {
		p.frame(http2.FrameWindowUpdate, 0, 0, []byte{0, 0, 0, 1})
		return 1
	},
	// CVE-2019-9511: a large answer, byte by byte
	"window dribble": func(p *h2Peer, round int) int {
		if round == 0 {
			p.frame(http2.FrameSettings, 0, 0, []byte{0, byte(http2.SettingInitialWindowSize), 0, 0, 0, 0})
			p.frame(http2.FrameHeaders, http2.FlagHeadersEndHeaders|http2.FlagHeadersEndStream, 1,
				p.block(":method: GET", ":scheme: http", ":authority: a.test", ":path: /large"))
			return 2
		}
		p.frame(http2.FrameWindowUpdate, 0, 1, []byte{0, 0, 0, 1})
		<-p.data
		return 1
	},
	"unknown frames": func(p *h2Peer, _ int) int {
		p.frame(0xbb, 0, 0, []byte("x"))
		return 1
	},
	// CVE-2016-6581: one value in the table, named thousands of times
	"HPACK bomb": func(p *h2Peer, round int) int {
		block := bytes.Clone(p.block(getLines...))
		if round == 0 {
			block = append(block, p.block("x: "+string(bytes.Repeat([]byte("x"), 4000)))...)
		}
		block = append(block, bytes.Repeat([]byte{0xbe}, 12000)...) // the table's newest
		p.frame(http2.FrameHeaders, http2.FlagHeadersEndHeaders|http2.FlagHeadersEndStream, stream(round), block)
		return 1
	},
}

// blockFlood adds to a header block that never ends.
func (p *h2Peer) blockFlood(round int, part []byte) int {
	if round == 0 {
		p.frame(http2.FrameHeaders, http2.FlagHeadersEndStream, 1, p.block(getLines...))
		return 1
	}
	p.frame(http2.FrameContinuation, 0, 1, part)
	return 1
}

// TestH2Floods: each flood ends by GOAWAY soon, costs little memory, and others are
// served meanwhile.
func TestH2Floods(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tf := serveOn(t, ln, nil, func(ex *exchange.Exchange) {
		if ex.Request.Body != nil {
			_, _ = io.Copy(io.Discard, ex.Request.Body) // floods break off.
		}
		if string(ex.Request.Target) == "/large" && ex.Client.Start(&exchange.Response{Status: 200, ContentLength: exchange.LengthUnknown}) == nil {
			var err error
			for block := make([]byte, 16<<10); err == nil; {
				_, err = ex.Client.Write(block)
			}
			return
		}
		said(ex)
	}, quietLogger())
	for name, send := range floods {
		t.Run(name, func(t *testing.T) {
			p := tf.dialH2(t)
			_ = p.conn.SetDeadline(time.Now().Add(floodTime + patience))
			before := heap()
			p.data = make(chan struct{}, 1)
			ended := make(chan string, 1)
			go func() {
				got := p.event()
				for !strings.HasPrefix(got, "GOAWAY ") && !strings.HasPrefix(got, "end: ") {
					if strings.HasPrefix(got, "DATA ") {
						select {
						case p.data <- struct{}{}:
						default:
						}
					}
					got = p.event()
				}
				close(p.data)
				ended <- got
			}()
			sent, began := 0, time.Now()
			for round := 0; ; round++ {
				select {
				case got := <-ended:
					if got != "GOAWAY ENHANCE_YOUR_CALM" {
						t.Errorf("got %q after %d frames", got, sent)
					}
					wantSmall(t, before, sent)
					tf.servesOthers(t)
					return
				default:
				}
				if sent > floodFrames && time.Since(began) > floodTime {
					t.Fatalf("%d frames in %v, and no end", sent, time.Since(began))
				}
				// What is on the way when the end is said counts for nothing: only so much
				// is sent ahead.
				if sent <= floodFrames {
					sent += send(p, round)
				}
				if round%100 == 0 {
					wantSmall(t, before, sent)
					tf.servesOthers(t)
				}
			}
		})
	}
}

// wantSmall compares the memory of now with that of before.
func wantSmall(t *testing.T, before int64, frames int) {
	t.Helper()
	if grown := heap() - before; grown > floodMemory {
		t.Errorf("%d bytes after %d frames; want at most %d", grown, frames, floodMemory)
	}
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc) //nolint:gosec // far from the limit.
}

// servesOthers makes a request on a connection of its own.
func (tf *testFront) servesOthers(t *testing.T) {
	t.Helper()
	c := tf.dial(t)
	if got := c.send(get11).head(); len(got) < 12 || got[:12] != "HTTP/1.1 200" {
		t.Errorf("others got %q", got)
	}
	_ = c.Close()
}

// TestH2StalledStreams: many streams whose client leaves no room end soon, and cost
// little until then.
func TestH2StalledStreams(t *testing.T) {
	tf := serveTest(t, nil, said)
	before := heap()
	p := tf.dialH2(t, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	_ = p.conn.SetDeadline(time.Now().Add(floodTime + patience))
	began := time.Now()
	for i := range 100 {
		p.open(stream(i), true, getLines...)
	}
	for i := range 100 {
		if got := p.event(); got != "HEADERS :status: 200 | content-length: 12" {
			t.Fatalf("got %q for stream %d", got, i)
		}
	}
	wantSmall(t, before, 100)
	tf.servesOthers(t)
	p.expect("GOAWAY ENHANCE_YOUR_CALM")
	wantSmall(t, before, 100)
	if took := time.Since(began); took > floodTime {
		t.Errorf("it took %v; want at most %v", took, floodTime)
	}
}

// TestH2Downloads: a client that takes a large answer in small bites is no flood.
func TestH2Downloads(t *testing.T) {
	const size = 4 << 20
	tf := serveTest(t, nil, func(ex *exchange.Exchange) {
		if ex.Client.Start(&exchange.Response{Status: 200, ContentLength: size}) == nil {
			_, _ = ex.Client.Write(make([]byte, size)) // the test counts.
		}
	})
	for _, window := range []uint32{65535, 1024} {
		p := tf.dialH2(t, http2.Setting{ID: http2.SettingInitialWindowSize, Val: window})
		p.open(1, true, getLines...)
		got, updates := 0, 0
		for got < size {
			f, err := p.ReadFrame()
			if err != nil {
				t.Fatalf("%v after %d bytes and %d window updates", err, got, updates)
			}
			data, ok := f.(*http2.DataFrame)
			if !ok {
				if away, ok := f.(*http2.GoAwayFrame); ok {
					t.Fatalf("got %v after %d bytes and %d window updates", away, got, updates)
				}
				continue
			}
			n := len(data.Data())
			for _, id := range []uint32{0, 1} {
				if got+n < size {
					p.must(p.WriteWindowUpdate(id, uint32(n))) //nolint:gosec // at most 16 KiB.
					updates++
				}
			}
			got += n
		}
	}
}
