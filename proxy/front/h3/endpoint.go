package h3

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// Windows bound what clients may have sent that nobody has read yet.
const (
	streamWindow    = 128 << 10
	maxStreamWindow = 512 << 10
	connWindow      = 256 << 10
	maxConnWindow   = 1 << 20
)

// maxHandshakes is how many clients may be shaking hands before further ones must show
// that their address is theirs.
const maxHandshakes = 256

var (
	errTooMany = errors.New("one connection too many")
	errIdle    = errors.New("the endpoint has no server yet")
)

// Endpoint is a UDP socket that clients speak HTTP/3 to. It outlives the Servers that its
// connections belong to: a packet is told apart from others by its connection, which
// only one reader of the socket can do.
type Endpoint struct {
	// immutable
	socket    *net.UDPConn
	transport *quic.Transport
	stopping  context.Context
	stop      context.CancelFunc
	running   sync.WaitGroup // connections, and what is told of their end

	// atomic
	server     atomic.Pointer[Server] // new connections are its
	handshakes atomic.Int64
}

// NewEndpoint makes an Endpoint of a bound socket, which it owns from then on. It starts
// nothing.
func NewEndpoint(socket *net.UDPConn) *Endpoint {
	e := &Endpoint{socket: socket}
	e.stopping, e.stop = context.WithCancel(context.Background())
	e.transport = &quic.Transport{
		Conn: socket, ConnContext: e.begin,
		VerifySourceAddress: func(net.Addr) bool {
			s := e.server.Load()
			return e.handshakes.Load() >= maxHandshakes || s != nil && s.opts.Suspicious()
		},
	}
	return e
}

// Addr is the socket's address.
func (e *Endpoint) Addr() netip.AddrPort { return addrPort(e.socket.LocalAddr()) }

// Use has a Server serve what connects from now on. Connections that exist go on with
// theirs.
func (e *Endpoint) Use(s *Server) {
	s.resume()
	e.server.Store(s)
}

// Close closes the socket of an endpoint that never ran.
func (e *Endpoint) Close() error { return e.socket.Close() }

// StopAccepting takes no further connections; those that exist go on.
func (e *Endpoint) StopAccepting() { e.stop() }

// Run serves connections until StopAccepting was called and all of them have ended, or
// until ctx ends, which breaks them off. It closes the socket.
func (e *Endpoint) Run(ctx context.Context) error {
	defer func() { _ = e.socket.Close() }() // all was said.
	ln, err := e.transport.Listen(&tls.Config{
		MinVersion: tls.VersionTLS13, GetConfigForClient: settingsFor,
	}, &quic.Config{GetConfigForClient: e.configFor})
	if err != nil {
		return err
	}
	accepting, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(e.stopping, stop)()
	for err == nil {
		var conn *quic.Conn
		if conn, err = ln.Accept(accepting); err == nil {
			e.running.Go(func() { serverOf(conn.Context()).serve(conn) })
		}
	}
	if accepting.Err() != nil {
		err = nil // it was asked for.
	}
	_ = ln.Close() // connections go on, and none begins any more.
	closeQueued(ln)
	ended := make(chan struct{})
	go func() { e.running.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-ctx.Done():
	}
	err = errors.Join(err, e.transport.Close())
	<-ended
	return err
}

// closeQueued closes the connections that nobody has taken from a listener that is closed:
// it does not do so itself.
func closeQueued(ln *quic.Listener) {
	for {
		conn, err := ln.Accept(context.Background())
		if err != nil {
			return
		}
		_ = conn.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeNoError), "") // it may be closed already.
	}
}

// serverKey is where a connection's context has its Server.
type serverKey struct{}

func serverOf(ctx context.Context) *Server {
	return ctx.Value(serverKey{}).(*Server) //nolint:forcetypeassert,errcheck // begin has put it there.
}

// begin takes a connection's first packet, or refuses it.
func (e *Endpoint) begin(ctx context.Context, info *quic.ClientInfo) (context.Context, error) {
	s := e.server.Load()
	if s == nil {
		return nil, errIdle
	}
	leave, ok := s.opts.Admit(addrPort(info.RemoteAddr))
	if !ok {
		return nil, errTooMany
	}
	e.handshakes.Add(1)
	h := &handshake{endpoint: e}
	e.running.Add(1)
	context.AfterFunc(ctx, func() {
		defer e.running.Done()
		h.over()
		leave(context.Cause(ctx))
	})
	return context.WithValue(context.WithValue(ctx, serverKey{}, s), handshakeKey{}, h), nil
}

// handshake counts among its endpoint's until it is over.
type handshake struct {
	endpoint *Endpoint
	once     sync.Once
}

type handshakeKey struct{}

func (h *handshake) over() { h.once.Do(func() { h.endpoint.handshakes.Add(-1) }) }

// configFor gives the limits of a new connection.
func (e *Endpoint) configFor(*quic.ClientInfo) (*quic.Config, error) {
	s := e.server.Load()
	if s == nil {
		return nil, errIdle
	}
	l := s.opts.Limits()
	return &quic.Config{
		HandshakeIdleTimeout: l.HeaderTimeout / 2, // the whole of it may take twice as long.
		MaxIdleTimeout:       livenessAfter,
		KeepAlivePeriod:      livenessAfter / 2,
		MaxIncomingStreams:   int64(l.MaxStreams), MaxIncomingUniStreams: uniStreams,
		InitialStreamReceiveWindow: streamWindow, MaxStreamReceiveWindow: maxStreamWindow,
		InitialConnectionReceiveWindow: connWindow, MaxConnectionReceiveWindow: maxConnWindow,
	}, nil
}

// settingsFor gives the TLS settings of a new connection's Server.
func settingsFor(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	cfg, err := serverOf(hello.Context()).opts.TLS(hello)
	if err != nil {
		return nil, err
	}
	cfg = cfg.Clone()
	cfg.NextProtos = []string{"h3"}
	cfg.MinVersion = tls.VersionTLS13
	return cfg, nil
}

// addrPort gives an address as a value, IPv4 as IPv4 even on an IPv6 socket.
func addrPort(a net.Addr) netip.AddrPort {
	udp, ok := a.(*net.UDPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := udp.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
