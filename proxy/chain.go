package proxy

import (
	"math/rand/v2"
	"runtime/debug"
	"sync/atomic"
	"time"

	"drover/backend"
	"drover/exchange"
	"drover/proxy/compress"
	"drover/transport"

	"go.uber.org/zap"
)

// request is one exchange on its way through the chain, with the scratch memory it
// needs. It belongs to one goroutine and is reused.
type request struct {
	done   func() // reset, and back into the pool
	ex     *exchange.Exchange
	table  *Table
	newest *atomic.Pointer[Table]
	route  *Route
	guard  *guard // nil for none
	// granted are fields that access gives the server.
	granted exchange.Header
	// compress is nil for a route that passes bodies on as they are.
	compress *compress.Policy
	target   target
	id       [idSize]byte // a new name of the request
	merged   []byte       // a path without empty segments
	badPath  bool
	proof    []byte // the answer to an authority's challenge

	// forward's own
	via     exchange.Exchange // what the attempts see
	teller  teller
	out     exchange.Request
	header  exchange.Header
	reply   exchange.Header
	resp    transport.Response
	tried   backend.Tried
	body    countedBody
	kept    *replay // the body, where it may have to be sent again
	rewrite []byte
	scratch []byte // what new field values are written into
	// deadline is when the route's time for the response's head is over, the zero time
	// for never.
	deadline time.Time
	started  bool // the response's head has gone to the client
	call     call // of gRPC
	dress    dress
}

func (rq *request) reset() {
	clear(rq.header)
	clear(rq.reply)
	*rq = request{
		done: rq.done, header: rq.header[:0], reply: rq.reply[:0], rewrite: rq.rewrite[:0], merged: rq.merged[:0], scratch: rq.scratch[:0],
	}
}

type handler func(*request)

type middleware func(next handler) handler

// chain is the way of every request, outermost first.
func (p *Proxy) chain() handler {
	list := []middleware{
		p.recovered, // a panic costs one request, not the process
		p.sourced,   // find out whose request it is
		p.routed,    // find the route and the upstream, or 404
		p.observed,  // access log and metrics, on the way back
		p.dressed,   // what changes every answer: CORS, compression
		p.limited,   // body limits
		p.guarded,   // who may use the route
		p.ruled,     // redirects and fixed responses
		p.forwarded, // everything else goes to a server
	}
	h := handler(func(*request) {})
	for i := len(list) - 1; i >= 0; i-- {
		h = list[i](h)
	}
	return h
}

// listener gives the settings of the listener that the request came by.
func (rq *request) listener() *ListenerOptions {
	if l := rq.table.listeners[rq.ex.Listener]; l != nil {
		return l
	}
	return &ListenerOptions{}
}

func (p *Proxy) recovered(next handler) handler {
	return func(rq *request) {
		defer func() {
			if cause := recover(); cause != nil {
				p.logger.Error("panic in the request path",
					zap.Any("cause", cause), zap.ByteString("stack", debug.Stack()))
				rq.fail(500, exchange.ReasonPanic)
			}
		}()
		next(rq)
	}
}

func (p *Proxy) routed(next handler) handler {
	return func(rq *request) {
		rq.target = target{metrics: rq.table.noRoute}
		rq.ex.Result.Route = noRouteName
		if rq.badPath = !rq.tidyPath(rq.listener().Path); rq.badPath {
			next(rq)
			return
		}
		if rq.proof = rq.challenge(); rq.proof != nil {
			rq.ex.Result.Route = "acme"
			next(rq)
			return
		}
		if rq.route = rq.table.router.Match(rq.ex); rq.route != nil {
			bound := rq.table.routes[rq.route]
			targets := bound.targets
			rq.guard, rq.compress = bound.guard, bound.compress
			rq.target = targets[0]
			if len(targets) > 1 {
				rq.target = targets[rq.route.PickTarget(rand.Uint32())]
			}
			rq.ex.Result.Route = rq.route.Name
			if rq.target.upstream != nil {
				rq.ex.Result.Upstream = rq.target.upstream.Name
			}
		}
		next(rq)
	}
}

func (p *Proxy) observed(next handler) handler {
	return func(rq *request) {
		rq.target.metrics.Begin()
		defer rq.finish() // deferred, since a panic must be logged and counted too
		next(rq)
	}
}

// finish writes the log line and counts the request.
func (rq *request) finish() {
	ex := rq.ex
	result := &ex.Result
	if rq.body.n > 0 {
		result.Received = rq.body.n
	}
	took := time.Since(ex.Start)
	status := result.Status
	if status == 0 {
		status = statusOf[result.Reason]
	}
	rq.target.metrics.End(ex.Request.Method, status, string(result.Reason), took, result.Received, result.Sent)
	// The newest table's log: that of an older one may be closed by now.
	if t := rq.newest.Load(); t.access != nil {
		t.access.Log(t.accessCfg, ex, status, took)
	}
}

// statusOf is what stands in log and metrics when nothing was sent.
var statusOf = map[exchange.Reason]int{
	exchange.ReasonClientGone: statusClientGone,
	exchange.ReasonClientSlow: statusClientGone,
	exchange.ReasonDrained:    503,
	exchange.ReasonPanic:      500,
}

// statusClientGone is nginx's code for a client that closed before the answer.
const statusClientGone = 499

func (p *Proxy) limited(next handler) handler {
	return func(rq *request) {
		if rq.route != nil && rq.route.MaxBodySize > 0 {
			limit := int64(rq.route.MaxBodySize)
			if rq.ex.Request.ContentLength > limit {
				rq.fail(413, exchange.ReasonBodyTooLarge)
				return
			}
			rq.body.limit = limit
		}
		next(rq)
	}
}

func (p *Proxy) ruled(next handler) handler {
	return func(rq *request) {
		switch {
		case rq.badPath:
			rq.fail(400, exchange.ReasonBadRequest)
		case rq.proof != nil:
			rq.answerChallenge()
		case rq.route == nil:
			rq.fail(404, exchange.ReasonNoRoute)
		case rq.route.Redirect != nil:
			rq.redirect()
		case rq.route.Respond != nil:
			rq.respond()
		default:
			next(rq)
		}
	}
}
