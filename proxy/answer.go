package proxy

import (
	"errors"
	"io"
	"sync/atomic"

	"drover/exchange"
)

// fail answers the client itself, or cuts an answer that has begun.
func (rq *request) fail(status int, reason exchange.Reason, fields ...exchange.Field) {
	ex := rq.ex
	ex.Result.Reason = reason
	if rq.started {
		ex.Result.Aborted = true
		return
	}
	rq.started = true
	ex.Result.Status = status
	r, body := exchange.AnswerTo(&ex.Request, status, reason)
	r.Header = append(r.Header, fields...)
	rq.send(r, body)
}

// send writes a whole response that is in memory.
func (rq *request) send(r *exchange.Response, body []byte) {
	ex := rq.ex
	if err := ex.Client.Start(r); err != nil {
		rq.gone()
		return
	}
	if !exchange.BodyAllowed(ex.Request.Method, r.Status) || len(body) == 0 {
		return
	}
	n, err := ex.Client.Write(body)
	ex.Result.Sent += int64(n)
	if err != nil {
		rq.gone()
	}
}

// gone notes that the client left, or that drover cut it off.
func (rq *request) gone() {
	rq.ex.Result.Aborted = true
	rq.ex.Result.Reason = exchange.ReasonClientGone
	if b, ok := rq.ex.Client.(exchange.Breaker); ok {
		rq.ex.Result.Reason = b.Broke()
	}
	if !rq.started {
		rq.ex.Result.Status = 0
	}
}

// clientFailed ends a request whose body broke, or whose client left.
func (rq *request) clientFailed(err error) {
	switch {
	case errors.Is(err, exchange.ErrBodyTooLarge), errors.Is(err, errRouteBodyTooLarge):
		rq.fail(413, exchange.ReasonBodyTooLarge)
	case errors.Is(err, exchange.ErrBodyTimeout):
		rq.fail(408, exchange.ReasonClientTimeout)
	case errors.Is(err, exchange.ErrBodyMalformed):
		rq.fail(400, exchange.ReasonBadRequest)
	default:
		rq.gone()
	}
}

// redirect answers with a redirect rule.
func (rq *request) redirect() {
	rule := rq.route.Redirect
	location, ok := rule.Location(rq.vars())
	if !ok {
		rq.fail(400, exchange.ReasonBadRequest)
		return
	}
	r := &exchange.Response{Status: rule.Status, ContentLength: 0}
	r.Header.Add("Location", location)
	r.Header.Add("Content-Length", "0")
	rq.ruledAnswer(r, nil, exchange.ReasonRedirect)
}

// respond answers with a fixed response rule.
func (rq *request) respond() {
	rule := rq.route.Respond
	r := &exchange.Response{Status: rule.Status, ContentLength: int64(len(rule.Body))}
	r.Header = append(r.Header, rule.Header...)
	rq.ruledAnswer(r, rule.Body, exchange.ReasonFixed)
}

func (rq *request) ruledAnswer(r *exchange.Response, body []byte, reason exchange.Reason) {
	rq.route.ResponseOps.Apply(&r.Header, rq.vars())
	rq.started = true
	rq.ex.Result.Status, rq.ex.Result.Reason = r.Status, reason
	rq.send(r, body)
}

var errRouteBodyTooLarge = errors.New("request body over the route's max_body_size")

// countedBody counts what is read of a request's body, holds it to the route's
// limit, and remembers how it broke.
type countedBody struct {
	reader io.Reader
	length int64 // as exchange.Request.ContentLength
	limit  int64 // 0 for none
	n      int64
	err    error

	// atomic
	through atomic.Bool // all of it was read
}

func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.reader.Read(p)
	b.n += int64(n)
	if b.limit > 0 && b.n > b.limit {
		err = errRouteBodyTooLarge
	}
	if err != nil && err != io.EOF { //nolint:errorlint // io.Reader's contract is this very value.
		b.err = err
	}
	if err == io.EOF || b.length >= 0 && b.n >= b.length { //nolint:errorlint // see above.
		b.through.Store(true)
	}
	return n, err
}
