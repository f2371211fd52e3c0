package h3

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"drover/exchange"
	"drover/proxy/front/pace"
	"drover/proxy/front/pseudo"
)

// smallBody is the size up to which a body of known length is read before the handler
// runs: a slow client then holds no server, and a failed attempt can be sent again.
const smallBody = 8 << 10

// fill makes the exchange of a request. A status that is not 0 says how to refuse it.
func (s *stream) fill() (status int, reason exchange.Reason) {
	s.exch = exchange.Exchange{Client: s, Left: s.r.Context().Done(), Start: time.Now()}
	req := &s.exch.Request
	var size int
	req.Header, size = fields(s.r.Header)
	req.Method, req.Target, req.Host = []byte(s.r.Method), []byte(s.r.RequestURI), []byte(s.r.Host)
	req.ProtoMajor, req.ContentLength = 3, exchange.LengthUnknown
	if req.Header.Has("Content-Length") {
		req.ContentLength, s.body.pace = s.r.ContentLength, pace.Start()
	}
	c := s.conn
	c.server.opts.Address(&s.exch, c.remote, c.local)
	limits := c.server.opts.Limits()
	extended := s.r.Method == http.MethodConnect && s.r.Proto != "HTTP/3.0" // the library's way to tell.
	switch {
	case size > limits.MaxHeader, len(req.Header) > limits.MaxFields:
		return 431, exchange.ReasonHeaderTooLarge
	case extended && s.r.Proto != "websocket":
		return 501, exchange.ReasonMethod
	case extended:
		pseudo.AsUpgrade(req)
	case limits.MaxBody > 0 && req.ContentLength > limits.MaxBody:
		return 413, exchange.ReasonBodyTooLarge
	}
	return c.server.opts.Check(req, c.name)
}

// fields gives the fields of a section, names sorted since the library has lost their
// order, and their size as RFC 9114, section 4.2.2 counts it.
func fields(from http.Header) (h exchange.Header, size int) {
	for _, name := range slices.Sorted(maps.Keys(from)) {
		lower := strings.ToLower(name)
		for _, value := range from[name] {
			h.Add(lower, value)
			size += len(lower) + len(value) + 32
		}
	}
	return h, size
}

// attach gives the exchange the request's body, and reads it if it is small. It answers
// what cannot be read, and gives false.
func (s *stream) attach() bool {
	req := &s.exch.Request
	switch length := req.ContentLength; {
	case req.Upgrade != "":
		return true
	case length < 0 && !pseudo.LikesLength(req.Method) && !s.waits:
		return s.peek()
	case length < 0, length > smallBody, s.waits:
		req.Body, req.Trailer = &s.body, s.body.trailers
		return true
	}
	whole, err := io.ReadAll(&s.body) // the library counts; it gives no more than length.
	if err != nil {
		s.bodyBroken(err)
		return false
	}
	req.Buffered, req.Body, req.Trailer = whole, bytes.NewReader(whole), s.body.trailers
	return true
}

// peek finds out whether a request has a body at all, which the library does not say. For
// methods that seldom have one the end of the stream comes with the head.
func (s *stream) peek() bool {
	req := &s.exch.Request
	var first [1]byte
	n, err := io.ReadFull(&s.body, first[:])
	switch {
	case err == io.EOF: //nolint:errorlint // io.ReadFull gives this very value.
		req.ContentLength = exchange.NoBody
		return true
	case err != nil:
		s.bodyBroken(err)
		return false
	}
	req.Body, req.Trailer = io.MultiReader(bytes.NewReader(first[:n]), &s.body), s.body.trailers
	return true
}

func (s *stream) bodyBroken(err error) {
	switch {
	case errors.Is(err, exchange.ErrBodyTimeout):
		s.answer(http.StatusRequestTimeout, exchange.ReasonClientTimeout)
	case errors.Is(err, exchange.ErrBodyTooLarge):
		s.answer(http.StatusRequestEntityTooLarge, exchange.ReasonBodyTooLarge)
	default:
		s.exch.Result.Aborted = true
		s.finish()
	}
}

// body reads a request's body. Another goroutine than the handler's may.
type body struct {
	stream *stream
	read   int64 // bytes so far
	pace   pace.Pace
}

// Read implements io.Reader. See exchange.Request.Body.
func (b *body) Read(p []byte) (int, error) {
	s := b.stream
	s.invite()
	limits := s.conn.server.opts.Limits()
	began := time.Now()
	_ = s.ctl.SetReadDeadline(b.pace.Limit(began, limits.BodyIdle, limits.MinBodyRate)) // a broken stream says so below.
	if s.aborted.Load() {
		return 0, errAborted
	}
	n, err := s.r.Body.Read(p)
	b.read += int64(n)
	b.pace.Count(time.Since(began), n)
	switch {
	case limits.MaxBody > 0 && b.read > limits.MaxBody:
		return 0, exchange.ErrBodyTooLarge
	case err == io.EOF && slices.ContainsFunc(b.trailers(), func(f exchange.Field) bool { return exchange.HeadOnly(f.Name) }): //nolint:errorlint // io.Reader's contract is this very value.
		s.reset.Store(true)
		return n, io.ErrUnexpectedEOF // as good as cut.
	case err == nil, err == io.EOF: //nolint:errorlint // see above.
		return n, err
	case s.aborted.Load():
		return n, errAborted
	case errors.Is(err, os.ErrDeadlineExceeded):
		return n, exchange.ErrBodyTimeout
	}
	s.reset.Store(true)
	return n, io.ErrUnexpectedEOF
}

func (b *body) trailers() exchange.Header {
	h, _ := fields(b.stream.r.Trailer)
	return h
}
