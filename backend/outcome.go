package backend

import "time"

// Failure says how an attempt on a server failed, in the words of logs, metrics
// and retry rules.
type Failure uint8

// FailureNone is an attempt that the server answered in full, whatever the status.
const (
	FailureNone     Failure = iota
	FailureConnect          // no connection: refused, unreachable, connect time-out, TLS
	FailureStale            // a pooled connection had died before the server took a byte
	FailureReset            // the connection broke before the response head was complete
	FailureTimeout          // no response head in time
	FailureProtocol         // the answer was no valid HTTP
	FailureBody             // the body was cut short or stalled
	FailureClient           // the client went away; says nothing about the server
)

var failureNames = [...]string{
	FailureNone:     "none",
	FailureConnect:  "connect",
	FailureStale:    "stale",
	FailureReset:    "reset",
	FailureTimeout:  "timeout",
	FailureProtocol: "protocol",
	FailureBody:     "body",
	FailureClient:   "client",
}

func (f Failure) String() string { return failureNames[f] }

// Outcome is what one attempt on a server came to. The forward loop reports it
// once per attempt; policies and outlier detection learn from it.
type Outcome struct {
	Failure Failure
	Status  int           // 0 without a response head
	Header  time.Duration // from the pick to the response head; 0 without one
	Total   time.Duration // from the pick to the end of the attempt
}
