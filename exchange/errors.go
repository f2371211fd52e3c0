package exchange

import (
	"errors"
	"fmt"
)

// How a request's body can break, apart from io.ErrUnexpectedEOF for one that the
// client cut. Fronts give them, or errors that wrap them, from Request.Body.
var (
	ErrBodyTooLarge  = errors.New("request body over max_body_size")
	ErrBodyTimeout   = errors.New("request body did not come in time")
	ErrBodyMalformed = errors.New("request body is not framed as HTTP wants it")
)

// Errors of a Client that is used against its contract.
var (
	ErrStarted   = errors.New("the response has started already")
	ErrNoStart   = errors.New("the response has not started")
	ErrNoUpgrade = errors.New("the client asked for no upgrade, or the answer was not 101")
	ErrTooLong   = errors.New("more body bytes than the response's length")
)

// CheckStart finds what forbids a Client to start a final response: that it has started
// one, that it is broken by err, or a status that the request does not allow.
func CheckStart(r *Response, started, upgrades bool, err error) error {
	switch {
	case started:
		return ErrStarted
	case err != nil:
		return err
	case r.Status == 101 && !upgrades:
		return ErrNoUpgrade
	case r.Status != 101 && r.Status < 200, r.Status > 999:
		return fmt.Errorf("cannot send status %d; want 101 or 200 to 999", r.Status)
	}
	return nil
}
