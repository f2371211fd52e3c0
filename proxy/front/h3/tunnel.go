package h3

import (
	"net"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// tunnel is a stream after an upgrade (RFC 9220).
type tunnel struct {
	*http3.Stream
	conn  *conn
	ended bool // our direction
}

// newTunnel sends the head and takes the stream over.
func newTunnel(s *stream) (*tunnel, error) {
	s.patience()
	str, err := s.w.(http3.HTTPStreamer).HTTPStream() //nolint:forcetypeassert,errcheck // the library's contract.
	if err != nil {
		return nil, err
	}
	_ = str.SetReadDeadline(time.Time{}) // from here on they are the user's.
	return &tunnel{Stream: str, conn: s.conn}, str.SetWriteDeadline(time.Time{})
}

// CloseWrite ends our direction.
func (t *tunnel) CloseWrite() error {
	t.ended = true
	return t.Stream.Close()
}

// Close implements net.Conn: cleanly if our direction has ended, else by a reset.
func (t *tunnel) Close() error {
	t.CancelRead(quic.StreamErrorCode(http3.ErrCodeRequestCanceled))
	if !t.ended {
		t.CancelWrite(quic.StreamErrorCode(http3.ErrCodeRequestCanceled))
	}
	return nil
}

// LocalAddr implements net.Conn.
func (t *tunnel) LocalAddr() net.Addr { return net.TCPAddrFromAddrPort(t.conn.local) }

// RemoteAddr implements net.Conn.
func (t *tunnel) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(t.conn.remote) }

var _ interface {
	net.Conn
	CloseWrite() error
} = (*tunnel)(nil)
