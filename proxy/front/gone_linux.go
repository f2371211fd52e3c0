package front

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// gone reports whether the client has closed its side. It asks the kernel and reads
// nothing, so it works beneath TLS and beside a read that is blocked. A client that
// sent all it wanted and only closed its sending half counts as gone: HTTP cannot
// tell the two apart (RFC 9112, section 9.6).
func (w *wire) gone() bool {
	sc, ok := w.Conn.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return true
	}
	var events int16
	err = raw.Control(func(fd uintptr) {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}} //nolint:gosec // descriptors are small.
		if n, perr := unix.Poll(fds, 0); perr == nil && n > 0 {
			events = fds[0].Revents
		}
	})
	return err != nil || events&(unix.POLLRDHUP|unix.POLLHUP|unix.POLLERR) != 0
}
