package h2

import (
	"fmt"
	"net/http"

	"drover/exchange"
)

// Inform implements exchange.Client.
func (s *stream) Inform(r *exchange.Response) error {
	switch {
	case s.started:
		return errStarted
	case r.Status < 100 || r.Status > 199 || r.Status == 101:
		return fmt.Errorf("cannot send status %d as an interim response; want 1xx, not 101", r.Status)
	case r.Status == 100:
		return nil // that is the front's own affair.
	}
	return s.interim(r.Status, r.Header)
}

func (s *stream) interim(status int, header exchange.Header) error {
	if s.isOver() {
		return errReset
	}
	s.conn.lock()
	s.conn.appendHead(s.id, status, header, -1, false)
	return s.conn.unlock()
}

// askOn tells a client that waits for it to send the body.
func (s *stream) askOn() error {
	if !s.head.expects || s.asked || s.started {
		return nil
	}
	s.asked = true
	return s.interim(http.StatusContinue, nil)
}
