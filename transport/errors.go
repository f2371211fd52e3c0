package transport

import (
	"errors"
	"fmt"

	"drover/backend"
)

// Error is why an exchange with a server failed.
type Error struct {
	Failure backend.Failure
	// MaybeExecuted is false only where it is proven that the server's application
	// cannot have got the request: there was no connection, nothing was written, or
	// the server closed without having taken any of it.
	MaybeExecuted bool
	Err           error
}

func (e *Error) Error() string { return fmt.Sprintf("%s: %v", e.Failure, e.Err) }

func (e *Error) Unwrap() error { return e.Err }

var (
	errClientGone = errors.New("the client went away")
	errTimeout    = errors.New("no answer in time")
	errClosed     = errors.New("the pool is closed")
)

// protocolError is an answer that is no valid HTTP/1.1.
type protocolError string

func (e protocolError) Error() string { return string(e) }

func protocolf(format string, args ...any) error { return protocolError(fmt.Sprintf(format, args...)) }

// failureOf names an error met while reading an answer.
func failureOf(err error, otherwise backend.Failure) backend.Failure {
	var protocol protocolError
	switch {
	case errors.Is(err, errClientGone):
		return backend.FailureClient
	case errors.Is(err, errTimeout):
		return backend.FailureTimeout
	case errors.As(err, &protocol):
		return backend.FailureProtocol
	default:
		return otherwise
	}
}
