package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"reflect"

	"drover/config"
	"drover/exchange"
	"drover/proxy"
	"drover/proxy/front"

	"go.uber.org/zap"
)

// socket is a bound address. It outlives the fronts that accept on it: each gets a
// duplicate of the same kernel socket, so that a front can be replaced while clients
// wait in the accept queue and none of them notices.
type socket struct {
	address string
	ln      *net.TCPListener
}

func bind(address string) (*socket, error) {
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %q: %w", address, err)
	}
	return &socket{address: address, ln: ln.(*net.TCPListener)}, nil //nolint:forcetypeassert,errcheck // "tcp" gives nothing else.
}

// share gives a listener of its own on the same kernel socket.
func (s *socket) share() (net.Listener, error) {
	f, err := s.ln.File()
	if err != nil {
		return nil, fmt.Errorf("cannot share listener %q: %w", s.address, err)
	}
	defer closeFile(f)
	ln, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("cannot share listener %q: %w", s.address, err)
	}
	return ln, nil
}

// clone gives a socket that can be closed apart from this one.
func (s *socket) clone() (*socket, error) {
	ln, err := s.share()
	if err != nil {
		return nil, err
	}
	return &socket{address: s.address, ln: ln.(*net.TCPListener)}, nil //nolint:forcetypeassert,errcheck // shared from one.
}

func closeFile(f *os.File) { _ = f.Close() } // a duplicate descriptor; nothing is buffered.

// listener is one running listener.
type listener struct {
	cfg    front.Config
	socket *socket
	quic   *quicSocket // nil without HTTP/3
	front  *front.Front
	serve  *task
}

// listenerPlan is what a new configuration makes of one listener.
type listenerPlan struct {
	cfg     front.Config
	running *listener    // nil: new
	front   *front.Front // nil: the running one takes the new settings
	tls     *front.TLS   // what the running front shall speak from now on, nil: unchanged
	socket  *socket
	bound   bool // socket was bound for this plan
	quic    *quicSocket
	ln      net.Listener
}

// planListener prepares a listener. A front is kept wherever it can take the new
// settings while it runs.
func (e *engine) planListener(cfg front.Config, next *config.Config) (*listenerPlan, error) {
	p := &listenerPlan{cfg: cfg, running: e.listeners[cfg.Name]}
	if p.running != nil && p.running.cfg.Address == cfg.Address {
		p.socket = p.running.socket
		if p.running.cfg.SameSocket(cfg) {
			return p, errors.Join(p.planTLS(next, e.cfg), e.planQUIC(p))
		}
	}
	if p.socket == nil {
		var err error
		if p.socket, p.quic, err = e.socketFor(cfg); err != nil {
			return nil, err
		}
		p.bound = true
	}
	if err := e.planQUIC(p); err != nil {
		return p, err
	}
	made, err := e.newFront(cfg)
	if err != nil {
		return p, err
	}
	p.front = made
	p.ln, err = p.socket.share()
	return p, err
}

// planTLS loads what is new about TLS. Connections that exist go on as they are.
func (p *listenerPlan) planTLS(next, inForce *config.Config) (err error) {
	same := reflect.DeepEqual(p.running.cfg.TLS, p.cfg.TLS)
	if p.cfg.TLS != nil && (!same || filesChanged(next, inForce, p.cfg.TLS.Files()...)) {
		p.tls, err = front.LoadTLS(p.cfg.TLS)
	}
	return err
}

// socketFor binds an address, or takes over the socket of a listener that only
// changes its name.
func (e *engine) socketFor(cfg front.Config) (*socket, *quicSocket, error) {
	for _, l := range e.listeners {
		if l.cfg.Address == cfg.Address {
			s, err := l.socket.clone()
			return s, nil, err
		}
	}
	return bindBoth(cfg)
}

func (e *engine) newFront(cfg front.Config) (*front.Front, error) {
	counts := e.metrics.Listener(cfg.Name)
	return front.New(cfg, e.proxy.Serve, front.Options{
		Logger: e.logger.With(zap.String("listener", cfg.Name)),
		OnConn: counts.Connections,
		Issued: e.issued,
		OnReject: func(ex *exchange.Exchange) {
			counts.Rejected(string(ex.Result.Reason))
			e.proxy.Rejected(ex)
		},
		Tickets: e.ticketSecrets,
	})
}

// undo gives back what a plan took, when another part of the change failed.
func (p *listenerPlan) undo() {
	if p.ln != nil {
		_ = p.ln.Close() // never served.
	}
	if p.bound {
		_ = p.socket.ln.Close() // never served.
	}
	p.quic.undo()
}

// commit carries a listener's plan out. It gives the listener that must be drained,
// nil for none.
func (e *engine) commitListener(p *listenerPlan) (old *listener) {
	if p.front == nil {
		if !reflect.DeepEqual(p.running.cfg, p.cfg) {
			p.running.front.Update(p.cfg)
			p.running.cfg = p.cfg
		}
		if p.tls != nil {
			p.running.front.SetTLS(p.tls)
		}
		p.running.quic = p.quic
		p.running.serveQUIC(e.logger)
		return nil
	}
	next := &listener{cfg: p.cfg, socket: p.socket, quic: p.quic, front: p.front}
	next.serveQUIC(e.logger)
	next.serve = startTask("listener "+p.cfg.Name, e.logger, func(context.Context) error { return p.front.Serve(p.ln) })
	e.listeners[p.cfg.Name] = next
	if p.running != nil && p.running.socket != p.socket {
		_ = p.running.socket.ln.Close() // its front drains what it has accepted.
	}
	return p.running
}

func (l *listener) serveQUIC(logger *zap.Logger) {
	if l.quic != nil {
		l.quic.serve(l.cfg.Name, l.front, logger)
	}
}

// drainListener lets a listener's requests and tunnels finish, each until their context
// ends.
func (e *engine) drainListener(requests, tunnels context.Context, l *listener) {
	if err := l.front.Retire(requests, tunnels); err != nil {
		e.logger.Warn("not every connection could finish", zap.String("listener", l.cfg.Name), zap.Error(err))
	}
	l.serve.stop()
}

// listenerOptions are what the request path wants to know of a listener.
func listenerOptions(l *front.Config) proxy.ListenerOptions {
	o := proxy.ListenerOptions{
		Forwarded: l.Forwarded, Via: l.Via, Trusted: l.Trusted(),
		Path: proxy.PathOptions{
			MergeSlashes: l.Path.MergeSlashes, RejectEncodedSlash: l.Path.RejectEncodedSlash,
			RejectDotSegments: l.Path.DotSegments == front.DotSegmentsReject,
		},
	}
	if id := l.RequestID; id != nil {
		o.RequestID = proxy.RequestIDOptions{
			Header: []byte(id.Header), KeepTrusted: id.Keep == front.KeepTrusted, KeepAlways: id.Keep == front.KeepAlways, Answer: id.Answer,
		}
	}
	return o
}
