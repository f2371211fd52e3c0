package exchange

import "errors"

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
