package transport

import (
	"errors"
	"io"
	"sync"
	"time"

	"golang.org/x/net/http2"

	"drover/exchange"
)

// h2stream is one exchange on an HTTP/2 connection. The connection's reader fills it,
// the goroutine of the exchange and its upload empty it.
type h2stream struct {
	c        *h2conn
	settings *settings
	method   []byte
	client   exchange.Windows // nil for one that takes all
	reused   bool             // an earlier exchange has used the connection
	begun    time.Time        // before the request was written

	// Both have room for one signal: something has come, and: the upload may go on, or
	// must end.
	events, room chan struct{}

	// under the connection's mu
	id          uint32 // 0 until the head is written
	sentAt      int64  // wire.sent before that
	head        exchange.Response
	noBody      bool
	interim     []exchange.Response // not yet passed on
	interims    int
	blocks      []h2data // of the body, oldest first
	unread      int      // bytes in blocks
	received    int64    // body bytes ever
	trailer     exchange.Header
	recvWindow  int64
	width       int64 // what recvWindow is when nothing waits; only the exchange's goroutine changes it
	credit      int64 // bytes read and not yet given back to the server
	sendWindow  int64
	starved     bool // the upload waits for a window
	remoteEnded bool // the answer is whole
	localEnded  bool // so is the request
	stopped     bool // no more of the request is to be sent
	wasReset    bool // by either side
	released    bool // the server's count of streams has it no more
	err         error
	untouched   bool // with err: the server's application has not seen the request
}

// h2data is a part of a body, in a pooled block.
type h2data struct {
	block *[]byte
	r, w  int
}

var (
	h2blocks      = sync.Pool{New: func() any { b := make([]byte, h2FirstFrame); return &b }}
	h2smallBlocks = sync.Pool{New: func() any { b := make([]byte, h2SmallWindow); return &b }}
)

// pool gives the pool of a stream's blocks: those of one whose client takes nothing yet
// are no larger than what can come.
func (s *h2stream) pool() *sync.Pool {
	if s.width == h2SmallWindow {
		return &h2smallBlocks
	}
	return &h2blocks
}

func (d *h2data) free() {
	if len(*d.block) == h2SmallWindow {
		h2smallBlocks.Put(d.block)
	} else {
		h2blocks.Put(d.block)
	}
	d.block = nil
}

var errReleased = errors.New("the exchange is over")

// takeData takes body bytes, under the connection's mu. Size counts padding too.
func (s *h2stream) takeData(data []byte, size int64, end bool) error {
	switch {
	case s.err != nil:
		return nil
	case s.remoteEnded:
		return http2.StreamError{StreamID: s.id, Code: http2.ErrCodeStreamClosed, Cause: protocolError("got bytes behind the end of the answer")}
	case s.head.Status == 0:
		return s.malformed(protocolf("got body bytes before the head"))
	case s.noBody && len(data) > 0:
		return s.malformed(protocolf("got a body with an answer that has none"))
	}
	if s.recvWindow -= size; s.recvWindow < 0 {
		return http2.StreamError{StreamID: s.id, Code: http2.ErrCodeFlowControl, Cause: protocolError("got more bytes than the window allows")}
	}
	s.received += int64(len(data))
	if want := s.head.ContentLength; want >= 0 && !s.noBody && s.received > want {
		return s.malformed(protocolf("got more bytes than Content-Length said"))
	}
	s.store(data)
	if end {
		return s.takeEnd()
	}
	if len(data) > 0 {
		signal(s.events)
	}
	return s.giveBack(size - int64(len(data)))
}

func (s *h2stream) store(data []byte) {
	s.unread += len(data)
	for len(data) > 0 {
		if n := len(s.blocks); n == 0 || s.blocks[n-1].w == len(*s.blocks[n-1].block) {
			s.blocks = append(s.blocks, h2data{block: s.pool().Get().(*[]byte)}) //nolint:forcetypeassert,errcheck // the pools hold nothing else.
		}
		last := &s.blocks[len(s.blocks)-1]
		n := copy((*last.block)[last.w:], data)
		last.w += n
		data = data[n:]
	}
}

// giveBack lets the server send n bytes more, in portions.
func (s *h2stream) giveBack(n int64) error {
	s.credit += n
	if s.remoteEnded || s.err != nil || s.wasReset || s.credit == 0 || s.credit < s.width/4 {
		return nil
	}
	grown := s.credit
	s.recvWindow += grown
	s.credit = 0
	return s.c.queue(s.c.control.WriteWindowUpdate(s.id, uint32(grown))) //nolint:gosec // at most the window.
}

// widen gives how much wider the stream's window may be, for a client that has got room:
// what it takes nothing of stays with the server. The caller holds mu but for room.
func (s *h2stream) widen(room int64) (by int64) {
	by = max(min(room, int64(s.settings.HTTP2.StreamWindow))-s.width, 0)
	s.width += by
	s.recvWindow += by
	return by
}

// clientRoom is how much the client takes, as far as that matters.
func (s *h2stream) clientRoom() int64 {
	if s.client == nil {
		return h2MaxWindow
	}
	return int64(s.client.Room())
}

// follow lets the server send more, once the client has room for it.
func (s *h2stream) follow() error {
	if s.width >= int64(s.settings.HTTP2.StreamWindow) {
		return nil
	}
	room := s.clientRoom()
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if s.remoteEnded || s.err != nil || s.wasReset {
		return nil
	}
	if by := s.widen(room); by > 0 {
		return s.c.queue(s.c.control.WriteWindowUpdate(s.id, uint32(by))) //nolint:gosec // at most the window.
	}
	return nil
}

// read gives body bytes, the error behind them, or io.EOF behind a whole answer.
func (s *h2stream) read(p []byte, w wait) (int, error) {
	if err := s.follow(); err != nil {
		s.c.die(err)
	}
	for {
		s.c.mu.Lock()
		switch {
		case s.unread > 0:
			n := s.unload(p)
			err := s.giveBack(int64(n))
			s.c.mu.Unlock()
			if err != nil {
				s.c.die(err)
			}
			return n, nil
		case s.remoteEnded:
			s.c.mu.Unlock()
			return 0, io.EOF
		case s.err != nil:
			err := s.err
			s.c.mu.Unlock()
			return 0, err
		}
		s.c.mu.Unlock()
		if err := s.await(w); err != nil {
			return 0, err
		}
	}
}

func (s *h2stream) unload(p []byte) (n int) {
	used := 0
	for i := range s.blocks {
		d := &s.blocks[i]
		m := copy(p[n:], (*d.block)[d.r:d.w])
		n += m
		if d.r += m; d.r < d.w {
			break
		}
		d.free()
		used++
	}
	rest := copy(s.blocks, s.blocks[used:])
	clear(s.blocks[rest:])
	s.blocks = s.blocks[:rest]
	s.unread -= n
	return n
}

// await waits until something has come, until w, or until the client is gone.
func (s *h2stream) await(w wait) error {
	select {
	case <-s.events:
		return nil
	default:
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for look := readSlice; ; look = min(2*look, maxReadSlice) {
		if w.head && w.r.Uploading() {
			look = readSlice // the wait has an end as soon as the upload has ended
		}
		slice := look
		if until := w.until(); !until.IsZero() {
			left := time.Until(until)
			if left <= 0 {
				return errTimeout
			}
			slice = min(slice, left)
		}
		timer.Reset(slice)
		select {
		case <-s.events:
			return nil
		case <-w.r.left:
			return errClientGone
		case <-timer.C:
		}
		if w.r.client.Gone() {
			return errClientGone
		}
	}
}

// buffered tells what can be read at once, 1 for an end.
func (s *h2stream) buffered() int {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if s.unread == 0 && (s.remoteEnded || s.err != nil) {
		return 1
	}
	return s.unread
}

// fail ends a stream whose answer will not be whole, under the connection's mu.
func (s *h2stream) fail(err error, untouched bool) {
	if s.err != nil || s.remoteEnded {
		return
	}
	s.err, s.untouched = err, untouched
	s.stopUpload()
	s.release()
	signal(s.events)
}

func (s *h2stream) stopUpload() {
	s.stopped = true
	signal(s.room)
}

// release gives the stream's place on the connection to another.
func (s *h2stream) release() {
	if s.released {
		return
	}
	s.released = true
	s.c.active--
	s.c.pool.h2.freed.tell()
}

// reset tells the server that the stream is over, under the connection's mu.
func (s *h2stream) reset(code http2.ErrCode) error {
	if s.id == 0 || s.wasReset || s.c.err != nil {
		return nil
	}
	s.wasReset = true
	return s.c.queue(s.c.control.WriteRSTStream(s.id, code))
}

// close ends the stream for good: what has not come or not gone never will.
func (s *h2stream) close() {
	c := s.c
	c.mu.Lock()
	var err error
	if !s.remoteEnded || !s.localEnded {
		err = s.reset(http2.ErrCodeCancel)
	}
	if s.err == nil {
		s.err = errReleased
	}
	s.stopUpload()
	s.release()
	for i := range s.blocks {
		s.blocks[i].free()
	}
	s.blocks, s.unread = nil, 0
	if s.id != 0 {
		delete(c.streams, s.id)
	}
	c.usedAt = time.Now()
	cfg := c.pool.settings.Load()
	unused := c.active == 0 && len(c.streams) == 0
	if unused && c.err == nil && cfg.IdleTimeout < cfg.HTTP2.PingAfter {
		c.tick.Reset(cfg.IdleTimeout) // else the timer runs out soon enough by itself
	}
	c.endIfUnused()
	c.mu.Unlock()
	switch {
	case err != nil:
		c.die(err)
	case unused && c.pool.h2.unused() > cfg.IdleConnections:
		c.retire()
	}
}
