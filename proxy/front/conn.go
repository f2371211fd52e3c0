package front

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"drover/exchange"
)

// fasthttp says which phase of a connection begins only by the time-out that it
// sets. It is configured with these, which nothing else can be mistaken for, and
// conn puts the listener's present settings in their place. So settings can change
// under a running server.
const (
	markHead time.Duration = (iota + 1) * 20000 * time.Hour
	markIdle
	markBody
)

const (
	// lingerTime and lingerBytes bound how long a connection is read from after the
	// last answer, for the client to find that answer before a reset.
	lingerTime  = 2 * time.Second
	lingerBytes = 16 << 20
)

// conn is a client's connection as fasthttp sees it. fasthttp reads the heads of
// requests from it. What fasthttp writes is dropped: answers go out by the exchange's own writer,
// since fasthttp would change order, spelling and framing of what a server sent.
type conn struct {
	// immutable
	wire    *wire
	stream  net.Conn // wire, or TLS above it
	front   *Front
	remote  netip.AddrPort // a PROXY header may change it before anything is served
	proxied bool           // it must begin with such a header
	local   netip.AddrPort
	secure  bool
	running *sync.WaitGroup // of the Serve that accepted it
	// set by the TLS handshake
	hsts  []byte                 // see TLS
	named func(host []byte) bool // tells the hosts that requests may be for; nil: all

	// atomic
	closed    atomic.Bool
	killed    atomic.Bool // by the end of draining
	tunnelled atomic.Bool // it is a tunnel

	// the connection's goroutine, or the one that reads its body
	since    time.Time // when the phase began
	phase    phase
	in       input
	pending  error   // came together with bytes; the next read gives it
	readErr  error   // of the last read
	heard    bool    // a byte of a request came
	parked   bool    // fasthttp has let go of it while it is idle
	first    [1]byte // the byte that ended that
	line     lineCheck
	linger   bool        // read on for a while before closing
	preface  []byte      // what a client that speaks HTTP/2 sent ahead
	shutdown func()      // of HTTP/2, under Front.mu
	tunnels  func() bool // of HTTP/2, under Front.mu
	cut      cutMode

	// whoever writes a head: one at a time
	altSvcOf   *settings // those that altSvcText was made by
	altSvcText []byte
}

// cutMode is how a connection closes whose answer is incomplete.
type cutMode uint8

const (
	cutNone  cutMode = iota
	cutClose         // the framing shows that bytes are missing
	cutReset         // only a reset does
)

// Read implements net.Conn. Of heads it gives fasthttp one at a time.
func (c *conn) Read(p []byte) (int, error) {
	if c.in.heads.bare {
		return 0, errBareEnd
	}
	ahead := len(c.in.unread) > 0
	var n int
	var err error
	if ahead {
		n = copy(p, c.in.unread)
	} else if n, err = c.receive(p); n > 0 && c.phase == phaseFresh && !c.heard && c.front.settings.Load().maxStreams > 0 {
		if n, err = c.sniff(p, n, err); c.preface != nil {
			return n, err
		}
	}
	switch c.phase {
	case phaseFresh, phaseIdle:
		c.heard = c.heard || n > 0
		c.parked = c.phase == phaseIdle && err != nil && isTimeout(err)
		fallthrough
	case phaseHead:
		whole := n
		n = c.in.heads.cut(p[:n])
		c.line.look(p[:n])
		if !ahead {
			c.in.keep(p[n:whole])
		}
	case phaseHandshake, phaseParked, phaseBody, phaseRest, phaseOpen, phaseFrames:
	}
	if ahead {
		c.in.skip(n)
	}
	return n, err
}

// Write implements net.Conn. See conn for why it writes nothing.
func (c *conn) Write(p []byte) (int, error) { return len(p), nil }

// LocalAddr implements net.Conn.
func (c *conn) LocalAddr() net.Addr { return c.wire.LocalAddr() }

// RemoteAddr implements net.Conn.
func (c *conn) RemoteAddr() net.Addr { return c.wire.RemoteAddr() }

// SetReadDeadline takes the beginning of a phase from fasthttp.
func (c *conn) SetReadDeadline(t time.Time) error {
	// A mark is thousands of days away from the next one, and a phase shorter.
	switch after := t.Sub(c.since); {
	case t.IsZero(), after < markHead:
	case after < markIdle:
		p := phaseHead
		if c.phase <= phaseFresh {
			p = phaseFresh
		}
		c.enter(p, t.Add(-markHead))
	case after < markBody:
		c.line.start()
		c.in.heads = headEnd{}
		c.linger = false
		c.enter(phaseIdle, t.Add(-markIdle))
	default:
		c.enter(phaseBody, t.Add(-markBody))
	}
	return nil
}

// SetDeadline is called by fasthttp to lift deadlines before a tunnel.
func (c *conn) SetDeadline(time.Time) error { return nil }

// SetWriteDeadline implements net.Conn; there is nothing to bound.
func (c *conn) SetWriteDeadline(time.Time) error { return nil }

// address fills in between whom an exchange is.
func (c *conn) address(ex *exchange.Exchange) {
	ex.Remote, ex.Local, ex.Secure, ex.Listener = c.remote, c.local, c.secure, c.front.name
}

func (c *conn) enter(p phase, since time.Time) {
	c.phase, c.since = p, since
	c.wire.enter(p, since)
}

// wake waits for the next request of a parked connection. A byte is enough: with it
// fasthttp gets the connection back, and takes buffers for it.
func (c *conn) wake() bool {
	c.enter(phaseParked, c.since)
	c.line.text = nil // it is memory that an idle connection need not hold.
	c.line.start()
	c.in.heads = headEnd{}
	n, _ := c.receive(c.first[:]) // what is wrong shows again in the next read.
	c.parked, c.readErr, c.in.unread = false, nil, c.first[:n]
	return n > 0
}

// Close ends the connection, once; a parked one stays open. fasthttp and the Front
// call it, never two goroutines at a time.
func (c *conn) Close() error {
	if c.parked || c.closed.Swap(true) {
		return nil
	}
	defer c.front.forget(c)
	switch {
	case c.cut == cutReset:
		if tcp, ok := c.wire.Conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // without it the close is a clean end, which is all that is lost.
		}
		return c.wire.Conn.Close()
	case c.cut == cutClose:
		return c.wire.Conn.Close()
	case c.linger:
		c.lingerOn()
	}
	return c.stream.Close()
}

// lingerOn ends the sending side and reads what the client still sends. To close
// with unread bytes would reset the connection, and the reset may overtake the
// answer (RFC 9112, section 9.6).
func (c *conn) lingerOn() {
	if secure, ok := c.stream.(*tls.Conn); ok && secure.CloseWrite() != nil {
		return
	}
	half, ok := c.wire.Conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	c.wire.open()
	if c.wire.Conn.SetReadDeadline(time.Now().Add(lingerTime)) == nil {
		_, _ = io.Copy(io.Discard, io.LimitReader(c.wire.Conn, lingerBytes))
	}
}

// kill breaks the connection from another goroutine; its own then closes it. It reports
// whether that is news.
func (c *conn) kill() bool {
	first := !c.killed.Swap(true)
	_ = c.wire.Conn.Close()
	return first
}

// broke tells why the connection is of no use any more.
func (c *conn) broke() exchange.Reason {
	switch {
	case c.killed.Load():
		return exchange.ReasonDrained
	case c.wire.slow.Load():
		return exchange.ReasonClientSlow
	default:
		return exchange.ReasonClientGone
	}
}

// lineCheck looks for a request line that ends in a bare LF. fasthttp takes it, and
// the raw header, which would show it, begins behind it.
type lineCheck struct {
	open bool // the request line has not been seen to end
	bare bool
	last byte
	used int // bytes of the line, CR included
	// text is the beginning of the line, for the log: of what fasthttp cannot read it
	// keeps nothing.
	text []byte
}

func (l *lineCheck) start() { *l = lineCheck{open: true, text: l.text[:0]} }

// look takes the next bytes of a head.
func (l *lineCheck) look(p []byte) {
	for l.open && len(p) > 0 {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			l.keep(p)
			l.used += len(p)
			l.last = p[len(p)-1]
			return
		}
		if i > 0 {
			l.keep(p[:i])
			l.used += i
			l.last = p[i-1]
		}
		l.bare = l.bare || l.last != '\r'
		// Empty lines before the request line are skipped (RFC 9112, section 2.2).
		l.open = l.used <= 1
		l.used, l.last = 0, 0
		p = p[i+1:]
	}
}

// maxShown is how much of a request line is shown that could not be read.
const maxShown = 512

func (l *lineCheck) keep(p []byte) {
	l.text = append(l.text, p[:min(len(p), maxShown-len(l.text))]...)
}

// request gives what stands where a request has its method and target. Both may be
// anything, cut, or empty.
func (l *lineCheck) request() (method, target []byte) {
	method, rest, _ := bytes.Cut(bytes.Trim(l.text, "\r"), []byte(" "))
	target, _, _ = bytes.Cut(rest, []byte(" "))
	return method, target
}
