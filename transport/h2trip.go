package transport

import (
	"errors"
	"net/http"
	"time"

	"drover/backend"
	"drover/exchange"
)

// roundTrip2 is RoundTrip over HTTP/2, on a connection that has a place reserved.
func (p *Pool) roundTrip2(c *h2conn, ex *exchange.Exchange, req *exchange.Request, deadline time.Time, resp *Response) error {
	s := &h2stream{
		c: c, settings: p.settings.Load(), method: req.Method, client: ex.Windows,
		events: make(chan struct{}, 1), room: make(chan struct{}, 1),
	}
	*resp = Response{stream: s, client: ex.Client, left: ex.Left, method: req.Method, deadline: deadline, ProtoMinor: 1}
	if err := resp.sendH2(req); err != nil {
		return resp.failH2(err)
	}
	if s.reused {
		p.counts.reused.Add(1)
	}
	if err := resp.readHeadH2(); err != nil {
		return resp.failH2(err)
	}
	return nil
}

// sendH2 writes the request. A body that is not small and in memory is left to a
// goroutine.
func (r *Response) sendH2(req *exchange.Request) error {
	s := r.stream
	s.begun = time.Now()
	until := s.begun.Add(s.settings.BodyIdleTimeout)
	if !r.deadline.IsZero() && r.deadline.Before(until) {
		until = r.deadline
	}
	whole, err := s.open(req, until)
	r.sentAt = time.Now()
	if err != nil || whole {
		return err
	}
	u := &upload{done: make(chan struct{})}
	r.upload = u
	go func() {
		defer close(u.done)
		u.err = s.upload(req)
		u.endedAt.Store(time.Now().UnixNano())
		if errors.Is(u.err, errBodySource) {
			// Half a body must never look whole to the server, nor keep it waiting.
			s.breakOff(u.err)
		}
	}()
	return nil
}

// readHeadH2 passes interim answers on until the final one's head has come.
func (r *Response) readHeadH2() error {
	s, w := r.stream, wait{r: r, head: true}
	for {
		s.c.mu.Lock()
		head, interim, err, whole := s.head, s.interim, s.err, s.remoteEnded
		s.interim = nil
		s.c.mu.Unlock()
		for i := range interim {
			if r.client.Inform(&interim[i]) != nil {
				return errClientGone
			}
		}
		switch {
		case head.Status != 0:
			r.frameH2(head, whole)
			return nil
		case err != nil:
			return err
		}
		if err := s.await(w); err != nil {
			return err
		}
	}
}

// frameH2 makes the response of its head. Whole says that nothing follows.
func (r *Response) frameH2(head exchange.Response, whole bool) {
	r.Response = head
	r.body = body{r: r}
	empty := whole && r.stream.received == 0 && len(r.stream.trailer) == 0
	switch {
	case empty, !r.hasContent():
		if r.ContentLength == exchange.LengthUnknown || r.Status == http.StatusResetContent {
			r.ContentLength = exchange.NoBody
		}
		r.body.done = true
	default:
		r.body.kind = bodyStream
		r.Trailer = r.body.trailers
	}
}

// failH2 ends an exchange without a response head.
func (r *Response) failH2(err error) error {
	s := r.stream
	s.c.mu.Lock()
	untouched, unsent := s.err != nil && s.untouched, s.id == 0
	silent := s.id != 0 && s.c.lastRead.Load() < s.begun.UnixNano()
	s.c.mu.Unlock()
	uploadErr := r.abandonUpload()
	s.close()
	r.stream = nil
	if errors.Is(uploadErr, errBodySource) {
		return &Error{Failure: backend.FailureClient, MaybeExecuted: true, Err: uploadErr}
	}
	untouched = untouched || unsent
	failed := &Error{Failure: failureOf(err, backend.FailureReset), MaybeExecuted: !untouched, Err: err}
	switch {
	case untouched && failed.Failure == backend.FailureReset:
		failed.Failure = backend.FailureConnect
		if s.reused || unsent {
			failed.Failure = backend.FailureStale
			s.c.pool.counts.stale.Add(1)
		}
	case failed.Failure == backend.FailureTimeout && silent:
		s.c.retire() // perhaps nobody is there any more
	}
	return failed
}

// closeH2 ends the exchange. The connection lives on.
func (r *Response) closeH2() {
	s := r.stream
	r.finishUpload()
	r.stream = nil
	s.close()
}

// breakOff ends a stream whose request cannot be completed.
func (s *h2stream) breakOff(reason error) {
	s.c.mu.Lock()
	s.fail(reason, false)
	s.c.mu.Unlock()
}

// stop lets the upload end.
func (s *h2stream) stop() {
	s.c.mu.Lock()
	s.stopUpload()
	s.c.mu.Unlock()
}
