package proxy

import (
	"errors"
	"time"

	"drover/backend"
	"drover/exchange"
	"drover/transport"
)

func (p *Proxy) forwarded(handler) handler {
	return func(rq *request) {
		if rq.lastHop() {
			rq.answerOptions()
			return
		}
		up := rq.target.upstream
		up.budget.deposit()
		rq.beginCall(p.callGrace)
		rq.deadline = rq.until(0)
		if !up.gate.enter() {
			if result := up.gate.wait(&up.gate.places, rq.deadline, up.gate.take, rq.ex.Client.Gone); result != waitGranted {
				rq.turnedAway(result)
				return
			}
		}
		defer up.gate.leave()
		rq.prepare()
		defer rq.endBody()
		rq.forward()
	}
}

// turnedAway answers a request that got no place.
func (rq *request) turnedAway(result waitResult) {
	switch result {
	case waitGone:
		rq.gone()
	case waitFull:
		rq.target.upstream.metrics.QueueRejected(string(exchange.ReasonQueueFull))
		rq.fail(503, exchange.ReasonQueueFull)
	case waitTimeout:
		rq.target.upstream.metrics.QueueRejected(string(exchange.ReasonQueueTimeout))
		rq.fail(503, exchange.ReasonQueueTimeout)
	case waitLate:
		rq.fail(504, exchange.ReasonTimeout)
	case waitGranted:
	}
}

// prepare builds the request as the servers will read it.
func (rq *request) prepare() {
	ex := rq.ex
	rq.teller = teller{Client: ex.Client, rq: rq}
	rq.via = *ex
	rq.via.Client = &rq.teller
	rq.out = ex.Request
	if rq.route.RewritesTarget() {
		rq.rewrite = rq.route.RewriteTarget(rq.rewrite[:0], ex.Request.Target)
		rq.out.Target = rq.rewrite
	}
	listener := rq.listener()
	rq.header = OutgoingHeader(rq.header[:0], ex, HeaderOptions{
		Forwarded: listener.Forwarded, Via: listener.Via, RequestID: listener.RequestID.Header, Scratch: &rq.scratch,
	})
	rq.countForwards()
	if rq.guard != nil {
		rq.guard.outgoing(rq)
	}
	rq.route.RequestOps.Apply(&rq.header, rq.vars())
	rq.out.Header = rq.header
	if ex.Request.Body != nil {
		rq.body.reader, rq.body.length = ex.Request.Body, ex.Request.ContentLength
		rq.out.Body = &rq.body
		if rq.worthKeeping() {
			rq.kept = keep(&rq.via, &rq.body, int64(rq.route.Retry.MaxBufferedBody))
			rq.out.Body = rq.kept
		}
	}
}

func (rq *request) vars() Vars {
	return Vars{Exchange: rq.ex, Route: rq.route.Name, Upstream: rq.ex.Result.Upstream, Scratch: &rq.scratch}
}

// forward tries servers until one answers, nothing more may be tried, or nothing is
// left to try.
func (rq *request) forward() {
	up, ex := rq.target.upstream, rq.ex
	var key uint64
	if up.Key != nil {
		key = up.Key.Hash(ex)
	}
	for {
		m, reason := rq.acquire(key)
		if m == nil {
			rq.noServer(reason)
			return
		}
		if !rq.attemptAndRelease(m, rq.deadline) {
			return
		}
	}
}

// attemptAndRelease gives the server's place back whatever happens: a panic must not
// cost it for ever.
func (rq *request) attemptAndRelease(m *backend.Member, deadline time.Time) (retry bool) {
	defer func() {
		m.Release()
		rq.target.upstream.gate.wake(&rq.target.upstream.gate.servers)
	}()
	return rq.attempt(m, deadline)
}

// acquire picks a server that has room, waiting in the queue when all are full.
func (rq *request) acquire(key uint64) (*backend.Member, exchange.Reason) {
	up := rq.target.upstream
	m, full := rq.tryAcquire(key)
	if m != nil || !full {
		return m, rq.emptyReason()
	}
	result := up.gate.wait(&up.gate.servers, rq.deadline, func() bool {
		m, full = rq.tryAcquire(key)
		return m != nil || !full
	}, rq.ex.Client.Gone)
	switch result {
	case waitFull:
		up.metrics.QueueRejected(string(exchange.ReasonQueueFull))
		return nil, exchange.ReasonQueueFull
	case waitTimeout:
		up.metrics.QueueRejected(string(exchange.ReasonQueueTimeout))
		return nil, exchange.ReasonQueueTimeout
	case waitLate:
		return nil, exchange.ReasonTimeout
	case waitGone:
		return nil, exchange.ReasonClientGone
	case waitGranted:
	}
	return m, rq.emptyReason()
}

// tryAcquire picks and takes a place on the first server that has one. Full says
// that there are servers but none with room.
func (rq *request) tryAcquire(key uint64) (m *backend.Member, full bool) {
	up := rq.target.upstream
	limit := up.Limits.MaxRequestsPerServer
	seen := rq.tried
	for range backend.MaxTried {
		m = up.pick(rq.ex, key, &seen)
		if m == nil {
			return nil, full
		}
		if full && seen.Has(m.Live) {
			break
		}
		if m.Acquire(limit) {
			return m, false
		}
		full = true
		seen.Add(m.Live)
	}
	// A place lost here has gone to another request: each round, one of them gets on.
	for m = up.Balancer.PickFree(limit, &rq.tried); m != nil; m = up.Balancer.PickFree(limit, &rq.tried) {
		if m.Acquire(limit) {
			return m, false
		}
	}
	return nil, true
}

// emptyReason tells an upstream without servers from one whose servers are all out.
func (rq *request) emptyReason() exchange.Reason {
	if known, _ := rq.target.upstream.Members(); known == 0 {
		return exchange.ReasonNoServer
	}
	return exchange.ReasonAllDown
}

func (rq *request) noServer(reason exchange.Reason) {
	switch reason {
	case exchange.ReasonClientGone:
		rq.gone()
	case exchange.ReasonTimeout:
		rq.fail(504, reason)
	default:
		rq.fail(503, reason)
	}
}

// attempt sends the request to one server. It answers the client, or says that
// another server should be tried.
func (rq *request) attempt(m *backend.Member, deadline time.Time) (retry bool) {
	ex, result := rq.ex, &rq.ex.Result
	start := time.Now()
	if !rq.tellDeadline(start) {
		rq.fail(504, exchange.ReasonTimeout)
		return false
	}
	result.Attempts++
	result.Server, result.ServerStatus = m.ID.String(), 0
	rq.tried.Add(m.Live)
	rq.out.Host = rq.route.UpstreamHost(ex.Request.Host, m.ID)

	via := &rq.via
	if rq.kept != nil {
		rq.kept.rewind()
		via = &rq.kept.via
	}
	err := pool(m).RoundTrip(via, &rq.out, rq.attemptDeadline(start), &rq.resp)
	headerTime := time.Since(start)
	result.HeaderTime = headerTime
	if err != nil {
		return rq.attemptFailed(m, err, headerTime, deadline)
	}
	result.ServerStatus = rq.resp.Status
	if rq.retryStatus(deadline) {
		status := rq.resp.Status
		rq.resp.Close()
		rq.target.upstream.report(m, backend.Outcome{Status: status, Header: headerTime, Total: headerTime})
		return true
	}
	failure := rq.deliver(m)
	rq.resp.Close()
	rq.target.upstream.report(m, backend.Outcome{
		Failure: failure, Status: result.ServerStatus, Header: headerTime, Total: time.Since(start),
	})
	return false
}

// attemptDeadline is the earlier of the whole request's time-out and this attempt's.
func (rq *request) attemptDeadline(start time.Time) time.Time {
	deadline := rq.until(rq.call.grace)
	per := rq.route.Retry.PerTryTimeout
	if per <= 0 {
		return deadline
	}
	if try := start.Add(per); deadline.IsZero() || try.Before(deadline) {
		return try
	}
	return deadline
}

// attemptFailed handles an attempt without a response head.
func (rq *request) attemptFailed(m *backend.Member, err error, took time.Duration, deadline time.Time) (retry bool) {
	var failed *transport.Error
	if !errors.As(err, &failed) {
		failed = &transport.Error{Failure: backend.FailureReset, MaybeExecuted: true, Err: err}
	}
	failure := failed.Failure
	rq.target.upstream.report(m, backend.Outcome{Failure: failure, Header: took, Total: took})
	if failure == backend.FailureClient {
		rq.clientFailed(err)
		return false
	}
	cond, known := failureCondition[failure]
	if known && rq.mayRetry(cond, failed.MaybeExecuted, deadline) {
		rq.target.upstream.metrics.Retry(failure.String())
		return true
	}
	if !deadline.IsZero() && !time.Now().Before(deadline) || rq.callOver() {
		failure = backend.FailureTimeout // whatever it was in the middle of
	}
	answer := failureAnswer[failure]
	rq.fail(answer.status, answer.reason)
	return false
}

// failureAnswer is what the client gets when no server answered.
var failureAnswer = map[backend.Failure]struct {
	status int
	reason exchange.Reason
}{
	backend.FailureConnect:  {502, exchange.ReasonConnect},
	backend.FailureStale:    {502, exchange.ReasonReset},
	backend.FailureReset:    {502, exchange.ReasonReset},
	backend.FailureTimeout:  {504, exchange.ReasonTimeout},
	backend.FailureProtocol: {502, exchange.ReasonProtocol},
	backend.FailureBody:     {502, exchange.ReasonReset},
}

// deliver passes the server's answer on to the client.
func (rq *request) deliver(m *backend.Member) backend.Failure {
	ex, resp := rq.ex, &rq.resp
	listener := rq.listener()
	reply := resp.Response
	reply.Header = ResponseHeader(rq.reply[:0], resp.Header, resp.Status == 101 || resp.Status == 426,
		HeaderOptions{Via: listener.Via, Scratch: &rq.scratch})
	if rq.target.upstream.Sticky != nil {
		rq.target.upstream.Sticky.Update(ex, &reply.Header, m.ID)
	}
	rq.route.ResponseOps.Apply(&reply.Header, rq.vars())
	rq.reply = reply.Header

	// The client is told now that what it still sends will not be waited for.
	reply.CloseClient = rq.uploading()
	if rq.kept != nil {
		rq.kept.forgo()
	}
	if exchange.IsGRPC(&ex.Request) {
		rq.endAsGRPC(&reply)
	}
	ex.Result.Status = reply.Status
	rq.started = true
	if err := ex.Client.Start(&reply); err != nil {
		rq.gone()
		return backend.FailureClient
	}
	if resp.Status == 101 {
		rq.tunnel()
		return backend.FailureNone
	}
	body := resp.Body()
	if body == nil {
		return backend.FailureNone
	}
	return rq.copyBody(body)
}

// bodyFailed cuts an answer whose rest did not come. The client must see it cut:
// never a clean end, never an error text behind the part that it has.
func (rq *request) bodyFailed(err error) backend.Failure {
	var failed *transport.Error
	if errors.As(err, &failed) && failed.Failure == backend.FailureClient {
		rq.gone()
		return backend.FailureClient
	}
	status, reason, failure := 502, exchange.ReasonBodyCut, backend.FailureBody
	if rq.callOver() {
		// It was the client that wanted no more by now.
		status, reason, failure = 504, exchange.ReasonTimeout, backend.FailureClient
	}
	rq.ex.Result.Reason = reason
	rq.ex.Result.Aborted = !rq.endCall(status, reason)
	return failure
}
