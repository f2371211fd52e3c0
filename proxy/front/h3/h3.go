// Package h3 is the server's side of HTTP/3 (RFC 9114) on one UDP socket. QUIC, frames
// and fields are quic-go's; what becomes of its requests, for how long a client may
// stall, and how a listener drains is drover's. The library keeps fields in a map: their
// order among different names is lost, that of one name is kept.
package h3

import (
	"crypto/tls"
	"net/netip"
	"time"

	"drover/exchange"

	"go.uber.org/zap"
)

// Limits bound what a client may take. Those of streams and time-outs count for
// connections that begin from then on.
type Limits struct {
	HeaderTimeout time.Duration // for the handshake
	BodyIdle      time.Duration // between two pieces of a body
	WriteIdle     time.Duration // without room in the client's flow-control windows
	KeepAlive     time.Duration // without a request
	MinBodyRate   int64         // bytes a second of a body whose length is announced, 0 for none; see pace

	MaxStreams int   // at the same time
	MaxHeader  int   // bytes of a field section, as RFC 9114, section 4.2.2 counts them
	MaxFields  int   // fields of a field section
	MaxBody    int64 // 0 for no limit
}

// Options are a Server's ties to its front. All are required.
type Options struct {
	Logger *zap.Logger
	// Handler answers one exchange. Many run at the same time.
	Handler func(*exchange.Exchange)
	// TLS gives the settings for a handshake, without ALPN.
	TLS func(*tls.ClientHelloInfo) (*tls.Config, error)
	// Admit counts a connection, unless it is one too many. Leave is called once, when
	// the connection has ended or its handshake has failed; then cause says why.
	Admit func(client netip.AddrPort) (leave func(cause error), ok bool)
	// Suspicious reports whether clients must prove first that their address is theirs,
	// which takes a round trip (RFC 9000, section 8.1.2).
	Suspicious func() bool
	// Check finds fault with a request's method, target and host, on a connection for
	// the name that its client has asked for. The zero status is none.
	Check func(req *exchange.Request, name string) (status int, reason exchange.Reason)
	// HSTS gives the value of Strict-Transport-Security in answers without one, nil for
	// none.
	HSTS func() []byte
	// AltSvc gives that of Alt-Svc for a socket with this port.
	AltSvc func(port uint16) []byte
	// Reject is told of exchanges that no Handler has answered; Result says how.
	Reject func(*exchange.Exchange)
	// Address fills in between whom an exchange is.
	Address func(ex *exchange.Exchange, remote, local netip.AddrPort)
	// Limits gives those in force.
	Limits func() Limits
}
