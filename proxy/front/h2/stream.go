package h2

import (
	"io"
	"sync/atomic"
	"time"

	"drover/exchange"

	"golang.org/x/net/http2"
)

// earnings count what handlers have done for a connection's purse.
type earnings struct{ n atomic.Int64 }

func (e *earnings) add(n int64) { e.n.Add(n) }
func (e *earnings) take() int64 { return e.n.Swap(0) }

// recent remembers the streams that we have reset last: their client may not have
// heard, and frames of theirs are no fault.
type recent struct {
	ids  [64]uint32
	next int
}

func (r *recent) add(id uint32) {
	r.ids[r.next] = id
	r.next = (r.next + 1) % len(r.ids)
}

// forget is for a stream whose client has heard. It reports whether it was known.
func (r *recent) forget(id uint32) bool {
	for i, known := range r.ids {
		if known == id {
			r.ids[i] = 0
			return true
		}
	}
	return false
}

func (r *recent) has(id uint32) bool {
	for _, known := range r.ids {
		if known == id {
			return true
		}
	}
	return false
}

// stream is one request and its answer.
type stream struct {
	// immutable
	conn   *Conn
	id     uint32
	fields exchange.Header // of the request; their bytes are the stream's own
	head   requestHead

	// under conn.mu
	in         []byte // body bytes that nobody has read yet, from off on
	off        int
	inEnded    bool  // the client has said all
	inErr      error // or it will not
	received   int64 // body bytes that came
	recvWindow int64 // what the client may still send
	unreported int64 // what was read since the last WINDOW_UPDATE
	sendWindow int64
	sentEnd    bool
	over       bool      // reset by either side, or the connection broke
	readBy     time.Time // a tunnel's read deadline
	writeBy    time.Time
	trailer    exchange.Header

	readable chan struct{} // of capacity 1: in, inEnded, inErr or readBy changed
	writable chan struct{} // of capacity 1: a window, over or writeBy changed

	answer
}

func (c *Conn) newStream(id uint32) *stream {
	return &stream{
		conn: c, id: id, recvWindow: streamWindow, sendWindow: c.peerInitial,
		readable: make(chan struct{}, 1), writable: make(chan struct{}, 1),
	}
}

func wake(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// breakOff ends a stream that the client, or the connection, has broken. The caller
// holds mu.
func (s *stream) breakOff(err error) {
	s.over = true
	if !s.inEnded && s.inErr == nil {
		s.inErr = err
	}
	wake(s.readable)
	wake(s.writable)
}

// remove forgets a stream whose both sides have ended. The caller holds mu.
func (c *Conn) remove(s *stream) {
	if c.streams[s.id] == s {
		delete(c.streams, s.id)
	}
}

// reset breaks a stream off from our side.
func (s *stream) reset(code http2.ErrCode) {
	c := s.conn
	c.mu.Lock()
	done := s.over || s.inEnded && s.sentEnd
	if !done {
		s.breakOff(io.ErrUnexpectedEOF)
		c.remove(s)
		c.recent.add(s.id)
	}
	c.mu.Unlock()
	if !done {
		c.control(func(dst []byte) []byte { return appendReset(dst, s.id, code) })
	}
}

// Read implements io.Reader for the request's body. See exchange.Request.Body.
func (s *stream) Read(p []byte) (int, error) {
	c := s.conn
	var idle *time.Timer
	for {
		c.mu.Lock()
		n, err := s.take(p)
		by := s.readBy
		c.mu.Unlock()
		if n > 0 || err != nil || len(p) == 0 {
			return n, err
		}
		if err := s.askOn(); err != nil {
			return 0, err
		}
		if idle == nil {
			idle = time.NewTimer(s.patience(by))
			defer idle.Stop()
		}
		select {
		case <-s.readable:
		case <-idle.C:
			return 0, s.impatient()
		}
		if s.tunnel {
			idle.Reset(s.patience(s.deadline()))
		}
	}
}

// forever is longer than any connection.
const forever = 1000 * time.Hour

func (s *stream) deadline() time.Time {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	return s.readBy
}

// patience is how long a read may wait.
func (s *stream) patience(by time.Time) time.Duration {
	switch {
	case !s.tunnel:
		return s.conn.opts.Limits().BodyIdle
	case by.IsZero():
		return forever
	}
	return time.Until(by)
}

// take reads what is there, and gives the client room for as much. The caller holds mu.
func (s *stream) take(p []byte) (int, error) {
	c := s.conn
	n := copy(p, s.in[s.off:])
	if n == 0 {
		switch {
		case s.inErr != nil:
			return 0, s.inErr
		case s.inEnded:
			return 0, io.EOF
		}
		return 0, nil
	}
	if s.off += n; s.off == len(s.in) {
		s.in, s.off = s.in[:0], 0
	}
	s.credit(int64(n))
	c.credit(int64(n))
	return n, nil
}

// credit gives back room for n bytes, once it is worth a frame. The caller holds mu.
func (s *stream) credit(n int64) {
	if s.inEnded || s.over {
		return
	}
	if s.unreported += n; s.unreported >= streamWindow/2 {
		n, s.unreported = s.unreported, 0
		s.recvWindow += n
		s.conn.control(func(dst []byte) []byte { return appendWindow(dst, s.id, n) })
	}
}

func (c *Conn) credit(n int64) {
	if c.unreported += n; c.unreported >= connWindow/4 {
		n, c.unreported = c.unreported, 0
		c.recvWindow += n
		c.control(func(dst []byte) []byte { return appendWindow(dst, 0, n) })
	}
}

// dropInput gives back the room of what nobody will read.
func (s *stream) dropInput() {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	n := int64(len(s.in) - s.off)
	s.in, s.off = nil, 0
	s.conn.credit(n)
}

// room takes from the windows what may be sent of n bytes. With nothing to take it
// waits, unless that is not wanted.
func (s *stream) room(n int, wait bool) (int, error) {
	c := s.conn
	var idle *time.Timer
	for {
		c.mu.Lock()
		got := min(int64(n), c.sendWindow, s.sendWindow, c.peerMaxFrame)
		switch {
		case s.over:
			c.mu.Unlock()
			return 0, errReset
		case got > 0:
			c.sendWindow -= got
			s.sendWindow -= got
			c.sentAt = time.Now()
			c.mu.Unlock()
			return int(got), nil
		case !wait:
			c.mu.Unlock()
			return 0, nil
		}
		c.stall()
		limit := c.opts.Limits().WriteIdle
		if !s.writeBy.IsZero() {
			limit = min(limit, time.Until(s.writeBy))
		}
		c.mu.Unlock()
		if idle == nil {
			idle = time.NewTimer(limit)
			defer idle.Stop()
		}
		timedOut := false
		select {
		case <-s.writable:
		case <-idle.C:
			timedOut = true
		}
		c.mu.Lock()
		c.stalled--
		c.mu.Unlock()
		if timedOut {
			return 0, errSlowReader
		}
	}
}
