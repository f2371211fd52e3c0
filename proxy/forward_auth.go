package proxy

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"drover/backend"
	"drover/exchange"
	"drover/transport"
)

// forwardAuth is a compiled ForwardAuthConfig. It is immutable.
type forwardAuth struct {
	cfg      *ForwardAuthConfig
	upstream *Upstream
	target   []byte
	granted  [][]byte // names of ResponseHeaders
}

func newForwardAuth(cfg *ForwardAuthConfig, o *TableOptions) (*forwardAuth, error) {
	up, ok := o.Upstreams[cfg.Upstream]
	if !ok {
		return nil, fmt.Errorf("cannot ask upstream %q: there is none of that name", cfg.Upstream)
	}
	a := &forwardAuth{cfg: cfg, upstream: up, target: []byte(cfg.Path)}
	for _, name := range cfg.ResponseHeaders {
		a.granted = append(a.granted, []byte(name))
	}
	return a, nil
}

// permits asks the service. It answers the client itself where it gives false: with the
// service's answer, or with 503 where there is none to go by.
func (a *forwardAuth) permits(rq *request) bool {
	up := a.upstream
	deadline := time.Now().Add(a.cfg.Timeout)
	if !up.gate.enter() {
		switch up.gate.wait(&up.gate.places, deadline, up.gate.take, rq.ex.Client.Gone) {
		case waitGranted:
		case waitGone:
			rq.gone()
			return false
		case waitFull, waitTimeout, waitLate:
			rq.fail(503, exchange.ReasonAuthFailed)
			return false
		}
	}
	defer up.gate.leave()
	question := a.question(rq)
	var tried backend.Tried
	for range authAttempts {
		m := up.Balancer.Pick(0, &tried)
		if m == nil || !m.Acquire(up.Limits.MaxRequestsPerServer) {
			break
		}
		tried.Add(m.Live)
		permitted, answered := a.ask(rq, m, question, deadline)
		if answered {
			return permitted
		}
	}
	rq.fail(503, exchange.ReasonAuthFailed)
	return false
}

// authAttempts is how many servers are asked. The question changes nothing, so it may
// be put again.
const authAttempts = 2

// aside stands before the client while a service is asked: the client must hear
// nothing of it.
type aside struct{ exchange.Client }

func (aside) Inform(*exchange.Response) error { return nil }

func (aside) AbortBody() {}

// question is the request to the service. The client's body is not part of it.
func (a *forwardAuth) question(rq *request) *exchange.Request {
	ex := rq.ex
	q := &exchange.Request{Method: []byte("GET"), Target: a.target, ProtoMinor: 1, ContentLength: exchange.NoBody}
	for i := range ex.Request.Header {
		f := &ex.Request.Header[i]
		if slices.ContainsFunc(a.cfg.RequestHeaders, func(name string) bool { return exchange.EqualFold(f.Name, name) }) &&
			fieldKindOf(f.Name) == fieldOther {
			q.Header = append(q.Header, *f)
		}
	}
	add := func(name, value []byte) { q.Header = append(q.Header, exchange.Field{Name: name, Value: value}) }
	add([]byte("X-Forwarded-Method"), ex.Request.Method)
	add(nameForwardedProto, []byte(clientScheme(ex)))
	add(nameForwardedHost, ex.Request.Host)
	add([]byte("X-Forwarded-Uri"), ex.Request.Target)
	add(nameForwardedFor, appendClientIP(nil, ex))
	if user := ex.Result.User; user != "" {
		add(nameForwardedUser, []byte(user))
	}
	return q
}

// ask puts the question to one server. Without an answer another may be asked.
func (a *forwardAuth) ask(rq *request, m *backend.Member, q *exchange.Request, deadline time.Time) (permitted, answered bool) {
	up := a.upstream
	defer func() {
		m.Release()
		up.gate.wake(&up.gate.servers)
	}()
	via := exchange.Exchange{Client: aside{rq.ex.Client}, Left: rq.ex.Left, Remote: rq.ex.Remote, Local: rq.ex.Local}
	start := time.Now()
	err := pool(m).RoundTrip(&via, q, deadline, &rq.resp)
	took := time.Since(start)
	if err != nil {
		failure := failureIn(err)
		up.report(m, backend.Outcome{Failure: failure, Header: took, Total: took})
		if failure == backend.FailureClient {
			rq.gone()
			return false, true
		}
		return false, false
	}
	defer rq.resp.Close()
	status := rq.resp.Status
	up.report(m, backend.Outcome{Status: status, Header: took, Total: took})
	switch {
	case status >= 200 && status <= 299:
		a.grant(rq)
		return true, true
	case status >= 300 && status <= 499:
		rq.passAnswer()
	default:
		rq.fail(503, exchange.ReasonAuthFailed)
	}
	return false, true
}

// maxGrantReads bounds what is read of a 2xx's body to keep its connection.
const maxGrantReads = 8

// grant takes what the server is to know over from a 2xx. The values are copied, since
// the answer's memory goes back with its connection.
func (a *forwardAuth) grant(rq *request) {
	for i := range rq.resp.Header {
		f := &rq.resp.Header[i]
		for _, name := range a.granted {
			switch {
			case !equalFoldBytes(f.Name, name):
			case equalFoldBytes(name, nameForwardedUser):
				rq.ex.Result.User = string(f.Value) // outgoing writes it.
			default:
				rq.granted = append(rq.granted, exchange.Field{Name: name, Value: slices.Clone(f.Value)})
			}
		}
	}
	// A body that has come already does not cost the connection; no other is waited for.
	if body := rq.resp.Body(); body != nil {
		var buf [512]byte
		for range maxGrantReads {
			if rq.resp.Buffered() == 0 {
				break
			}
			if _, err := body.Read(buf[:]); err != nil {
				break
			}
		}
	}
}

// passAnswer makes the service's answer the client's.
func (rq *request) passAnswer() {
	ex := rq.ex
	reply := rq.resp.Response
	reply.Header = ResponseHeader(rq.reply[:0], rq.resp.Header, false,
		HeaderOptions{Via: rq.listener().Via, Scratch: &rq.scratch})
	rq.reply = reply.Header
	rq.started = true
	ex.Result.Status, ex.Result.Reason = reply.Status, exchange.ReasonAuthAnswer
	if err := ex.Client.Start(&reply); err != nil {
		rq.gone()
		return
	}
	if body := rq.resp.Body(); body != nil && exchange.BodyAllowed(ex.Request.Method, reply.Status) {
		rq.copyBody(body)
	}
}

// failureIn names what went wrong with an attempt.
func failureIn(err error) backend.Failure {
	var failed *transport.Error
	if errors.As(err, &failed) {
		return failed.Failure
	}
	return backend.FailureReset
}
