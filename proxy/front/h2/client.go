package h2

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"drover/exchange"
	"drover/proxy/front/pseudo"

	"golang.org/x/net/http2"
)

// Errors of clients.
var (
	errReset      = errors.New("the client has given the stream up")
	errSlowReader = fmt.Errorf("the client takes nothing of the answer: %w", os.ErrDeadlineExceeded)
	errAborted    = errors.New("reading the request body was broken off")
)

// bodySize is how many bytes of an answer gather before they are sent.
const bodySize = 4 << 10

// buffers hold what waits of answers.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, bodySize); return &b }}

// answer is the handler's side of a stream. It implements exchange.Client with it, and
// belongs to the handler's goroutine.
type answer struct {
	exch    exchange.Exchange
	resp    *exchange.Response
	buf     *[]byte // body bytes that wait
	left    int64   // body bytes to come, of a body of known length
	started bool
	headOut bool // the head was written
	noBody  bool
	tunnel  bool
	unsent  bool // a tunnel's last write was cut short
	err     error
}

// Inform implements exchange.Client.
func (s *stream) Inform(r *exchange.Response) error {
	switch {
	case s.started:
		return exchange.ErrStarted
	case r.Status < 100 || r.Status > 199 || r.Status == 101:
		return fmt.Errorf("cannot send status %d as an interim response; want 1xx, not 101", r.Status)
	case r.Status == 100 && s.head.expects:
		return nil // the client gets the front's own, see askOn.
	}
	return s.interim(r.Status, r.Header)
}

func (s *stream) isOver() bool {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	return s.over
}

// Broke implements exchange.Breaker.
func (s *stream) Broke() exchange.Reason {
	if s.err == errSlowReader { //nolint:errorlint // it is never wrapped.
		return exchange.ReasonClientSlow
	}
	return s.conn.opts.Broke()
}

// Start implements exchange.Client. The head waits for the first body bytes or a flush.
func (s *stream) Start(r *exchange.Response) error {
	if err := exchange.CheckStart(r, s.started, s.exch.Request.Upgrade != "", s.err); err != nil {
		return err
	}
	// The head waits, and its fields may be views into a server's connection, which may
	// serve another request by the time that they are sent.
	own := *r
	own.Header = r.Header.Clone()
	s.started, s.resp = true, &own
	s.uninvite()
	s.noBody = r.Status != 101 && !exchange.BodyAllowed(s.exch.Request.Method, r.Status)
	s.left = max(r.ContentLength, exchange.LengthUnknown)
	if r.ContentLength == exchange.NoBody {
		s.left = 0
	}
	return nil
}

// Write implements exchange.Client.
func (s *stream) Write(p []byte) (int, error) {
	switch {
	case s.err != nil:
		return 0, s.err
	case !s.started:
		return 0, exchange.ErrNoStart
	case s.noBody:
		return len(p), nil // as for HEAD: the handler need not care.
	case s.left >= 0 && int64(len(p)) > s.left:
		s.err = exchange.ErrTooLong
		return 0, s.err
	}
	if s.left >= 0 {
		s.left -= int64(len(p))
	}
	// What there is no room for waits where it is.
	hold := len(p) <= bodySize && len(p) <= s.Room()
	if s.buf != nil && (!hold || len(*s.buf)+len(p) > bodySize) {
		if len(*s.buf) > 0 {
			s.send(*s.buf, false)
		}
		s.dropBuffer()
	}
	switch {
	case !hold:
		s.send(p, false)
	case s.buf == nil:
		s.buf = buffers.Get().(*[]byte) //nolint:forcetypeassert,errcheck // the pool holds nothing else.
		fallthrough
	default:
		*s.buf = append(*s.buf, p...)
	}
	if s.err != nil {
		return 0, s.err
	}
	return len(p), nil
}

// Flush implements exchange.Client.
func (s *stream) Flush() error {
	if s.err != nil || !s.started {
		return s.err
	}
	if s.buf != nil && len(*s.buf) > 0 {
		s.send(*s.buf, false)
		*s.buf = (*s.buf)[:0]
		return s.err
	}
	if !s.headOut {
		s.sendHead(false)
	}
	return s.err
}

// sendHead writes the head alone.
func (s *stream) sendHead(end bool) {
	if s.err != nil || s.gone() {
		return
	}
	c := s.conn
	c.lock()
	s.appendHead(end)
	if end {
		s.ended()
	}
	s.note(c.unlock())
}

// appendHead writes the head into the connection's buffer. The caller holds wmu.
func (s *stream) appendHead(end bool) {
	s.headOut = true
	status, header := s.resp.Status, s.resp.Header
	if status == http.StatusSwitchingProtocols {
		status = http.StatusOK // RFC 8441, section 5
		header = pseudo.WithoutHandshake(header)
	}
	s.conn.appendHead(s.id, status, header, pseudo.DeclaredLength(s.resp, s.noBody), end)
}

// send writes all of p as the client makes room, the head before it, and the end of the
// stream behind it. It gives how much of p has been sent.
func (s *stream) send(p []byte, end bool) (sent int) {
	c := s.conn
	for s.err == nil {
		n, err := s.room(len(p), false)
		if n == 0 && err == nil && len(p) > 0 {
			c.lock()
			if !s.headOut {
				s.appendHead(false)
			}
			if err = c.unlock(); err == nil {
				n, err = s.room(len(p), true)
			}
		}
		if err != nil {
			s.note(err)
			break
		}
		last := n == len(p)
		c.lock()
		if !s.headOut {
			s.appendHead(false)
		}
		flags := http2.Flags(0)
		if last && end {
			flags = http2.FlagDataEndStream
		}
		if n > 0 || flags != 0 {
			c.out = appendFrame(c.out, http2.FrameData, flags, s.id, p[:n])
		}
		if flags != 0 {
			s.ended()
		}
		s.note(c.unlock())
		worth := bite // whatever its size, unless it is the client's window that has cut it.
		if !last {
			worth = n
		}
		c.calm.earned.sent(worth)
		sent += n
		if p = p[n:]; last {
			break
		}
	}
	return sent
}

func (s *stream) note(err error) {
	if s.err == nil {
		s.err = err
	}
}

func (s *stream) gone() bool {
	if s.isOver() {
		s.note(errReset)
		return true
	}
	return false
}

// ended notes that our side of the stream has ended. It comes before the write that says
// so, for the client may answer at once.
func (s *stream) ended() {
	c := s.conn
	c.mu.Lock()
	s.sentEnd = true
	if s.inEnded {
		c.remove(s)
	}
	c.mu.Unlock()
	c.calm.earned.add(1)
}

// Gone implements exchange.Client.
func (s *stream) Gone() bool { return s.isOver() || s.conn.opts.Gone() }

// AbortBody implements exchange.Client.
func (s *stream) AbortBody() {
	s.conn.mu.Lock()
	if !s.inEnded && s.inErr == nil {
		s.inErr = errAborted
	}
	wake(s.readable)
	s.conn.mu.Unlock()
}

// run handles one exchange.
func (c *Conn) run(s *stream) {
	defer c.running.Done()
	defer c.left(s)
	if s.isOver() {
		s.neverRan()
		return
	}
	if !s.prefetch() {
		return
	}
	c.handle(s)
}

// finish completes an answer after the handler.
func (s *stream) finish() {
	result := &s.exch.Result
	switch {
	case s.tunnel:
		s.closeTunnel()
		return
	case !s.started && !result.Aborted && s.err == nil:
		s.conn.forgotten(s)
		return
	case s.err == nil && result.Aborted:
		if s.started {
			s.note(s.Flush())
		}
		s.note(errReset)
	case s.err == nil && s.left > 0 && !s.noBody:
		s.note(io.ErrUnexpectedEOF)
	case s.err == nil:
		s.sendEnd()
	}
	if s.err != nil {
		s.reset(http2.ErrCodeInternal)
		return
	}
	// The rest of a request that was answered early is not wanted (RFC 9113, section 8.1).
	s.reset(http2.ErrCodeNo)
}

// sendEnd writes what waits, and the end of the stream.
func (s *stream) sendEnd() {
	var rest []byte
	if s.buf != nil {
		rest = *s.buf
	}
	var trailer exchange.Header
	if s.resp.Trailer != nil && !s.noBody {
		trailer = s.resp.Trailer()
	}
	switch {
	case len(trailer) > 0:
		if len(rest) > 0 {
			s.send(rest, false)
		}
		s.sendTrailer(trailer)
	case !s.headOut && len(rest) == 0:
		s.sendHead(true)
	default:
		s.send(rest, true)
	}
}

func (s *stream) sendTrailer(trailer exchange.Header) {
	if s.err != nil || s.gone() {
		return
	}
	c := s.conn
	c.lock()
	if !s.headOut {
		s.appendHead(false)
	}
	c.appendHead(s.id, 0, trailer, -1, true)
	s.ended()
	s.note(c.unlock())
}

// left ends a stream's handler.
func (c *Conn) left(s *stream) {
	if s.tunnel {
		c.tunnels.Add(-1)
	}
	s.dropBuffer()
	if s.exch.Done != nil {
		s.exch.Done()
	}
	s.dropInput()
	c.mu.Lock()
	c.handlers--
	empty := c.handlers == 0
	leaving := c.closing && !c.isBroken() && empty
	c.mu.Unlock()
	if empty {
		c.idle.Store(time.Now().UnixNano())
	}
	if c.active.Add(-1) == 0 && c.opts.Limits().KeepAlive < livenessAfter {
		c.opts.Hasten() // the reader waits as for a client that has streams.
	}
	if leaving {
		c.leave()
	}
}

// impatient says why a read of the body ended without a byte.
func (s *stream) impatient() error {
	if s.tunnel {
		return os.ErrDeadlineExceeded
	}
	return exchange.ErrBodyTimeout
}

var _ net.Conn = (*tunnel)(nil)
