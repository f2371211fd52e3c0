// Package h2 is the server's side of HTTP/2 (RFC 9113) on one client connection: it
// reads frames, fills exchanges and writes the answers. Frames are taken apart by
// x/net's Framer and fields by its hpack; streams, flow control and patience with
// hostile clients are drover's own, since no server of the standard library keeps the
// fields' order, or ends most floods.
package h2

import (
	"net"
	"time"

	"drover/exchange"

	"go.uber.org/zap"
)

// Preface is what a client sends first (RFC 9113, section 3.4).
const Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// Limits bound what a client may take. They may change while a connection runs.
type Limits struct {
	HeaderTimeout time.Duration // for the preface, a header block, and any frame but the DATA of an open stream
	BodyIdle      time.Duration // between two pieces of a body
	MinBodyRate   int64         // bytes a second of a body whose length is announced, 0 for none; see pace
	WriteIdle     time.Duration // without room in the client's flow-control windows
	KeepAlive     time.Duration // without a stream

	MaxStreams int   // at the same time
	MaxHeader  int   // bytes of a header block, as RFC 9113, section 6.5.2 counts them
	MaxFields  int   // fields of a header block
	MaxBody    int64 // 0 for no limit
}

// Options are a connection's ties to its front.
type Options struct {
	Logger *zap.Logger
	// Handler answers one exchange. Many run at the same time.
	Handler func(*exchange.Exchange)
	// Check finds fault with a request's method, target and host. It may rewrite the
	// target. The zero status is none.
	Check func(*exchange.Request) (status int, reason exchange.Reason)
	// HSTS is the value of Strict-Transport-Security in answers without one, nil for
	// none.
	HSTS []byte
	// AltSvc gives the value of Alt-Svc in answers without one, nil for none. It may be
	// nil itself.
	AltSvc func() []byte
	// Reject is told of exchanges that no Handler has answered; Result says how.
	Reject func(*exchange.Exchange)
	// Address fills in between whom an exchange is.
	Address func(*exchange.Exchange)
	// Limits gives those in force.
	Limits func() Limits
	// Hasten makes a blocked read look at ReadLimit again. It is called with locks of the
	// connection held, and must call nothing else of it.
	Hasten func()
	// Gone reports whether the client has closed its side of the connection.
	Gone func() bool
	// Broke tells why the connection is of no use any more.
	Broke func() exchange.Reason
}

// New makes the server's side of a connection. It starts nothing.
func New(nc net.Conn, o Options) *Conn {
	c := &Conn{
		nc: nc, opts: o, streams: map[uint32]*stream{},
		sendWindow: initialWindow, peerInitial: initialWindow, peerMaxFrame: minFrame,
		recvWindow: connWindow, started: time.Now(),
	}
	c.state.Store(int32(statePreface))
	c.since.Store(c.started.UnixNano())
	c.calm.start(c.started)
	c.initReader()
	c.initWriter()
	return c
}
