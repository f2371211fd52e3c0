package front

import (
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"drover/exchange"

	"github.com/valyala/fasthttp"
)

const (
	// smallBody is the size up to which a body of known length is read before the
	// handler runs: a slow client then holds no server, and a failed attempt can be
	// sent again.
	smallBody = 8 << 10
	// unreadBody is how much of a body that nobody wanted is read to keep the
	// connection. It is fasthttp's limit, which the closing here has to agree with.
	unreadBody = 256 << 10
)

// body is a request body. fasthttp decodes it; what ends it, and whether it is
// complete, is decided here, since fasthttp takes a chunked body that the client cut
// between two chunks for a whole one.
type body struct {
	// immutable
	c      *conn
	header *fasthttp.RequestHeader
	source io.Reader // nil when there is no body
	length int64     // as exchange.Request.ContentLength
	limit  int64     // 0 for none
	fields int       // limit on trailer fields

	// atomic
	count atomic.Int64 // bytes that fasthttp gave
	ended atomic.Bool  // the end was seen
	bad   atomic.Bool  // it broke: where the next request begins is unknown

	// the reader's goroutine
	small    []byte // the memory of a small body
	buffered []byte // a small body as a whole
	off      int    // read so far of buffered
	err      error
	trailer  exchange.Header
}

// start prepares for a new exchange.
func (b *body) start(c *conn, ctx *fasthttp.RequestCtx, length int64, s *settings) {
	b.c, b.header, b.source, b.length = c, &ctx.Request.Header, nil, length
	b.limit, b.fields = s.maxBody, s.maxFields
	b.buffered, b.off, b.err, b.trailer = nil, 0, nil, b.trailer[:0]
	b.count.Store(0)
	b.ended.Store(length == exchange.NoBody || length == 0)
	if length != exchange.NoBody {
		b.source = ctx.RequestBodyStream()
		c.body = b
		if length > 0 {
			c.wire.startPace()
		}
	}
}

// forget lets go of the connection's memory.
func (b *body) forget() {
	clear(b.trailer[:cap(b.trailer)])
	if b.c != nil {
		b.c.body = nil
	}
	b.c, b.header, b.source, b.buffered = nil, nil, nil, nil
	b.length = exchange.NoBody
	b.ended.Store(true)
	b.bad.Store(false)
}

// prefetch reads a small body as a whole.
func (b *body) prefetch() error {
	if b.length < 0 || b.length > smallBody {
		return nil
	}
	if b.small == nil {
		b.small = make([]byte, smallBody)
	}
	whole := b.small[:b.length]
	if _, err := io.ReadFull(b, whole); err != nil {
		return err
	}
	if !b.ended.Load() {
		return fmt.Errorf("%w: no end after %d bytes", exchange.ErrBodyMalformed, b.length)
	}
	b.buffered, b.off, b.err = whole, 0, nil
	return nil
}

// Read implements io.Reader. See exchange.Request.Body for its errors.
func (b *body) Read(p []byte) (int, error) {
	if b.buffered != nil {
		if b.off == len(b.buffered) {
			return 0, io.EOF
		}
		n := copy(p, b.buffered[b.off:])
		b.off += n
		return n, nil
	}
	if b.err != nil {
		return 0, b.err
	}
	n, err := b.source.Read(p)
	total := b.count.Add(int64(n))
	switch {
	case b.limit > 0 && total > b.limit:
		n, err = 0, exchange.ErrBodyTooLarge
	case total == b.length:
		err = io.EOF
		b.ended.Store(true)
	case err == io.EOF: //nolint:errorlint // io.Reader's contract is this very value.
		err = b.end()
	case err != nil:
		err = b.broken(err)
	}
	b.err = err
	if err != nil && err != io.EOF { //nolint:errorlint // see above.
		b.bad.Store(true)
	}
	if n > 0 && err == io.EOF { //nolint:errorlint // see above.
		return n, nil // the next Read tells.
	}
	return n, err
}

// end decides what an end is that fasthttp reports.
func (b *body) end() error {
	if b.length >= 0 || b.c.readErr != nil {
		return io.ErrUnexpectedEOF
	}
	var verdict scanVerdict
	if b.trailer, verdict = scanFields(b.trailer, b.header.TrailerHeader(), b.fields); verdict != scanFine {
		return fmt.Errorf("%w: bad trailer section", exchange.ErrBodyMalformed)
	}
	b.ended.Store(true)
	return io.EOF
}

// broken says why a body broke, in the words of the exchange. The connection knows
// it: of its errors, fasthttp wraps some beyond recognition.
func (b *body) broken(err error) error {
	switch cause := b.c.readErr; {
	case cause == nil:
		return fmt.Errorf("%w: %w", exchange.ErrBodyMalformed, err)
	case errors.Is(cause, errFraming):
		return fmt.Errorf("%w: %w", exchange.ErrBodyMalformed, cause)
	case errors.Is(cause, errBodyAborted):
		return errBodyAborted
	case isTimeout(cause):
		if b.c.wire.wasAborted() {
			return errBodyAborted
		}
		return exchange.ErrBodyTimeout
	default:
		return io.ErrUnexpectedEOF
	}
}

// refusal is the answer when a small body did not come.
func (b *body) refusal() refusal {
	if errors.Is(b.err, exchange.ErrBodyTimeout) {
		return clientTimeout
	}
	return badRequest
}

// left is how many bytes are still to come, 0 for none, -1 for unknown.
func (b *body) left() int64 {
	switch {
	case b.ended.Load():
		return 0
	case b.length < 0:
		return -1
	default:
		return b.length - b.count.Load()
	}
}

// hopeless reports whether the connection cannot carry another request: the body
// broke, or too much of it is left. A chunked body that is not at its end may be
// short; reading on will tell.
func (b *body) hopeless() bool { return b.bad.Load() || b.left() > unreadBody }

// fieldsAfter implements exchange.Request.Trailer.
func (b *body) fieldsAfter() exchange.Header { return b.trailer }
