package h3

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"

	"drover/exchange"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

const (
	// livenessAfter is how long a client may be silent, which is asked for a sign of life
	// after half of it.
	livenessAfter = 30 * time.Second
	// drainGrace is how long a client that was told to leave may still send requests: it
	// may not have heard.
	drainGrace = 500 * time.Millisecond
	// uniStreams is how many streams of one direction a client may open: one for control
	// and two of QPACK (RFC 9114, section 6.2), and a few for what is not known yet.
	uniStreams = 8
	// tunnelLook is how often it is looked whether connections still have a tunnel.
	tunnelLook = time.Second
)

// Server serves the HTTP/3 connections of one listener.
type Server struct {
	// immutable
	opts Options

	// under mu
	mu       sync.Mutex
	conns    map[*conn]struct{}
	draining bool
}

// NewServer makes a Server. It starts nothing.
func NewServer(o Options) *Server { return &Server{opts: o, conns: map[*conn]struct{}{}} }

// Drain has the clients that are connected go elsewhere: running requests finish until
// their context ends, and for a moment also those that come before the client has heard.
// Tunnels have an end of their own, and with them the requests that share their
// connections. It gives the number of connections that it had to break off.
func (s *Server) Drain(requests, tunnels context.Context) (cut int) {
	conns := s.stop()
	for _, c := range conns {
		c.shutdown()
	}
	for _, c := range conns {
		select {
		case <-c.ended:
		case <-requests.Done():
		}
	}
	look := time.NewTicker(tunnelLook)
	defer look.Stop()
	for left := slices.Clone(conns); ; {
		late := tunnels.Err() != nil
		left = slices.DeleteFunc(left, func(c *conn) bool {
			switch {
			case c.hasEnded():
			case late || !c.hasTunnels():
				cut++
				c.kill()
			default:
				return false
			}
			return true
		})
		if len(left) == 0 {
			break
		}
		select {
		case <-tunnels.Done():
		case <-look.C:
		}
	}
	for _, c := range conns {
		<-c.ended
	}
	return cut
}

func (c *conn) hasEnded() bool {
	select {
	case <-c.ended:
		return true
	default:
		return false
	}
}

func (c *conn) hasTunnels() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.tunnels > 0
}

// resume has connections be served again after a Drain.
func (s *Server) resume() {
	s.mu.Lock()
	s.draining = false
	s.mu.Unlock()
}

// stop begins draining. It gives the open connections.
func (s *Server) stop() []*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.draining = true
	list := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		list = append(list, c)
	}
	return list
}

// serve serves a connection until it has ended and all its exchanges have.
func (s *Server) serve(qc *quic.Conn) {
	qc.Context().Value(handshakeKey{}).(*handshake).over() //nolint:forcetypeassert,errcheck // begin has put it there.
	limits := s.opts.Limits()
	c := &conn{
		server: s, quic: qc, name: qc.ConnectionState().TLS.ServerName,
		remote: addrPort(qc.RemoteAddr()), local: addrPort(qc.LocalAddr()),
		most: limits.MaxStreams, idle: limits.KeepAlive, ended: make(chan struct{}), purse: startPurse,
	}
	// Requests over max_header_size are answered by drover itself, and in its log.
	c.http = &http3.Server{Handler: c, MaxHeaderBytes: 2 * limits.MaxHeader, Logger: slog.New(slog.DiscardHandler)}
	c.mu.Lock()
	c.timer = time.AfterFunc(c.idle, c.idled)
	c.mu.Unlock()
	s.mu.Lock()
	s.conns[c] = struct{}{}
	late := s.draining
	s.mu.Unlock()
	if late { // its handshake was under way.
		c.shutdown()
	}
	_ = c.http.ServeQUICConn(qc) // it says how the client has left.
	c.timer.Stop()
	c.leave() // where it has not left by itself.
	c.mu.Lock()
	c.closing = true
	c.mu.Unlock()
	c.shutting.Wait()
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
	close(c.ended)
}

// conn is one client's connection.
type conn struct {
	// immutable
	server        *Server
	quic          *quic.Conn
	http          *http3.Server
	name          string // that the client has asked for
	remote, local netip.AddrPort
	most          int
	ended         chan struct{}

	shutting sync.WaitGroup

	// under mu
	mu      sync.Mutex
	active  int // requests that run
	tunnels int // of them
	idle    time.Duration
	timer   *time.Timer // of idleness
	purse   int
	killed  bool
	closing bool // told to leave
}

// Clients pay for what they make drover begin in vain. Whoever sends requests and gives
// them up before their answers has no more of it after a while (CVE-2023-44487).
const (
	startPurse = 200
	maxPurse   = 1000
)

// begin counts a request, unless the connection has too many.
func (c *conn) begin() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.active >= c.most {
		return false
	}
	c.active++
	c.timer.Stop()
	return true
}

// end counts a request off, and tells whether the client has made too much work in vain.
func (c *conn) end(tunnel, inVain bool) (tooMuch bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if tunnel {
		c.tunnels--
	}
	if c.active--; c.active == 0 {
		c.timer.Reset(c.idle)
	}
	if inVain {
		c.purse--
	} else {
		c.purse = min(c.purse+1, maxPurse)
	}
	return c.purse <= 0
}

// idled ends a connection without requests: the client is told, and then not listened to
// any more.
func (c *conn) idled() {
	c.mu.Lock()
	told := c.closing
	c.mu.Unlock()
	if told {
		c.leave()
		return
	}
	c.shutdown()
}

// shutdown tells the client to leave.
func (c *conn) shutdown() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		return
	}
	c.closing = true
	c.idle = drainGrace
	if c.active == 0 {
		c.timer.Reset(c.idle)
	}
	// It ends with the connection, which is for leave and kill to close.
	c.shutting.Go(func() { _ = c.http.Shutdown(context.Background()) })
}

// leave closes a connection that has nothing to do.
func (c *conn) leave() { c.close(http3.ErrCodeNoError) }

// kill closes a connection whatever it has to do.
func (c *conn) kill() {
	c.mu.Lock()
	c.killed = true
	c.mu.Unlock()
	c.leave()
}

func (c *conn) close(code http3.ErrCode) {
	_ = c.quic.CloseWithError(quic.ApplicationErrorCode(code), "") // it may be closed already.
}

// broke tells why the connection is of no use any more.
func (c *conn) broke() exchange.Reason {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.killed {
		return exchange.ReasonDrained
	}
	return exchange.ReasonClientGone
}

// ServeHTTP takes a request from the library.
func (c *conn) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !c.begin() {
		panic(http.ErrAbortHandler) // streams that their client gave up still run.
	}
	s := newStream(c, w, r)
	s.run()
	tunnel := s.tunnel != nil
	if c.end(tunnel, !tunnel && (s.gone() || s.reset.Load())) {
		c.close(http3.ErrCodeExcessiveLoad)
	}
	if s.err != nil {
		panic(http.ErrAbortHandler) // which is how the library is told to reset the stream.
	}
}
