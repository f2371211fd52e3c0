package front

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"drover/exchange"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// h2Peer speaks HTTP/2 frame by frame.
type h2Peer struct {
	*http2.Framer
	t    *testing.T
	conn net.Conn
	buf  bytes.Buffer
	enc  *hpack.Encoder
}

// dialH2 connects and exchanges settings.
func (tf *testFront) dialH2(t *testing.T, settings ...http2.Setting) *h2Peer {
	t.Helper()
	nc, err := net.Dial("tcp", tf.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	return newH2Peer(t, nc, settings...)
}

func newH2Peer(t *testing.T, nc net.Conn, settings ...http2.Setting) *h2Peer {
	t.Helper()
	p := &h2Peer{Framer: http2.NewFramer(nc, nc), t: t, conn: nc}
	p.enc = hpack.NewEncoder(&p.buf)
	p.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	if err := nc.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(nc, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	p.must(p.WriteSettings(settings...))
	p.must(p.WriteSettingsAck())
	return p
}

func (p *h2Peer) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

// block encodes "name: value" lines.
func (p *h2Peer) block(lines ...string) []byte {
	p.buf.Reset()
	for _, line := range lines {
		name, value, _ := strings.Cut(line[1:], ": ")
		p.must(p.enc.WriteField(hpack.HeaderField{Name: line[:1] + name, Value: value}))
	}
	return p.buf.Bytes()
}

// open sends a request's head.
func (p *h2Peer) open(id uint32, end bool, lines ...string) {
	p.t.Helper()
	p.must(p.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndStream: end, EndHeaders: true, BlockFragment: p.block(lines...)}))
}

var getLines = []string{":method: GET", ":scheme: http", ":authority: a.test", ":path: /"}

// event gives the next frame that is not about the connection, in words.
func (p *h2Peer) event() string {
	p.t.Helper()
	for {
		f, err := p.ReadFrame()
		if err != nil {
			return "end: " + err.Error()
		}
		switch f := f.(type) {
		case *http2.MetaHeadersFrame:
			var lines []string
			for _, field := range f.Fields {
				lines = append(lines, field.Name+": "+field.Value)
			}
			return mark("HEADERS ", f.StreamEnded()) + strings.Join(lines, " | ")
		case *http2.DataFrame:
			return mark("DATA ", f.StreamEnded()) + string(f.Data())
		case *http2.RSTStreamFrame:
			return "RST " + f.ErrCode.String()
		case *http2.GoAwayFrame:
			return "GOAWAY " + f.ErrCode.String()
		}
	}
}

func mark(kind string, end bool) string {
	if end {
		return kind + "END "
	}
	return kind
}

func (p *h2Peer) expect(want ...string) {
	p.t.Helper()
	for _, w := range want {
		if got := p.event(); got != w {
			p.t.Fatalf("got %q; want %q", got, w)
		}
	}
}

// said answers with the request as the handler saw it.
func said(ex *exchange.Exchange) {
	var b strings.Builder
	q := &ex.Request
	b.WriteString(string(q.Method) + " " + string(q.Target) + " " + string(q.Host))
	for _, f := range q.Header {
		b.WriteString(" | " + string(f.Name) + ": " + string(f.Value))
	}
	if q.Body != nil {
		body, err := io.ReadAll(q.Body)
		b.WriteString(" | body=" + string(body))
		if err != nil {
			b.WriteString(" " + err.Error())
		} else if q.Trailer != nil {
			for _, f := range q.Trailer() {
				b.WriteString(" | trailer " + string(f.Name) + ": " + string(f.Value))
			}
		}
	}
	r := &exchange.Response{Status: 200, ContentLength: int64(b.Len())}
	if ex.Client.Start(r) == nil {
		_, _ = io.WriteString(ex.Client, b.String()) // the test sees what came.
	}
}

func TestH2Requests(t *testing.T) {
	tf := serveTest(t, nil, said)
	body := func(p *h2Peer) string {
		t.Helper()
		head := p.event()
		if !strings.HasPrefix(head, "HEADERS :status: 200") {
			return head
		}
		return strings.TrimPrefix(p.event(), "DATA END ")
	}
	f := func(name string, want string, send func(p *h2Peer)) {
		t.Run(name, func(t *testing.T) {
			p := tf.dialH2(t)
			send(p)
			if got := body(p); got != want {
				t.Errorf("got %q; want %q", got, want)
			}
		})
	}
	get := func(lines ...string) func(*h2Peer) {
		return func(p *h2Peer) { p.open(1, true, append(getLines[:4:4], lines...)...) }
	}
	f("order and duplicates", "GET / a.test | b: 1 | a: 2 | b: 3", get("b: 1", "a: 2", "b: 3"))
	f("cookies are joined", "GET / a.test | cookie: a=1; b=2", get("cookie: a=1", "cookie: b=2"))
	f("Host in place of authority", "GET / b.test | host: b.test",
		func(p *h2Peer) { p.open(1, true, ":method: GET", ":scheme: http", ":path: /", "host: b.test") })
	f("target as it is", "GET //e?u=http://x%2F a.test",
		func(p *h2Peer) {
			p.open(1, true, ":method: GET", ":scheme: http", ":authority: a.test", ":path: //e?u=http://x%2F")
		})
	f("body and trailers", "POST / a.test | body=onetwo | trailer x: y", func(p *h2Peer) {
		p.open(1, false, ":method: POST", ":scheme: http", ":authority: a.test", ":path: /")
		p.must(p.WriteData(1, false, []byte("one")))
		p.must(p.WriteDataPadded(1, false, []byte("two"), []byte{0, 0}))
		p.open(1, true, "x: y")
	})
}

// TestH2CutBody: a body that its client gave up never looks whole.
func TestH2CutBody(t *testing.T) {
	begun, seen := make(chan struct{}), make(chan error, 1)
	tf := serveTest(t, nil, func(ex *exchange.Exchange) {
		close(begun)
		_, err := io.ReadAll(ex.Request.Body)
		seen <- err
		said(ex)
	})
	p := tf.dialH2(t)
	p.open(1, false, ":method: POST", ":scheme: http", ":authority: a.test", ":path: /")
	p.must(p.WriteData(1, false, []byte("one")))
	<-begun // one that is given up before is never handled at all.
	p.must(p.WriteRSTStream(1, http2.ErrCodeCancel))
	if err := <-seen; !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v", err)
	}
}

// refusedH2 holds requests that no handler must see, with what the client gets.
var refusedH2 = map[string]struct {
	lines []string
	want  string
}{
	"Host and authority differ": {append(getLines[:4:4], "host: b.test"), "HEADERS :status: 400"},
	"two Hosts":                 {append(getLines[:4:4], "host: a.test", "host: a.test"), "HEADERS :status: 400"},
	"user information":          {[]string{":method: GET", ":scheme: http", ":authority: u@a.test", ":path: /"}, "HEADERS :status: 400"},
	"no authority":              {[]string{":method: GET", ":scheme: http", ":path: /"}, "HEADERS :status: 400"},
	"blank in the path":         {[]string{":method: GET", ":scheme: http", ":authority: a.test", ":path: /a b"}, "HEADERS :status: 400"},
	"absolute path":             {[]string{":method: GET", ":scheme: http", ":authority: a.test", ":path: http://b.test/"}, "HEADERS :status: 400"},
	"CONNECT":                   {[]string{":method: CONNECT", ":authority: a.test"}, "HEADERS :status: 405"},
	"TRACE":                     {[]string{":method: TRACE", ":scheme: http", ":authority: a.test", ":path: /"}, "HEADERS :status: 405"},
	"extended CONNECT":          {[]string{":method: CONNECT", ":protocol: x", ":scheme: http", ":authority: a.test", ":path: /"}, "HEADERS :status: 501"},
	"expectation":               {append(getLines[:4:4], "expect: miracles"), "HEADERS :status: 417"},
	"too large":                 {append(getLines[:4:4], "x: "+strings.Repeat("x", 33<<10)), "HEADERS :status: 431"},
	"upper case":                {append(getLines[:4:4], "X: y"), "RST PROTOCOL_ERROR"},
	"connection":                {append(getLines[:4:4], "connection: x"), "RST PROTOCOL_ERROR"},
	"transfer-encoding":         {append(getLines[:4:4], "transfer-encoding: chunked"), "RST PROTOCOL_ERROR"},
	"CR LF in a value":          {append(getLines[:4:4], "x: y\r\nz: 1"), "RST PROTOCOL_ERROR"},
	"NUL in a value":            {append(getLines[:4:4], "x: \x00"), "RST PROTOCOL_ERROR"},
	"blank before a value":      {append(getLines[:4:4], "x:  y"), "RST PROTOCOL_ERROR"},
	"blank in a name":           {append(getLines[:4:4], "x y: z"), "RST PROTOCOL_ERROR"},
	"CR LF in the path":         {[]string{":method: GET", ":scheme: http", ":authority: a.test", ":path: /\r\nx: y"}, "RST PROTOCOL_ERROR"},
	"no path":                   {[]string{":method: GET", ":scheme: http", ":authority: a.test"}, "RST PROTOCOL_ERROR"},
	"two paths":                 {append(getLines[:4:4], ":path: /"), "RST PROTOCOL_ERROR"},
	"late pseudo-field":         {append(getLines[:3:3], "x: y", ":path: /"), "RST PROTOCOL_ERROR"},
	"length without a body":     {append(getLines[:4:4], "content-length: 3"), "RST PROTOCOL_ERROR"},
	"lengths differ":            {append(getLines[:4:4], "content-length: 0", "content-length: 0"), "RST PROTOCOL_ERROR"},
	"length with a sign":        {append(getLines[:4:4], "content-length: +0"), "RST PROTOCOL_ERROR"},
}

func TestH2Refused(t *testing.T) {
	tf := serveTest(t, nil, func(ex *exchange.Exchange) {
		if string(ex.Request.Target) != "/fine" {
			t.Errorf("the handler saw %q", ex.Request.Target)
		}
		said(ex)
	})
	for name, c := range refusedH2 {
		t.Run(name, func(t *testing.T) {
			p := tf.dialH2(t)
			block := bytes.Clone(p.block(c.lines...))
			first := block[:min(len(block), 16000)]
			rest := block[len(first):]
			p.must(p.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndStream: true, EndHeaders: len(rest) == 0, BlockFragment: first}))
			for len(rest) > 0 {
				n := min(len(rest), 16000)
				p.must(p.WriteContinuation(1, n == len(rest), rest[:n]))
				rest = rest[n:]
			}
			if got := p.event(); !strings.HasPrefix(got, c.want) {
				t.Errorf("got %q; want %q", got, c.want)
			}
			// The connection goes on, its table in step.
			p.open(3, true, ":method: GET", ":scheme: http", ":authority: a.test", ":path: /fine")
			for got := ""; !strings.HasPrefix(got, "DATA END GET /fine"); {
				if got = p.event(); strings.HasPrefix(got, "end: ") || strings.HasPrefix(got, "GOAWAY") {
					t.Fatalf("got %q", got)
				}
			}
		})
	}
}

// TestH2Trailers: what must not stand in trailers breaks the stream, as it breaks a
// message of HTTP/1.1. The connection goes on.
func TestH2Trailers(t *testing.T) {
	tf := serveTest(t, nil, said)
	for name, fine := range map[string]bool{
		"x-sum": true, "grpc-status": true,
		"host": false, "content-length": false, "content-type": false, "authorization": false, "cookie": false,
		"x-forwarded-for": false, "x_forwarded_for": false, "x-real-ip": false,
		"transfer-encoding": false, "te": false, "expect": false,
	} {
		t.Run(name, func(t *testing.T) {
			p := tf.dialH2(t)
			post := []string{":method: POST", ":scheme: http", ":authority: a.test", ":path: /"}
			p.open(1, false, post...)
			p.must(p.WriteData(1, false, []byte("body")))
			p.open(1, true, name+": trailers")
			if fine {
				want := "POST / a.test | body=body | trailer " + name + ": trailers"
				p.expect("HEADERS :status: 200 | content-length: "+strconv.Itoa(len(want)), "DATA END "+want)
				return
			}
			p.expect("RST PROTOCOL_ERROR")
			p.open(3, true, getLines...)
			p.expect("HEADERS :status: 200 | content-length: 12", "DATA END GET / a.test")
		})
	}
}

// TestH2Answers looks at what answers become on the wire.
func TestH2Answers(t *testing.T) {
	start := func(ex *exchange.Exchange, r *exchange.Response) {
		if err := ex.Client.Start(r); err != nil {
			t.Error(err)
		}
	}
	handlers := map[string]Handler{
		"/none": func(ex *exchange.Exchange) {
			start(ex, &exchange.Response{Status: 204, ContentLength: exchange.NoBody})
		},
		"/cut": func(ex *exchange.Exchange) {
			start(ex, &exchange.Response{Status: 200, ContentLength: exchange.LengthUnknown})
			_, _ = io.WriteString(ex.Client, "half") // the test sees it.
			ex.Result.Aborted = true
		},
		"/short": func(ex *exchange.Exchange) {
			start(ex, &exchange.Response{Status: 200, ContentLength: 9})
			_, _ = io.WriteString(ex.Client, "half") // the test sees it.
		},
		"/hint": func(ex *exchange.Exchange) {
			hint := &exchange.Response{Status: 103}
			hint.Header.Add("Link", "</a>")
			if err := ex.Client.Inform(hint); err != nil {
				t.Error(err)
			}
			start(ex, &exchange.Response{Status: 200, ContentLength: 0})
		},
		"/hop": func(ex *exchange.Exchange) {
			r := &exchange.Response{Status: 200, ContentLength: 0}
			for _, f := range [][2]string{{"Connection", "x"}, {"Keep-Alive", "y"}, {"ETag", "\"a\r\nb\""}, {"Bad Name", "z"}} {
				r.Header.Add(f[0], f[1])
			}
			start(ex, r)
		},
		"/head":   func(ex *exchange.Exchange) { start(ex, &exchange.Response{Status: 200, ContentLength: 1234}) },
		"/silent": func(*exchange.Exchange) {},
		"/panic":  func(*exchange.Exchange) { panic("of the test") },
		"/early": func(ex *exchange.Exchange) {
			r, body := exchange.Answer(403, exchange.ReasonNone, nil)
			r.Header = nil
			start(ex, r)
			_, _ = ex.Client.Write(body) // the test sees it.
		},
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tf := serveOn(t, ln, nil, func(ex *exchange.Exchange) { handlers[string(ex.Request.Target)](ex) }, quietLogger())
	f := func(method, path string, end bool, want ...string) {
		t.Run(path, func(t *testing.T) {
			p := tf.dialH2(t)
			p.open(1, end, ":method: "+method, ":scheme: http", ":authority: a.test", ":path: "+path)
			p.expect(want...)
		})
	}
	f("GET", "/none", true, "HEADERS END :status: 204")
	f("GET", "/cut", true, "HEADERS :status: 200", "DATA half", "RST INTERNAL_ERROR")
	f("GET", "/short", true, "RST INTERNAL_ERROR")
	f("GET", "/hint", true, "HEADERS :status: 103 | link: </a>", "HEADERS END :status: 200 | content-length: 0")
	f("GET", "/hop", true, `HEADERS END :status: 200 | etag: "a  b" | content-length: 0`)
	f("HEAD", "/head", true, "HEADERS END :status: 200 | content-length: 1234")
	text := "HEADERS :status: 500 | content-type: text/plain; charset=utf-8 | cache-control: no-store | content-length: 26"
	f("GET", "/silent", true, text, "DATA END 500 Internal Server Error\n")
	f("GET", "/panic", true, text, "DATA END 500 Internal Server Error\n")
	f("POST", "/early", false, "HEADERS :status: 403 | content-length: 14", "DATA END 403 Forbidden\n", "RST NO_ERROR")
}

// TestH2Drain lets a request finish after GOAWAY, and closes.
func TestH2Drain(t *testing.T) {
	begun, finish := make(chan struct{}), make(chan struct{})
	tf := serveTest(t, nil, func(ex *exchange.Exchange) {
		close(begun)
		<-finish
		said(ex)
	})
	p := tf.dialH2(t)
	p.open(1, true, getLines...)
	<-begun
	drained := make(chan error, 1)
	go func() { drained <- tf.Drain(t.Context()) }()
	p.expect("GOAWAY NO_ERROR", "GOAWAY NO_ERROR")
	p.open(3, true, getLines...)
	p.expect("RST REFUSED_STREAM")
	close(finish)
	p.expect("HEADERS :status: 200 | content-length: 12", "DATA END GET / a.test")
	if err := <-drained; err != nil {
		t.Error(err)
	}
}

// TestH2IdleDrain closes a connection without a request.
func TestH2IdleDrain(t *testing.T) {
	tf := serveTest(t, nil, said)
	p := tf.dialH2(t)
	p.open(1, true, getLines...)
	p.expect("HEADERS :status: 200 | content-length: 12", "DATA END GET / a.test")
	if err := tf.Drain(t.Context()); err != nil {
		t.Error(err)
	}
	p.expect("GOAWAY NO_ERROR")
}

// TestH2Streams bounds what runs on one connection.
func TestH2Streams(t *testing.T) {
	finish := make(chan struct{})
	tf := serveTest(t, func(c *Config) { c.HTTP2.MaxStreams = 2 }, func(ex *exchange.Exchange) {
		<-finish
		said(ex)
	})
	p := tf.dialH2(t)
	for id := uint32(1); id <= 5; id += 2 {
		p.open(id, true, getLines...)
	}
	p.expect("RST REFUSED_STREAM")
	close(finish)
}

// TestH2Versions: a listener speaks what it is set to.
func TestH2Versions(t *testing.T) {
	cert := writeCert(t, "a.test")
	f := func(change func(*Config), offered []string, want string) {
		t.Helper()
		tf := serveTest(t, func(c *Config) {
			withTLS("1.2", cert)(c)
			change(c)
		}, said)
		c, err := tf.dialTLS(t, &tls.Config{NextProtos: offered})
		if err != nil {
			t.Errorf("got %v; want %q", err, want)
			return
		}
		if got := c.Conn.(*tls.Conn).ConnectionState().NegotiatedProtocol; got != want {
			t.Errorf("got %q; want %q", got, want)
		}
	}
	both := []string{"http/1.1", "h2"}
	f(func(*Config) {}, both, "h2")
	f(func(c *Config) { c.HTTP2.Disabled = true }, both, "http/1.1")
	f(func(c *Config) { c.HTTP2.Only = true }, both, "h2")
	f(func(*Config) {}, nil, "")

	plain := serveTest(t, func(c *Config) { c.HTTP2.Disabled = true }, said)
	p := plain.dialH2(t)
	if _, err := p.ReadFrame(); err == nil {
		t.Error("got a frame from a listener without HTTP/2")
	} else if errors.Is(err, io.EOF) {
		t.Error("got nothing; want an answer in HTTP/1.1")
	}
}

// frame writes a frame that the Framer would not.
func (p *h2Peer) frame(kind http2.FrameType, flags http2.Flags, id uint32, payload []byte) {
	_ = p.WriteRawFrame(kind, flags, id, payload) // the connection may end at any time.
}

// stream is the number of a client's stream.
func stream(index int) uint32 { return uint32(2*index + 1) } //nolint:gosec // tests are short.

// TestH2SettingsAcknowledged: nothing makes use of settings before their acknowledgement is
// out (RFC 9113, section 6.5.3), on which clients may rely.
func TestH2SettingsAcknowledged(t *testing.T) {
	const rounds = 300 // it is a race, which is lost now and then.
	tf := serveTest(t, nil, func(ex *exchange.Exchange) {
		if ex.Client.Start(&exchange.Response{Status: 200, ContentLength: rounds}) == nil {
			_, _ = ex.Client.Write(make([]byte, rounds)) // the test counts.
		}
	})
	p := tf.dialH2(t, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	p.open(1, true, getLines...)
	p.expect("HEADERS :status: 200 | content-length: 300")
	for window := uint32(1); window <= rounds; window++ {
		p.must(p.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: window}))
		for acknowledged := false; ; {
			f, err := p.ReadFrame()
			if err != nil {
				t.Fatal(err)
			}
			if s, ok := f.(*http2.SettingsFrame); ok && s.IsAck() {
				acknowledged = true
			} else if d, ok := f.(*http2.DataFrame); ok {
				if !acknowledged || len(d.Data()) != 1 {
					t.Fatalf("got %d bytes, acknowledged %v, after the change to %d; want one byte, behind the acknowledgement", len(d.Data()), acknowledged, window)
				}
				break
			}
		}
	}
}
