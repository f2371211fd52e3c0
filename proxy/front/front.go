// Package front is where clients connect: listeners, TLS, and the adapter that turns
// what fasthttp reads into an exchange and writes the answer to the wire.
package front

import (
	"crypto/tls"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"drover/exchange"
	"drover/proxy/front/acme"
	"drover/proxy/front/h3"

	"github.com/valyala/fasthttp"
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
	// OnReject is told of each answer that the Front gives itself, since no Handler
	// saw the request or the Handler failed. Result has the status and the reason.
	// Request has what could be read, which need not be well-formed: Method and
	// Target may be cut or empty, and ProtoMinor is -1 where the version is unknown.
	// Nothing of it may be kept.
	OnReject func(*exchange.Exchange)
	// Issued gives the certificates of tls.acme.
	Issued func(account acme.Config, hello *tls.ClientHelloInfo) (*tls.Certificate, error)
	// Tickets gives the secrets of session_tickets.zookeeper as a TicketSource does.
	Tickets func(tickets TicketsConfig, now time.Time) ([]TicketSecret, error)
}

// Front serves HTTP/1.1 and HTTP/1.0 to the clients of one listener.
//
// It has more than 15 fields in sum with its settings, since it is where a
// listener's life is kept together.
type Front struct {
	// immutable
	name    string
	handler Handler
	opts    Options
	h3      *h3.Server
	pool    sync.Pool     // of *client
	stopped chan struct{} // closed when draining begins

	// atomic
	settings   atomic.Pointer[settings]
	tls        atomic.Pointer[TLS]       // nil for plain HTTP
	drainSince atomic.Pointer[time.Time] // nil while not draining

	// under mu
	mu        sync.Mutex
	conns     map[*conn]struct{}
	admission admission
	listeners map[net.Listener]chan struct{} // closed when accepting has ended
	empty     chan struct{}                  // closed when draining and no connection is left
}

// settings are what Update may change.
type settings struct {
	headerTimeout time.Duration
	bodyIdle      time.Duration
	writeIdle     time.Duration
	keepAlive     time.Duration
	minBodyRate   int64 // bytes per second, 0 for none
	maxFields     int
	maxBody       int64 // 0 for no limit
	maxConns      int   // 0 for no limit
	maxPerClient  int   // connections, 0 for no limit
	maxHeader     int
	server        *fasthttp.Server // with buffers of maxHeader
	senders       []netip.Prefix   // of PROXY headers
	maxStreams    int              // 0 without HTTP/2
	onlyH2        bool
	http3         *HTTP3Config // nil without
}

// New makes a Front of a valid configuration. It reads the certificates and starts
// nothing.
func New(cfg Config, handler Handler, opts Options) (*Front, error) {
	f := &Front{
		name:      cfg.Name,
		handler:   handler,
		opts:      opts,
		conns:     map[*conn]struct{}{},
		admission: admission{perClient: map[netip.Addr]int{}},
		listeners: map[net.Listener]chan struct{}{},
		stopped:   make(chan struct{}),
		empty:     make(chan struct{}),
	}
	if cfg.TLS != nil {
		secured, err := LoadTLS(cfg.TLS)
		if err != nil {
			return nil, err
		}
		f.SetTLS(secured)
	}
	f.pool.New = func() any { return newClient(f) }
	f.h3 = f.newH3()
	f.Update(cfg)
	return f, nil
}

// Update puts the limits and time-outs of another configuration in force, for what
// begins from now on. No connection notices. See Config.SameSocket for what it
// cannot change.
func (f *Front) Update(cfg Config) {
	streams := cfg.HTTP2.MaxStreams
	if cfg.HTTP2.Disabled {
		streams = 0
	}
	f.settings.Store(&settings{
		headerTimeout: cfg.HeaderTimeout,
		bodyIdle:      cfg.BodyIdleTimeout,
		writeIdle:     cfg.WriteIdleTimeout,
		keepAlive:     cfg.KeepAliveTimeout,
		minBodyRate:   int64(cfg.MinBodyRate),
		maxFields:     cfg.MaxHeaderFields,
		maxBody:       int64(cfg.MaxBodySize),
		maxConns:      cfg.MaxConnections,
		maxPerClient:  cfg.MaxConnectionsPerClient,
		maxHeader:     int(cfg.MaxHeaderSize),
		server:        f.serverFor(int(cfg.MaxHeaderSize)),
		senders:       cfg.ProxyProtocol.senders(),
		maxStreams:    streams,
		onlyH2:        cfg.HTTP2.Only,
		http3:         cfg.HTTP3,
	})
}

// serverFor gives a server for heads of up to a size: the one in use, or a new one. A
// connection stays with its server as long as it has requests.
func (f *Front) serverFor(size int) *fasthttp.Server {
	if s := f.settings.Load(); s != nil && s.maxHeader == size {
		return s.server
	}
	return newServer(f, size)
}

// Serve accepts connections on ln until ln is closed or Drain is called, and returns
// when all that it accepted have ended. It closes ln.
func (f *Front) Serve(ln net.Listener) error {
	ended := make(chan struct{})
	if !f.listen(ln, ended) {
		return ln.Close()
	}
	var running sync.WaitGroup
	err := f.accept(ln, &running)
	f.mu.Lock()
	delete(f.listeners, ln)
	f.mu.Unlock()
	close(ended)
	running.Wait()
	return err
}

// listen registers a listener, unless the Front is draining.
func (f *Front) listen(ln net.Listener, ended chan struct{}) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.drainSince.Load() != nil {
		return false
	}
	f.listeners[ln] = ended
	return true
}

// open lists the connections.
func (f *Front) open() []*conn {
	f.mu.Lock()
	defer f.mu.Unlock()
	list := make([]*conn, 0, len(f.conns))
	for c := range f.conns {
		list = append(list, c)
	}
	return list
}

// admit registers a connection, unless that is one too many.
func (f *Front) admit(c *conn) refusal {
	f.mu.Lock()
	no := f.admission.enter(c.remote.Addr(), c.proxied, f.settings.Load())
	if no == accepted {
		f.conns[c] = struct{}{}
		c.running.Add(1)
	}
	f.mu.Unlock()
	if no == accepted && f.opts.OnConn != nil {
		f.opts.OnConn(1)
	}
	return no
}

// readmit counts a connection as that of the client that a PROXY header names, unless
// that has too many.
func (f *Front) readmit(c *conn, client netip.AddrPort) refusal {
	f.mu.Lock()
	defer f.mu.Unlock()
	no := f.admission.move(c.remote.Addr(), client.Addr(), f.settings.Load())
	if no == accepted {
		c.remote = client
	}
	return no
}

// forget takes a connection that has ended off the list.
func (f *Front) forget(c *conn) {
	f.mu.Lock()
	delete(f.conns, c)
	f.admission.leave(c.remote.Addr())
	f.mu.Unlock()
	if f.opts.OnConn != nil {
		f.opts.OnConn(-1)
	}
	c.running.Done()
	f.checkEmpty()
}

func (f *Front) reject(c *conn, ex *exchange.Exchange, reason exchange.Reason, status int) {
	if f.opts.OnReject == nil {
		return
	}
	c.address(ex)
	ex.Result.Status, ex.Result.Reason = status, reason
	f.opts.OnReject(ex)
}
