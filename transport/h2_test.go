package transport

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"drover/backend"
	"drover/exchange"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// h2peer speaks HTTP/2 as a server, frame by frame.
type h2peer struct {
	*http2.Framer
	*peer
	buf bytes.Buffer
	enc *hpack.Encoder
}

// scriptH2 starts a server that greets and then plays a script on each connection.
func scriptH2(t testing.TB, play func(n int, p *h2peer)) backend.ID {
	return script(t, func(n int, raw *peer) {
		p := &h2peer{Framer: http2.NewFramer(raw, raw.in), peer: raw}
		p.enc = hpack.NewEncoder(&p.buf)
		p.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
		if raw.take(len(http2.ClientPreface)) != http2.ClientPreface {
			return
		}
		_ = p.WriteSettings()
		_ = p.WriteSettingsAck()
		play(n, p)
		_, _ = io.Copy(io.Discard, raw.in) // the pool decides when it closes.
	})
}

// next waits for a frame of a kind, and gives its stream. 0 is the end.
func (p *h2peer) next(kind http2.FrameType) uint32 {
	for {
		f, err := p.ReadFrame()
		if err != nil {
			return 0
		}
		if f.Header().Type == kind {
			return f.Header().StreamID
		}
	}
}

// head writes a header block of "name: value" lines.
func (p *h2peer) head(id uint32, end bool, lines ...string) {
	p.buf.Reset()
	for _, line := range lines {
		name, value, _ := strings.Cut(line[1:], ": ")
		_ = p.enc.WriteField(hpack.HeaderField{Name: line[:1] + name, Value: value}) // to memory
	}
	_ = p.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndStream: end, EndHeaders: true, BlockFragment: p.buf.Bytes()})
}

func h2c(c *Config) { c.Protocol = ProtocolH2C }

// TestH2Answers plays answers that are fine.
func TestH2Answers(t *testing.T) {
	f := func(name, text, body string, informed int, play func(p *h2peer, id uint32)) {
		t.Run(name, func(t *testing.T) {
			pool := newPool(t, scriptH2(t, func(_ int, p *h2peer) {
				for id := p.next(http2.FrameHeaders); id != 0; id = p.next(http2.FrameHeaders) {
					play(p, id)
				}
			}), h2c)
			for range 2 {
				got := run(pool, get("GET"))
				if got.err != nil || got.text != text || got.body != body || len(got.client.informed) != informed {
					t.Errorf("got %q, body %q, %v, informed of %v", got.text, got.body, got.err, got.client.informed)
				}
			}
			if dials := pool.Stats().Dials; dials != 1 {
				t.Errorf("%d connections for two requests; want one", dials)
			}
		})
	}
	f("without a body", "204", "", 0, func(p *h2peer, id uint32) { p.head(id, true, ":status: 204") })
	f("order and duplicates", "200  b=1 a=2 b=3 |", "body", 0, func(p *h2peer, id uint32) {
		p.head(id, false, ":status: 200", "b: 1", "a: 2", "b: 3")
		_ = p.WriteData(id, true, []byte("body"))
	})
	f("trailers", "200 | x=y", "body", 0, func(p *h2peer, id uint32) {
		p.head(id, false, ":status: 200")
		_ = p.WriteData(id, false, []byte("body"))
		p.head(id, true, "x: y")
	})
	f("trailers only", "200  grpc-status=5", "", 0, func(p *h2peer, id uint32) { p.head(id, true, ":status: 200", "grpc-status: 5") })
	f("interim", "200 |", "b", 1, func(p *h2peer, id uint32) {
		p.head(id, false, ":status: 103", "link: </a>")
		p.head(id, false, ":status: 200")
		_ = p.WriteDataPadded(id, true, []byte("b"), []byte{0, 0, 0})
	})
}

// TestH2Failures plays answers that are none, and says what may have been executed.
func TestH2Failures(t *testing.T) {
	f := func(name string, want backend.Failure, maybe bool, play func(p *h2peer, id uint32)) {
		t.Run(name, func(t *testing.T) {
			pool := newPool(t, scriptH2(t, func(_ int, p *h2peer) {
				if id := p.next(http2.FrameHeaders); id != 0 {
					play(p, id)
				}
			}), h2c)
			got := run(pool, get("GET"))
			if got.err == nil {
				t.Fatalf("got %q and %q", got.text, got.body)
			}
			wantFailure(t, got.err, want, maybe)
		})
	}
	head := func(lines ...string) func(*h2peer, uint32) {
		return func(p *h2peer, id uint32) { p.head(id, true, lines...) }
	}
	f("no status", backend.FailureProtocol, true, head("x: y"))
	f("two statuses", backend.FailureProtocol, true, head(":status: 200", ":status: 200"))
	f("a status of letters", backend.FailureProtocol, true, head(":status: 2x0"))
	f("101", backend.FailureProtocol, true, head(":status: 101"))
	f("upper case", backend.FailureProtocol, true, head(":status: 200", "X: y"))
	f("connection", backend.FailureProtocol, true, head(":status: 200", "connection: close"))
	f("transfer-encoding", backend.FailureProtocol, true, head(":status: 200", "transfer-encoding: chunked"))
	f("CR LF", backend.FailureProtocol, true, head(":status: 200", "x: y\r\nz: 1"))
	f("late pseudo-field", backend.FailureProtocol, true, head("x: y", ":status: 200"))
	f("unknown pseudo-field", backend.FailureProtocol, true, head(":status: 200", ":path: /"))
	f("a control", backend.FailureProtocol, true, head(":status: 200", "x: "+strings.Repeat("x", 8<<10), "y: "+strings.Repeat("y", 6<<10), "z: \x01"))
	f("fewer bytes than Content-Length", backend.FailureBody, true, func(p *h2peer, id uint32) {
		p.head(id, false, ":status: 200", "content-length: 9")
		_ = p.WriteData(id, true, []byte("body"))
	})
	f("more bytes than Content-Length", backend.FailureBody, true, func(p *h2peer, id uint32) {
		p.head(id, false, ":status: 200", "content-length: 3")
		_ = p.WriteData(id, true, []byte("body"))
	})
	f("cut body", backend.FailureBody, true, func(p *h2peer, id uint32) {
		p.head(id, false, ":status: 200")
		_ = p.WriteData(id, false, []byte("body"))
		_ = p.WriteRSTStream(id, http2.ErrCodeInternal)
	})
	f("connection lost in the body", backend.FailureBody, true, func(p *h2peer, id uint32) {
		p.head(id, false, ":status: 200")
		_ = p.WriteData(id, false, []byte("body"))
		_ = p.Close()
	})
	f("reset", backend.FailureReset, true, func(p *h2peer, id uint32) { _ = p.WriteRSTStream(id, http2.ErrCodeCancel) })
	f("refused", backend.FailureConnect, false, func(p *h2peer, id uint32) { _ = p.WriteRSTStream(id, http2.ErrCodeRefusedStream) })
	f("gone away before it", backend.FailureConnect, false, func(p *h2peer, _ uint32) { _ = p.WriteGoAway(0, http2.ErrCodeNo, nil) })
	f("gone away behind it", backend.FailureReset, true, func(p *h2peer, id uint32) {
		_ = p.WriteGoAway(id, http2.ErrCodeNo, nil)
		p.reset()
	})
	f("push", backend.FailureProtocol, true, func(p *h2peer, id uint32) {
		_ = p.WritePushPromise(http2.PushPromiseParam{StreamID: id, PromiseID: 2, EndHeaders: true})
	})
	f("ping flood", backend.FailureProtocol, true, func(p *h2peer, _ uint32) {
		for range 2 * h2MaxQuiet {
			_ = p.WritePing(false, [8]byte{})
		}
	})
	f("HTTP/1.1", backend.FailureProtocol, true, func(p *h2peer, _ uint32) { p.say("HTTP/1.1 400 Bad Request\r\n\r\n") })
}

// TestH2GoAway: after GOAWAY, running streams finish and new ones take another
// connection.
func TestH2GoAway(t *testing.T) {
	pool := newPool(t, scriptH2(t, func(n int, p *h2peer) {
		id := p.next(http2.FrameHeaders)
		if n == 0 {
			_ = p.WriteGoAway(id, http2.ErrCodeNo, nil)
		}
		p.head(id, true, ":status: 200", fmt.Sprint("n: ", n))
	}), h2c)
	for n := range 2 {
		if got := run(pool, get("GET")); got.err != nil || got.text != fmt.Sprint("200  n=", n) {
			t.Errorf("got %q, %v from connection %d", got.text, got.err, n)
		}
	}
}

// TestH2Silence finds a server that is there and says nothing any more.
func TestH2Silence(t *testing.T) {
	pool := newPool(t, scriptH2(t, func(_ int, p *h2peer) { p.next(http2.FrameHeaders) }), h2c, func(c *Config) {
		c.HTTP2.PingAfter, c.HTTP2.PingTimeout = 20*time.Millisecond, 20*time.Millisecond
	})
	wantFailure(t, run(pool, get("GET")).err, backend.FailureReset, true)
}

// standard starts the standard library's server.
func standard(t *testing.T, secure bool, protocols func(*http.Protocols), h http.HandlerFunc) backend.ID {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.Protocols = &http.Protocols{}
	protocols(s.Config.Protocols)
	if secure {
		s.TLS = &tls.Config{}
		if s.Config.Protocols.HTTP2() {
			s.EnableHTTP2 = true
		}
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	id := idOf(t, s.Listener.Addr().String())
	if secure {
		id.Scheme = "https"
	}
	return id
}

// TestH2Streams sends many bodies both ways at the same time, on few connections.
func TestH2Streams(t *testing.T) {
	id := standard(t, false, func(p *http.Protocols) { p.SetUnencryptedHTTP2(true) }, func(w http.ResponseWriter, r *http.Request) {
		sum := sha256.New()
		_, _ = io.Copy(io.MultiWriter(w, sum), r.Body)
		w.Header().Set(http.TrailerPrefix+"Sum", hex.EncodeToString(sum.Sum(nil)))
	})
	pool := newPool(t, id, h2c)
	var running sync.WaitGroup
	for i := range 100 {
		running.Go(func() {
			body := make([]byte, 1+rand.IntN(512<<10))
			for j := range body {
				body[j] = byte(i + j)
			}
			sum := sha256.Sum256(body)
			got := run(pool, post(bytes.NewReader(body), []int64{int64(len(body)), exchange.LengthUnknown}[i%2]))
			if got.err != nil || got.body != string(body) || !strings.HasSuffix(strings.ToLower(got.text), "sum="+hex.EncodeToString(sum[:])) {
				t.Errorf("got %d of %d bytes back, %q, %v", len(got.body), len(body), got.text, got.err)
			}
		})
	}
	running.Wait()
	if dials := pool.Stats().Dials; dials > 2 {
		t.Errorf("%d connections for 100 streams; want one, or two where the first had no room", dials)
	}
}

// TestH2Protocols: what is spoken is what the setting and the server's ALPN say.
func TestH2Protocols(t *testing.T) {
	proto := func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Proto) }
	h1 := standard(t, true, func(p *http.Protocols) { p.SetHTTP1(true) }, proto)
	both := standard(t, true, func(p *http.Protocols) { p.SetHTTP1(true); p.SetHTTP2(true) }, proto)
	clear := standard(t, false, func(p *http.Protocols) { p.SetHTTP1(true); p.SetUnencryptedHTTP2(true) }, proto)
	f := func(id backend.ID, protocol Protocol, want string) {
		t.Helper()
		pool := newPool(t, id, func(c *Config) { c.Protocol, c.TLS.InsecureSkipVerify = protocol, true })
		for range 2 {
			got := run(pool, get("GET"))
			if want == "" {
				wantFailure(t, got.err, backend.FailureConnect, false)
			} else if got.err != nil || got.body != want {
				t.Errorf("%s: got %q, %v; want %q", protocol, got.body, got.err, want)
			}
		}
		if want != "" && pool.Stats().Dials != 1 {
			t.Errorf("%s: %d connections; want one", protocol, pool.Stats().Dials)
		}
	}
	f(h1, ProtocolAuto, "HTTP/1.1")
	f(h1, ProtocolH1, "HTTP/1.1")
	f(h1, ProtocolH2, "")
	f(both, ProtocolAuto, "HTTP/2.0")
	f(both, ProtocolH1, "HTTP/1.1")
	f(both, ProtocolH2, "HTTP/2.0")
	f(both, ProtocolH2C, "")
	f(clear, ProtocolAuto, "HTTP/1.1")
	f(clear, ProtocolH1, "HTTP/1.1")
	f(clear, ProtocolH2, "")
	f(clear, ProtocolH2C, "HTTP/2.0")
}
