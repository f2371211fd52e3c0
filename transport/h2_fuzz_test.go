package transport

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strconv"
	"testing"
	"time"

	"drover/backend"
	"drover/exchange"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// h2memory is a server's connection: it greets, and says the rest once it was asked.
type h2memory struct {
	net.Conn
	greeting, rest io.Reader
	asked, closed  chan struct{}
	wrote          []byte
}

func (m *h2memory) Read(p []byte) (int, error) {
	if n, err := m.greeting.Read(p); err == nil {
		return n, nil
	}
	select {
	case <-m.asked:
		return m.rest.Read(p)
	case <-m.closed:
		return 0, net.ErrClosed
	}
}

// Write looks for the HEADERS of the request.
func (m *h2memory) Write(p []byte) (int, error) {
	select {
	case <-m.asked:
		return len(p), nil
	default:
	}
	m.wrote = append(m.wrote, p...)
	frames := http2.NewFramer(nil, bytes.NewReader(bytes.TrimPrefix(m.wrote, []byte(http2.ClientPreface))))
	for {
		switch f, err := frames.ReadFrame(); {
		case err != nil:
			return len(p), nil
		case f.Header().Type == http2.FrameHeaders:
			close(m.asked)
			return len(p), nil
		}
	}
}

func (*h2memory) SetDeadline(time.Time) error      { return nil }
func (*h2memory) SetReadDeadline(time.Time) error  { return nil }
func (*h2memory) SetWriteDeadline(time.Time) error { return nil }

func (m *h2memory) Close() error {
	close(m.closed)
	return nil
}

// unpackFrames makes frames of those with short heads, which a fuzzer cannot easily
// break: type, flags, stream, length in two bytes, payload. The last one may be cut.
func unpackFrames(packed []byte) (text []byte) {
	for len(packed) >= 5 {
		n := int(packed[3])<<8 | int(packed[4])
		text = append(text, 0, packed[3], packed[4], packed[0], packed[1], 0, 0, 0, packed[2])
		packed = packed[5:]
		n = min(n, len(packed))
		text = append(text, packed[:n]...)
		packed = packed[n:]
	}
	return text
}

func packFrames(text []byte) (packed []byte) {
	for len(text) >= 9 {
		n := int(text[1])<<8 | int(text[2])
		packed = append(packed, text[3], text[4], text[8], text[1], text[2])
		packed = append(packed, text[9:9+n]...)
		text = text[9+n:]
	}
	return packed
}

// FuzzH2Answer holds the reading of answers against that of x/net's framer: what we take
// for whole, it has read with the same status and body. However the connection ends,
// nothing of it stays.
func FuzzH2Answer(f *testing.F) {
	for _, say := range []func(p *h2peer){
		func(p *h2peer) {
			p.head(1, false, ":status: 103", "link: x")
			p.head(1, false, ":status: 200", "content-length: 6")
			_ = p.WriteDataPadded(1, false, []byte("abc"), make([]byte, 5))
			_ = p.WriteData(1, true, []byte("def"))
		},
		func(p *h2peer) {
			_ = p.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 1})
			_ = p.WritePing(false, [8]byte{1})
			p.head(1, false, ":status: 200")
			_ = p.WriteWindowUpdate(0, 9)
			_ = p.WriteData(1, false, make([]byte, 3000))
			_ = p.WriteGoAway(1, http2.ErrCodeNo, nil)
			p.head(1, true, "grpc-status: 0")
		},
		func(p *h2peer) {
			p.head(1, false, ":status: 100")
			p.head(1, false, ":status: 205", "content-length: 3")
			_ = p.WriteData(1, true, []byte("abc"))
		},
		func(p *h2peer) {
			p.head(1, true, ":status: 204")
			_ = p.WriteRSTStream(1, http2.ErrCodeNo)
			_ = p.WritePriority(3, http2.PriorityParam{StreamDep: 1})
		},
	} {
		var out bytes.Buffer
		p := &h2peer{Framer: http2.NewFramer(&out, nil)}
		p.enc = hpack.NewEncoder(&p.buf)
		say(p)
		f.Add(packFrames(out.Bytes()))
	}
	f.Fuzz(func(t *testing.T, packed []byte) {
		text := unpackFrames(packed)
		got := exchangeH2(t, text)
		if got.headErr != "" || got.bodyErr {
			return
		}
		if want, whole := readH2(text); !whole || got.status != want.status || got.body != want.body {
			t.Fatalf("we read %+v; the framer %+v, whole: %v", got, want, whole)
		}
	})
}

// exchangeH2 makes a request to a server that answers with a text.
func exchangeH2(t *testing.T, text []byte) (got read) {
	t.Helper()
	var settings bytes.Buffer
	_ = http2.NewFramer(&settings, nil).WriteSettings()
	m := &h2memory{greeting: &settings, rest: bytes.NewReader(text), asked: make(chan struct{}), closed: make(chan struct{})}
	pool := newPool(t, backend.ID{Scheme: "http", Host: "h", Port: 1}, h2c)
	pool.counts.open.Add(1)
	c := &conn{pool: pool, settings: pool.settings.Load(), wire: &wire{Conn: m}}
	c.Conn = c.wire
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	h, err := newH2(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { h.retire(); <-h.dead; <-m.closed }()
	if !h.reserve() {
		t.Fatal("a fresh connection takes no stream")
	}
	var resp Response
	if err := pool.roundTrip2(h, &exchange.Exchange{Client: &fakeClient{}}, get("GET"), noDeadline, &resp); err != nil {
		return read{headErr: err.Error()}
	}
	defer resp.Close()
	got.status = resp.Status
	if b := resp.Body(); b != nil {
		body, err := io.ReadAll(b)
		got.body, got.bodyErr = string(body), err != nil
	}
	return got
}

// readH2 reads the answer on stream 1 with x/net's framer.
func readH2(text []byte) (got read, whole bool) {
	f := http2.NewFramer(nil, bytes.NewReader(text))
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	for {
		frame, err := f.ReadFrame()
		var wrong http2.StreamError
		if errors.As(err, &wrong) && wrong.StreamID != 1 {
			continue
		}
		if err != nil {
			return got, false
		}
		ended := false
		switch frame := frame.(type) {
		case *http2.MetaHeadersFrame:
			if frame.StreamID != 1 {
				continue
			}
			if status, err := strconv.Atoi(frame.PseudoValue("status")); err == nil && status >= 200 {
				got.status = status
			}
			ended = frame.StreamEnded() || got.status == 204 || got.status == 205 || got.status == 304 // which have no body.
		case *http2.DataFrame:
			if frame.StreamID != 1 {
				continue
			}
			got.body += string(frame.Data())
			ended = frame.StreamEnded()
		}
		if ended {
			return got, true
		}
	}
}
