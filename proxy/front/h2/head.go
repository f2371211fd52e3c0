package h2

import (
	"bytes"
	"errors"
	"slices"

	"drover/exchange"
	"drover/proxy/front/pace"
	"drover/proxy/front/pseudo"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// block is a header block on its way in.
type block struct {
	id     uint32 // its stream, 0 for none
	end    bool   // the stream ends with it
	frames int
	coded  int // bytes that came
	size   int // as RFC 9113, section 6.5.2 counts
	limit  int
	most   int // fields

	// list holds the fields as the decoder gave them: many may share one text, which is
	// copied only for a block that is taken.
	list     []hpack.HeaderField
	fields   exchange.Header
	text     []byte // what the fields point into
	pseudo   pseudoFields
	kind     string // the content-type
	tooLarge bool
	bad      bool
}

// maxKind is how much of the content-type is kept of a block that is too large.
const maxKind = 64

// pseudoFields are the pseudo-header fields of a request.
type pseudoFields struct {
	method, scheme, authority, path, protocol *string
	late                                      bool // a regular field has come
	any                                       bool
}

// requestHead is what a stream keeps of its head.
type requestHead struct {
	length  int64
	expects bool
}

func (c *Conn) headers(f *http2.HeadersFrame) error {
	if f.StreamID%2 == 0 {
		return http2.ConnectionError(http2.ErrCodeProtocol)
	}
	limits := c.opts.Limits()
	clear(c.block.list)
	c.block = block{
		id: f.StreamID, end: f.StreamEnded(), limit: limits.MaxHeader, most: limits.MaxFields, list: c.block.list[:0],
	}
	c.dec.SetEmitFunc(c.block.emit)
	c.dec.SetMaxStringLength(4 * limits.MaxHeader)
	if err := c.fragment(f.HeaderBlockFragment()); err != nil {
		return err
	}
	if f.HasPriority() && f.Priority.StreamDep == f.StreamID {
		c.block.bad = true
	}
	if !f.HeadersEnded() {
		return nil
	}
	return c.blockEnds()
}

func (c *Conn) continuation(f *http2.ContinuationFrame) error {
	if c.block.frames > maxContinuations {
		return http2.ConnectionError(http2.ErrCodeEnhanceYourCalm)
	}
	if err := c.fragment(f.HeaderBlockFragment()); err != nil {
		return err
	}
	if !f.HeadersEnded() {
		return nil
	}
	return c.blockEnds()
}

// fragment decodes a part of a block. What is not kept must be decoded all the same,
// for the table is one for all blocks.
func (c *Conn) fragment(p []byte) error {
	b := &c.block
	b.frames++
	if b.coded += len(p); b.coded > 4*b.limit {
		return http2.ConnectionError(http2.ErrCodeEnhanceYourCalm)
	}
	if _, err := c.dec.Write(p); err != nil {
		if errors.Is(err, hpack.ErrStringLength) {
			return http2.ConnectionError(http2.ErrCodeEnhanceYourCalm)
		}
		return http2.ConnectionError(http2.ErrCodeCompression)
	}
	return nil
}

// emit takes a field of a block.
func (b *block) emit(f hpack.HeaderField) {
	b.size += int(f.Size())
	if f.Name == "content-type" {
		b.kind = f.Value
	}
	if b.tooLarge || b.size > b.limit || len(b.list) >= b.most {
		b.tooLarge = true
		return
	}
	if f.IsPseudo() {
		b.pseudoField(f.Name, f.Value)
		return
	}
	b.pseudo.late = true
	switch f.Name {
	case "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade":
		b.bad = true // RFC 9113, section 8.2.2
	case "te":
		b.bad = b.bad || f.Value != "trailers"
	}
	if !pseudo.IsName(f.Name) || !pseudo.IsFieldValue(f.Value) {
		b.bad = true
	}
	b.list = append(b.list, f)
}

// take copies a block that is whole into memory of its own.
func (b *block) take() {
	if b.tooLarge { // of use is only what tells the form of the answer.
		kind := hpack.HeaderField{Name: "content-type", Value: b.kind[:min(len(b.kind), maxKind)]}
		b.list, b.size = append(b.list[:0], kind), int(kind.Size())
	}
	b.kind = ""
	b.text = make([]byte, 0, b.size)
	b.fields = make(exchange.Header, 0, len(b.list)+1)
	for _, f := range b.list {
		if f.Name == "cookie" && b.joinCookie(f.Value) {
			continue
		}
		b.fields = append(b.fields, exchange.Field{Name: b.keep(f.Name), Value: b.keep(f.Value)})
	}
}

// joinCookie joins what a client has split to compress it (RFC 9113, section 8.2.3).
func (b *block) joinCookie(crumb string) bool {
	for i := range b.fields {
		if string(b.fields[i].Name) != "cookie" {
			continue
		}
		joined := make([]byte, 0, len(b.fields[i].Value)+2+len(crumb))
		joined = append(append(append(joined, b.fields[i].Value...), "; "...), crumb...)
		b.fields[i].Value = joined
		return true
	}
	return false
}

// keep copies text to where it stays.
func (b *block) keep(text string) []byte {
	from := len(b.text)
	b.text = append(b.text, text...)
	return b.text[from:len(b.text):len(b.text)]
}

func (b *block) pseudoField(name, value string) {
	b.pseudo.any = true
	var at **string
	switch name {
	case ":method":
		at = &b.pseudo.method
	case ":scheme":
		at = &b.pseudo.scheme
	case ":authority":
		at = &b.pseudo.authority
	case ":path":
		at = &b.pseudo.path
	case ":protocol":
		at = &b.pseudo.protocol
	}
	if at == nil || *at != nil || b.pseudo.late || !pseudo.IsFieldValue(value) {
		b.bad = true
		return
	}
	*at = &value
}

// blockEnds handles a whole block.
func (c *Conn) blockEnds() error {
	b := &c.block
	id := b.id
	b.id, c.heading = 0, false
	if err := c.dec.Close(); err != nil {
		return http2.ConnectionError(http2.ErrCodeCompression)
	}
	if b.tooLarge {
		c.calm.pay(costTooLarge)
	}
	b.take()
	c.mu.Lock()
	s := c.streams[id]
	known := id <= c.lastID
	ignored := known && c.recent.has(id)
	c.mu.Unlock()
	switch {
	case s != nil:
		return c.trailers(s)
	case ignored:
		return nil
	case known:
		return http2.ConnectionError(http2.ErrCodeStreamClosed)
	}
	return c.request(id)
}

// trailers handles the block behind a request's body.
func (c *Conn) trailers(s *stream) error {
	b := &c.block
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case s.inEnded:
		return http2.StreamError{StreamID: s.id, Code: http2.ErrCodeStreamClosed}
	case !b.end, b.bad, b.pseudo.any, b.tooLarge, headOnly(b.fields), s.head.length >= 0 && s.received < s.head.length:
		return http2.StreamError{StreamID: s.id, Code: http2.ErrCodeProtocol}
	}
	s.trailer = b.fields
	c.endInput(s)
	return nil
}

// headOnly reports whether there is a field that has no place in trailers.
func headOnly(fields exchange.Header) bool {
	return slices.ContainsFunc(fields, func(f exchange.Field) bool { return exchange.HeadOnly(f.Name) })
}

// request opens a stream.
func (c *Conn) request(id uint32) error {
	b := &c.block
	c.mu.Lock()
	c.lastID = id
	refused := c.closing || c.handlers >= c.opts.Limits().MaxStreams
	c.mu.Unlock()
	wrong := http2.StreamError{StreamID: id, Code: http2.ErrCodeProtocol}
	length, ok := b.length()
	switch {
	case b.bad, !ok, !b.tooLarge && !b.complete():
		return wrong
	case refused:
		wrong.Code = http2.ErrCodeRefusedStream
		return wrong
	}
	s := c.newStream(id)
	s.fields, s.head = b.fields, requestHead{length: length, expects: length != 0 && b.expects()}
	if length > 0 {
		s.pace = pace.Start()
	}
	status, reason := c.fill(s)
	if b.tooLarge {
		status, reason = 431, exchange.ReasonHeaderTooLarge
	}
	c.mu.Lock()
	c.streams[id] = s
	s.sendWindow = c.peerInitial
	c.handlers++
	s.inEnded = b.end
	c.mu.Unlock()
	c.active.Add(1)
	c.running.Add(1)
	if status != 0 {
		go c.refuse(s, status, reason)
		return nil
	}
	go c.run(s)
	return nil
}

// complete reports whether a request has the pseudo-fields that it must have.
func (b *block) complete() bool {
	p := &b.pseudo
	connect := p.method != nil && *p.method == "CONNECT"
	if connect && p.protocol == nil {
		return p.scheme == nil && p.path == nil && isFilled(p.authority)
	}
	if p.protocol != nil && !connect {
		return false
	}
	return isFilled(p.method) && isFilled(p.path) && isFilled(p.scheme)
}

func isFilled(value *string) bool { return value != nil && *value != "" }

// pseudoText gives a pseudo-field as the exchange has it, nil for none.
func (b *block) pseudoText(value *string) []byte {
	if value == nil {
		return nil
	}
	return b.keep(*value)
}

// length gives the body's length as exchange.Request.ContentLength has it.
func (b *block) length() (n int64, ok bool) {
	seen := false
	for i := range b.fields {
		if string(b.fields[i].Name) != "content-length" {
			continue
		}
		value := b.fields[i].Value
		if seen || len(value) == 0 || len(value) > 18 {
			return 0, false
		}
		seen = true
		for _, c := range value {
			if c < '0' || c > '9' {
				return 0, false
			}
			n = n*10 + int64(c-'0')
		}
	}
	switch {
	case seen && b.end && n > 0:
		return 0, false
	case seen:
		return n, true
	case b.end:
		return exchange.NoBody, true
	}
	return exchange.LengthUnknown, true
}

func (b *block) expects() bool {
	return !b.end && exchange.EqualFold(b.fields.Get("expect"), "100-continue")
}

// fill makes the exchange of a stream. A status that is not 0 says how to refuse it.
func (c *Conn) fill(s *stream) (status int, reason exchange.Reason) {
	b := &c.block
	p := &b.pseudo
	s.exch = exchange.Exchange{Client: s, Windows: s, Left: s.away}
	req := &s.exch.Request
	*req = exchange.Request{
		Method: b.pseudoText(p.method), Target: b.pseudoText(p.path), Host: b.pseudoText(p.authority),
		ProtoMajor: 2, Header: s.fields, ContentLength: s.head.length,
	}
	c.opts.Address(&s.exch)
	hosts := s.fields.Count("host")
	switch host := s.fields.Get("host"); {
	case hosts > 1, hosts == 1 && p.authority != nil && !bytes.EqualFold(host, req.Host):
		return 400, exchange.ReasonBadRequest
	case p.authority == nil:
		req.Host = host
	}
	if p.protocol != nil && *p.protocol != "websocket" {
		return 501, exchange.ReasonMethod
	}
	if p.protocol != nil {
		pseudo.AsUpgrade(req)
		s.fields = req.Header
	}
	if limit := c.opts.Limits().MaxBody; limit > 0 && s.head.length > limit {
		return 413, exchange.ReasonBodyTooLarge
	}
	return c.opts.Check(req)
}
