package transport

// connState is what can be told of an unused connection without a round trip.
type connState int

const (
	connAlive connState = iota
	connClosed
	connUnsolicited
)
