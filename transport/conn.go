package transport

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"drover/exchange"
)

// wire counts what is written to a TCP connection, TLS records included.
type wire struct {
	net.Conn
	sent atomic.Int64
}

func (w *wire) Write(p []byte) (int, error) {
	// Counted before, for another goroutine may ask as soon as the server can answer.
	w.sent.Add(int64(len(p)))
	n, err := w.Conn.Write(p)
	w.sent.Add(int64(n - len(p)))
	return n, err
}

// CloseWrite ends our direction.
func (w *wire) CloseWrite() error {
	if half, ok := w.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// conn is one connection to a server. It belongs to one exchange at a time.
type conn struct {
	net.Conn
	pool     *Pool
	settings *settings
	wire     *wire
	records  *records // nil without TLS

	raw    syscall.RawConn
	probe  func(fd uintptr)
	events int16

	idleSince time.Time
	reused    bool
	single    bool  // it names a client, and serves one exchange
	fresh     bool  // in the pool without having been used
	sentAt    int64 // wire.sent when the running exchange began to write

	// buf holds what was read and not yet used at [r:w]. What stands before base, the
	// head that the fields point into, is left alone until the exchange ends.
	buf        []byte
	pooled     *[]byte
	from       *sync.Pool // the pool of pooled
	base, r, w int
	fields     exchange.Header

	h2 *h2conn // of a connection that speaks HTTP/2; the rest is its own then

	closing sync.Once
}

func (c *conn) close() {
	c.closing.Do(func() {
		_ = c.Conn.Close() // whatever it says, the connection is not used again.
		c.pool.counts.open.Add(-1)
	})
}

// readSlice is how long a read waits before it looks whether the client is still
// there. It doubles up to maxReadSlice: an event stream that is silent for hours must
// not wake the process ten times a second.
const (
	readSlice    = 100 * time.Millisecond
	maxReadSlice = 2 * time.Second
)

// A wait bounds a read: by a time, and by the client's presence. It is a value without
// closures, since every read has one.
type wait struct {
	r    *Response
	head bool      // wait as for a response's head
	at   time.Time // otherwise until then
}

// until is when the wait ends, the zero time for never.
func (w wait) until() time.Time {
	if w.head {
		return w.r.headUntil()
	}
	return w.at
}

// fill reads more into the buffer.
func (c *conn) fill(w wait) error {
	if c.r == c.w {
		c.r, c.w = c.base, c.base
	}
	if room := len(c.buf) - c.w; room == 0 || c.r == c.w && room < min(minRead, len(c.buf)) {
		c.makeRoom()
	}
	n, err := c.readSome(c.buf[c.w:], w)
	c.w += n
	if n > 0 {
		return nil
	}
	return err
}

// minRead is the least room that a read is given.
const minRead = 4 << 10

// makeRoom makes space behind the unread bytes, without touching what the fields
// point into.
func (c *conn) makeRoom() {
	unread := c.buf[c.r:c.w]
	if c.r > c.base && len(c.buf)-c.base-len(unread) >= minRead {
		copy(c.buf[c.base:], unread)
		c.r, c.w = c.base, c.base+len(unread)
		return
	}
	size := 2*len(unread) + minRead
	if c.base > 0 || c.from != &smallBuffers {
		size = max(size, bufferSize) // more than the head is read.
	}
	next := make([]byte, size)
	copy(next, unread)
	c.buf, c.base, c.r, c.w = next, 0, 0, len(unread)
}

// readSome reads at least one byte, or says why not.
func (c *conn) readSome(p []byte, w wait) (int, error) {
	n, err := c.readWithin(readSlice, p, w)
	if n > 0 || err != nil {
		return n, err
	}
	defer c.endReads(w.r.left)()
	for look := 2 * readSlice; ; look = min(2*look, maxReadSlice) {
		if w.head && w.r.Uploading() {
			look = readSlice // the wait has an end as soon as the upload has ended
		}
		if n, err = c.readWithin(look, p, w); n > 0 || err != nil {
			return n, err
		}
	}
}

// readWithin reads what comes within a time. It gives nothing if nothing does, and the
// client is still there.
func (c *conn) readWithin(look time.Duration, p []byte, w wait) (int, error) {
	now := time.Now()
	slice := now.Add(look)
	if until := w.until(); !until.IsZero() {
		if !now.Before(until) {
			return 0, errTimeout
		}
		if until.Before(slice) {
			slice = until
		}
	}
	if err := c.SetReadDeadline(slice); err != nil {
		return 0, err
	}
	select {
	case <-w.r.left: // endReads may have set its deadline before ours.
		return 0, errClientGone
	default:
	}
	n, err := c.Conn.Read(p)
	switch {
	case n > 0:
		return n, nil
	case err != nil && !errors.Is(err, os.ErrDeadlineExceeded):
		return 0, err
	case err != nil && w.r.client.Gone():
		return 0, errClientGone
	}
	return 0, nil
}

// endReads ends reads as soon as left is closed, until it is stopped. Only what has to
// wait for long is worth its goroutine.
func (c *conn) endReads(left <-chan struct{}) (stop func()) {
	if left == nil {
		return func() {}
	}
	over, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case <-left:
			_ = c.SetReadDeadline(time.Unix(1, 0)) // it fails on a closed connection only.
		case <-over:
		}
	}()
	return func() {
		close(over)
		<-ended
	}
}

// line gives the bytes up to CRLF, and uses them up. It is a view.
func (c *conn) line(limit int, w wait) ([]byte, error) {
	for searched := 0; ; {
		unread := c.buf[c.r:c.w]
		if i := bytes.IndexByte(unread[searched:], '\n'); i >= 0 {
			end := searched + i
			if end > limit {
				break
			}
			c.r += end + 1
			if end == 0 || unread[end-1] != '\r' {
				return nil, protocolf("got a line that ends in a bare LF")
			}
			return unread[:end-1], nil
		}
		if searched = len(unread); searched > limit {
			break
		}
		if err := c.fill(w); err != nil {
			return nil, eofIsCut(err)
		}
	}
	return nil, protocolf("got a line of more than %d bytes", limit)
}

// eofIsCut turns an end where there must be more into a cut.
func eofIsCut(err error) error {
	if err == io.EOF { //nolint:errorlint // net.Conn's contract is this very value.
		return io.ErrUnexpectedEOF
	}
	return err
}

// bufferSize is what a connection in use reads into; a head that needs more gets it.
const bufferSize = 16 << 10

// buffers holds read buffers; connections that wait for work have none. Those in
// smallBuffers are for an answer that the client takes nothing of yet: it is read no
// further than to its head.
var (
	buffers      = sync.Pool{New: func() any { b := make([]byte, bufferSize); return &b }}
	smallBuffers = sync.Pool{New: func() any { b := make([]byte, smallBufferSize); return &b }}
)

const smallBufferSize = 2 << 10

func (c *conn) begin(client exchange.Windows) {
	if c.from = &buffers; client != nil && client.Room() < minRead {
		c.from = &smallBuffers
	}
	c.pooled = c.from.Get().(*[]byte) //nolint:forcetypeassert,errcheck // the pools hold nothing else.
	c.buf, c.base, c.r, c.w = *c.pooled, 0, 0, 0
	c.fields = c.fields[:0]
	c.sentAt = c.wire.sent.Load()
}

// end gives the buffer back. Nothing may point into it any more.
func (c *conn) end() {
	if c.pooled != nil {
		c.from.Put(c.pooled)
	}
	c.pooled, c.from, c.buf = nil, nil, nil
	c.base, c.r, c.w = 0, 0, 0
}
