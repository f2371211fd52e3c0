package transport

import (
	"errors"
	"net"
	"strconv"
	"sync"
	"time"

	"drover/backend"
	"drover/exchange"
)

// RoundTrip sends req to the server and reads the head of its answer into resp, which
// must be closed then. A deadline that is not the zero time bounds everything up to
// that head.
//
// The target and the fields go out as they are, but Host has the value of req.Host,
// and comes first where req.Header has none. A body is framed by req.ContentLength. It
// streams while the answer is awaited, so that a server may answer early. Interim
// answers are passed to ex.Client as they come.
//
// An error is an *Error. Whatever was begun is over then, and the connection closed.
func (p *Pool) RoundTrip(ex *exchange.Exchange, req *exchange.Request, deadline time.Time, resp *Response) error {
	c, h2, err := p.connect(ex, req, deadline)
	switch {
	case err == errUpgrade: //nolint:errorlint // it is this very value.
		return &Error{Failure: backend.FailureProtocol, Err: err}
	case err != nil:
		return &Error{Failure: backend.FailureConnect, Err: err}
	case h2 != nil:
		return p.roundTrip2(h2, ex, req, deadline, resp)
	}
	c.begin(ex.Windows)
	*resp = Response{conn: c, client: ex.Client, left: ex.Left, method: req.Method, deadline: deadline}
	if err := resp.send(req); err != nil {
		return resp.fail(err)
	}
	if err := resp.readHead(req); err != nil {
		return resp.fail(err)
	}
	return nil
}

// fail ends an exchange without a response head.
func (r *Response) fail(err error) error {
	c := r.conn
	untouched := c.untouched(err) // asked while the socket is still there
	uploadErr := r.abandonUpload()
	c.close()
	c.end()
	r.conn = nil
	if errors.Is(uploadErr, errBodySource) {
		return &Error{Failure: backend.FailureClient, MaybeExecuted: true, Err: uploadErr}
	}
	failed := &Error{Failure: failureOf(err, backend.FailureReset), MaybeExecuted: !untouched, Err: err}
	if untouched && failed.Failure == backend.FailureReset {
		if failed.Failure = backend.FailureConnect; c.reused {
			failed.Failure = backend.FailureStale
		}
	}
	return failed
}

// writeBuffers hold request heads with small bodies.
var writeBuffers = sync.Pool{New: func() any { b := make([]byte, 0, 4<<10); return &b }}

// maxInline is the largest body that is copied behind the head, to go out in one
// write.
const maxInline = 16 << 10

// send writes the request. A body that is not in memory is left to a goroutine.
func (r *Response) send(req *exchange.Request) error {
	c := r.conn
	buf := writeBuffers.Get().(*[]byte) //nolint:forcetypeassert,errcheck // the pool holds nothing else.
	defer writeBuffers.Put(buf)
	head := appendHead((*buf)[:0], req, c.pool.id)
	chunked := req.Body != nil && req.ContentLength == exchange.LengthUnknown
	whole := req.Body == nil || req.Buffered != nil && !chunked
	if err := c.SetWriteDeadline(time.Now().Add(c.settings.BodyIdleTimeout)); err != nil {
		return err
	}
	if whole && len(req.Buffered) > maxInline {
		*buf = head
		parts := net.Buffers{head, req.Buffered}
		_, err := parts.WriteTo(c.Conn)
		r.sentAt = time.Now()
		return err
	}
	if whole {
		head = append(head, req.Buffered...)
	}
	*buf = head
	_, err := c.Write(head)
	r.sentAt = time.Now()
	if err == nil && !whole {
		r.startUpload(req, chunked)
	}
	return err
}

func appendHead(dst []byte, req *exchange.Request, id backend.ID) []byte {
	dst = append(dst, req.Method...)
	dst = append(dst, ' ')
	dst = append(dst, req.Target...)
	dst = append(dst, " HTTP/1.1\r\n"...)
	if !req.Header.Has("Host") {
		dst = append(dst, "Host: "...)
		dst = appendHost(dst, req, id)
		dst = append(dst, "\r\n"...)
	}
	for i := range req.Header {
		f := &req.Header[i]
		dst = append(dst, f.Name...)
		dst = append(dst, ": "...)
		if exchange.EqualFold(f.Name, "Host") {
			dst = appendHost(dst, req, id)
		} else {
			dst = append(dst, f.Value...)
		}
		dst = append(dst, "\r\n"...)
	}
	return append(dst, "\r\n"...)
}

func appendHost(dst []byte, req *exchange.Request, id backend.ID) []byte {
	if len(req.Host) == 0 {
		return append(dst, id.Address()...)
	}
	return append(dst, req.Host...)
}

// maxInterim bounds the interim answers to one request.
const maxInterim = 100

// readHead reads answers until the final one's head.
func (r *Response) readHead(req *exchange.Request) error {
	w := wait{r: r, head: true}
	for range maxInterim {
		if err := r.parseHead(w); err != nil {
			return err
		}
		switch {
		case r.Status == 101:
			if req.Upgrade == "" {
				return protocolf("got 101 without having asked for an upgrade")
			}
			r.body.kind = bodyNone
			return nil
		case r.Status >= 200:
			return r.frame()
		default:
			if err := r.client.Inform(&r.Response); err != nil {
				return errClientGone
			}
		}
		r.conn.base = 0 // an interim head has been passed on; its bytes are free
	}
	return protocolf("got more than %d interim answers", maxInterim)
}

// headUntil is when the wait for the head ends: the time-out runs from the end of the
// request.
func (r *Response) headUntil() time.Time {
	sent := r.sentAt
	if r.upload != nil {
		if sent = r.upload.ended(); sent.IsZero() {
			return r.deadline
		}
	}
	until := sent.Add(r.config().ResponseHeaderTimeout)
	if !r.deadline.IsZero() && r.deadline.Before(until) {
		return r.deadline
	}
	return until
}

// parseHead reads one head. Its fields are views into the connection's buffer.
func (r *Response) parseHead(w wait) error {
	c := r.conn
	limit := int(c.settings.MaxResponseHeaderSize)
	end, err := c.headEnd(limit, w)
	if err != nil {
		return err
	}
	head := c.buf[c.r : c.r+end]
	c.r += end
	c.base = c.r
	line, rest := cutLine(head)
	if r.ProtoMinor, r.Status, r.Reason, err = parseStatusLine(line); err != nil {
		return err
	}
	c.fields, err = parseFields(c.fields[:0], rest)
	r.Header = c.fields
	return err
}

// headEnd waits until a whole head is in the buffer, and gives its length. Nothing
// that is buffered moves before.
func (c *conn) headEnd(limit int, w wait) (int, error) {
	lineStart, at := 0, 0
	for {
		unread := c.buf[c.r:c.w]
		for ; at < min(len(unread), limit); at++ {
			if unread[at] != '\n' {
				continue
			}
			if at == 0 || unread[at-1] != '\r' {
				return 0, protocolf("got a header line that ends in a bare LF")
			}
			if at-lineStart == 1 {
				if lineStart == 0 {
					return 0, protocolf("got an empty line; want a status line")
				}
				return at + 1, nil
			}
			lineStart = at + 1
		}
		if at == limit {
			return 0, protocolf("got a response head of more than %d bytes", limit)
		}
		if err := c.fill(w); err != nil {
			return 0, eofIsCut(err)
		}
	}
}

// cutLine takes the first line, which ends in CRLF.
func cutLine(b []byte) (line, rest []byte) {
	for i := range b {
		if b[i] == '\n' {
			return b[:i-1], b[i+1:]
		}
	}
	return b, nil
}

// parseFields reads lines up to the empty one.
func parseFields(dst exchange.Header, b []byte) (exchange.Header, error) {
	for {
		var line []byte
		line, b = cutLine(b)
		if len(line) == 0 {
			return dst, nil
		}
		if line[0] == ' ' || line[0] == '\t' {
			return dst, protocolf("got a folded header line; want one line per field")
		}
		if len(dst) == maxFields {
			return dst, protocolf("got more than %d header fields", maxFields)
		}
		f, err := parseField(line)
		if err != nil {
			return dst, err
		}
		dst = append(dst, f)
	}
}

// chunkHeadRoom is the most that a chunk's first line takes: 16 digits and CRLF.
const chunkHeadRoom = 18

// appendChunkHead writes a chunk's first line.
func appendChunkHead(dst []byte, n int) []byte {
	return append(strconv.AppendInt(dst, int64(n), 16), "\r\n"...)
}
