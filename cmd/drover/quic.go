package main

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"time"

	"drover/proxy/front"
	"drover/proxy/front/h3"

	"go.uber.org/zap"
)

// quicSocket is the UDP side of a listener that speaks HTTP/3. It outlives fronts as the
// TCP side does, and more so: it cannot be duplicated, for a packet must find its
// connection, whichever front that belongs to.
type quicSocket struct {
	*h3.Endpoint

	task *task // nil until it is served
}

// maxPortTries bounds the search for a port that is free for both TCP and UDP.
const maxPortTries = 20

// bindBoth binds an address for TCP and, where that is wanted, the same port for UDP.
func bindBoth(cfg front.Config) (*socket, *quicSocket, error) {
	var err error
	for range maxPortTries {
		var s *socket
		if s, err = bind(cfg.Address); err != nil || cfg.HTTP3 == nil {
			return s, nil, err
		}
		var q *quicSocket
		if q, err = bindQUIC(cfg.Address, s); err == nil {
			return s, q, nil
		}
		_ = s.ln.Close() // never served.
		if _, port, _ := net.SplitHostPort(cfg.Address); port != "0" {
			break
		}
	}
	return nil, nil, err
}

func bindQUIC(address string, s *socket) (*quicSocket, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %q: %w", address, err)
	}
	bound := s.ln.Addr().(*net.TCPAddr) //nolint:forcetypeassert,errcheck // of a TCP listener.
	pc, err := net.ListenPacket("udp", net.JoinHostPort(host, strconv.Itoa(bound.Port)))
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %q for HTTP/3: %w", address, err)
	}
	return &quicSocket{Endpoint: h3.NewEndpoint(pc.(*net.UDPConn))}, nil //nolint:forcetypeassert,errcheck // "udp" gives nothing else.
}

// planQUIC gives a planned listener its UDP side: that of the running listener, of the one
// whose address it takes over, or a new one.
func (e *engine) planQUIC(p *listenerPlan) (err error) {
	switch {
	case p.cfg.HTTP3 == nil, p.quic != nil:
		return nil
	case p.running != nil && p.running.cfg.Address == p.cfg.Address:
		p.quic = p.running.quic
	default:
		for _, l := range e.listeners {
			if l.cfg.Address == p.cfg.Address && l.quic != nil {
				p.quic = l.quic
			}
		}
	}
	if p.quic == nil {
		p.quic, err = bindQUIC(p.cfg.Address, p.socket)
	}
	return err
}

// serve has a front serve what connects from now on.
func (q *quicSocket) serve(name string, f *front.Front, logger *zap.Logger) {
	q.Use(f.HTTP3())
	if q.task == nil {
		q.task = startTask("listener "+name+" over QUIC", logger, q.Run)
	}
}

// finish ends the service of the socket. Connections of earlier fronts that share it may
// end first, until ctx does.
func (q *quicSocket) finish(ctx context.Context) {
	select {
	case <-q.task.done:
	case <-ctx.Done():
	}
	q.task.stop()
}

// undo gives the socket back if it was bound for a plan that came to nothing.
func (q *quicSocket) undo() {
	if q != nil && q.task == nil {
		_ = q.Close() // never served.
	}
}

// quicInUse gives the UDP sides that listeners have, and whose they are.
func (e *engine) quicInUse() map[*quicSocket]*front.Front {
	inUse := map[*quicSocket]*front.Front{}
	for _, l := range e.listeners {
		if l.quic != nil {
			inUse[l.quic] = l.front
		}
	}
	return inUse
}

// retireQUIC drains the UDP sides that no listener has any more, of those that were in use
// before.
func (e *engine) retireQUIC(before map[*quicSocket]*front.Front, timeout time.Duration) {
	now := e.quicInUse()
	for q, f := range before {
		if now[q] != nil {
			continue
		}
		q.StopAccepting()
		e.drains.Go(func() {
			ctx, cancel := context.WithTimeout(e.drainCtx, timeout)
			defer cancel()
			// Tunnels too: as long as the port is taken, a reload that wants it again is refused.
			if err := f.RetireHTTP3(ctx, ctx); err != nil {
				e.logger.Warn("not every connection could finish", zap.Error(err))
			}
			q.finish(ctx)
		})
	}
}
