package transport

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"drover/backend"
	"drover/exchange"

	"golang.org/x/net/http2"
)

// frames reads until a frame that ends or resets a stream, and tells what came.
func (p *h2peer) frames() (got []string) {
	for {
		f, err := p.ReadFrame()
		if err != nil {
			return append(got, "end")
		}
		switch f := f.(type) {
		case *http2.MetaHeadersFrame:
			var b strings.Builder
			for _, field := range f.Fields {
				b.WriteString(" " + field.Name + "=" + field.Value)
			}
			got = append(got, "HEADERS"+b.String())
			if f.StreamEnded() {
				return append(got, "END")
			}
		case *http2.DataFrame:
			got = append(got, "DATA "+string(f.Data()))
			if f.StreamEnded() {
				return append(got, "END")
			}
		case *http2.RSTStreamFrame:
			return append(got, "RST "+f.ErrCode.String())
		}
	}
}

// TestH2Requests: what a server reads of each request, in order.
func TestH2Requests(t *testing.T) {
	f := func(name string, req func() *exchange.Request, want ...string) {
		t.Run(name, func(t *testing.T) {
			seen := make(chan []string, 1)
			pool := newPool(t, scriptH2(t, func(_ int, p *h2peer) {
				seen <- p.frames()
				p.head(1, true, ":status: 200")
			}), h2c)
			if got := run(pool, req()); got.err != nil {
				t.Error(got.err)
			}
			if got := <-seen; !slices.Equal(got, want) {
				t.Errorf("got %q; want %q", got, want)
			}
		})
	}
	const head = "HEADERS :method=%s :scheme=http :authority=h :path=/"
	method := func(m string) string { return strings.Replace(head, "%s", m, 1) }
	f("fields in order, those of a connection left out", func() *exchange.Request {
		r := get("GET")
		for _, field := range []string{"B: 1", "Connection: TE", "a: 2", "TE: gzip, trailers", "Keep-Alive: x", "Host: other",
			"Proxy-Connection: x", "Transfer-Encoding: chunked", "b: 3", "Cookie: c"} {
			name, value, _ := strings.Cut(field, ": ")
			r.Header.Add(name, value)
		}
		return r
	}, method("GET")+" b=1 a=2 te=trailers b=3 cookie=c", "END")
	f("TE without trailers", func() *exchange.Request {
		r := get("GET")
		r.Header.Add("TE", "gzip")
		return r
	}, method("GET"), "END")
	f("body of known length", func() *exchange.Request { return post(strings.NewReader("body"), 4) },
		method("POST")+" content-length=4", "DATA body", "DATA ", "END")
	f("body in memory", func() *exchange.Request {
		r := post(strings.NewReader("never read"), 4)
		r.Buffered = []byte("body")
		return r
	}, method("POST")+" content-length=4", "DATA body", "END")
	f("body of unknown length", func() *exchange.Request { return post(strings.NewReader("body"), exchange.LengthUnknown) },
		method("POST"), "DATA body", "DATA ", "END")
	f("trailers", func() *exchange.Request {
		r := post(strings.NewReader("body"), exchange.LengthUnknown)
		r.Trailer = func() exchange.Header { return exchange.Header{{Name: []byte("Sum"), Value: []byte("1")}} }
		return r
	}, method("POST"), "DATA body", "HEADERS sum=1", "END")
}

// TestH2BrokenBody: half a body never looks whole to the server.
func TestH2BrokenBody(t *testing.T) {
	f := func(name string, body io.Reader, length int64) {
		t.Run(name, func(t *testing.T) {
			seen := make(chan []string, 1)
			pool := newPool(t, scriptH2(t, func(_ int, p *h2peer) { seen <- p.frames() }), h2c)
			wantFailure(t, run(pool, post(body, length)).err, backend.FailureClient, true)
			if got := <-seen; got[len(got)-1] != "RST CANCEL" {
				t.Errorf("the server saw %q; want its stream cancelled", got)
			}
			eventually(t, "the connection is free", func() bool { return pool.Stats().Idle == 1 })
		})
	}
	f("cut", io.MultiReader(strings.NewReader("bo"), &brokenReader{}), exchange.LengthUnknown)
	f("too short", strings.NewReader("bo"), 4)
	f("too long", strings.NewReader("body"), 2)
}

type brokenReader struct{}

func (*brokenReader) Read([]byte) (int, error) { return 0, errors.New("cut") }

// TestH2EarlyAnswer: an answer that comes before the request's end is passed on. What
// is left of the request is cancelled then, and the connection lives on.
func TestH2EarlyAnswer(t *testing.T) {
	f := func(name string, reset bool, want string) {
		t.Run(name, func(t *testing.T) {
			seen := make(chan string, 1)
			pool := newPool(t, scriptH2(t, func(_ int, p *h2peer) {
				id := p.next(http2.FrameData)
				p.head(id, false, ":status: 413")
				_ = p.WriteData(id, true, []byte("no"))
				if reset {
					_ = p.WriteRSTStream(id, http2.ErrCodeNo)
					_ = p.WritePing(false, [8]byte{})
				}
				for {
					switch f, err := p.ReadFrame(); f := f.(type) {
					case *http2.RSTStreamFrame:
						seen <- f.ErrCode.String()
					case *http2.HeadersFrame, *http2.MetaHeadersFrame:
						if f.Header().StreamID != id {
							p.head(f.Header().StreamID, true, ":status: 200")
							seen <- "next"
							return
						}
					default:
						if err != nil {
							return
						}
					}
				}
			}), h2c)
			in, out := io.Pipe()
			client := &fakeClient{onAbort: func() { _ = in.CloseWithError(errors.New("aborted")) }}
			go func() { _, _ = out.Write([]byte("begun")) }()
			got := runFor(pool, client, post(in, exchange.LengthUnknown), noDeadline)
			if got.err != nil || got.status != 413 || got.body != "no" || !client.aborted.Load() {
				t.Errorf("got %+v, client told %v", got, client.aborted.Load())
			}
			if got := run(pool, get("GET")); got.err != nil || got.status != 200 {
				t.Errorf("afterwards: %+v", got)
			}
			if saw := <-seen; saw != want {
				t.Errorf("the server saw %s; want %s", saw, want)
			}
			if dials := pool.Stats().Dials; dials != 1 {
				t.Errorf("%d connections; want one", dials)
			}
		})
	}
	f("the server goes on listening", false, "CANCEL")
	f("the server wants no more", true, "next")
}

// TestH2Windows: the upload keeps to windows that open, shrink and open again.
func TestH2Windows(t *testing.T) {
	const size = 40
	received := make(chan string, 1)
	pool := newPool(t, scriptH2(t, func(_ int, p *h2peer) {
		_ = p.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 10})
		var got bytes.Buffer
		limit := 10
		for got.Len() < size {
			f, err := p.ReadFrame()
			if err != nil {
				break
			}
			d, ok := f.(*http2.DataFrame)
			if !ok {
				continue
			}
			got.Write(d.Data())
			if got.Len() > limit {
				t.Errorf("%d bytes have come; the windows allow %d", got.Len(), limit)
			}
			switch got.Len() {
			case 10: // below zero, and up again
				_ = p.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 2})
				_ = p.WriteWindowUpdate(1, 8+5)
				limit = 15
			case 15:
				_ = p.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 7})
				limit = 20
			case 20:
				_ = p.WriteWindowUpdate(1, 100)
				limit = size
			}
		}
		received <- got.String()
		p.head(1, true, ":status: 200")
	}), h2c)
	body := strings.Repeat("0123456789", size/10)
	r := post(&slowStart{body: strings.NewReader(body), t: t, known: func() bool {
		pool.h2.mu.Lock()
		c := pool.h2.conns[0]
		pool.h2.mu.Unlock()
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.firstSend != h2FirstWindow
	}}, exchange.LengthUnknown)
	if got := run(pool, r); got.err != nil || got.status != 200 {
		t.Errorf("got %+v", got)
	}
	if got := <-received; got != body {
		t.Errorf("the server got %q; want %q", got, body)
	}
}

// slowStart gives the body once the server's settings are known.
type slowStart struct {
	body  io.Reader
	known func() bool
	t     *testing.T
}

func (s *slowStart) Read(p []byte) (int, error) {
	eventually(s.t, "the server's settings have come", s.known)
	return s.body.Read(p)
}

// TestH2StalledUpload: a server that opens no window does not hold an upload for ever.
func TestH2StalledUpload(t *testing.T) {
	pool := newPool(t, scriptH2(t, func(_ int, p *h2peer) { p.frames() }), h2c, func(c *Config) {
		c.BodyIdleTimeout, c.ResponseHeaderTimeout = 50*time.Millisecond, 50*time.Millisecond
	})
	r := post(io.LimitReader(zeroes{}, 1<<20), 1<<20)
	wantFailure(t, run(pool, r).err, backend.FailureTimeout, true)
}

type zeroes struct{}

func (zeroes) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// TestH2StoppedUpload: an upload that nobody wants any more ends, and nothing of it
// follows the word that it has ended.
func TestH2StoppedUpload(t *testing.T) {
	play := func(stop bool) func(int, *h2peer) {
		return func(_ int, p *h2peer) {
			over := false
			for {
				f, err := p.ReadFrame()
				if err != nil {
					return
				}
				switch f := f.(type) {
				case *http2.MetaHeadersFrame:
					p.head(f.StreamID, true, ":status: 200")
					if stop {
						_ = p.WriteRSTStream(f.StreamID, http2.ErrCodeNo)
					}
				case *http2.RSTStreamFrame:
					over = true
				case *http2.DataFrame:
					if over {
						t.Error("bytes follow the end of a stream")
					}
					_ = p.WriteWindowUpdate(0, f.Length)
					_ = p.WriteWindowUpdate(f.StreamID, f.Length)
				}
			}
		}
	}
	for range 20 {
		pool := newPool(t, scriptH2(t, play(false)), h2c)
		begin(t, pool, post(zeroes{}, exchange.LengthUnknown)).Close()
		begin(t, pool, get("GET")).Close()
	}
	pool := newPool(t, scriptH2(t, play(true)), h2c)
	resp := begin(t, pool, post(zeroes{}, exchange.LengthUnknown))
	eventually(t, "the upload ends when the server says so", func() bool { return !resp.Uploading() })
	resp.Close()
}

// TestH2FrameSize: no frame is larger than the server takes.
func TestH2FrameSize(t *testing.T) {
	sizes := make(chan [3]uint32, 1)
	pool := newPool(t, scriptH2(t, func(_ int, p *h2peer) {
		var largest [3]uint32
		p.ReadMetaHeaders = nil
		_ = p.WriteSettings(http2.Setting{ID: http2.SettingMaxFrameSize, Val: 20 << 10})
		for data := uint32(0); data < 60<<10; {
			f, err := p.ReadFrame()
			if err != nil {
				break
			}
			switch h := f.Header(); h.Type {
			case http2.FrameHeaders:
				largest[0] = h.Length
			case http2.FrameContinuation:
				largest[1] = max(largest[1], h.Length)
			case http2.FrameData:
				data += h.Length
				largest[2] = max(largest[2], h.Length)
			}
		}
		sizes <- largest
		p.head(1, true, ":status: 200")
	}), h2c)
	// The server's setting comes while the body is held back.
	r := post(&slowStart{body: io.LimitReader(zeroes{}, 60<<10), t: t, known: func() bool {
		pool.h2.mu.Lock()
		c := pool.h2.conns[0]
		pool.h2.mu.Unlock()
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.maxFrame != h2FirstFrame
	}}, 60<<10)
	r.Header.Add("Long", strings.Repeat("~", 40<<10))
	if got := run(pool, r); got.err != nil {
		t.Fatal(got.err)
	}
	if got := <-sizes; got[0] > h2FirstFrame && got[0] > 20<<10 || got[1] > 20<<10 || got[2] != 20<<10 {
		t.Errorf("got frames of up to %d bytes; want at most 20 KiB, and as large for the body", got)
	}
}
