package proxy

import (
	"errors"
	"io"
	"sync"

	"drover/exchange"
)

// replay keeps the beginning of a request's body, so that it can be sent again. It
// reads the client in a goroutine of its own: an attempt that fails while the client
// has nothing more to say yet must end without breaking the client's body off.
//
// It stands before the client for the attempts, which end a body by AbortBody.
type replay struct {
	exchange.Client

	// immutable from keep to close
	via    exchange.Exchange // what the attempts see
	source io.Reader
	length int64 // as exchange.Request.ContentLength
	limit  int64 // most bytes kept

	filled chan struct{} // closed when nothing fills any more; nil before the first Read

	// under mu
	mu      sync.Mutex
	changed sync.Cond
	chunks  []*[]byte // nil where sent and not to be sent again
	kept    int64     // bytes read from the client by fill
	sent    int64     // bytes of them that this attempt has taken
	filling bool
	over    bool  // nothing is sent again: what was sent is dropped
	aborted bool  // this attempt is over
	err     error // behind the kept bytes; io.EOF when they are all
}

// replayChunk is the unit of what is kept.
const replayChunk = 32 << 10

var (
	replays = sync.Pool{New: func() any {
		r := &replay{}
		r.changed.L = &r.mu
		return r
	}}
	replayChunks = sync.Pool{New: func() any { b := make([]byte, replayChunk); return &b }}
)

var errAttemptOver = errors.New("the attempt that sends the request's body is over")

// keep starts to keep the body of ex, which source reads.
func keep(ex *exchange.Exchange, source io.Reader, limit int64) *replay {
	r := replays.Get().(*replay) //nolint:forcetypeassert,errcheck // the pool holds nothing else.
	r.Client, r.source, r.length, r.limit = ex.Client, source, ex.Request.ContentLength, limit
	r.via = *ex
	r.via.Client = r
	return r
}

// rewind begins the next attempt.
func (r *replay) rewind() {
	r.mu.Lock()
	r.sent, r.aborted = 0, false
	r.mu.Unlock()
}

// ready reports whether the whole body can be sent once more.
func (r *replay) ready() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.over && (r.err == nil || r.err == io.EOF) //nolint:errorlint // io.Reader's contract is this very value.
}

// open reports whether the client's body has not been read to its end.
func (r *replay) open() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err == nil
}

// forgo gives up sending again, and the memory with it.
func (r *replay) forgo() {
	r.mu.Lock()
	r.over = true
	r.mu.Unlock()
}

// Read implements io.Reader for one attempt at a time.
func (r *replay) Read(p []byte) (int, error) {
	n, err, direct := r.next(p)
	if !direct {
		return n, err
	}
	// fill has ended: the rest is this goroutine's.
	n, err = r.source.Read(p)
	if err != nil {
		r.mu.Lock()
		r.err = err
		r.mu.Unlock()
	}
	return n, err
}

// next waits for kept bytes, or says that the rest comes from the client directly.
func (r *replay) next(p []byte) (n int, err error, direct bool) { //nolint:staticcheck // the error is what is read, not how next went.
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.filled == nil && !r.aborted {
		r.filled, r.filling = make(chan struct{}), true
		go r.fill(r.filled)
	}
	for !r.aborted && r.sent == r.kept && r.filling {
		r.changed.Wait()
	}
	switch {
	case r.aborted:
		return 0, errAttemptOver, false
	case r.sent < r.kept:
		return r.take(p), nil, false
	case r.err != nil:
		return 0, r.err, false
	default:
		return 0, nil, true
	}
}

// take gives kept bytes. The caller holds mu.
func (r *replay) take(p []byte) int {
	i, off := int(r.sent/replayChunk), r.sent%replayChunk
	n := copy(p, (*r.chunks[i])[off:min(replayChunk, off+r.kept-r.sent)])
	r.sent += int64(n)
	if r.over {
		r.drop(int(r.sent / replayChunk))
	}
	return n
}

// drop frees the first chunks, which are full and sent. The caller holds mu.
func (r *replay) drop(n int) {
	for i, chunk := range r.chunks[:n] {
		if chunk != nil {
			replayChunks.Put(chunk)
			r.chunks[i] = nil
		}
	}
}

// fill reads the client until the body ends or is too long to be kept.
func (r *replay) fill(filled chan struct{}) {
	defer close(filled)
	for {
		n, err := r.source.Read(r.room())
		if !r.add(n, err) {
			return
		}
	}
}

// room gives where the next bytes go. One more than may be kept shows that the body
// is too long.
func (r *replay) room() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.kept == int64(len(r.chunks))*replayChunk {
		r.chunks = append(r.chunks, replayChunks.Get().(*[]byte)) //nolint:forcetypeassert,errcheck // the pool holds nothing else.
	}
	off := r.kept % replayChunk
	return (*r.chunks[len(r.chunks)-1])[off:min(replayChunk, off+r.limit+1-r.kept)]
}

// add notes what was read, and reports whether to go on.
func (r *replay) add(n int, err error) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.kept += int64(n)
	if err == nil && r.kept == r.length {
		err = io.EOF // nobody has to wait for that which cannot but come.
	}
	r.err = err
	r.over = r.over || r.kept > r.limit
	r.filling = err == nil && !r.over
	r.changed.Broadcast()
	return r.filling
}

// AbortBody implements exchange.Client: it ends the attempt's reads. The client's
// body is broken off only when no other attempt can come.
func (r *replay) AbortBody() {
	r.mu.Lock()
	r.aborted = true
	over := r.over
	r.changed.Broadcast()
	r.mu.Unlock()
	if over {
		r.Client.AbortBody()
	}
}

// close ends the reading and gives the memory back. No attempt may run any more.
func (r *replay) close() {
	if r.filled != nil {
		if r.open() {
			r.Client.AbortBody()
		}
		<-r.filled
	}
	for _, chunk := range r.chunks {
		if chunk != nil {
			replayChunks.Put(chunk)
		}
	}
	clear(r.chunks)
	r.Client, r.source, r.via, r.filled = nil, nil, exchange.Exchange{}, nil
	r.chunks, r.kept, r.sent = r.chunks[:0], 0, 0
	r.filling, r.over, r.aborted, r.err = false, false, false, nil
	replays.Put(r)
}
