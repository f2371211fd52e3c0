package front

import (
	"io"
	"net"
	"runtime"
	"testing"

	"drover/exchange"
	"drover/internal/h2flood"

	"golang.org/x/net/http2"
)

// floodMemory is what a flood may cost while it lasts.
const floodMemory = 1 << 20

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
		if string(ex.Request.Target) == h2flood.Endless && ex.Client.Start(&exchange.Response{Status: 200, ContentLength: exchange.LengthUnknown}) == nil {
			var err error
			for block := make([]byte, 16<<10); err == nil; {
				_, err = ex.Client.Write(block)
			}
			return
		}
		said(ex)
	}, quietLogger())
	for name, send := range h2flood.Kinds {
		t.Run(name, func(t *testing.T) {
			nc, err := net.Dial("tcp", tf.addr)
			if err != nil {
				t.Fatal(err)
			}
			before := heap()
			wantSmall := func(sent int) {
				if grown := heap() - before; grown > floodMemory {
					t.Errorf("%d bytes after %d frames; want at most %d", grown, sent, floodMemory)
				}
			}
			sent := 0
			code, err := h2flood.Run(nc, send, func(frames int) {
				sent = frames
				wantSmall(sent)
				tf.servesOthers(t)
			})
			wantSmall(sent)
			if err != nil || code != http2.ErrCodeEnhanceYourCalm {
				t.Errorf("got %v, %v; want ENHANCE_YOUR_CALM", code, err)
			}
			tf.servesOthers(t)
		})
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
