package front

import (
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"drover/proxy/front/pace"
)

// A phase says what the client is expected to send, and so how long it may take.
type phase uint8

const (
	phaseHandshake phase = iota // TLS; bounded like a head
	phaseFresh                  // a new connection's first head
	phaseHead                   // a later head, from its first byte
	phaseIdle                   // between two requests, for a moment
	phaseParked                 // between two requests, for longer
	phaseBody                   // a request body, bounded between two reads
	phaseRest                   // a body that nobody wants, read to keep the connection
	phaseFrames                 // HTTP/2, which knows its own limits
	phaseOpen                   // a tunnel or the end: deadlines are the user's
)

const (
	// parkAfter is how long an idle connection keeps its buffers.
	parkAfter = time.Second
	// restTimeout bounds the reading of an unwanted body.
	restTimeout = 5 * time.Second
	// drainGrace is how long a drained connection without a request may still send
	// one: it may be on its way already.
	drainGrace = 500 * time.Millisecond
)

var errBodyAborted = errors.New("reading the request body was broken off")

// wire is a client's TCP connection with drover's time-outs. TLS runs above it, so
// that a time-out which is not due yet, or a write that makes progress, never
// reaches crypto/tls, which gives up a connection for less.
//
// Moving a deadline costs more than the read it guards, so wire leaves a deadline
// that is too early where it is, and moves it only when it fires.
type wire struct {
	// immutable
	net.Conn
	front *Front

	// under mu
	mu      sync.Mutex
	phase   phase
	since   time.Time                       // when the phase began
	armed   time.Time                       // the read deadline that is set, zero for none
	aborted bool                            // the body is not to be read any more
	limits  func(began time.Time) time.Time // of phaseFrames
	pace    pace.Pace                       // of phaseBody

	// atomic
	touched atomic.Bool  // a byte came in this phase
	slow    atomic.Bool  // the client took too little of what was written
	writeBy atomic.Int64 // an explicit write deadline in Unix nanoseconds, 0 for none

	// the reader's goroutine
	ahead []byte // came behind a PROXY header

	// the writer's goroutine
	writeArmed time.Time // the write deadline that is set
	vec        net.Buffers
	vecs       [2][]byte
}

// enter starts a phase.
func (w *wire) enter(p phase, since time.Time) {
	w.mu.Lock()
	w.phase, w.since, w.pace = p, since, pace.Pace{}
	w.touched.Store(false)
	w.mu.Unlock()
}

// open hands the read deadline to whoever uses the connection from here on.
func (w *wire) open() {
	w.mu.Lock()
	w.phase = phaseOpen
	w.expire(time.Time{})
	w.mu.Unlock()
}

// frames gives the read deadlines of the connection to HTTP/2.
func (w *wire) frames(limits func(began time.Time) time.Time) {
	w.mu.Lock()
	w.phase, w.limits = phaseFrames, limits
	w.mu.Unlock()
}

// abort makes a blocked and every later read of a body fail.
func (w *wire) abort() {
	w.mu.Lock()
	w.aborted = true
	w.expire(time.Unix(1, 0))
	w.mu.Unlock()
}

func (w *wire) wasAborted() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.aborted
}

// hasten applies what draining changes to a read that waits already.
func (w *wire) hasten() {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch w.phase {
	case phaseHandshake, phaseHead, phaseBody, phaseRest, phaseOpen:
		return
	case phaseFresh, phaseIdle, phaseParked, phaseFrames:
	}
	if limit := w.limit(time.Now()); w.armed.After(limit) {
		w.expire(limit)
	}
}

// expire sets the read deadline. The caller holds mu.
func (w *wire) expire(at time.Time) {
	w.armed = at
	_ = w.Conn.SetReadDeadline(at) // it fails on a closed connection only, where reads fail too.
}

// limit is when a read that began at the given time must have succeeded, zero for
// no limit. The caller holds mu.
func (w *wire) limit(began time.Time) time.Time {
	s := w.front.settings.Load()
	var limit time.Time
	switch w.phase {
	case phaseHandshake, phaseHead:
		return w.since.Add(s.headerTimeout)
	case phaseBody:
		return w.pace.Limit(began, s.bodyIdle, s.minBodyRate)
	case phaseRest:
		return w.since.Add(restTimeout)
	case phaseOpen:
		return time.Time{}
	case phaseFrames:
		return w.limits(began)
	case phaseFresh:
		limit = w.since.Add(s.headerTimeout)
	case phaseIdle:
		limit = w.since.Add(min(s.keepAlive, parkAfter))
	case phaseParked:
		limit = w.since.Add(s.keepAlive)
	}
	drain := w.front.drainSince.Load()
	if drain == nil || w.touched.Load() {
		return limit
	}
	grace := w.since
	if drain.After(grace) {
		grace = *drain
	}
	if grace = grace.Add(drainGrace); grace.Before(limit) {
		return grace
	}
	return limit
}

// arm makes sure that a read ends at its limit, or before. It gives the limit.
func (w *wire) arm(began time.Time, again bool) (time.Time, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.aborted {
		return time.Time{}, errBodyAborted
	}
	limit := w.limit(began)
	if !limit.IsZero() && (again || w.armed.IsZero() || w.armed.After(limit)) {
		w.expire(limit)
	}
	return limit, nil
}

// Read reads within the limit of the phase.
func (w *wire) Read(p []byte) (int, error) {
	if len(w.ahead) > 0 {
		n := copy(p, w.ahead)
		if w.ahead = w.ahead[n:]; len(w.ahead) == 0 {
			w.ahead = nil
		}
		w.touched.Store(true)
		return n, nil
	}
	began := time.Now()
	for again := false; ; again = true {
		limit, err := w.arm(began, again)
		if err != nil {
			return 0, err
		}
		n, err := w.Conn.Read(p)
		if n > 0 {
			w.touched.Store(true)
			w.keepPace(began, n)
		}
		if n > 0 || err == nil || limit.IsZero() || !isTimeout(err) || !time.Now().Before(limit) {
			return n, err
		}
	}
}

// SetReadDeadline implements net.Conn. It counts in phaseOpen; the phases before
// have limits of their own.
func (w *wire) SetReadDeadline(t time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.phase != phaseOpen {
		return nil
	}
	w.armed = t
	return w.Conn.SetReadDeadline(t)
}

// SetWriteDeadline implements net.Conn. It bounds writes further than
// write_idle_timeout does. Any goroutine may call it.
func (w *wire) SetWriteDeadline(t time.Time) error {
	if t.IsZero() {
		w.writeBy.Store(0)
		return nil // the deadline that is set is moved when it fires.
	}
	w.writeBy.Store(t.UnixNano())
	return w.Conn.SetWriteDeadline(t)
}

// SetDeadline implements net.Conn.
func (w *wire) SetDeadline(t time.Time) error {
	return errors.Join(w.SetReadDeadline(t), w.SetWriteDeadline(t))
}

// Write writes all of p as long as the client takes a byte now and then.
func (w *wire) Write(p []byte) (total int, err error) {
	began := time.Now()
	w.armWrite(began, false)
	for {
		n, err := w.Conn.Write(p[total:])
		total += n
		if err == nil || !isTimeout(err) || !w.writeOn(&began, n) {
			return total, err
		}
	}
}

// writeTwo writes a and b, in one system call where the connection can do that.
func (w *wire) writeTwo(a, b []byte) error {
	began := time.Now()
	w.armWrite(began, false)
	w.vecs = [2][]byte{a, b}
	w.vec = w.vecs[:]
	for {
		n, err := w.vec.WriteTo(w.Conn)
		if err == nil || !isTimeout(err) || !w.writeOn(&began, int(n)) {
			w.vecs = [2][]byte{}
			return err
		}
	}
}

// armWrite makes sure that a write which began at the given time times out, and not
// before half of its time.
func (w *wire) armWrite(began time.Time, again bool) {
	idle := w.front.settings.Load().writeIdle
	if !again && w.writeArmed.Sub(began) >= idle/2 {
		return
	}
	for {
		until, by := began.Add(idle), w.writeBy.Load()
		if by != 0 && time.Unix(0, by).Before(until) {
			until = time.Unix(0, by)
		}
		w.writeArmed = until
		_ = w.Conn.SetWriteDeadline(until) // it fails on a closed connection only, where writes fail too.
		if w.writeBy.Load() == by {
			return // nobody set another one in between, which must not be lost.
		}
	}
}

// writeOn decides whether a write whose deadline fired goes on: it made progress, or
// the deadline was an earlier write's.
func (w *wire) writeOn(began *time.Time, n int) bool {
	now := time.Now()
	if n > 0 {
		*began = now
	}
	if by := w.writeBy.Load(); by != 0 && now.UnixNano() >= by {
		return false
	}
	if now.Sub(*began) >= w.front.settings.Load().writeIdle {
		w.slow.Store(true)
		return false
	}
	w.armWrite(*began, true)
	return true
}

func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }
