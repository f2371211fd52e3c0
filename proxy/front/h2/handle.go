package h2

import (
	"bytes"
	"errors"
	"io"
	"runtime/debug"
	"time"

	"drover/exchange"
	"drover/proxy/front/pseudo"

	"go.uber.org/zap"
)

// smallBody is the size up to which a body of known length is read before the handler
// runs: a slow client then holds no server, and a failed attempt can be sent again.
const smallBody = 8 << 10

// prefetch attaches the request's body, and reads it if it is small, unless the client
// waits to be asked for it: that is the handler's to decide. It answers what cannot be
// read, and gives false.
func (s *stream) prefetch() bool {
	req := &s.exch.Request
	s.exch.Start = time.Now()
	length := req.ContentLength
	switch {
	case s.exch.Request.Upgrade != "", length == exchange.NoBody && !pseudo.LikesLength(req.Method):
		return true
	case length == exchange.NoBody, length == 0 && s.inputEnded():
		req.ContentLength, req.Buffered, req.Body = 0, []byte{}, bytes.NewReader(nil)
		return true
	case length < 0, length > smallBody, s.head.expects:
		req.Body = s
		req.Trailer = s.trailers
		return true
	}
	whole := make([]byte, length)
	if _, err := io.ReadFull(s, whole); err != nil {
		s.bodyBroken(err)
		return false
	}
	if n, err := s.Read(make([]byte, 1)); n > 0 || err != io.EOF { //nolint:errorlint // io.Reader's contract is this very value.
		s.bodyBroken(err)
		return false
	}
	req.Buffered, req.Body, req.Trailer = whole, bytes.NewReader(whole), s.trailers
	return true
}

// neverRan tells of a request whose client gave it up at once: it costs no server.
func (s *stream) neverRan() {
	s.exch.Start = time.Now()
	s.exch.Result.Status, s.exch.Result.Reason = statusClientGone, exchange.ReasonClientGone
	s.conn.opts.Reject(&s.exch)
}

// lateHead tells of a request whose head did not come in time, with what is known of it.
func (c *Conn) lateHead() {
	var ex exchange.Exchange
	if b := &c.block; b.id != 0 {
		ex.Request.Method, ex.Request.Target = b.pseudoText(b.pseudo.method), b.pseudoText(b.pseudo.path)
		ex.Request.Host = b.pseudoText(b.pseudo.authority)
	}
	ex.Request.ProtoMajor = 2
	ex.Result.Status, ex.Result.Reason = 408, exchange.ReasonClientTimeout
	c.opts.Address(&ex)
	c.opts.Reject(&ex)
}

// statusClientGone stands in logs for a client that left before its answer.
const statusClientGone = 499

// inputEnded reports whether the client has said all.
func (s *stream) inputEnded() bool {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	return s.inEnded
}

func (s *stream) bodyBroken(err error) {
	c := s.conn
	switch {
	case errors.Is(err, exchange.ErrBodyTimeout):
		c.answer(s, 408, exchange.ReasonClientTimeout)
	case errors.Is(err, exchange.ErrBodyTooLarge):
		c.answer(s, 413, exchange.ReasonBodyTooLarge)
	default:
		s.exch.Result.Aborted = true
		s.finish()
	}
}

func (s *stream) trailers() exchange.Header {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	return s.trailer
}

// handle runs the handler and completes its answer. A panic becomes an answer too, or
// cuts the one that has begun.
func (c *Conn) handle(s *stream) {
	defer func() {
		cause := recover()
		if cause == nil {
			return
		}
		c.opts.Logger.Error("panic while handling a request", append(logRequest(s),
			zap.Any("cause", cause), zap.ByteString("stack", debug.Stack()))...)
		if !s.headOut && s.err == nil {
			s.started, s.noBody = false, false
			if s.buf != nil {
				*s.buf = (*s.buf)[:0]
			}
			c.answer(s, 500, exchange.ReasonPanic)
			return
		}
		s.exch.Result.Status, s.exch.Result.Reason = 500, exchange.ReasonPanic
		c.opts.Reject(&s.exch)
		s.exch.Result.Aborted = true
		s.finish()
	}()
	c.opts.Handler(&s.exch)
	s.finish()
}

// logRequest names a request in drover's own log, without what may be secret in it.
func logRequest(s *stream) []zap.Field {
	return []zap.Field{
		zap.Stringer("remote", s.exch.Remote),
		zap.ByteString("method", s.exch.Request.Method),
		zap.ByteString("host", s.exch.Request.Host),
	}
}

// forgotten answers for a handler that did not: the client must not wait for it.
func (c *Conn) forgotten(s *stream) {
	c.opts.Logger.Error("a request was not answered, which is a bug", logRequest(s)...)
	c.answer(s, 500, exchange.ReasonPanic)
}

// refuse answers a request that no handler sees.
func (c *Conn) refuse(s *stream, status int, reason exchange.Reason) {
	defer c.running.Done()
	defer c.left(s)
	c.answer(s, status, reason)
}

// answer sends drover's own answer.
func (c *Conn) answer(s *stream, status int, reason exchange.Reason) {
	r, body := exchange.AnswerTo(&s.exch.Request, status, reason)
	s.exch.Result.Status, s.exch.Result.Reason, s.exch.Result.Sent = status, reason, 0
	if exchange.BodyAllowed(s.exch.Request.Method, status) {
		s.exch.Result.Sent = int64(len(body))
	}
	c.opts.Reject(&s.exch)
	if s.Start(r) == nil {
		_, _ = s.Write(body) // finish tells.
	}
	s.exch.Result.Aborted = false
	s.finish()
}
