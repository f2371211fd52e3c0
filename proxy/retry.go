package proxy

import (
	"time"

	"drover/backend"
)

// failureCondition names each failure in the words of a route's retry rule.
var failureCondition = map[backend.Failure]RetryCondition{
	backend.FailureConnect: RetryConnect,
	backend.FailureStale:   RetryStale,
	backend.FailureReset:   RetryReset,
	backend.FailureTimeout: RetryTimeout,
}

// mayRetry decides whether another server may get the request. What may have been
// executed is sent again only for the methods that the route lists; a body that was
// read from the client and is not in memory cannot be sent again at all.
func (rq *request) mayRetry(cond RetryCondition, maybeExecuted bool, deadline time.Time) bool {
	rule := &rq.route.Retry
	now := time.Now()
	switch {
	case rq.ex.Result.Attempts >= rule.Attempts,
		!rule.On(cond),
		maybeExecuted && !rule.Method(rq.ex.Request.Method),
		!rq.replayable(cond),
		!deadline.IsZero() && !now.Before(deadline),
		rq.ex.Client.Gone():
		return false
	}
	if !rq.target.upstream.budget.withdraw(now) {
		rq.target.upstream.metrics.BudgetExhausted()
		return false
	}
	return true
}

// replayable reports whether the whole body can be sent to another server: nothing
// of it was sent, or all of it that was is in memory, within what the route allows.
func (rq *request) replayable(cond RetryCondition) bool {
	switch {
	case rq.out.Body == nil:
		return true
	case rq.out.Buffered != nil:
		return cond == RetryConnect || len(rq.out.Buffered) <= int(rq.route.Retry.MaxBufferedBody)
	case rq.kept != nil:
		return rq.kept.ready()
	default:
		return !rq.resp.Uploading() && rq.body.n == 0 && rq.body.err == nil
	}
}

// uploading reports whether the client is not through with its body. That the server
// answers may show before that the last of it was sent.
func (rq *request) uploading() bool {
	switch {
	case rq.kept != nil:
		return rq.kept.open()
	case rq.out.Buffered != nil:
		return false
	}
	return rq.resp.Uploading() && !rq.body.through.Load()
}

// statusCondition names each status in the words of a route's retry rule.
var statusCondition = map[int]RetryCondition{
	502: Retry502,
	503: Retry503,
	504: Retry504,
}

// retryStatus decides whether a server's answer is thrown away for another's.
func (rq *request) retryStatus(deadline time.Time) bool {
	cond, ok := statusCondition[rq.resp.Status]
	if !ok || !rq.mayRetry(cond, true, deadline) {
		return false
	}
	rq.target.upstream.metrics.Retry(statusText[rq.resp.Status])
	return true
}

var statusText = map[int]string{502: "502", 503: "503", 504: "504"}

// worthKeeping reports whether sending the body again may come to be allowed, and
// nobody has it in memory yet.
func (rq *request) worthKeeping() bool {
	rule, length := &rq.route.Retry, rq.ex.Request.ContentLength
	return rule.Attempts > 1 && rq.out.Buffered == nil && length <= int64(rule.MaxBufferedBody) &&
		rule.MaxBufferedBody > 0 && rule.Repeats(rq.ex.Request.Method)
}

// endBody lets go of the client's body when the last attempt is over.
func (rq *request) endBody() {
	rq.resp.Close() // after a panic; else it is closed.
	if rq.kept != nil {
		rq.kept.close()
		rq.kept = nil
	}
}
