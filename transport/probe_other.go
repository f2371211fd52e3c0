//go:build !linux

package transport

import "net"

// Elsewhere than on Linux, neither can be told: a connection that the server has closed
// is met when it is used, and a request that was written may have been executed.

func (c *conn) prepareProbe(net.Conn) {}

func (c *conn) state() connState { return connAlive }

func (c *conn) untouched(error) bool { return c.wire.sent.Load() == c.sentAt }
