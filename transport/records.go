package transport

import (
	"errors"
	"os"
	"syscall"
)

// records is the wire beneath TLS of a connection that is unused now and then. It follows
// the records that are read (RFC 8446, section 5.1), and can read without waiting.
type records struct {
	*wire
	raw syscall.RawConn // nil where the kernel cannot be asked

	// the reader's
	looking bool   // reads give what is there
	head    int    // bytes read of a record's first five
	length  uint16 // the last two of them
	left    int    // bytes of the record that are to come
	one     [1]byte
}

const recordHead = 5

// Read implements net.Conn.
func (r *records) Read(p []byte) (n int, err error) {
	if r.looking {
		n, err = r.readNow(p)
	} else {
		n, err = r.wire.Read(p)
	}
	r.follow(p[:n])
	return n, err
}

func (r *records) follow(p []byte) {
	for len(p) > 0 {
		if r.left > 0 {
			n := min(r.left, len(p))
			r.left -= n
			p = p[n:]
			continue
		}
		r.length = r.length<<8 | uint16(p[0])
		p = p[1:]
		if r.head++; r.head == recordHead {
			r.head, r.left = 0, int(r.length)
		}
	}
}

// state tells whether a connection that is unused can be used. Bytes that the server has
// sent unasked may stand in the kernel, in tls.Conn, or in it and decrypted; those in the
// kernel may be session tickets, too. Nothing but a read tells.
func (r *records) state(c *conn) connState {
	r.looking = true
	n, err := c.Conn.Read(r.one[:])
	r.looking = false
	switch {
	case n > 0:
		return connUnsolicited
	case !errors.Is(err, os.ErrDeadlineExceeded):
		return connClosed
	case r.head > 0 || r.left > 0:
		return connUnsolicited // of what, shows when the rest comes, which is too late.
	default:
		return connAlive
	}
}
