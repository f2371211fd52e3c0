package h2

import (
	"net"
	"os"
	"time"

	"drover/exchange"

	"golang.org/x/net/http2"
)

// tunnel is a stream after an upgrade (RFC 8441, section 5).
type tunnel struct{ *stream }

// Hijack implements exchange.Client.
func (s *stream) Hijack() (net.Conn, error) {
	if !s.started || s.resp.Status != 101 {
		return nil, exchange.ErrNoUpgrade
	}
	s.tunnel = true
	s.conn.tunnels.Add(1)
	if err := s.Flush(); err != nil {
		return nil, err
	}
	return &tunnel{s}, nil
}

// Write implements net.Conn. What is written goes out at once.
func (t *tunnel) Write(p []byte) (n int, err error) {
	if t.err == nil && len(p) > 0 {
		n = t.send(p, false)
		t.unsent = n < len(p)
	}
	err = t.err
	if err == os.ErrDeadlineExceeded { //nolint:errorlint // it is this very value.
		t.err = nil // the next write may have more time.
	}
	return n, err
}

// CloseWrite ends our direction.
func (t *tunnel) CloseWrite() error {
	if t.err == nil && !t.isEnded() {
		t.send(nil, true)
	}
	return t.err
}

func (s *stream) isEnded() bool {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	return s.sentEnd
}

// Close implements net.Conn.
func (t *tunnel) Close() error {
	t.closeTunnel()
	return nil
}

// closeTunnel ends a tunnel: cleanly if both sides have said all, else by a reset.
func (s *stream) closeTunnel() {
	if s.err == nil && !s.unsent && !s.isEnded() && s.inputEnded() {
		s.send(nil, true)
	}
	s.reset(http2.ErrCodeCancel)
}

// LocalAddr implements net.Conn.
func (t *tunnel) LocalAddr() net.Addr { return t.conn.nc.LocalAddr() }

// RemoteAddr implements net.Conn.
func (t *tunnel) RemoteAddr() net.Addr { return t.conn.nc.RemoteAddr() }

// SetReadDeadline implements net.Conn.
func (t *tunnel) SetReadDeadline(at time.Time) error {
	t.conn.mu.Lock()
	defer t.conn.mu.Unlock()
	t.readBy = at
	wake(t.readable)
	return nil
}

// SetWriteDeadline implements net.Conn.
func (t *tunnel) SetWriteDeadline(at time.Time) error {
	t.conn.mu.Lock()
	defer t.conn.mu.Unlock()
	t.writeBy = at
	wake(t.writable)
	return nil
}

// SetDeadline implements net.Conn.
func (t *tunnel) SetDeadline(at time.Time) error {
	_ = t.SetReadDeadline(at)
	return t.SetWriteDeadline(at)
}
