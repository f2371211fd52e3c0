package exchange

import "errors"

// How a request's body can break, apart from io.ErrUnexpectedEOF for one that the
// client cut. Fronts give them, or errors that wrap them, from Request.Body.
var (
	ErrBodyTooLarge  = errors.New("request body over max_body_size")
	ErrBodyTimeout   = errors.New("request body did not come in time")
	ErrBodyMalformed = errors.New("request body is not framed as HTTP wants it")
)
