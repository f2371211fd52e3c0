package front

import (
	"crypto/tls"
	"net"
	"time"
)

// tunnelConn is a client's connection after an upgrade. It reads first what the
// client had sent already.
type tunnelConn struct {
	net.Conn          // for writes, and all that is not below
	in       net.Conn // fasthttp's, which holds the read-ahead
	wire     *wire
}

// Read implements net.Conn.
func (t *tunnelConn) Read(p []byte) (int, error) { return t.in.Read(p) }

// SetReadDeadline implements net.Conn.
func (t *tunnelConn) SetReadDeadline(at time.Time) error { return t.wire.SetReadDeadline(at) }

// CloseWrite ends the sending side; reads go on.
func (t *tunnelConn) CloseWrite() error {
	if secure, ok := t.Conn.(*tls.Conn); ok {
		if err := secure.CloseWrite(); err != nil {
			return err
		}
	}
	if half, ok := t.wire.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}
