package transport

import (
	"bytes"
	"strconv"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"drover/backend"
	"drover/exchange"
)

// h2block is a header block on its way in. What is wrong with a field is kept until
// the block's end: the decoder must see all of it, or no later block makes sense.
type h2block struct {
	id    uint32
	end   bool // of the stream
	limit int
	coded int // bytes so far

	size    int // of the list, as RFC 9113, section 6.5.2, counts
	status  int
	regular bool
	err     error
	bytes   []byte
	ends    []int // in bytes: of each name, then of its value
}

func (b *h2block) begin(id uint32, end bool, limit int) {
	*b = h2block{id: id, end: end, limit: limit, bytes: b.bytes[:0], ends: b.ends[:0]}
}

// emit takes a field from the decoder.
func (b *h2block) emit(f hpack.HeaderField) {
	if b.err != nil {
		return
	}
	if b.size += int(f.Size()); b.size > b.limit {
		b.err = protocolf("got header fields of more than %d bytes", b.limit)
		return
	}
	if f.IsPseudo() {
		b.err = b.pseudo(f)
		return
	}
	b.regular = true
	if len(b.ends) == 2*maxFields {
		b.err = protocolf("got more than %d header fields", maxFields)
		return
	}
	name := len(b.bytes)
	b.bytes = append(b.bytes, f.Name...)
	value := len(b.bytes)
	b.bytes = append(b.bytes, f.Value...)
	b.ends = append(b.ends, value, len(b.bytes))
	b.err = checkH2Field(b.bytes[name:value], b.bytes[value:])
}

// pseudo takes ":status", the only pseudo-field of responses (RFC 9113, section 8.3).
func (b *h2block) pseudo(f hpack.HeaderField) error {
	switch {
	case b.regular:
		return protocolf("got %.32q behind other fields", f.Name)
	case f.Name != ":status":
		return protocolf("got pseudo-field %.32q; want :status alone", f.Name)
	case b.status != 0:
		return protocolf("got :status more than once")
	}
	status, err := strconv.ParseUint(f.Value, 10, 16)
	if err != nil || len(f.Value) != 3 || status < 100 {
		return protocolf("got :status %.32q; want 100 to 999", f.Value)
	}
	b.status = int(status)
	return nil
}

// checkH2Field refuses what no field may be (RFC 9113, sections 8.2.1 and 8.2.2).
func checkH2Field(name, value []byte) error {
	if len(name) == 0 {
		return protocolf("got a header field without a name")
	}
	for _, c := range name {
		if !tokenTable[c] || 'A' <= c && c <= 'Z' {
			return protocolf("got header name %.64q; want a token in lower case", name)
		}
	}
	if connectionField(name) {
		return protocolf("got %q, which HTTP/2 has no place for", name)
	}
	if !validValue(value) || len(bytes.Trim(value, " \t")) != len(value) {
		return protocolf("got control bytes or outer blanks in header %q", name)
	}
	return nil
}

// connectionField reports whether a field concerns a connection of HTTP/1.1.
func connectionField(name []byte) bool {
	for _, known := range [...]string{"connection", "transfer-encoding", "keep-alive", "upgrade", "proxy-connection"} {
		if exchange.EqualFold(name, known) {
			return true
		}
	}
	return false
}

// header gives the fields, in memory of their own.
func (b *h2block) header() exchange.Header {
	raw := bytes.Clone(b.bytes)
	h := make(exchange.Header, 0, len(b.ends)/2)
	for i, from := 0, 0; i < len(b.ends); i += 2 {
		value, end := b.ends[i], b.ends[i+1]
		h = append(h, exchange.Field{Name: raw[from:value:value], Value: raw[value:end:end]})
		from = end
	}
	return h
}

// encode writes a request's head into hbuf, under the write lock. The order is the
// request's; what concerns connections of HTTP/1.1 stays behind (RFC 9113, section
// 8.2.2).
func (c *h2conn) encode(req *exchange.Request, id backend.ID) {
	c.hbuf.Reset()
	scheme := []byte(id.Scheme)
	c.encodeField(":method", req.Method)
	c.encodeField(":scheme", scheme)
	c.scratch = appendHost(c.scratch[:0], req, id)
	c.encodeField(":authority", c.scratch)
	c.encodeField(":path", req.Target)
	for i := range req.Header {
		f := &req.Header[i]
		switch {
		case connectionField(f.Name), exchange.EqualFold(f.Name, "Host"):
		case exchange.EqualFold(f.Name, "TE"):
			if hasToken(req.Header[i:i+1], "TE", "trailers") {
				c.encodeField("te", []byte("trailers"))
			}
		default:
			c.encodeField(c.lowerName(f.Name), f.Value)
		}
	}
}

// encodeTrailer writes trailer fields into hbuf, under the write lock.
func (c *h2conn) encodeTrailer(trailer exchange.Header) {
	c.hbuf.Reset()
	for i := range trailer {
		if f := &trailer[i]; !connectionField(f.Name) {
			c.encodeField(c.lowerName(f.Name), f.Value)
		}
	}
}

// lowerName gives a name in lower case.
func (c *h2conn) lowerName(name []byte) string {
	c.scratch = c.scratch[:0]
	for _, b := range name {
		if 'A' <= b && b <= 'Z' {
			b += 'a' - 'A'
		}
		c.scratch = append(c.scratch, b)
	}
	return string(c.scratch)
}

func (c *h2conn) encodeField(name string, value []byte) {
	f := hpack.HeaderField{Name: name, Value: string(value)}
	// Nobody behind this connection may keep them in a table (RFC 7541, section 7.1.3).
	f.Sensitive = name == "authorization" || name == "cookie"
	_ = c.encoder.WriteField(f) // into memory: it cannot fail.
}

// takeHead takes a decoded block, under the connection's mu: an interim answer, the
// answer's head, or the trailers (RFC 9113, section 8.1).
func (s *h2stream) takeHead(b *h2block) error {
	switch {
	case s.err != nil:
		return nil
	case s.remoteEnded:
		return http2.StreamError{StreamID: s.id, Code: http2.ErrCodeStreamClosed, Cause: protocolError("got fields behind the end of the answer")}
	case b.err != nil:
		return s.malformed(b.err)
	case s.head.Status != 0:
		return s.takeTrailer(b)
	case b.status == 0:
		return s.malformed(protocolf("got no :status"))
	case b.status == 101:
		return s.malformed(protocolf("got 101, which HTTP/2 has no place for"))
	case b.status < 200:
		return s.takeInterim(b)
	}
	header := b.header()
	f, err := parseFraming(header, 1)
	if err != nil {
		return s.malformed(err)
	}
	s.head.Status, s.head.Header, s.head.ContentLength = b.status, header, f.length
	s.noBody = !exchange.BodyAllowed(s.method, b.status)
	if b.end {
		return s.takeEnd()
	}
	signal(s.events)
	return nil
}

func (s *h2stream) takeInterim(b *h2block) error {
	if b.end {
		return s.malformed(protocolf("got interim answer %d at the end of the stream", b.status))
	}
	if s.interims++; s.interims > maxInterim {
		return s.malformed(protocolf("got more than %d interim answers", maxInterim))
	}
	s.interim = append(s.interim, exchange.Response{
		Status: b.status, Header: b.header(), ContentLength: exchange.NoBody,
	})
	signal(s.events)
	return nil
}

func (s *h2stream) takeTrailer(b *h2block) error {
	switch {
	case b.status != 0:
		return s.malformed(protocolf("got :status in trailers"))
	case !b.end:
		return s.malformed(protocolf("got fields in the middle of the body"))
	}
	s.trailer = b.header()
	return s.takeEnd()
}

// takeEnd notes that the answer is whole.
func (s *h2stream) takeEnd() error {
	if want := s.head.ContentLength; want >= 0 && !s.noBody && s.received != want {
		return s.malformed(protocolf("got %d bytes; Content-Length said %d", s.received, want))
	}
	s.remoteEnded = true
	if s.localEnded {
		s.release()
	}
	signal(s.events)
	return nil
}

// malformed breaks a stream whose answer is no valid HTTP (RFC 9113, section 8.1.1).
func (s *h2stream) malformed(reason error) error {
	return http2.StreamError{StreamID: s.id, Code: http2.ErrCodeProtocol, Cause: reason}
}
