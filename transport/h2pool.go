package transport

import (
	"crypto/tls"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"time"

	"drover/backend"
)

// h2pool holds a server's HTTP/2 connections.
type h2pool struct {
	freed broadcast // a place came free, or a connection went

	// under mu, which is taken before a connection's
	mu      sync.Mutex
	conns   []*h2conn // that may take streams
	dialing *h2dial   // what further requests wait for
	speaks  alpn      // what a server that had the choice chose last
	closed  bool
}

// alpn is what a server chose.
type alpn uint8

const (
	alpnUnknown alpn = iota
	alpnH1
	alpnH2
)

// h2dial is a dial that any number of requests wait for.
type h2dial struct {
	done chan struct{}
	h1   bool  // the server speaks HTTP/1.1; after done
	err  error // after done
}

// broadcast wakes all who wait.
type broadcast struct {
	mu sync.Mutex
	ch chan struct{}
}

func (b *broadcast) wait() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch == nil {
		b.ch = make(chan struct{})
	}
	return b.ch
}

func (b *broadcast) tell() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch != nil {
		close(b.ch)
		b.ch = nil
	}
}

var (
	errNoRoom   = errors.New("no place on a connection came free in time")
	errClearH2  = errors.New("got protocol h2 for a server without TLS; want h2c")
	errSecretH2 = errors.New("got protocol h2c for a server with TLS; want h2")
	errNoH2     = errors.New("the server chose no HTTP/2 by ALPN")
	errUpgrade  = protocolError("got a request for an upgrade; HTTP/2 has none")
)

// mayH2 reports whether requests may go over HTTP/2, and whether they must.
func (s *settings) mayH2() (may, must bool) {
	switch s.Protocol {
	case ProtocolH2, ProtocolH2C:
		return true, true
	case ProtocolAuto:
		return s.tls != nil, false
	default:
		return false, false
	}
}

// fits tells why the server cannot be spoken to as the protocol wants, if so.
func (s *settings) fits() error {
	switch {
	case s.Protocol == ProtocolH2 && s.tls == nil:
		return errClearH2
	case s.Protocol == ProtocolH2C && s.tls != nil:
		return errSecretH2
	}
	return nil
}

// h2place gives a connection with a place for one stream, nil where the server speaks
// HTTP/1.1. Requests that find no place share one dial.
func (p *Pool) h2place(cfg *settings, deadline time.Time) (*h2conn, error) {
	if p.broken != nil {
		return nil, p.broken
	}
	if err := cfg.fits(); err != nil {
		return nil, fmt.Errorf("cannot connect to %q: %w", p.id, err)
	}
	if c := p.h2.place(); c != nil {
		return c, nil
	}
	until := time.Now().Add(cfg.ConnectTimeout)
	if !deadline.IsZero() && deadline.Before(until) {
		until = deadline
	}
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	for {
		freed := p.h2.freed.wait()
		c, d := p.placeOrDial(cfg)
		if c != nil || d == nil {
			return c, nil
		}
		select {
		case <-d.done:
			if d.err != nil || d.h1 {
				return nil, d.err
			}
		case <-freed:
		case <-timer.C:
			return nil, fmt.Errorf("cannot connect to %q: %w", p.id, errNoRoom)
		}
	}
}

// place takes a place on an open connection, nil if there is none. The oldest are
// filled first, so that the others grow old and go.
func (h *h2pool) place() *h2conn {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.placeLocked()
}

func (h *h2pool) placeLocked() *h2conn {
	left := false
	for _, c := range h.conns {
		if c.reserve() {
			return c
		}
		left = left || c.gone()
	}
	if left {
		h.conns = slices.DeleteFunc(h.conns, (*h2conn).gone)
	}
	return nil
}

// placeOrDial takes a place, or joins or starts a dial. It gives neither where the
// server speaks HTTP/1.1, and a dial that is never done where no further connection is
// allowed.
func (p *Pool) placeOrDial(cfg *settings) (*h2conn, *h2dial) {
	h := &p.h2
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, must := cfg.mayH2(); !must && h.speaks == alpnH1 {
		return nil, nil
	}
	if c := h.placeLocked(); c != nil {
		return c, nil
	}
	if h.dialing != nil {
		return nil, h.dialing
	}
	d := &h2dial{done: make(chan struct{})}
	if cfg.MaxConnections > 0 && p.counts.open.Load() >= int64(cfg.MaxConnections) {
		return nil, d
	}
	h.dialing = d
	go p.dialH2(d)
	return nil, d
}

// dialH2 opens a connection for all who wait for it.
func (p *Pool) dialH2(d *h2dial) {
	c, err := p.dial(time.Time{}, false, nil)
	if err == nil {
		p.adopt(c)
		d.h1 = c.h2 == nil
	}
	d.err = err
	p.h2.mu.Lock()
	p.h2.dialing = nil
	p.h2.mu.Unlock()
	close(d.done)
}

// adopt keeps a new connection by what its server speaks.
func (p *Pool) adopt(c *conn) {
	h := &p.h2
	h.mu.Lock()
	closed := h.closed || !sameWire(c.settings, p.settings.Load())
	if c.h2 != nil && !closed {
		h.conns = append(h.conns, c.h2)
	}
	h.speaks = alpnH1
	if c.h2 != nil {
		h.speaks = alpnH2
	}
	h.mu.Unlock()
	switch {
	case c.h2 == nil:
		c.fresh = true
		p.put(c)
	case closed:
		c.h2.retire()
	}
}

// forget drops a connection that has died.
func (h *h2pool) forget(c *h2conn) {
	h.mu.Lock()
	if i := slices.Index(h.conns, c); i >= 0 {
		h.conns = slices.Delete(h.conns, i, i+1)
	}
	h.mu.Unlock()
	h.freed.tell()
}

// retire lets no new streams on any connection.
func (h *h2pool) retire(forGood bool) {
	h.mu.Lock()
	conns := h.conns
	h.conns, h.speaks = nil, alpnUnknown
	h.closed = h.closed || forGood
	h.mu.Unlock()
	for _, c := range conns {
		c.retire()
	}
	h.freed.tell()
}

// unused counts the connections without a stream.
func (h *h2pool) unused() (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.conns {
		if c.unused() {
			n++
		}
	}
	return n
}

// sameWire reports whether connections made for one are good for the other.
func sameWire(a, b *settings) bool {
	return a.tls == b.tls && sameRules(a.Addresses, b.Addresses) && a.Protocol == b.Protocol && a.ProxyProtocol == b.ProxyProtocol && a.HTTP2.StreamWindow == b.HTTP2.StreamWindow &&
		a.MaxResponseHeaderSize == b.MaxResponseHeaderSize
}

// sameRules compares by value only what a reload has made anew: each request asks.
func sameRules(a, b *backend.AddressRules) bool { return a == b || reflect.DeepEqual(a, b) }

// chosen begins HTTP/2 where that is what the server speaks.
func (s *settings) chosen(secured *tls.Conn) (h2 bool, err error) {
	if secured == nil {
		return s.Protocol == ProtocolH2C, nil
	}
	h2 = secured.ConnectionState().NegotiatedProtocol == "h2"
	if !h2 && s.Protocol == ProtocolH2 {
		return false, errNoH2
	}
	return h2, nil
}
