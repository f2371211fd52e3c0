package h2

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"drover/exchange"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// memory is a connection from which a fixed text is read, and which keeps what is
// written.
type memory struct {
	net.Conn
	in  io.Reader
	mu  sync.Mutex
	out bytes.Buffer
}

func (m *memory) Read(p []byte) (int, error) { return m.in.Read(p) }

func (m *memory) Write(p []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.out.Write(p)
}

func (*memory) SetWriteDeadline(time.Time) error { return nil }

// script is what a client says behind its preface, packed.
func script(say func(f *http2.Framer, block func(lines ...string) []byte)) []byte {
	var out, coded bytes.Buffer
	enc := hpack.NewEncoder(&coded)
	say(http2.NewFramer(&out, nil), func(lines ...string) []byte {
		coded.Reset()
		for i := 0; i < len(lines); i += 2 {
			_ = enc.WriteField(hpack.HeaderField{Name: lines[i], Value: lines[i+1]}) // to memory
		}
		return bytes.Clone(coded.Bytes())
	})
	return pack(out.Bytes())
}

// pack shortens frames to what a fuzzer cannot easily break: type, flags, stream, length
// in two bytes, payload.
func pack(text []byte) (packed []byte) {
	for len(text) >= 9 {
		n := int(text[1])<<8 | int(text[2])
		packed = append(packed, text[3], text[4], text[8], text[1], text[2])
		packed = append(packed, text[9:9+n]...)
		text = text[9+n:]
	}
	return packed
}

// unpack makes frames of that again. The last one may be cut.
func unpack(packed []byte) (text []byte) {
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

// served serves a text and gives the requests that the handler got, as "method target
// host", and what was written.
func served(text []byte) (requests map[string]int, out []byte) {
	m := &memory{in: io.MultiReader(bytes.NewReader([]byte(Preface)), bytes.NewReader(text))}
	var mu sync.Mutex
	requests = map[string]int{}
	o := idleOptions()
	limits := o.Limits()
	limits.MaxBody = 64 << 10
	o.Limits = func() Limits { return limits }
	o.Handler = func(ex *exchange.Exchange) {
		mu.Lock()
		requests[fmt.Sprintf("%s %s %s", ex.Request.Method, ex.Request.Target, ex.Request.Host)]++
		mu.Unlock()
		if ex.Client.Start(&exchange.Response{Status: 200, ContentLength: exchange.LengthUnknown}) != nil || ex.Request.Body == nil {
			return
		}
		if _, err := io.Copy(ex.Client, ex.Request.Body); err != nil {
			ex.Result.Aborted = true
		}
	}
	c := New(m, o)
	_ = c.Serve() // how it ends is the text's to say.
	return requests, m.out.Bytes()
}

// FuzzServe holds the reading of requests against that of x/net's framer: what a handler
// gets, it has read too. And what is written is frames, in an order that RFC 9113 allows.
func FuzzServe(f *testing.F) {
	get := []string{":method", "GET", ":scheme", "http", ":authority", "a.test", ":path", "/"}
	f.Add(script(func(f *http2.Framer, block func(...string) []byte) {
		_ = f.WriteSettings()
		_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndStream: true, EndHeaders: true, BlockFragment: block(get...)})
		_ = f.WriteRSTStream(1, http2.ErrCodeCancel)
		_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, EndStream: true, BlockFragment: block(get...)})
		_ = f.WriteContinuation(3, true, block("x", "y"))
	}))
	f.Add(script(func(f *http2.Framer, block func(...string) []byte) {
		_ = f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 3})
		_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndHeaders: true, BlockFragment: block(append(get, "content-length", "20000")...)})
		_ = f.WriteDataPadded(1, false, make([]byte, 10000), make([]byte, 9))
		_ = f.WriteWindowUpdate(1, 1000)
		_ = f.WriteData(1, false, make([]byte, 10000))
		_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndStream: true, EndHeaders: true, BlockFragment: block("x-sum", "1")})
		_ = f.WritePing(false, [8]byte{1})
		_ = f.WritePriority(5, http2.PriorityParam{StreamDep: 1})
	}))
	f.Add(script(func(f *http2.Framer, block func(...string) []byte) {
		_ = f.WriteSettings(http2.Setting{ID: http2.SettingHeaderTableSize, Val: 0})
		_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndHeaders: true, BlockFragment: block(":method", "CONNECT", ":protocol", "websocket",
			":scheme", "https", ":authority", "a.test", ":path", "/ws", "sec-websocket-version", "13")})
		_ = f.WriteData(1, false, []byte("tunnel"))
		_ = f.WriteGoAway(0, http2.ErrCodeNo, nil)
	}))
	f.Fuzz(func(t *testing.T, packed []byte) {
		text := unpack(packed)
		got, out := served(text)
		want := readRequests(text)
		for request, n := range got {
			if want[request] < n {
				t.Fatalf("the handler got %q %d times; the framer reads %v", request, n, want)
			}
		}
		checkFrames(t, out)
	})
}

// readRequests reads a text with x/net's framer.
func readRequests(text []byte) map[string]int {
	requests := map[string]int{}
	f := http2.NewFramer(nil, bytes.NewReader(text))
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	for {
		frame, err := f.ReadFrame()
		var wrong http2.StreamError
		if errors.As(err, &wrong) {
			continue
		}
		if err != nil {
			return requests
		}
		head, ok := frame.(*http2.MetaHeadersFrame)
		if !ok || head.PseudoValue("method") == "" {
			continue
		}
		host := head.PseudoValue("authority")
		for _, field := range head.RegularFields() {
			if host == "" && field.Name == "host" {
				host = field.Value
			}
		}
		method := head.PseudoValue("method")
		if method == "CONNECT" {
			method = "GET" // RFC 8441's, as HTTP/1.1 has it.
		}
		requests[fmt.Sprintf("%s %s %s", method, head.PseudoValue("path"), host)]++
	}
}

// checkFrames wants whole frames, and for each stream a head, data and an end in this
// order, with nothing behind the end but a reset.
func checkFrames(t *testing.T, out []byte) {
	t.Helper()
	in := bytes.NewReader(out)
	f := http2.NewFramer(nil, in)
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	const opened, ended = 1, 2
	state := map[uint32]int{}
	for in.Len() > 0 {
		frame, err := f.ReadFrame()
		if err != nil {
			t.Fatalf("wrote what is no frame: %v", err)
		}
		id := frame.Header().StreamID
		switch frame := frame.(type) {
		case *http2.MetaHeadersFrame:
			if state[id] == ended {
				t.Fatalf("wrote %v behind the end of its stream", frame)
			}
			state[id] = opened
			if frame.StreamEnded() {
				state[id] = ended
			}
		case *http2.DataFrame:
			if state[id] != opened {
				t.Fatalf("wrote %v where its stream is not open", frame)
			}
			if frame.StreamEnded() {
				state[id] = ended
			}
		case *http2.RSTStreamFrame:
			state[id] = ended
		}
	}
}
