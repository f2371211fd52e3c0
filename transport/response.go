package transport

import (
	"bytes"
	"errors"
	"io"
	"net"
	"time"

	"drover/backend"
	"drover/exchange"
)

// Response is a server's answer: its head, and the body on its way. The head's bytes
// are views that are valid until Close. The zero value is ready for RoundTrip.
type Response struct {
	exchange.Response
	// ProtoMinor is the 0 or 1 of HTTP/1.x.
	ProtoMinor int

	conn     *conn     // of HTTP/1.1
	stream   *h2stream // or of HTTP/2
	client   exchange.Client
	left     <-chan struct{} // closed when it has gone; may be nil
	method   []byte
	upload   *upload
	sentAt   time.Time
	deadline time.Time // of the head, the zero time for none
	endBy    time.Time // of the body, the zero time for none
	keep     bool      // the connection may be used again once the body is read
	body     body
}

type bodyKind uint8

const (
	bodyNone bodyKind = iota
	bodyLength
	bodyChunked
	bodyUntilClose
	bodyStream // of HTTP/2
)

// body reads a response's body off the connection.
type body struct {
	r        *Response
	kind     bodyKind
	left     int64 // of the body, or of the chunk
	started  bool  // a chunk has been read: its CRLF comes before the next one's size
	done     bool
	trailer  exchange.Header
	deadline time.Time
}

// config gives the settings that the exchange runs by.
func (r *Response) config() *settings {
	if r.stream != nil {
		return r.stream.settings
	}
	return r.conn.settings
}

// Body gives the body, nil when there is none. It ends with io.EOF only when it was
// whole; a cut or stalled one gives an *Error.
func (r *Response) Body() io.Reader {
	if r.body.kind == bodyNone {
		return nil
	}
	return &r.body
}

// EndBy bounds the body: what has not been read by then times out. It is to be called
// before the body is read.
func (r *Response) EndBy(at time.Time) { r.endBy = at }

func (b *body) trailers() exchange.Header { return b.trailer }

// Buffered tells how many body bytes, or 1 for the body's end, can be read without
// waiting: when it is 0, what was read so far should be passed on.
func (r *Response) Buffered() int {
	if r.stream != nil {
		return r.stream.buffered()
	}
	c := r.conn
	if c == nil {
		return 0
	}
	unread := c.buf[c.r:c.w]
	switch r.body.kind {
	case bodyLength:
		if r.body.done {
			return 1
		}
		return len(unread)
	case bodyChunked:
		return r.body.bufferedChunk(unread)
	case bodyNone, bodyUntilClose, bodyStream:
	}
	return len(unread)
}

func (b *body) bufferedChunk(unread []byte) int {
	if b.done {
		return 1
	}
	if b.left > 0 {
		return len(unread)
	}
	if b.started {
		if len(unread) < 2 {
			return 0
		}
		unread = unread[2:]
	}
	for i, c := range unread {
		if c == '\n' {
			return b.behindChunkSize(unread[:i], unread[i+1:])
		}
	}
	return 0
}

// behindChunkSize tells what can be read behind a chunk's first line. The last chunk
// can once its trailers are there: they may be as late as their sender likes.
func (b *body) behindChunkSize(line, rest []byte) int {
	size, err := parseChunkSize(bytes.TrimSuffix(line, []byte("\r")))
	switch {
	case err != nil:
		return 1 // to be told at once
	case size > 0:
		return len(rest)
	case bytes.HasPrefix(rest, []byte("\r\n")), bytes.Contains(rest, []byte("\r\n\r\n")):
		return 1
	}
	return 0
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	if b.done {
		return 0, io.EOF
	}
	n, err := b.read(p)
	switch {
	case err == nil:
		return n, nil
	case err == io.EOF: //nolint:errorlint // io.Reader's contract is this very value.
		b.done = true
		return n, io.EOF
	}
	b.r.keep = false
	failure := failureOf(err, backend.FailureBody)
	if failure != backend.FailureClient {
		failure = backend.FailureBody
	}
	return n, &Error{Failure: failure, MaybeExecuted: true, Err: err}
}

func (b *body) read(p []byte) (int, error) {
	now := time.Now()
	b.deadline = now.Add(b.r.config().BodyIdleTimeout)
	if end := b.r.endBy; !end.IsZero() && end.Before(b.deadline) {
		if b.deadline = end; !now.Before(end) {
			return 0, errTimeout
		}
	}
	switch b.kind {
	case bodyLength:
		n, err := b.take(p)
		if err == nil && b.left == 0 {
			b.done = true
		}
		return n, err
	case bodyChunked:
		return b.readChunk(p)
	case bodyStream:
		n, err := b.r.stream.read(p, b.wait())
		if err == io.EOF { //nolint:errorlint // io.Reader's contract is this very value.
			b.trailer = b.r.stream.trailer
		}
		return n, err
	case bodyUntilClose, bodyNone:
	}
	return b.untilClose(p)
}

func (b *body) wait() wait { return wait{r: b.r, at: b.deadline} }

// take reads at most what is left.
func (b *body) take(p []byte) (int, error) {
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.raw(p)
	b.left -= int64(n)
	return n, eofIsCut(err)
}

// raw reads buffered bytes first, then straight from the connection into p.
func (b *body) raw(p []byte) (int, error) {
	c := b.r.conn
	if c.r < c.w {
		n := copy(p, c.buf[c.r:c.w])
		c.r += n
		return n, nil
	}
	return c.readSome(p, b.wait())
}

func (b *body) untilClose(p []byte) (int, error) { return b.raw(p) }

func (b *body) readChunk(p []byte) (int, error) {
	for b.left == 0 {
		if err := b.nextChunk(); err != nil {
			return 0, err
		}
	}
	// Small chunks are taken through the buffer: the frames between them come along.
	c := b.r.conn
	if c.r == c.w && b.left < minRead {
		if err := c.fill(b.wait()); err != nil {
			return 0, eofIsCut(err)
		}
	}
	return b.take(p)
}

// maxChunkLine bounds a chunk's first line with its extensions.
const maxChunkLine = 4 << 10

// nextChunk reads the frame between two chunks, or behind the last, where it gives
// io.EOF.
func (b *body) nextChunk() error {
	c := b.r.conn
	if b.started {
		line, err := c.line(2, b.wait())
		if err != nil {
			return err
		}
		if len(line) != 0 {
			return protocolf("got more bytes than the chunk's size said")
		}
	}
	line, err := c.line(maxChunkLine, b.wait())
	if err != nil {
		return err
	}
	if b.left, err = parseChunkSize(line); err != nil {
		return err
	}
	b.started = true
	if b.left > 0 {
		return nil
	}
	return b.readTrailer()
}

// readTrailer reads the fields behind the last chunk (RFC 9112, section 7.1.2).
func (b *body) readTrailer() error {
	c := b.r.conn
	limit := int(c.settings.MaxResponseHeaderSize)
	for size := 0; ; {
		line, err := c.line(limit, b.wait())
		if err != nil {
			return err
		}
		if len(line) == 0 {
			return io.EOF
		}
		if size += len(line); size > limit || len(b.trailer) == maxFields {
			return protocolf("got trailers of more than %d bytes or %d fields", limit, maxFields)
		}
		f, err := parseField(line)
		if err != nil {
			return err
		}
		b.trailer = append(b.trailer, exchange.Field{
			Name: append([]byte(nil), f.Name...), Value: append([]byte(nil), f.Value...),
		})
	}
}

// Close ends the exchange. The connection goes back to the pool if both messages on it
// were whole and nothing else was said; otherwise it is closed. Calling it again does
// nothing.
func (r *Response) Close() {
	if r.stream != nil {
		r.closeH2()
		return
	}
	c := r.conn
	if c == nil {
		return
	}
	sent := r.finishUpload()
	r.conn = nil
	r.skipBuffered(c)
	clean := sent && r.keep && r.body.done && c.r == c.w
	c.end()
	if clean {
		c.pool.put(c)
		return
	}
	c.close()
}

// skipBuffered passes over the rest of a body that has already arrived, so that an
// answer nobody wanted does not cost its connection.
func (r *Response) skipBuffered(c *conn) {
	if r.body.done || r.body.kind != bodyLength || int64(c.w-c.r) < r.body.left {
		return
	}
	c.r += int(r.body.left)
	r.body.left, r.body.done = 0, true
}

// Conn gives the connection after a 101, with what the server has already sent on it.
// It belongs to the caller, who closes it; the pool has forgotten it.
func (r *Response) Conn() (net.Conn, error) {
	c := r.conn
	if c == nil || r.Status != 101 {
		return nil, errors.New("got no 101; want one before a tunnel")
	}
	r.conn = nil
	ahead := append([]byte(nil), c.buf[c.r:c.w]...)
	c.end()
	if err := c.SetDeadline(time.Time{}); err != nil {
		c.close()
		return nil, err
	}
	return &tunnel{conn: c, ahead: ahead}, nil
}

// tunnel is an upgraded connection.
type tunnel struct {
	*conn
	ahead []byte
}

// Read gives first what came behind the 101.
func (t *tunnel) Read(p []byte) (int, error) {
	if len(t.ahead) > 0 {
		n := copy(p, t.ahead)
		t.ahead = t.ahead[n:]
		return n, nil
	}
	return t.Conn.Read(p)
}

// CloseWrite ends our direction.
func (t *tunnel) CloseWrite() error {
	if half, ok := t.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// Close closes the connection.
func (t *tunnel) Close() error {
	t.close()
	return nil
}
