package compress

import (
	"bytes"
	"io"
	"strconv"
	"strings"
	"sync"

	"drover/exchange"
)

// Policy is a compiled Config. It is immutable but for the encoders that it keeps.
type Policy struct {
	codings  []coding
	types    map[string]bool // in full, lower case
	kinds    []string        // "text/"
	suffixes []string        // "+json"
	minSize  int64
}

type coding struct {
	name []byte
	text string
	pool *sync.Pool // of *Encoder
}

// New compiles a valid configuration.
func New(cfg *Config) (*Policy, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	p := &Policy{types: map[string]bool{}, minSize: int64(cfg.MinSize)}
	for _, name := range cfg.Encodings {
		pool := &sync.Pool{}
		make1, level := codings[name], levels[cfg.Level]
		if _, err := make1(level); err != nil {
			return nil, err
		}
		pool.New = func() any {
			s, err := make1(level)
			if err != nil {
				panic(err) // it was made with the same settings before.
			}
			return &Encoder{stream: s, pool: pool}
		}
		p.codings = append(p.codings, coding{[]byte(name), name, pool})
	}
	for _, text := range cfg.Types {
		text = strings.ToLower(text)
		switch {
		case text[0] == '+':
			p.suffixes = append(p.suffixes, text)
		case strings.HasSuffix(text, "/*"):
			p.kinds = append(p.kinds, strings.TrimSuffix(text, "*"))
		default:
			p.types[text] = true
		}
	}
	return p, nil
}

// Begin decides whether a response is compressed, and changes its fields to what they
// are then: Content-Encoding, no length, a weak ETag, and Vary also on those that
// another client would have got compressed. Responses to HEAD and 304 have the fields of
// the one with the body, as far as they tell. It gives nil for a body that stays as it
// is, or that does not come; else what the body must go through on its way to w.
func (p *Policy) Begin(r *exchange.Response, req *exchange.Request, w io.Writer) *Encoder {
	if !p.may(r, req) {
		return nil
	}
	accepted := acceptedBy(req.Header)
	if r.ContentLength >= 0 && r.ContentLength < p.minSize && accepted.identity() > 0 {
		return nil
	}
	r.Header.AddVary("Accept-Encoding")
	c := p.choose(&accepted)
	if c == nil || req.ProtoMajor <= 1 && req.ProtoMinor == 0 {
		return nil
	}
	weaken(r.Header)
	if r.Status == 304 {
		return nil
	}
	r.Header.Del("Content-Encoding") // "identity", which is none.
	r.Header.Del("Content-Length")
	r.Header.Del("Accept-Ranges") // the server's ranges are of other bytes.
	r.Header = append(r.Header, exchange.Field{Name: nameContentEncoding, Value: c.name})
	r.ContentLength = exchange.LengthUnknown
	if !exchange.BodyAllowed(req.Method, r.Status) {
		return nil
	}
	e := c.pool.Get().(*Encoder) //nolint:forcetypeassert,errcheck // the pool holds nothing else.
	e.stream.Reset(w)
	return e
}

var nameContentEncoding = []byte("Content-Encoding")

// may reports whether a response could be compressed for some client.
func (p *Policy) may(r *exchange.Response, req *exchange.Request) bool {
	head := string(req.Method) == "HEAD"
	switch {
	case r.Status < 200, r.Status == 204, r.Status == 205, r.Status == 206, r.Status >= 300 && r.Status < 400 && r.Status != 304,
		r.ContentLength == 0, r.ContentLength == exchange.NoBody && !head && r.Status != 304:
		return false
	case r.Status == 304 && !r.Header.Has("Content-Type"):
	case !p.takes(r.Header.Get("Content-Type")):
		return false
	}
	for i := range r.Header {
		f := &r.Header[i]
		switch {
		case exchange.EqualFold(f.Name, "Content-Encoding") && !exchange.EqualFold(bytes.TrimSpace(f.Value), "identity"),
			exchange.EqualFold(f.Name, "Cache-Control") && hasDirective(f.Value, "no-transform"),
			exchange.EqualFold(f.Name, "Content-Range"), exchange.EqualFold(f.Name, "Content-MD5"),
			exchange.EqualFold(f.Name, "Digest"), exchange.EqualFold(f.Name, "Content-Digest"), exchange.EqualFold(f.Name, "Repr-Digest"):
			return false
		}
	}
	return true
}

// takes looks a Content-Type up.
func (p *Policy) takes(value []byte) bool {
	var buf [64]byte
	if i := bytes.IndexByte(value, ';'); i >= 0 {
		value = value[:i]
	}
	value = bytes.TrimSpace(value)
	if len(value) > len(buf) || len(value) == 0 {
		return false
	}
	name := buf[:len(value)]
	for i, c := range value {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		name[i] = c
	}
	if p.types[string(name)] {
		return true
	}
	// An event stream must be named in full, and so must gRPC, which compresses by itself.
	if string(name) == "text/event-stream" || bytes.HasPrefix(name, []byte("application/grpc")) {
		return false
	}
	for _, kind := range p.kinds {
		if len(name) > len(kind) && string(name[:len(kind)]) == kind {
			return true
		}
	}
	for _, suffix := range p.suffixes {
		if len(name) > len(suffix) && string(name[len(name)-len(suffix):]) == suffix {
			return true
		}
	}
	return false
}

// hasDirective looks for a directive without a value.
func hasDirective(list []byte, name string) bool {
	for element := range bytes.SplitSeq(list, []byte(",")) {
		if exchange.EqualFold(bytes.TrimSpace(element), name) {
			return true
		}
	}
	return false
}

// weaken makes an ETag say that the bytes may differ (RFC 9110, section 8.8.1).
func weaken(h exchange.Header) {
	for i := range h {
		if exchange.EqualFold(h[i].Name, "ETag") && len(h[i].Value) > 0 && h[i].Value[0] == '"' {
			h[i].Value = append([]byte("W/"), h[i].Value...)
		}
	}
}

// accepted is what a client says about codings, by how much it likes them: 0 for not
// at all, -1 for unsaid.
type accepted struct {
	gzip, br, zstd, plain, other float64
}

// acceptedBy reads Accept-Encoding (RFC 9110, section 12.5.3).
func acceptedBy(h exchange.Header) accepted {
	a := accepted{-1, -1, -1, -1, -1}
	for i := range h {
		if !exchange.EqualFold(h[i].Name, "Accept-Encoding") {
			continue
		}
		for element := range bytes.SplitSeq(h[i].Value, []byte(",")) {
			name, parameters, _ := bytes.Cut(element, []byte(";"))
			name = bytes.TrimSpace(name)
			q := quality(parameters)
			switch {
			case exchange.EqualFold(name, "gzip"), exchange.EqualFold(name, "x-gzip"):
				a.gzip = q
			case exchange.EqualFold(name, "br"):
				a.br = q
			case exchange.EqualFold(name, "zstd"):
				a.zstd = q
			case exchange.EqualFold(name, "identity"):
				a.plain = q
			case string(name) == "*":
				a.other = q
			}
		}
	}
	return a
}

// quality reads a weight; one that is none refuses the coding.
func quality(parameters []byte) float64 {
	parameters = bytes.TrimSpace(parameters)
	if len(parameters) == 0 {
		return 1
	}
	if len(parameters) < 3 || parameters[0]|0x20 != 'q' || parameters[1] != '=' || len(parameters) > 7 {
		return 0
	}
	q, err := strconv.ParseFloat(string(parameters[2:]), 64)
	if err != nil || !(q >= 0 && q <= 1) {
		return 0
	}
	return q
}

// of gives how much a coding is liked.
func (a *accepted) of(name string) float64 {
	q := a.gzip
	switch name {
	case "br":
		q = a.br
	case "zstd":
		q = a.zstd
	}
	if q < 0 {
		q = max(a.other, 0)
	}
	return q
}

// identity gives how much no coding at all is liked: least of all that is not refused,
// where the client says nothing.
func (a *accepted) identity() float64 {
	switch {
	case a.plain >= 0:
		return a.plain
	case a.other == 0:
		return 0
	default:
		return 0.0001
	}
}

// choose gives the coding that the client likes best, nil for none. Of those that it
// likes as well, the first configured.
func (p *Policy) choose(a *accepted) *coding {
	var best *coding
	liked := 0.0
	for i := range p.codings {
		if q := a.of(p.codings[i].text); q > liked {
			best, liked = &p.codings[i], q
		}
	}
	if best != nil && a.plain > liked {
		return nil
	}
	return best
}
