package h3

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"drover/exchange"
	"drover/proxy/front/pseudo"
)

// Errors of clients.
var (
	errAborted = errors.New("reading the request body was broken off")
	errCutOff  = errors.New("the answer is incomplete")
)

const (
	// bodySize is how many bytes of an answer gather before they are sent.
	bodySize = 4 << 10
	// pieceSize is how much is written under one time-out: as long as the client takes
	// that much in time, it may take as long as it likes for the whole.
	pieceSize = 16 << 10
)

// buffers hold what waits of answers.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, bodySize); return &b }}

// stream is one request and its answer. It implements exchange.Client.
type stream struct {
	// immutable
	conn *conn
	w    http.ResponseWriter
	r    *http.Request
	ctl  *http.ResponseController
	body body
	// waits says that the client expects a 100 before it sends the body.
	waits bool

	// atomic
	aborted atomic.Bool // the body is not to be read any more
	slow    atomic.Bool // the client took too little of the answer
	reset   atomic.Bool // the client broke its request off

	// under inviting, which orders a 100 and the answer for a client that expects one
	inviting sync.Mutex
	invited  bool
	started  bool

	// the handler's goroutine
	exch   exchange.Exchange
	resp   *exchange.Response
	buf    *[]byte // body bytes that wait
	left   int64   // body bytes to come, of a body of known length
	noBody bool
	tunnel *tunnel
	err    error
}

func newStream(c *conn, w http.ResponseWriter, r *http.Request) *stream {
	s := &stream{conn: c, w: w, r: r, ctl: http.NewResponseController(w)}
	s.body.stream = s
	s.waits = exchange.EqualFold([]byte(r.Header.Get("Expect")), "100-continue")
	return s
}

func (s *stream) note(err error) {
	if s.err == nil && err != nil {
		s.err = err
		s.slow.CompareAndSwap(false, errors.Is(err, os.ErrDeadlineExceeded))
	}
}

// Inform implements exchange.Client.
func (s *stream) Inform(r *exchange.Response) error {
	switch {
	case s.started:
		return exchange.ErrStarted
	case r.Status < 100 || r.Status > 199 || r.Status == 101:
		return fmt.Errorf("cannot send status %d as an interim response; want 1xx, not 101", r.Status)
	case r.Status == 100 && s.waits:
		return nil // the client gets the front's own, see invite.
	}
	s.inviting.Lock()
	defer s.inviting.Unlock()
	s.patience()
	s.addFields(r.Header)
	s.w.WriteHeader(r.Status)
	clear(s.w.Header())
	return nil
}

// invite asks a client for the body that waits for a 100 to send it (RFC 9110, section
// 10.1.1): when somebody wants to read the body.
func (s *stream) invite() {
	s.inviting.Lock()
	defer s.inviting.Unlock()
	if s.waits && !s.invited && !s.started {
		s.invited = true
		s.patience()
		s.w.WriteHeader(http.StatusContinue)
	}
}

// Start implements exchange.Client. The head waits for the first body bytes or a flush.
func (s *stream) Start(r *exchange.Response) error {
	if err := exchange.CheckStart(r, s.started, s.exch.Request.Upgrade != "", s.err); err != nil {
		return err
	}
	s.inviting.Lock()
	s.started = true
	s.inviting.Unlock()
	s.resp = r
	s.noBody = r.Status != 101 && !exchange.BodyAllowed(s.exch.Request.Method, r.Status)
	s.left = max(r.ContentLength, exchange.LengthUnknown)
	if r.ContentLength == exchange.NoBody {
		s.left = 0
	}
	s.setHead()
	return nil
}

// setHead hands the head to the library, which must add nothing to it and cannot take it
// back. It copies the fields, which may be views into a server's connection.
func (s *stream) setHead() {
	h := s.w.Header()
	h["Date"], h["Content-Type"], h["Content-Length"] = nil, nil, nil
	header, status := s.resp.Header, s.resp.Status
	if status == http.StatusSwitchingProtocols {
		status, header = http.StatusOK, pseudo.WithoutHandshake(header) // RFC 9220, section 3
	}
	s.addFields(header)
	opts := &s.conn.server.opts
	if own := opts.HSTS(); own != nil {
		// Exactly one (RFC 6797, section 7.1), the server's before ours.
		h["Strict-Transport-Security"] = append(h["Strict-Transport-Security"], string(own))[:1]
	}
	if own := opts.AltSvc(s.conn.local.Port()); own != nil && len(h["Alt-Svc"]) == 0 {
		h.Set("Alt-Svc", string(own))
	}
	if n := pseudo.DeclaredLength(s.resp, s.noBody); n >= 0 {
		h.Set("Content-Length", strconv.FormatInt(n, 10))
	}
	s.w.WriteHeader(status)
}

func (s *stream) addFields(from exchange.Header) {
	h := s.w.Header()
	for i := range from {
		name := http.CanonicalHeaderKey(string(from[i].Name))
		switch kind := pseudo.KindOf(strings.ToLower(name)); {
		case kind == pseudo.FieldOurs, kind == pseudo.FieldBad, name == "Trailer":
		default:
			h[name] = append(h[name], pseudo.Clean(from[i].Value))
		}
	}
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
		s.note(exchange.ErrTooLong)
		return 0, s.err
	}
	if s.left >= 0 {
		s.left -= int64(len(p))
	}
	if s.buf == nil {
		s.buf = buffers.Get().(*[]byte) //nolint:forcetypeassert,errcheck // the pool holds nothing else.
	}
	if len(*s.buf)+len(p) > bodySize {
		s.send(*s.buf)
		*s.buf = (*s.buf)[:0]
	}
	if len(p) > bodySize {
		s.send(p)
	} else {
		*s.buf = append(*s.buf, p...)
	}
	if s.err != nil {
		return 0, s.err
	}
	return len(p), nil
}

// send writes all of p as the client makes room.
func (s *stream) send(p []byte) {
	for s.err == nil && len(p) > 0 {
		s.patience()
		n, err := s.w.Write(p[:min(len(p), pieceSize)])
		s.note(err)
		p = p[n:]
	}
}

// patience starts the time that the client has to take what is written next.
func (s *stream) patience() {
	_ = s.ctl.SetWriteDeadline(time.Now().Add(s.conn.server.opts.Limits().WriteIdle)) // a broken stream says so when written to.
}

// Flush implements exchange.Client.
func (s *stream) Flush() error {
	if s.err != nil || !s.started {
		return s.err
	}
	if s.buf != nil && len(*s.buf) > 0 {
		s.send(*s.buf)
		*s.buf = (*s.buf)[:0]
	}
	if s.err == nil {
		s.patience()
		s.note(s.ctl.Flush())
	}
	return s.err
}

// gone reports whether the client has given the answer up.
func (s *stream) gone() bool { return s.r.Context().Err() != nil }

// Gone implements exchange.Client.
func (s *stream) Gone() bool { return s.gone() }

// Broke implements exchange.Breaker.
func (s *stream) Broke() exchange.Reason {
	if s.slow.Load() {
		return exchange.ReasonClientSlow
	}
	return s.conn.broke()
}

// AbortBody implements exchange.Client.
func (s *stream) AbortBody() {
	s.aborted.Store(true)
	_ = s.ctl.SetReadDeadline(time.Unix(1, 0)) // on a broken stream reads fail anyway.
}

// Hijack implements exchange.Client.
func (s *stream) Hijack() (net.Conn, error) {
	if !s.started || s.resp.Status != http.StatusSwitchingProtocols {
		return nil, exchange.ErrNoUpgrade
	}
	t, err := newTunnel(s)
	if err != nil {
		s.note(err)
		return nil, err
	}
	s.tunnel = t
	s.conn.mu.Lock()
	s.conn.tunnels++
	s.conn.mu.Unlock()
	return t, nil
}
