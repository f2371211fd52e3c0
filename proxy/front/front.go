// Package front is where clients connect: listeners, TLS, and the adapter that turns
// what fasthttp reads into an exchange and writes the answer to the wire.
package front

import (
	"net/netip"

	"drover/exchange"

	"go.uber.org/zap"
)

// Handler answers one exchange. It returns when the exchange is over, tunnels
// included, and keeps nothing of it.
type Handler func(*exchange.Exchange)

// Options are a Front's ties to the rest of drover. All but Logger may be nil.
type Options struct {
	Logger *zap.Logger
	// OnConn is told +1 for each connection that was accepted and -1 when it ends.
	OnConn func(delta int)
	// OnReject is told of each answer that the Front gave itself, before any
	// Handler saw the request.
	OnReject func(remote netip.AddrPort, reason exchange.Reason, status int)
}
