package transport

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// prepareProbe makes the function that state runs, once per connection, so that
// asking allocates nothing.
func (c *conn) prepareProbe(nc net.Conn) {
	source, ok := nc.(syscall.Conn)
	if !ok {
		return
	}
	raw, err := source.SyscallConn()
	if err != nil {
		return
	}
	c.raw = raw
	fds := make([]unix.PollFd, 1)
	c.probe = func(fd uintptr) {
		fds[0] = unix.PollFd{Fd: int32(fd), Events: unix.POLLIN | unix.POLLRDHUP} //nolint:gosec // a descriptor fits.
		if _, err := unix.Poll(fds, 0); err != nil {
			fds[0].Revents = 0 // EINTR: not known, so as if alive.
		}
		c.events = fds[0].Revents
	}
}

// state tells whether an unused connection can be used.
func (c *conn) state() connState {
	switch {
	case c.records != nil:
		return c.records.state(c)
	case c.probe == nil:
		return connAlive
	}
	if err := c.raw.Control(c.probe); err != nil {
		return connClosed
	}
	switch {
	case c.events&(unix.POLLRDHUP|unix.POLLHUP|unix.POLLERR) != 0:
		return connClosed
	case c.events&unix.POLLIN != 0:
		return connUnsolicited
	default:
		return connAlive
	}
}

// readNow reads what is there. Where there is nothing it gives the error of a deadline,
// which is no reason for crypto/tls to give the connection up.
func (r *records) readNow(p []byte) (n int, err error) {
	if r.raw == nil {
		return 0, os.ErrDeadlineExceeded
	}
	asked := r.raw.Control(func(fd uintptr) { n, err = unix.Read(int(fd), p) })
	switch {
	case asked != nil:
		return 0, asked
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		return 0, os.ErrDeadlineExceeded
	case err != nil:
		return 0, err
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}

// untouched reports whether it is proven that the server's application cannot have
// read any byte that the running exchange wrote before it failed with err: the server
// closed, and its FIN, which acknowledges all that its kernel had taken by then,
// acknowledged none of them. A RST proves nothing: what was read may be unacknowledged
// yet (delayed ACK, RFC 9293 section 3.8.6.3), and no ACK follows. Nor does silence.
//
// Linux counts acknowledged bytes per connection (RFC 4898,
// tcpEStatsAppHCThruOctetsAcked), the SYN as one.
func (c *conn) untouched(err error) bool { return c.untouchedSince(c.sentAt, err) }

// untouchedSince is untouched for an exchange that began to write at sentAt.
func (c *conn) untouchedSince(sentAt int64, err error) bool {
	if c.wire.sent.Load() == sentAt {
		return true
	}
	if c.raw == nil || !sawEnd(err) {
		return false
	}
	const syn = 1
	proven := false
	asked := c.raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		proven = err == nil && info.Bytes_acked <= uint64(sentAt)+syn //nolint:gosec // a count of bytes is no negative number.
	})
	return asked == nil && proven
}

// sawEnd reports whether err says that the server's FIN had come. A write behind it
// gives EPIPE, not ECONNRESET.
func sawEnd(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, unix.EPIPE)
}
