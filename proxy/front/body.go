package front

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"drover/exchange"
)

const (
	// smallBody is the size up to which a body of known length is read before the
	// handler runs: a slow client then holds no server, and a failed attempt can be
	// sent again.
	smallBody = 8 << 10
	// unreadBody is how much of a body that nobody wanted is read to keep the
	// connection.
	unreadBody = 256 << 10
)

// body is a request body.
type body struct {
	// immutable
	cl     *client // nil when there is no body
	length int64   // as exchange.Request.ContentLength
	limit  int64   // 0 for none
	fields int     // limit on trailer fields
	size   int     // and on all of them in bytes

	// atomic
	count atomic.Int64 // bytes read
	ended atomic.Bool  // the end was seen
	bad   atomic.Bool  // it broke: where the next request begins is unknown

	// the reader's goroutine
	waits    bool   // the client waits for a 100
	small    []byte // the memory of a small body
	buffered []byte // a small body as a whole
	off      int    // read so far of buffered
	err      error
	chunks   chunks
	trailer  exchange.Header
}

// start prepares for a new exchange.
func (b *body) start(cl *client, s *settings) {
	b.cl, b.length = nil, cl.req.length
	b.limit, b.fields, b.size = s.maxBody, s.maxFields, s.maxHeader
	b.waits = cl.req.expects && cl.req.length != 0
	b.buffered, b.off, b.err, b.trailer = nil, 0, nil, b.trailer[:0]
	b.chunks = chunks{text: b.chunks.text[:0]}
	b.count.Store(0)
	b.ended.Store(b.length == exchange.NoBody || b.length == 0)
	if b.length != exchange.NoBody {
		b.cl = cl
		if b.length > 0 {
			cl.c.wire.startPace()
		}
	}
}

// forget lets go of the connection's memory.
func (b *body) forget() {
	clear(b.trailer[:cap(b.trailer)])
	b.cl, b.buffered = nil, nil
	b.length = exchange.NoBody
	b.ended.Store(true)
	b.bad.Store(false)
}

// prefetch reads a small body as a whole, unless the client waits to be asked for it:
// that is the handler's to decide.
func (b *body) prefetch() error {
	if b.length < 0 || b.length > smallBody || b.waits {
		return nil
	}
	if b.small == nil {
		b.small = make([]byte, smallBody)
	}
	whole := b.small[:b.length]
	if _, err := io.ReadFull(b, whole); err != nil {
		return err
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
	if b.waits {
		b.waits = false
		b.cl.invite()
	}
	n, err := b.read(p)
	total := b.count.Add(int64(n))
	switch {
	case b.limit > 0 && total > b.limit:
		n, err = 0, exchange.ErrBodyTooLarge
	case err == nil && total == b.length, err == io.EOF: //nolint:errorlint // io.Reader's contract is this very value.
		err = io.EOF
		b.ended.Store(true)
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

// read gives io.EOF at the end of a chunked body.
func (b *body) read(p []byte) (int, error) {
	if b.length < 0 {
		return b.readChunk(p)
	}
	left := b.length - b.count.Load()
	n, err := b.cl.c.take(p[:min(int64(len(p)), left)])
	return n, eofIsCut(err)
}

// eofIsCut turns an end where there must be more into a cut.
func eofIsCut(err error) error {
	if err == io.EOF { //nolint:errorlint // net.Conn's contract is this very value.
		return io.ErrUnexpectedEOF
	}
	return err
}

// broken says why a body broke, in the words of the exchange.
func (b *body) broken(err error) error {
	switch {
	case errors.Is(err, exchange.ErrBodyMalformed), errors.Is(err, errBodyAborted):
		return err
	case isTimeout(err):
		if b.cl.c.wire.wasAborted() {
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

// drain reads the rest of a body that nobody wanted, and reports whether the next
// request begins behind it.
func (b *body) drain() bool {
	if b.hopeless() || b.waits {
		return false
	}
	_, err := io.CopyN(io.Discard, b, unreadBody+1)
	return err == io.EOF //nolint:errorlint // io.Reader's contract is this very value.
}

// fieldsAfter implements exchange.Request.Trailer.
func (b *body) fieldsAfter() exchange.Header { return b.trailer }

// chunks is where a chunked body stands (RFC 9112, section 7.1).
type chunks struct {
	begun   bool
	left    int64 // of the chunk
	framing int64 // bytes that were no content
	text    []byte
}

const (
	// maxChunkLine bounds a chunk's first line with its extensions.
	maxChunkLine = 4 << 10
	// A chunked body may spend this many bytes on framing for each byte of content,
	// and so many besides. What is over it is no upload but a way to keep us busy
	// (CVE-2023-39326).
	framingPerByte = 32
	framingSlack   = 128 << 10
)

func (b *body) readChunk(p []byte) (int, error) {
	c, k := b.cl.c, &b.chunks
	for k.left == 0 {
		if err := b.nextChunk(); err != nil {
			return 0, err
		}
	}
	// Small chunks are taken through memory: the framing between them comes along.
	if len(c.in.unread) == 0 && k.left < inputSize {
		if err := c.more(); err != nil {
			return 0, eofIsCut(err)
		}
	}
	n, err := c.take(p[:min(int64(len(p)), k.left)])
	k.left -= int64(n)
	return n, eofIsCut(err)
}

// nextChunk reads what stands between two chunks, or behind the last, where it gives
// io.EOF.
func (b *body) nextChunk() error {
	c, k := b.cl.c, &b.chunks
	if k.begun {
		line, err := b.line(0)
		if err != nil {
			return err
		}
		c.skipLine(line)
	}
	line, err := b.line(maxChunkLine)
	if err != nil {
		return err
	}
	size, ok := exchange.ParseChunkSize(line)
	// Old servers pad the size with spaces. Clients that do so are up to something.
	if i := bytes.IndexAny(line, " \t;"); !ok || i >= 0 && line[i] != ';' {
		return fmt.Errorf("%w: bad chunk size", exchange.ErrBodyMalformed)
	}
	c.skipLine(line)
	k.begun, k.left = true, size
	if size > 0 {
		return nil
	}
	return b.readTrailer()
}

// line gives the next line of framing.
func (b *body) line(limit int) ([]byte, error) {
	line, err := b.cl.c.nextLine(limit)
	b.chunks.framing += int64(len(line)) + 2
	if b.chunks.framing > framingSlack+framingPerByte*b.count.Load() {
		return nil, fmt.Errorf("%w: framing out of all proportion to the content", exchange.ErrBodyMalformed)
	}
	return line, eofIsCut(err)
}

// readTrailer reads the fields behind the last chunk (RFC 9112, section 7.1.2).
func (b *body) readTrailer() error {
	c, k := b.cl.c, &b.chunks
	for last := false; !last; {
		line, err := b.line(b.size - len(k.text))
		if err != nil {
			return err
		}
		last = len(line) == 0
		k.text = append(append(k.text, line...), '\r', '\n')
		c.skipLine(line)
	}
	if len(k.text) == 2 {
		return io.EOF
	}
	var verdict scanVerdict
	if b.trailer, verdict = scanFields(b.trailer, k.text, b.fields); verdict != scanFine {
		return fmt.Errorf("%w: bad trailer section", exchange.ErrBodyMalformed)
	}
	for i := range b.trailer {
		if exchange.HeadOnly(b.trailer[i].Name) {
			return fmt.Errorf("%w: the trailer section has %q", exchange.ErrBodyMalformed, b.trailer[i].Name)
		}
	}
	return io.EOF
}
