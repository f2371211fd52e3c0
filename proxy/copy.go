package proxy

import (
	"io"
	"sync"

	"drover/backend"
)

const (
	// copyBufferSize is how much of a body is in memory at once.
	copyBufferSize = 32 << 10
	// smallCopySize is that for a client that has little room, and no less is read for
	// one: bodies must not be read byte by byte.
	smallCopySize = 1 << 10
)

// Bodies pass through these. A body that does not get on, since its client has no room,
// holds none of them.
var (
	copyBuffers      = sync.Pool{New: func() any { b := make([]byte, copyBufferSize); return &b }}
	smallCopyBuffers = sync.Pool{New: func() any { b := make([]byte, smallCopySize); return &b }}
)

// copyBody streams the server's body. What is not followed at once by more goes out
// at once, the head alone too: an event stream must not wait for a buffer to fill.
func (rq *request) copyBody(body io.Reader) backend.Failure {
	for {
		if rq.resp.Buffered() == 0 {
			if err := rq.ex.Client.Flush(); err != nil {
				rq.gone()
				return backend.FailureClient
			}
		}
		room := copyBufferSize
		if w := rq.ex.Windows; w != nil {
			if room = w.Room(); room == 0 {
				if err := w.AwaitRoom(); err != nil {
					rq.gone()
					return backend.FailureClient
				}
				room = w.Room()
			}
		}
		if failure, ended := rq.copySome(body, room); ended {
			return failure
		}
	}
}

// copySome passes on what one read of the server's body gives, and about as much as there
// is room for at most.
func (rq *request) copySome(body io.Reader, room int) (failure backend.Failure, ended bool) {
	pool := &copyBuffers
	if room < smallCopySize {
		pool, room = &smallCopyBuffers, smallCopySize
	}
	buf := pool.Get().(*[]byte) //nolint:forcetypeassert,errcheck // the pools hold nothing else.
	defer pool.Put(buf)
	n, err := body.Read((*buf)[:min(room, len(*buf))])
	if n > 0 {
		if _, werr := rq.ex.Client.Write((*buf)[:n]); werr != nil {
			rq.gone()
			return backend.FailureClient, true
		}
		rq.ex.Result.Sent += int64(n)
	}
	switch {
	case err == io.EOF: //nolint:errorlint // io.Reader's contract is this very value.
		return backend.FailureNone, true
	case err != nil:
		return rq.bodyFailed(err), true
	}
	return backend.FailureNone, false
}
