package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"drover/backend"
	"drover/exchange"
)

// Pool holds the connections to one server: last in, first out, so that few of them
// are busy and the rest grow old and go.
type Pool struct {
	// immutable
	id     backend.ID
	broken error // see BrokenPool

	// atomic
	settings atomic.Pointer[settings]
	counts   counts

	// under mu, which is never held during I/O
	mu     sync.Mutex
	idle   []*conn // oldest first
	closed bool
	sweep  *time.Timer // runs while idle holds anything

	h2 h2pool
}

// settings is a Config with what is derived from it.
type settings struct {
	Config
	from *Config     // what it was made of
	tls  *tls.Config // nil for http
	// tlsH1 offers HTTP/1.1 alone; nil for http.
	tlsH1  *tls.Config
	source tlsSource // what both were made from
}

type counts struct {
	open, dials, dialFailures, reused, stale, unsolicited atomic.Int64
}

// Stats are a pool's figures: Open and Idle are of the moment, the others count from
// the start.
type Stats struct {
	Open, Idle          int64
	Dials, DialFailures int64
	Reused              int64
	Stale               int64 // pooled connections that the server had closed
	Unsolicited         int64 // pooled connections on which the server had sent what nobody asked for
}

// NewPool makes the pool of a server. It dials nothing. It fails when certificate
// files cannot be read.
func NewPool(id backend.ID, cfg *Config) (*Pool, error) {
	p := &Pool{id: id}
	if err := p.SetConfig(cfg); err != nil {
		return nil, err
	}
	return p, nil
}

// BrokenPool makes a pool that fails every exchange with err as a failed connect, for
// a server that cannot be spoken to as configured.
func BrokenPool(id backend.ID, err error) *Pool {
	p := &Pool{id: id, broken: err}
	var cfg Config
	cfg.SetDefaults()
	p.settings.Store(&settings{Config: cfg})
	return p
}

// SetConfig changes the settings while exchanges run. Connections stay, unless what TLS is
// made from, files included, the rules for addresses or what is agreed on with the server
// differ: then unused ones are closed, and the others once they are unused.
func (p *Pool) SetConfig(cfg *Config) error {
	next := &settings{Config: *cfg, from: cfg}
	if p.id.Scheme == "https" {
		if err := next.secure(p.id.Host, p.settings.Load()); err != nil {
			return err
		}
	}
	old := p.settings.Swap(next)
	if old != nil && !sameWire(old, next) {
		p.closeIdle(false)
		p.h2.retire(false)
	}
	return nil
}

// Has reports whether cfg, this very value, is what SetConfig was given last.
func (p *Pool) Has(cfg *Config) bool { return p.settings.Load().from == cfg }

// Close closes unused connections now and the others as they become unused.
func (p *Pool) Close() error {
	p.closeIdle(true)
	p.h2.retire(true)
	return nil
}

func (p *Pool) closeIdle(forGood bool) {
	p.mu.Lock()
	idle := p.idle
	p.idle = nil
	p.closed = p.closed || forGood
	if p.sweep != nil {
		p.sweep.Stop()
		p.sweep = nil
	}
	p.mu.Unlock()
	for _, c := range idle {
		c.close()
	}
}

// Stats gives the pool's figures.
func (p *Pool) Stats() Stats {
	p.mu.Lock()
	idle := len(p.idle)
	p.mu.Unlock()
	idle += p.h2.unused()
	return Stats{
		Open: p.counts.open.Load(), Idle: int64(idle),
		Dials: p.counts.dials.Load(), DialFailures: p.counts.dialFailures.Load(),
		Reused: p.counts.reused.Load(), Stale: p.counts.stale.Load(), Unsolicited: p.counts.unsolicited.Load(),
	}
}

// connect gives a connection for a request: one of HTTP/1.1, or one of HTTP/2 with a
// place for a stream.
func (p *Pool) connect(ex *exchange.Exchange, req *exchange.Request, deadline time.Time) (*conn, *h2conn, error) {
	for {
		cfg, upgrade := p.settings.Load(), req.Upgrade != ""
		if cfg.sendsProxy() {
			c, err := p.dialFor(ex, deadline)
			return c, nil, err
		}
		may, must := cfg.mayH2()
		if must && upgrade {
			return nil, nil, errUpgrade
		}
		if may && !upgrade {
			if h2, err := p.h2place(cfg, deadline); h2 != nil || err != nil {
				return nil, h2, err
			}
		}
		c, err := p.get(deadline, upgrade)
		if err != nil || c.h2 == nil {
			return c, nil, err
		}
		p.adopt(c) // the server has learnt HTTP/2
	}
}

// get gives a connection that is alive as far as can be told without a round trip, or
// dials one.
func (p *Pool) get(deadline time.Time, upgrade bool) (*conn, error) {
	if p.broken != nil {
		return nil, p.broken
	}
	for {
		c := p.takeIdle()
		if c == nil {
			return p.dial(deadline, upgrade, nil)
		}
		switch c.state() {
		case connAlive:
			if c.reused = !c.fresh; c.reused {
				p.counts.reused.Add(1)
			}
			c.fresh = false
			if cfg := p.settings.Load(); sameWire(cfg, c.settings) {
				c.settings = cfg // time-outs of now, not of when it was dialled
			}
			return c, nil
		case connClosed:
			p.counts.stale.Add(1)
		case connUnsolicited:
			p.counts.unsolicited.Add(1)
		}
		c.close()
	}
}

// dialFor dials a connection for one exchange, whose client it names.
func (p *Pool) dialFor(ex *exchange.Exchange, deadline time.Time) (*conn, error) {
	if p.broken != nil {
		return nil, p.broken
	}
	header, err := proxyHeader(proxyVersions[p.settings.Load().ProxyProtocol], ex)
	if err != nil {
		return nil, err
	}
	c, err := p.dial(deadline, true, header)
	if c != nil {
		c.single = true
	}
	return c, err
}

func (p *Pool) takeIdle() *conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.idle)
	if n == 0 {
		return nil
	}
	c := p.idle[n-1]
	p.idle[n-1] = nil
	p.idle = p.idle[:n-1]
	return c
}

// put keeps a clean connection for later, or closes it.
func (p *Pool) put(c *conn) {
	cfg := p.settings.Load()
	p.mu.Lock()
	if p.closed || c.single || len(p.idle) >= cfg.IdleConnections || !sameWire(c.settings, cfg) {
		p.mu.Unlock()
		c.close()
		return
	}
	c.idleSince = time.Now()
	p.idle = append(p.idle, c)
	if p.sweep == nil {
		p.sweep = time.AfterFunc(cfg.IdleTimeout, p.closeOld)
	}
	p.mu.Unlock()
}

// closeOld closes the connections that were unused for too long.
func (p *Pool) closeOld() {
	limit := p.settings.Load().IdleTimeout
	now := time.Now()
	p.mu.Lock()
	n := 0
	for n < len(p.idle) && now.Sub(p.idle[n].idleSince) >= limit {
		n++
	}
	old := append([]*conn(nil), p.idle[:n]...)
	p.idle = append(p.idle[:0], p.idle[n:]...)
	switch {
	case p.sweep == nil: // closed meanwhile
	case len(p.idle) == 0:
		p.sweep = nil
	default:
		p.sweep.Reset(max(p.idle[0].idleSince.Add(limit).Sub(now), time.Millisecond))
	}
	p.mu.Unlock()
	for _, c := range old {
		c.close()
	}
}

// dial opens a connection within the connect time-out, and before deadline if there
// is one. Upgrade has it speak HTTP/1.1. It begins with the header, before TLS.
func (p *Pool) dial(deadline time.Time, upgrade bool, header []byte) (*conn, error) {
	p.mu.Lock()
	closed := p.closed
	p.mu.Unlock()
	if closed {
		return nil, errClosed
	}
	cfg := p.settings.Load()
	until := time.Now().Add(cfg.ConnectTimeout)
	if !deadline.IsZero() && deadline.Before(until) {
		until = deadline
	}
	ctx, cancel := context.WithDeadline(context.Background(), until)
	defer cancel()
	p.counts.dials.Add(1)
	c, err := p.dialContext(ctx, cfg, upgrade, header)
	if err != nil {
		p.counts.dialFailures.Add(1)
		return nil, fmt.Errorf("cannot connect to %q: %w", p.id, err)
	}
	p.counts.open.Add(1)
	return c, nil
}

func (p *Pool) dialContext(ctx context.Context, cfg *settings, upgrade bool, header []byte) (*conn, error) {
	dialer := net.Dialer{ControlContext: cfg.Addresses.Control}
	raw, err := dialer.DialContext(ctx, "tcp", p.id.Address())
	if err != nil {
		return nil, err
	}
	c := &conn{pool: p, settings: cfg, wire: &wire{Conn: raw}}
	c.Conn = c.wire
	c.prepareProbe(raw)
	if len(header) > 0 {
		until, _ := ctx.Deadline()
		if err := errors.Join(c.SetWriteDeadline(until), writeAll(c, header), c.SetWriteDeadline(time.Time{})); err != nil {
			_ = raw.Close() // the error is the one to tell.
			return nil, fmt.Errorf("PROXY header: %w", err)
		}
	}
	var secured *tls.Conn
	if cfg.tls != nil {
		offer := cfg.tls
		if upgrade {
			offer = cfg.tlsH1 // HTTP/2 has no Upgrade
		}
		c.records = &records{wire: c.wire, raw: c.raw}
		secured = tls.Client(c.records, offer)
		if err := secured.HandshakeContext(ctx); err != nil {
			_ = raw.Close() // the handshake's error is the one to tell.
			return nil, fmt.Errorf("TLS: %w", err)
		}
		c.Conn = secured
	}
	h2, err := cfg.chosen(secured)
	if err == nil && h2 {
		c.h2, err = newH2(ctx, c)
	}
	if err != nil {
		_ = c.Conn.Close() // the error is the one to tell.
		return nil, err
	}
	return c, nil
}

func writeAll(c *conn, p []byte) error {
	_, err := c.Write(p)
	return err
}
