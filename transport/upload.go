package transport

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"drover/exchange"
)

// errBodySource marks an upload that ended since the client's body broke.
var errBodySource = errors.New("the request's body broke")

// upload streams a request's body while its answer is awaited.
type upload struct {
	done    chan struct{}
	endedAt atomic.Int64 // Unix nanoseconds; 0 while it runs

	// read after done
	err error
}

// ended is when the upload ended, the zero time while it runs.
func (u *upload) ended() time.Time {
	if ns := u.endedAt.Load(); ns != 0 {
		return time.Unix(0, ns)
	}
	return time.Time{}
}

// copyBuffers hold bodies on their way to servers, with room for a chunk's frame
// around them.
var copyBuffers = sync.Pool{New: func() any { b := make([]byte, copyBufferSize); return &b }}

const copyBufferSize = 32 << 10

func (r *Response) startUpload(req *exchange.Request, chunked bool) {
	u, c := &upload{done: make(chan struct{})}, r.conn
	r.upload = u
	go func() {
		defer close(u.done)
		u.err = c.sendBody(req, chunked)
		u.endedAt.Store(time.Now().UnixNano())
		if errors.Is(u.err, errBodySource) {
			// Half a body must never look whole to the server, nor keep it waiting.
			c.close()
		}
	}()
}

// sendBody copies the body to the server, framed as the request's head says.
func (c *conn) sendBody(req *exchange.Request, chunked bool) error {
	buf := copyBuffers.Get().(*[]byte) //nolint:forcetypeassert,errcheck // the pool holds nothing else.
	defer copyBuffers.Put(buf)
	left := req.ContentLength
	for {
		room := (*buf)[chunkHeadRoom : len(*buf)-len("\r\n")]
		n, err := req.Body.Read(room)
		if n > 0 {
			if !chunked {
				if left -= int64(n); left < 0 {
					return fmt.Errorf("%w: more bytes than Content-Length said", errBodySource)
				}
			}
			if werr := c.writePart(*buf, n, chunked); werr != nil {
				return werr
			}
		}
		switch {
		case err == io.EOF && chunked: //nolint:errorlint // io.Reader's contract is this very value.
			return c.writeEnd(req)
		case err == io.EOF && left > 0: //nolint:errorlint // see above.
			return fmt.Errorf("%w: %w", errBodySource, io.ErrUnexpectedEOF)
		case err == io.EOF: //nolint:errorlint // see above.
			return nil
		case err != nil:
			return fmt.Errorf("%w: %w", errBodySource, err)
		}
	}
}

// writePart writes the n bytes that stand behind the room for a chunk's frame.
func (c *conn) writePart(buf []byte, n int, chunked bool) error {
	part := buf[chunkHeadRoom : chunkHeadRoom+n]
	if chunked {
		var line [chunkHeadRoom]byte
		head := appendChunkHead(line[:0], n)
		start := chunkHeadRoom - len(head)
		copy(buf[start:], head)
		part = append(buf[start:chunkHeadRoom+n], "\r\n"...)
	}
	return c.writeAll(part)
}

// writeEnd writes the last chunk and the trailers.
func (c *conn) writeEnd(req *exchange.Request) error {
	end := []byte("0\r\n")
	if req.Trailer != nil {
		for _, f := range req.Trailer() {
			end = append(append(append(append(end, f.Name...), ": "...), f.Value...), "\r\n"...)
		}
	}
	return c.writeAll(append(end, "\r\n"...))
}

// writeAll writes p. The idle time-out runs anew whenever the server takes something.
func (c *conn) writeAll(p []byte) error {
	for len(p) > 0 {
		if err := c.SetWriteDeadline(time.Now().Add(c.settings.BodyIdleTimeout)); err != nil {
			return err
		}
		n, err := c.Write(p)
		p = p[n:]
		if err != nil && n == 0 {
			return err
		}
	}
	return nil
}

// uploadGrace is how long a finished answer waits for an upload that is about to end:
// a server that has read everything answers before our goroutine has said so.
const uploadGrace = 20 * time.Millisecond

// finishUpload reports whether the whole request was sent. Where not, nothing more of
// it is read or sent.
func (r *Response) finishUpload() bool {
	if r.upload == nil {
		return true
	}
	select {
	case <-r.upload.done:
	default:
		grace := time.NewTimer(uploadGrace)
		defer grace.Stop()
		select {
		case <-r.upload.done:
		case <-grace.C:
		}
	}
	return r.abandonUpload() == nil
}

var errAbandoned = errors.New("the answer came before the whole request was sent")

// abandonUpload ends the upload, if it still runs, and gives its error.
func (r *Response) abandonUpload() error {
	u := r.upload
	if u == nil {
		return nil
	}
	r.upload = nil
	if !u.ended().IsZero() {
		<-u.done
		return u.err
	}
	r.client.AbortBody()
	if r.stream != nil {
		r.stream.stop()
	} else {
		r.conn.close() // unblocks a write to the server
	}
	<-u.done
	if u.err == nil {
		return nil
	}
	return errAbandoned
}

// Uploading reports whether the request's body is still on its way.
func (r *Response) Uploading() bool { return r.upload != nil && r.upload.ended().IsZero() }
