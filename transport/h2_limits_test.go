package transport

import (
	"bytes"
	"crypto/sha256"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"drover/backend"
	"drover/exchange"
	"drover/units"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// TestH2SlowReader: what waits for one client that does not read is bounded by the
// window, and holds nobody else up.
func TestH2SlowReader(t *testing.T) {
	const window = 64 << 10
	announced, sent := make(chan uint32, 1), make(chan int, 1)
	pool := newPool(t, scriptH2(t, func(_ int, p *h2peer) {
		stream, room, read := uint32(0), 0, false
		for !read || room > 0 {
			f, err := p.ReadFrame()
			if err != nil {
				return
			}
			switch f := f.(type) {
			case *http2.SettingsFrame:
				if n, ok := f.Value(http2.SettingInitialWindowSize); ok {
					announced <- n
				}
			case *http2.MetaHeadersFrame:
				if id := f.StreamID; id > 1 {
					p.head(id, true, ":status: 204")
					continue
				}
				stream, room = f.StreamID, h2SmallWindow
			case *http2.WindowUpdateFrame:
				switch {
				case f.StreamID != stream || stream == 0:
				case room > 0: // comes with the head.
					p.head(stream, false, ":status: 200")
					for room += int(f.Increment); room > 0; room -= 1 << 10 {
						_ = p.WriteData(stream, false, make([]byte, 1<<10))
					}
				default:
					read = true
					sent <- int(f.Increment)
					_ = p.WriteData(stream, true, []byte("end"))
				}
			}
		}
	}), h2c, func(c *Config) { c.HTTP2.StreamWindow = window })
	slow := begin(t, pool, get("GET"))
	eventually(t, "the window is full", func() bool { return slow.Buffered() == window })
	if got := <-announced; got != h2SmallWindow {
		t.Errorf("a window of %d is announced; want %d", got, h2SmallWindow)
	}
	if got := run(pool, get("GET")); got.err != nil || pool.Stats().Dials != 1 {
		t.Errorf("beside it: %+v, %+v; want an answer on the same connection", got, pool.Stats())
	}
	select {
	case n := <-sent:
		t.Errorf("room for %d more bytes is given before anything was read", n)
	default:
	}
	if n, err := io.Copy(io.Discard, slow.Body()); err != nil || n != window+3 {
		t.Errorf("read %d bytes, %v; want %d", n, err, window+3)
	}
	slow.Close()
}

// TestH2Large sends 100 MiB each way at once, in bounded memory.
func TestH2Large(t *testing.T) {
	const size = 100 << 20
	id := standard(t, false, func(p *http.Protocols) { p.SetUnencryptedHTTP2(true) }, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.CopyBuffer(struct{ io.Writer }{w}, r.Body, make([]byte, 64<<10))
	})
	pool := newPool(t, id, h2c)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	sent, got := sha256.New(), sha256.New()
	resp := begin(t, pool, post(io.TeeReader(io.LimitReader(&counter{}, size), sent), size))
	n, err := io.Copy(got, resp.Body())
	resp.Close()
	runtime.ReadMemStats(&after)
	if err != nil || n != size || !bytes.Equal(sent.Sum(nil), got.Sum(nil)) {
		t.Errorf("got %d bytes, %v; want the %d that were sent", n, err, size)
	}
	if grown := int64(after.HeapInuse) - int64(before.HeapInuse); grown > 32<<20 {
		t.Errorf("the heap grew by %d bytes; want it bounded", grown)
	}
}

// counter gives bytes of which no two kibibytes are alike.
type counter struct{ n uint32 }

func (c *counter) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(c.n ^ c.n>>10)
		c.n++
	}
	return len(p), nil
}

// TestH2Floods: a server that keeps sending what leads to nothing is left, and told so,
// within 2,000 frames.
func TestH2Floods(t *testing.T) {
	f := func(name string, say func(p *h2peer, id uint32)) {
		t.Run(name, func(t *testing.T) {
			told := make(chan http2.ErrCode, 1)
			pool := newPool(t, scriptH2(t, func(_ int, p *h2peer) {
				id := p.next(http2.FrameHeaders)
				go func() {
					for range 2000 {
						say(p, id)
					}
				}()
				for {
					f, err := p.ReadFrame()
					if err != nil {
						close(told)
						return
					}
					if f, ok := f.(*http2.GoAwayFrame); ok {
						told <- f.ErrCode
						return
					}
				}
			}), h2c)
			wantFailure(t, run(pool, get("GET")).err, backend.FailureProtocol, true)
			// A RST on what was still on its way may take the GOAWAY along.
			if code, heard := <-told; heard && code != http2.ErrCodeEnhanceYourCalm {
				t.Errorf("the server was told %s", code)
			}
		})
	}
	f("ping", func(p *h2peer, _ uint32) { _ = p.WritePing(false, [8]byte{}) })
	f("answers to no ping", func(p *h2peer, _ uint32) { _ = p.WritePing(true, [8]byte{}) })
	f("settings", func(p *h2peer, _ uint32) { _ = p.WriteSettings() })
	f("window updates", func(p *h2peer, id uint32) { _ = p.WriteWindowUpdate(id, 1) })
	f("priority", func(p *h2peer, id uint32) { _ = p.WriteRawFrame(http2.FramePriority, 0, id, make([]byte, 5)) })
	f("unknown frames", func(p *h2peer, id uint32) { _ = p.WriteRawFrame(0xbe, 0, id, nil) })
	f("goaway", func(p *h2peer, id uint32) { _ = p.WriteGoAway(id, http2.ErrCodeNo, nil) })
	first := true
	f("continuation", func(p *h2peer, id uint32) {
		if first {
			first = false
			_ = p.WriteHeaders(http2.HeadersFrameParam{StreamID: id})
		}
		_ = p.WriteContinuation(id, false, nil)
	})
}

// TestH2EmptyData: so is one that sends no byte of a body, again and again.
func TestH2EmptyData(t *testing.T) {
	pool := newPool(t, scriptH2(t, func(_ int, p *h2peer) {
		id := p.next(http2.FrameHeaders)
		p.head(id, false, ":status: 200")
		for range 2000 {
			_ = p.WriteData(id, false, nil)
		}
	}), h2c)
	wantFailure(t, run(pool, get("GET")).err, backend.FailureBody, true)
}

// TestH2HeaderLimit: a head over max_response_header_size costs its stream, however
// small it is on the wire, and leaves the connection and its table whole.
func TestH2HeaderLimit(t *testing.T) {
	f := func(name string, size int, many bool) {
		t.Run(name, func(t *testing.T) {
			pool := newPool(t, scriptH2(t, func(_ int, p *h2peer) {
				id := p.next(http2.FrameHeaders)
				lines := []string{":status: 200", "x: " + strings.Repeat("x", size)}
				for many && len(lines) < 20 {
					lines = append(lines, lines[1]) // one byte each, from the table
				}
				p.head(id, true, lines...)
				p.head(p.next(http2.FrameHeaders), true, ":status: 200", "y: 1", "x: "+strings.Repeat("x", 100))
			}), h2c, func(c *Config) { c.MaxResponseHeaderSize = 2 * units.KiB })
			wantFailure(t, run(pool, get("GET")).err, backend.FailureProtocol, true)
			if got := run(pool, get("GET")); got.err != nil || !strings.HasPrefix(got.text, "200  y=1 x=xxx") || pool.Stats().Dials != 1 {
				t.Errorf("afterwards: %+v, %+v", got, pool.Stats())
			}
		})
	}
	f("one field", 4<<10, false)
	f("many by reference", 200, true)
}

// TestH2Pieces: a head in several frames is one head.
func TestH2Pieces(t *testing.T) {
	pool := newPool(t, scriptH2(t, func(_ int, p *h2peer) {
		id := p.next(http2.FrameHeaders)
		var block bytes.Buffer
		enc := hpack.NewEncoder(&block)
		_ = enc.WriteField(hpack.HeaderField{Name: ":status", Value: "200"})
		_ = enc.WriteField(hpack.HeaderField{Name: "some-field", Value: "some value"})
		raw := block.Bytes()
		_ = p.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndStream: true, BlockFragment: raw[:3]})
		_ = p.WriteContinuation(id, false, raw[3:5])
		_ = p.WriteContinuation(id, true, raw[5:])
	}), h2c)
	if got := run(pool, get("GET")); got.err != nil || got.text != "200  some-field=some value" {
		t.Errorf("got %+v", got)
	}
}

// TestH2LargeRequestHead: a head that needs several frames arrives whole.
func TestH2LargeRequestHead(t *testing.T) {
	long := strings.Repeat("~", 40<<10) // no shorter in Huffman's code
	id := standard(t, false, func(p *http.Protocols) { p.SetUnencryptedHTTP2(true) }, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Long") != long {
			w.WriteHeader(http.StatusBadRequest)
		}
	})
	r := get("GET")
	r.Header = exchange.Header{{Name: []byte("Long"), Value: []byte(long)}}
	if got := run(newPool(t, id, h2c), r); got.err != nil || got.status != 200 {
		t.Errorf("got %+v", got)
	}
}
