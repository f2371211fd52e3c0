package h2

import (
	"net/http"

	"drover/exchange"
)

func (s *stream) interim(status int, header exchange.Header) error {
	if s.isOver() {
		return errReset
	}
	s.conn.lock()
	s.conn.appendHead(s.id, status, header, -1, false)
	return s.conn.unlock()
}

// askOn tells a client that waits for it to send the body: when somebody wants to read
// the body, which may be another goroutine than the handler's. It is too late once there
// is an answer.
func (s *stream) askOn() error {
	if !s.head.expects {
		return nil
	}
	s.inviting.Lock()
	defer s.inviting.Unlock()
	if s.invited || s.answered {
		return nil
	}
	s.invited = true
	return s.interim(http.StatusContinue, nil)
}

// uninvite has the client asked for the body no more, now that it gets an answer.
func (s *stream) uninvite() {
	if s.head.expects {
		s.inviting.Lock()
		s.answered = true
		s.inviting.Unlock()
	}
}
