package proxy

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"drover/proxy/front"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// h2Visitor is a client that speaks HTTP/2 frame by frame.
type h2Visitor struct {
	*http2.Framer
	t     *testing.T
	block bytes.Buffer
	enc   *hpack.Encoder
}

func (b *bed) dialH2(t *testing.T, settings ...http2.Setting) *h2Visitor {
	t.Helper()
	v := b.dial(t)
	v.send(http2.ClientPreface)
	h := &h2Visitor{Framer: http2.NewFramer(v, v.r), t: t}
	h.enc = hpack.NewEncoder(&h.block)
	h.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	h.must(h.WriteSettings(settings...))
	return h
}

func (h *h2Visitor) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

// open sends a head, with fields in pairs behind the method. Flags are those of its
// frame.
func (h *h2Visitor) open(id uint32, flags http2.Flags, method string, fields ...string) {
	h.t.Helper()
	h.block.Reset()
	fields = append([]string{":method", method, ":scheme", "http", ":authority", "a", ":path", "/a"}, fields...)
	for i := 0; i < len(fields); i += 2 {
		h.must(h.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]}))
	}
	h.must(h.WriteRawFrame(http2.FrameHeaders, flags, id, h.block.Bytes()))
}

// status reads up to a final head, a reset or the connection's end, and gives the head's
// status, or "".
func (h *h2Visitor) status() string {
	h.t.Helper()
	for {
		f, err := h.ReadFrame()
		switch f := f.(type) {
		case *http2.MetaHeadersFrame:
			return f.PseudoValue("status")
		case *http2.RSTStreamFrame:
			return ""
		}
		if err != nil {
			if !errors.Is(err, io.EOF) {
				h.t.Fatal(err)
			}
			return ""
		}
	}
}

// TestLimitsAreLoggedH2: what a client of HTTP/2 meets at each limit has its line, with
// the reason.
func TestLimitsAreLoggedH2(t *testing.T) {
	const (
		whole = http2.FlagHeadersEndHeaders | http2.FlagHeadersEndStream
		head  = http2.FlagHeadersEndHeaders
	)
	large := answering("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + strings.Repeat("x", 100000))
	// The server reads what comes, and answers nothing before the end.
	reading := func(_ net.Conn, r *bufio.Reader) { _, _ = io.Copy(io.Discard, r) }
	for _, c := range []struct {
		what     string
		change   func(*front.Config)
		server   script
		act      func(h *h2Visitor)
		settings []http2.Setting
		status   string // that the client gets
		logged   float64
		reason   string
	}{
		{
			what: "fields", change: func(c *front.Config) { c.MaxHeaderFields = 2 },
			act:    func(h *h2Visitor) { h.open(1, whole, "PUT", "a", "1", "b", "2", "c", "3") },
			status: "431", logged: 431, reason: "HL",
		},
		{
			what: "announced body", change: func(c *front.Config) { c.MaxBodySize = 9 },
			act:    func(h *h2Visitor) { h.open(1, head, "PUT", "content-length", "10") },
			status: "413", logged: 413, reason: "BL",
		},
		{
			what: "streamed body", change: func(c *front.Config) { c.MaxBodySize = 9 }, server: reading,
			act: func(h *h2Visitor) {
				h.open(1, head, "PUT")
				h.must(h.WriteData(1, false, []byte("ten bytes.")))
			},
			status: "413", logged: 413, reason: "BL",
		},
		{
			what: "idle in a small body", change: func(c *front.Config) { c.BodyIdleTimeout = 100 * time.Millisecond },
			act:    func(h *h2Visitor) { h.open(1, head, "PUT", "content-length", "10") },
			status: "408", logged: 408, reason: "CT",
		},
		{
			what: "idle in a streamed body", change: func(c *front.Config) { c.BodyIdleTimeout = 100 * time.Millisecond }, server: reading,
			act:    func(h *h2Visitor) { h.open(1, head, "PUT") },
			status: "408", logged: 408, reason: "CT",
		},
		{
			what: "no end of a head", change: func(c *front.Config) { c.HeaderTimeout = 500 * time.Millisecond },
			act:    func(h *h2Visitor) { h.open(1, http2.FlagHeadersEndStream, "PUT") },
			logged: 408, reason: "CT",
		},
		{
			what: "no room for the answer", change: func(c *front.Config) { c.WriteIdleTimeout = 100 * time.Millisecond }, server: large,
			settings: []http2.Setting{{ID: http2.SettingInitialWindowSize, Val: 10}},
			act: func(h *h2Visitor) {
				h.open(1, whole, "PUT")
				if got := h.status(); got != "200" {
					h.t.Errorf("got %q first; want 200", got)
				}
			},
			logged: 200, reason: "CS",
		},
	} {
		t.Run(c.what, func(t *testing.T) {
			t.Parallel()
			log, stop := keepLog(t)
			s := setup{access: log, accessCfg: jsonLog(), listener: c.change}
			if c.server != nil {
				s.servers = []string{startServer(t, c.server)}
			}
			b := startBed(t, s)
			h := b.dialH2(t, c.settings...)
			c.act(h)
			if got := h.status(); got != c.status {
				t.Errorf("got %q; want %q", got, c.status)
			}
			if c.server != nil {
				b.result(t)
			}
			var line map[string]any
			if err := json.Unmarshal([]byte(stop()), &line); err != nil {
				t.Fatalf("one line of JSON: %v in %q", err, stop())
			}
			want := map[string]any{"status": c.logged, "reason": c.reason, "method": "PUT", "target": "/a"}
			for key, value := range want {
				if line[key] != value {
					t.Errorf("%s: got %v; want %v", key, line[key], value)
				}
			}
		})
	}
}
