package h3

import (
	"net/http"
	"runtime/debug"
	"strings"

	"drover/exchange"
	"drover/proxy/front/pseudo"

	"go.uber.org/zap"
)

// run handles one exchange.
func (s *stream) run() {
	defer s.release()
	if status, reason := s.fill(); status != 0 {
		s.answer(status, reason)
		return
	}
	if s.gone() { // it costs no server.
		s.exch.Result.Status, s.exch.Result.Reason = statusClientGone, exchange.ReasonClientGone
		s.conn.server.opts.Reject(&s.exch)
		s.note(errCutOff)
		return
	}
	if s.attach() {
		s.handle()
	}
}

// statusClientGone stands in logs for a client that left before its answer.
const statusClientGone = 499

func (s *stream) release() {
	if s.buf != nil {
		*s.buf = (*s.buf)[:0]
		buffers.Put(s.buf)
		s.buf = nil
	}
	if s.exch.Done != nil {
		s.exch.Done()
	}
}

// handle runs the handler and completes its answer. A panic becomes an answer too, or
// cuts the one that has begun.
func (s *stream) handle() {
	opts := &s.conn.server.opts
	defer func() {
		cause := recover()
		if cause == nil {
			return
		}
		opts.Logger.Error("panic while handling a request", append(s.describe(),
			zap.Any("cause", cause), zap.ByteString("stack", debug.Stack()))...)
		if !s.started && s.err == nil {
			s.answer(http.StatusInternalServerError, exchange.ReasonPanic)
			return
		}
		s.exch.Result.Status, s.exch.Result.Reason = http.StatusInternalServerError, exchange.ReasonPanic
		opts.Reject(&s.exch)
		s.note(errCutOff)
	}()
	opts.Handler(&s.exch)
	s.finish()
}

// describe names a request in drover's own log, without what may be secret in it.
func (s *stream) describe() []zap.Field {
	return []zap.Field{
		zap.Stringer("remote", s.exch.Remote),
		zap.ByteString("method", s.exch.Request.Method),
		zap.ByteString("host", s.exch.Request.Host),
	}
}

// answer sends drover's own answer.
func (s *stream) answer(status int, reason exchange.Reason) {
	r, text := exchange.AnswerTo(&s.exch.Request, status, reason)
	s.exch.Result.Status, s.exch.Result.Reason, s.exch.Result.Sent = status, reason, 0
	if exchange.BodyAllowed(s.exch.Request.Method, status) {
		s.exch.Result.Sent = int64(len(text))
	}
	s.conn.server.opts.Reject(&s.exch)
	if s.Start(r) == nil {
		_, _ = s.Write(text) // finish tells.
	}
	s.exch.Result.Aborted = false
	s.finish()
}

// finish completes an answer after the handler.
func (s *stream) finish() {
	switch aborted := s.exch.Result.Aborted; {
	case s.tunnel != nil:
		_ = s.tunnel.Close() // it was said how the tunnel went.
		return
	case !s.started && !aborted && s.err == nil:
		s.conn.server.opts.Logger.Error("a request was not answered, which is a bug", s.describe()...)
		s.answer(http.StatusInternalServerError, exchange.ReasonPanic)
		return
	case s.err == nil && aborted:
		if s.started {
			s.note(s.Flush())
		}
		s.note(errCutOff)
	case s.err == nil && s.left > 0 && !s.noBody:
		s.note(errCutOff)
	case s.err == nil:
		s.complete()
	}
}

// complete hands the library what it sends once the handler has returned.
func (s *stream) complete() {
	s.patience()
	if s.buf != nil && len(*s.buf) > 0 {
		s.send(*s.buf)
		*s.buf = (*s.buf)[:0]
	}
	if s.resp.Trailer == nil || s.noBody || s.err != nil {
		return
	}
	for _, f := range s.resp.Trailer() {
		if k := pseudo.KindOf(strings.ToLower(string(f.Name))); k != pseudo.FieldOurs && k != pseudo.FieldBad && !exchange.HeadOnly(f.Name) {
			s.w.Header().Add(http.TrailerPrefix+string(f.Name), pseudo.Clean(f.Value))
		}
	}
}
