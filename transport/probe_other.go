//go:build !linux

package transport

import "net"

// Elsewhere than on Linux, neither can be told: a connection that the server has closed
// is met when it is used, and a request that was written may have been executed.

func (c *conn) prepareProbe(net.Conn) {}

func (c *conn) state() connState { return connAlive }

func (c *conn) untouched(err error) bool { return c.untouchedSince(c.sentAt, err) }

func (c *conn) untouchedSince(sentAt int64, _ error) bool { return c.wire.sent.Load() == sentAt }
