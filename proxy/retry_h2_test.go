package proxy

import (
	"bytes"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"drover/backend"
	"drover/exchange"
	"drover/transport"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// memberH2 makes a server that speaks HTTP/2 in clear text and does what play says to
// each stream whose request is complete. It is told the request's body.
func memberH2(t *testing.T, play func(w *http2.Framer, id uint32, body string)) *backend.Member {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var workers sync.WaitGroup
	workers.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			workers.Go(func() {
				defer conn.Close()
				serveH2(conn, play)
			})
		}
	})
	address := listener.Addr().(*net.TCPAddr)
	m := member(t, backend.ID{Scheme: "http", Host: "127.0.0.1", Port: uint16(address.Port)})
	var cfg transport.Config
	cfg.SetDefaults()
	cfg.Protocol = transport.ProtocolH2C
	pool := m.Conns.(*transport.Pool)
	if err := pool.SetConfig(&cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = listener.Close()
		_ = pool.Close()
		workers.Wait()
	})
	return m
}

func serveH2(conn net.Conn, play func(w *http2.Framer, id uint32, body string)) {
	if _, err := io.ReadFull(conn, make([]byte, len(http2.ClientPreface))); err != nil {
		return
	}
	framer := http2.NewFramer(conn, conn)
	_ = framer.WriteSettings()
	var body bytes.Buffer
	for {
		f, err := framer.ReadFrame()
		if err != nil {
			return
		}
		ended := false
		switch f := f.(type) {
		case *http2.HeadersFrame:
			body.Reset()
			ended = f.StreamEnded()
		case *http2.DataFrame:
			body.Write(f.Data())
			ended = f.StreamEnded()
		}
		if ended {
			play(framer, f.Header().StreamID, body.String())
		}
	}
}

// answerH2 answers 200 with the request's body.
func answerH2(w *http2.Framer, id uint32, body string) {
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	_ = enc.WriteField(hpack.HeaderField{Name: ":status", Value: "200"})
	_ = w.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndHeaders: true, BlockFragment: block.Bytes()})
	_ = w.WriteData(id, true, []byte(body))
}

// TestRetryHTTP2: what an HTTP/2 server says not to have done is given to another,
// whatever the method; what it may have done is not.
func TestRetryHTTP2(t *testing.T) {
	f := func(name string, status, attempts int, reason exchange.Reason, play func(w *http2.Framer, id uint32, body string)) {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, []*backend.Member{memberH2(t, play), memberH2(t, answerH2)}, func(_ *UpstreamOptions, c *RouteConfig) {
				c.Retry.On = []string{"connect", "stale", "reset"}
			})
			ex := requestFor("POST", "a.test", "/")
			ex.Request.Body, ex.Request.ContentLength = strings.NewReader("hello"), 5
			ex.Request.Header.Add("Content-Length", "5")
			c, result := r.serve(ex)
			if c.response.Status != status || result.Attempts != attempts || result.Reason != reason {
				t.Errorf("got %d %s after %d attempts; want %d %s after %d",
					c.response.Status, result.Reason, result.Attempts, status, reason, attempts)
			}
			if status == 200 && string(c.body) != "hello" {
				t.Errorf("the second server got %q; want the whole body", c.body)
			}
		})
	}
	f("answered", 200, 1, exchange.ReasonNone, answerH2)
	f("refused", 200, 2, exchange.ReasonNone, func(w *http2.Framer, id uint32, _ string) {
		_ = w.WriteRSTStream(id, http2.ErrCodeRefusedStream)
	})
	f("going away", 200, 2, exchange.ReasonNone, func(w *http2.Framer, _ uint32, _ string) {
		_ = w.WriteGoAway(0, http2.ErrCodeNo, nil)
	})
	f("cancelled", 502, 1, exchange.ReasonReset, func(w *http2.Framer, id uint32, _ string) {
		_ = w.WriteRSTStream(id, http2.ErrCodeCancel)
	})
	f("malformed", 502, 1, exchange.ReasonProtocol, func(w *http2.Framer, id uint32, _ string) {
		_ = w.WriteData(id, true, nil)
	})
}
