package front

import (
	"errors"
	"net"
	"net/netip"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"drover/exchange"

	"go.uber.org/zap"
)

// After a failed accept, the next try waits; the wait doubles up to the second.
const (
	minAcceptWait = 5 * time.Millisecond
	maxAcceptWait = time.Second
)

// lastAccept is how long a drained listener takes what the kernel had accepted
// already: closing the socket would reset those connections.
const lastAccept = 20 * time.Millisecond

// rejecters bounds the connections over max_connections that get an answer at the
// same time. Above it they are just closed: shedding load must stay cheap.
const rejecters = 64

// accept takes connections until ln is closed or the Front drains. It outlives every
// other error, above all that of a process without free descriptors (EMFILE), which
// ends fasthttp's own accept loop for good.
func (f *Front) accept(ln net.Listener, running *sync.WaitGroup) error {
	var wait time.Duration
	last := false
	slots := make(chan struct{}, rejecters)
	for {
		nc, err := ln.Accept()
		switch {
		case err == nil:
			wait = 0
			f.take(nc, running, slots)
		case errors.Is(err, net.ErrClosed):
			return nil
		case f.draining():
			if bounded, ok := ln.(interface{ SetDeadline(time.Time) error }); ok && !last {
				last = bounded.SetDeadline(time.Now().Add(lastAccept)) == nil
				if last {
					continue
				}
			}
			_ = ln.Close() // Drain may have closed it already.
			return nil
		default:
			if wait == 0 {
				f.opts.Logger.Error("cannot accept connections, trying on", zap.Error(err))
			}
			wait = min(max(2*wait, minAcceptWait), maxAcceptWait)
			f.pause(wait)
		}
	}
}

// pause waits before the next accept, not longer than until the Front drains.
func (f *Front) pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-f.stopped:
	}
}

// take starts to serve a connection, or turns it away.
func (f *Front) take(nc net.Conn, running *sync.WaitGroup, slots chan struct{}) {
	now := time.Now()
	w := &wire{Conn: nc, front: f, since: now}
	c := &conn{
		wire: w, stream: w, front: f, running: running, since: now,
		remote: addrPort(nc.RemoteAddr()), local: addrPort(nc.LocalAddr()),
		secure: f.tls.Load() != nil,
	}
	c.proxied = f.settings.Load().sendsHeader(c.remote.Addr())
	c.line.start()
	no := f.admit(c)
	if no == accepted {
		running.Go(func() { f.serveConn(c) })
		return
	}
	select {
	case slots <- struct{}{}:
		running.Go(func() {
			c.overload(no)
			<-slots
		})
	default:
		c.rejectUnread(no)
		_ = nc.Close() // there are too many to tell them why.
	}
}

// overload answers a connection that is one too many. A TLS client would have to
// shake hands first, which costs what is short.
func (c *conn) overload(no refusal) {
	if !c.secure {
		c.wire.SetWriteDeadline(time.Now().Add(lingerTime)) //nolint:errcheck,gosec // the write tells.
		cl := c.front.acquire()
		cl.c = c
		cl.exch.Request.ProtoMinor = -1
		cl.answer(refusals[no].status, refusals[no].reason)
		c.front.release(cl)
		c.lingerOn()
	} else {
		c.rejectUnread(no)
	}
	_ = c.wire.Conn.Close()
}

// rejectUnread tells of a connection that is closed without a word.
func (c *conn) rejectUnread(no refusal) {
	c.front.reject(c, &exchange.Exchange{Request: exchange.Request{ProtoMinor: -1}}, refusals[no].reason, refusals[no].status)
}

// serveConn serves a connection until it closes or becomes a tunnel.
func (f *Front) serveConn(c *conn) {
	defer func() {
		if cause := recover(); cause != nil {
			f.opts.Logger.Error("panic in the HTTP server, connection closed",
				zap.Any("cause", cause), zap.ByteString("stack", debug.Stack()))
			c.parked = false
			_ = c.Close() // nothing can be saved.
		}
	}()
	if c.proxied {
		if no := f.takeProxyHeader(c); no != accepted {
			if no != clientLost {
				c.rejectUnread(no)
			}
			_ = c.Close() // there is nobody to tell.
			return
		}
	}
	if settings := f.tls.Load(); settings != nil {
		secure, err := f.handshake(c, settings)
		if err != nil {
			_ = c.Close() // the handshake's error says it all.
			return
		}
		if secure.ConnectionState().NegotiatedProtocol == alpnACME {
			_ = c.Close() // the authority has seen what it wanted.
			return
		}
		if secure.ConnectionState().NegotiatedProtocol == "h2" {
			f.ended(c, f.serveH2(c))
			return
		}
	}
	if f.settings.Load().onlyH2 {
		f.ended(c, f.serveH2(c))
		return
	}
	f.ended(c, f.serveRequests(c))
}

func (f *Front) ended(c *conn, err error) {
	if err != nil {
		f.opts.Logger.Debug("connection ended", zap.Stringer("remote", c.remote), zap.Stringer("error", unquoted{err}))
	}
}

// unquoted tells an error up to what it quotes: fasthttp's quote fields of the request,
// and so cookies and passwords.
type unquoted struct{ err error }

func (u unquoted) String() string {
	text, _, _ := strings.Cut(u.err.Error(), `"`)
	return text
}

// serveRequests has fasthttp serve a connection. A connection that is idle for more
// than a moment waits without fasthttp, whose buffers, as large as the largest head,
// would be most of what it costs.
func (f *Front) serveRequests(c *conn) error {
	for {
		err := f.settings.Load().server.ServeConn(c)
		if !c.parked {
			return err
		}
		if c.preface != nil {
			c.parked = false
			return f.serveH2(c)
		}
		if !c.wake() {
			return c.Close()
		}
	}
}

// addrPort gives an address as a value, IPv4 as IPv4 even on an IPv6 socket. It is
// the zero value for what is no TCP address.
func addrPort(a net.Addr) netip.AddrPort {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := tcp.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
