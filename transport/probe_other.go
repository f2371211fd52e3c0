//go:build !linux

package transport

import (
	"net"
	"os"
)

// Elsewhere than on Linux, neither can be told: a connection that the server has closed
// is met when it is used, and a request that was written may have been executed. Of bytes
// that nobody asked for, those are found that tls.Conn holds already.

func (c *conn) prepareProbe(net.Conn) {}

func (c *conn) state() connState {
	if c.records != nil {
		return c.records.state(c)
	}
	return connAlive
}

// readNow has tls.Conn give what it holds.
func (*records) readNow([]byte) (int, error) { return 0, os.ErrDeadlineExceeded }

func (c *conn) untouched(err error) bool { return c.untouchedSince(c.sentAt, err) }

func (c *conn) untouchedSince(sentAt int64, _ error) bool { return c.wire.sent.Load() == sentAt }
