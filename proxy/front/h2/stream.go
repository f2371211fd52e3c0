package h2

import (
	"io"
	"os"
	"sync"
	"time"

	"drover/exchange"
	"drover/proxy/front/pace"

	"golang.org/x/net/http2"
)

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
	away   chan struct{} // closed once over: exchange.Exchange.Left

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

	// under inviting, which orders a 100 and the answer for a client that expects one
	inviting sync.Mutex
	invited  bool // it got a 100
	answered bool

	pace pace.Pace // of the request's body; its reader's

	answer
}

func (c *Conn) newStream(id uint32) *stream {
	return &stream{
		conn: c, id: id, away: make(chan struct{}), recvWindow: streamWindow, sendWindow: c.peerInitial,
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
	if !s.over {
		close(s.away)
	}
	s.over = true
	s.conn.orphan(s)
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
	var began time.Time // of the wait, zero for none
	var alarm *time.Timer
	for {
		n, err := s.tryRead(p)
		if n > 0 || err != nil || len(p) == 0 {
			s.keepPace(began, n)
			return n, err
		}
		if err := s.askOn(); err != nil {
			return 0, err
		}
		if began.IsZero() {
			began = time.Now()
		}
		left := time.Until(s.readLimit(began))
		if alarm == nil {
			alarm = time.NewTimer(left)
			defer alarm.Stop()
		} else {
			alarm.Reset(left)
		}
		select {
		case <-s.readable:
		case <-alarm.C:
			if !s.hindered() {
				return 0, s.impatient()
			}
			began = time.Time{}
		}
	}
}

func (s *stream) tryRead(p []byte) (int, error) {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	if passed(s.readBy) {
		return 0, os.ErrDeadlineExceeded
	}
	return s.take(p)
}

// keepPace counts a read that has waited from the given time on, zero for not at all.
func (s *stream) keepPace(began time.Time, n int) {
	var waited time.Duration
	if !began.IsZero() {
		waited = time.Since(began)
	}
	s.pace.Count(waited, n)
}

// forever is longer than any connection.
const forever = 1000 * time.Hour

// readLimit is when a read that waits from the given time on has waited for too long.
func (s *stream) readLimit(began time.Time) time.Time {
	if !s.tunnel {
		limits := s.conn.opts.Limits()
		return s.pace.Limit(began, limits.BodyIdle, limits.MinBodyRate)
	}
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	if s.readBy.IsZero() {
		return began.Add(forever)
	}
	return s.readBy
}

// hindered reports whether the client may send nothing, since others of its bodies that
// nobody reads take up the connection's window. That is no fault of the client's.
func (s *stream) hindered() bool {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	return !s.tunnel && s.conn.recvWindow < minFrame
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
