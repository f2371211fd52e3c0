package compress

import (
	"bytes"
	"io"
	"slices"
	"strings"
	"testing"

	"drover/exchange"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

func fields(lines ...string) exchange.Header {
	var h exchange.Header
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		h.Add(name, value)
	}
	return h
}

func newPolicy(t testing.TB, change func(*Config)) *Policy {
	t.Helper()
	var cfg Config
	cfg.SetDefaults()
	if change != nil {
		change(&cfg)
	}
	p, err := New(&cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// begin gives what becomes of a response.
func begin(p *Policy, method, accept string, minor, status int, length int64, lines ...string) (*Encoder, *exchange.Response) {
	r := &exchange.Response{Status: status, ContentLength: length, Header: fields(lines...)}
	req := &exchange.Request{Method: []byte(method), ProtoMinor: minor}
	if accept != "" {
		req.Header = fields("Accept-Encoding: " + accept)
	}
	return p.Begin(r, req, io.Discard), r
}

func TestChoice(t *testing.T) {
	p := newPolicy(t, nil)
	for accept, want := range map[string]string{
		"":                                  "",
		"gzip":                              "gzip",
		"GZip":                              "gzip",
		"x-gzip":                            "gzip",
		"gzip, deflate, br":                 "br",
		"gzip, deflate, br, zstd":           "zstd",
		"gzip;q=1.0, br;q=0.9, zstd; q=0.8": "gzip",
		"gzip;q=0":                          "",
		"gzip;q=0.001":                      "gzip",
		"*":                                 "zstd",
		"*;q=0":                             "",
		"*;q=0, gzip":                       "gzip",
		"*, zstd;q=0, br;q=0":               "gzip",
		"identity":                          "",
		"identity, gzip;q=0.5":              "",
		"identity;q=0.5, gzip":              "gzip",
		"identity;q=0":                      "",
		"identity;q=0, *":                   "zstd",
		"deflate":                           "",
		"gzip;q=2":                          "",
		"gzip;q=x":                          "",
		"gzip;q=NaN":                        "",
		"gzip;level=1":                      "",
		",,gzip,":                           "gzip",
	} {
		e, r := begin(p, "GET", accept, 1, 200, exchange.LengthUnknown, "Content-Type: text/html")
		if got := string(r.Header.Get("Content-Encoding")); got != want || (e != nil) != (want != "") {
			t.Errorf("%q: got %q; want %q", accept, got, want)
		}
		if string(r.Header.Get("Vary")) != "Accept-Encoding" {
			t.Errorf("%q: got Vary %q", accept, r.Header.Get("Vary"))
		}
	}
	least := newPolicy(t, func(c *Config) { c.Encodings = []string{"gzip", "br"} })
	if _, r := begin(least, "GET", "br, gzip, zstd", 1, 200, -1, "Content-Type: text/html"); string(r.Header.Get("Content-Encoding")) != "gzip" {
		t.Errorf("got %q; want the one configured first", r.Header.Get("Content-Encoding"))
	}
}

func TestWhatIsCompressed(t *testing.T) {
	p := newPolicy(t, func(c *Config) { c.Types = append(c.Types, "Model/X") })
	for _, c := range []struct {
		name   string
		method string
		status int
		length int64
		lines  []string
		want   bool
	}{
		{"html", "GET", 200, 1024, []string{"Content-Type: Text/HTML; charset=utf-8"}, true},
		{"named", "GET", 200, 1024, []string{"Content-Type: model/x"}, true},
		{"suffix", "GET", 200, 1024, []string{"Content-Type: application/problem+json"}, true},
		{"error page", "GET", 404, 1024, []string{"Content-Type: text/html"}, true},
		{"to POST", "POST", 201, -1, []string{"Content-Type: text/html"}, true},
		{"identity", "GET", 200, 1024, []string{"Content-Type: text/html", "Content-Encoding: identity"}, true},
		{"small", "GET", 200, 1023, []string{"Content-Type: text/html"}, false},
		{"no type", "GET", 200, 1024, nil, false},
		{"image", "GET", 200, 1024, []string{"Content-Type: image/png"}, false},
		{"events", "GET", 200, -1, []string{"Content-Type: text/event-stream"}, false},
		{"gRPC", "GET", 200, -1, []string{"Content-Type: application/grpc+json"}, false},
		{"encoded", "GET", 200, 1024, []string{"Content-Type: text/html", "content-encoding: gzip"}, false},
		{"no-transform", "GET", 200, 1024, []string{"Content-Type: text/html", "Cache-Control: public, No-Transform"}, false},
		{"digest", "GET", 200, 1024, []string{"Content-Type: text/html", "Content-Digest: sha-256=:x:"}, false},
		{"part", "GET", 206, 1024, []string{"Content-Type: text/html", "Content-Range: bytes 0-1023/9000"}, false},
		{"none", "GET", 204, exchange.NoBody, []string{"Content-Type: text/html"}, false},
		{"empty", "GET", 200, 0, []string{"Content-Type: text/html"}, false},
		{"redirect", "GET", 302, 2000, []string{"Content-Type: text/html"}, false},
		{"switch", "GET", 101, exchange.NoBody, []string{"Content-Type: text/html"}, false},
	} {
		e, r := begin(p, c.method, "gzip", 1, c.status, c.length, c.lines...)
		if got := string(r.Header.Get("Content-Encoding")) == "gzip" && e != nil; got != c.want {
			t.Errorf("%s: got %v, %q; want it compressed: %v", c.name, e, r.Header, c.want)
		}
		if vary := r.Header.Has("Vary"); vary != c.want {
			t.Errorf("%s: got Vary %v; want %v", c.name, vary, c.want)
		}
		if !c.want && r.ContentLength != c.length {
			t.Errorf("%s: got length %d; want %d", c.name, r.ContentLength, c.length)
		}
	}
	if e, r := begin(p, "GET", "gzip", 0, 200, 2000, "Content-Type: text/html"); e != nil || r.Header.Has("Content-Encoding") || !r.Header.Has("Vary") {
		t.Errorf("HTTP/1.0: got %v, %q", e, r.Header)
	}
	two := &exchange.Request{Method: []byte("GET"), ProtoMajor: 2, Header: fields("Accept-Encoding: gzip")}
	if e := p.Begin(&exchange.Response{Status: 200, ContentLength: -1, Header: fields("Content-Type: text/html")}, two, io.Discard); e == nil {
		t.Error("HTTP/2: not compressed")
	}
	if e, _ := begin(p, "GET", "gzip, identity;q=0", 1, 200, 10, "Content-Type: text/html"); e == nil {
		t.Error("a small body goes to a client that takes none but compressed ones")
	}
	named := newPolicy(t, func(c *Config) { c.Types = []string{"text/event-stream"} })
	if e, _ := begin(named, "GET", "gzip", 1, 200, -1, "Content-Type: text/event-stream"); e == nil {
		t.Error("an event stream that is named in full is not compressed")
	}
}

// TestFieldsAgree compares the fields of GET, HEAD and 304.
func TestFieldsAgree(t *testing.T) {
	p := newPolicy(t, nil)
	text := func(h exchange.Header) string {
		var lines []string
		for _, f := range h {
			lines = append(lines, string(f.Name)+": "+string(f.Value))
		}
		slices.Sort(lines)
		return strings.Join(lines, "\n")
	}
	server := []string{"Content-Type: text/html", "Content-Length: 5000", `ETag: "x"`, "Accept-Ranges: bytes", "Vary: Cookie"}
	want := "Content-Encoding: gzip\nContent-Type: text/html\nETag: W/\"x\"\nVary: Accept-Encoding\nVary: Cookie"
	e, get := begin(p, "GET", "gzip", 1, 200, 5000, server...)
	if e == nil || text(get.Header) != want || get.ContentLength != exchange.LengthUnknown {
		t.Errorf("GET: got\n%s\nwant\n%s", text(get.Header), want)
	}
	e, head := begin(p, "HEAD", "gzip", 1, 200, 5000, server...)
	if e != nil || text(head.Header) != want || head.ContentLength != exchange.LengthUnknown {
		t.Errorf("HEAD: got\n%s\nwant\n%s", text(head.Header), want)
	}
	e, not := begin(p, "GET", "gzip", 1, 304, exchange.NoBody, `ETag: "x"`)
	if e != nil || text(not.Header) != "ETag: W/\"x\"\nVary: Accept-Encoding" {
		t.Errorf("304: got\n%s", text(not.Header))
	}
	e, plain := begin(p, "GET", "", 1, 200, 5000, `ETag: "x"`, "Content-Type: text/html", "Vary: accept-encoding")
	if e != nil || text(plain.Header) != "Content-Type: text/html\nETag: \"x\"\nVary: accept-encoding" {
		t.Errorf("plain: got\n%s", text(plain.Header))
	}
	e, weak := begin(p, "GET", "gzip", 1, 200, 5000, `ETag: W/"x"`, "Content-Type: text/html")
	if e == nil || string(weak.Header.Get("ETag")) != `W/"x"` {
		t.Errorf("weak: got\n%s", text(weak.Header))
	}
}

func decoder(t testing.TB, coding string, r io.Reader) io.Reader {
	t.Helper()
	var d io.Reader
	var err error
	switch coding {
	case "gzip":
		d, err = gzip.NewReader(r)
	case "br":
		d = brotli.NewReader(r)
	case "zstd":
		var z *zstd.Decoder
		if z, err = zstd.NewReader(r, zstd.WithDecoderConcurrency(1)); err == nil {
			t.Cleanup(z.Close)
		}
		d = z
	}
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestCodings reads back what was encoded: what is flushed at once, all of it at the
// end, and never a clean end of what was cut. Encoders are used again.
func TestCodings(t *testing.T) {
	for coding := range codings {
		for name := range levels {
			p := newPolicy(t, func(c *Config) { c.Encodings, c.Level = []string{coding}, name })
			req := &exchange.Request{Method: []byte("GET"), ProtoMinor: 1, Header: fields("Accept-Encoding: " + coding)}
			start := func(w io.Writer) *Encoder {
				return p.Begin(&exchange.Response{Status: 200, ContentLength: -1, Header: fields("Content-Type: text/plain")}, req, w)
			}
			for round := range 3 {
				var part bytes.Buffer
				first := start(&part)
				_, _ = io.WriteString(first, "first")
				if err := first.Flush(); err != nil {
					t.Fatal(err)
				}
				got := make([]byte, 5)
				if _, err := io.ReadFull(decoder(t, coding, &part), got); err != nil || string(got) != "first" {
					t.Fatalf("%s: flushed: got %q, %v", coding, got, err)
				}
				first.Release()

				var whole bytes.Buffer
				e := start(&whole)
				body := strings.Repeat("so much text, ", 5000)
				if err := e.Flush(); err != nil || whole.Len() > 0 {
					t.Errorf("%s: a flush of nothing sent %d bytes, %v", coding, whole.Len(), err)
				}
				if _, err := io.WriteString(e, body); err != nil {
					t.Fatal(err)
				}
				cut := round == 1
				if !cut {
					if err := e.Close(); err != nil {
						t.Fatal(err)
					}
				} else if err := e.Flush(); err != nil {
					t.Fatal(err)
				}
				e.Release()
				size := whole.Len()
				text, err := io.ReadAll(decoder(t, coding, &whole))
				if string(text) != body || (err != nil) != cut || size > len(body)/10 {
					t.Errorf("%s %s, cut %v: got %d bytes of %d, %v", coding, name, cut, len(text), size, err)
				}
			}
		}
	}
}

func TestValidate(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"encodings":    func(c *Config) { c.Encodings = nil },
		"encodings[0]": func(c *Config) { c.Encodings = []string{"deflate"} },
		"encodings[1]": func(c *Config) { c.Encodings = []string{"br", "br"} },
		"types[0]":     func(c *Config) { c.Types = []string{"text"} },
		"types[1]":     func(c *Config) { c.Types = []string{"text/*", "*/*"} },
		"types[2]":     func(c *Config) { c.Types = []string{"a/b", "+c", "text/html; charset=utf-8"} },
		"min_size":     func(c *Config) { c.MinSize = -1 },
		"level":        func(c *Config) { c.Level = "9" },
	} {
		var cfg Config
		cfg.SetDefaults()
		if err := cfg.Validate(); err != nil {
			t.Fatal(err)
		}
		change(&cfg)
		if err := cfg.Validate(); err == nil || !strings.HasPrefix(err.Error(), name+": ") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	body := []byte(strings.Repeat(`{"name":"drover","kind":"proxy"},`, 1000))
	for _, coding := range []string{"gzip", "br", "zstd"} {
		b.Run(coding, func(b *testing.B) {
			p := newPolicy(b, nil)
			req := &exchange.Request{Method: []byte("GET"), ProtoMinor: 1, Header: fields("Accept-Encoding: " + coding)}
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				r := exchange.Response{Status: 200, ContentLength: -1, Header: fields("Content-Type: text/plain")}
				e := p.Begin(&r, req, io.Discard)
				_, _ = e.Write(body)
				_ = e.Close()
				e.Release()
			}
		})
	}
}

// FuzzBegin has foreign bytes wherever they decide something.
func FuzzBegin(f *testing.F) {
	f.Add([]byte("gzip;q=0.5, *;q=0"), []byte("text/html; charset=x"), []byte("no-transform"), []byte(`"x"`))
	p := newPolicy(f, nil)
	f.Fuzz(func(t *testing.T, accept, kind, control, tag []byte) {
		req := exchange.Request{Method: []byte("GET"), ProtoMinor: 1, Header: exchange.Header{{Name: []byte("Accept-Encoding"), Value: accept}}}
		r := exchange.Response{Status: 200, ContentLength: 5000, Header: exchange.Header{
			{Name: []byte("Content-Type"), Value: kind}, {Name: []byte("Cache-Control"), Value: control}, {Name: []byte("ETag"), Value: tag},
		}}
		e := p.Begin(&r, &req, io.Discard)
		coding := string(r.Header.Get("Content-Encoding"))
		if (e != nil) != (coding != "") || (e != nil) != (r.ContentLength == exchange.LengthUnknown) {
			t.Errorf("got %v, %q, length %d", e, coding, r.ContentLength)
		}
		if e == nil {
			return
		}
		if !bytes.Contains(bytes.ToLower(accept), []byte(coding)) && !bytes.Contains(accept, []byte("*")) {
			t.Errorf("got %q for %q", coding, accept)
		}
		e.Release()
	})
}
