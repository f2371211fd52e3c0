package zookeeper

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// Lengths that a packet from ZooKeeper can have. The answer to a connect request is
// 36 or 37 bytes; its bound leaves room for a longer password. Every later packet
// starts with a header of 16. The largest seen, the names of 100,000 children, has
// 3 MB.
const (
	minHello  = 36
	maxHello  = 4096
	minPacket = 16
	maxPacket = 64 << 20
)

// errNotZooKeeper is what a peer that speaks something else looks like.
var errNotZooKeeper = errors.New("peer does not speak ZooKeeper's protocol")

// guardConn stands between the client library and the network. The library gives a
// silent server 6.7 times the session time-out to answer the handshake, then waits
// for the body without any time-out, and believes every length it reads: an HTTP
// server's "HTTP" is 1.2 GB of buffer. A length under 16 makes it panic. guardConn
// bounds the handshake by one deadline and refuses such lengths.
type guardConn struct {
	net.Conn
	deadline time.Time // of the handshake; immutable

	// The receive loop alone touches these: how much of a length field, and how
	// much of the packet behind it, is still to come.
	head    [4]byte
	headLen int
	body    int

	mu      sync.Mutex
	greeted bool  // the handshake is over
	failure error // the first of reading, or why we closed it
}

func newGuardConn(conn net.Conn, deadline time.Time) (*guardConn, error) {
	if err := conn.SetDeadline(deadline); err != nil {
		return nil, fmt.Errorf("cannot bound the handshake: %w", err)
	}
	return &guardConn{Conn: conn, deadline: deadline}, nil
}

// Read reads on, but not past what was checked.
func (g *guardConn) Read(p []byte) (int, error) {
	n, err := g.read(p)
	if err != nil {
		g.fail(err)
	}
	return n, err
}

func (g *guardConn) read(p []byte) (int, error) {
	if g.body > 0 {
		n, err := g.Conn.Read(p[:min(len(p), g.body)])
		g.body -= n
		if g.body == 0 {
			err = errors.Join(err, g.packetDone())
		}
		return n, err
	}
	n, err := g.Conn.Read(p[:min(len(p), len(g.head)-g.headLen)])
	copy(g.head[g.headLen:], p[:n])
	g.headLen += n
	if g.headLen < len(g.head) {
		return n, err
	}
	g.headLen = 0
	length := int(binary.BigEndian.Uint32(g.head[:]))
	least, most := minPacket, maxPacket
	if !g.isGreeted() {
		least, most = minHello, maxHello
	}
	if length < least || length > most {
		return 0, fmt.Errorf("%w: packet of %d bytes; want %d to %d", errNotZooKeeper, length, least, most)
	}
	g.body = length
	return n, err
}

// packetDone ends the handshake after its only packet.
func (g *guardConn) packetDone() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.greeted {
		return nil
	}
	g.greeted = true
	return g.Conn.SetDeadline(time.Time{})
}

// drop closes the connection and says why.
func (g *guardConn) drop(why error) {
	g.fail(why)
	_ = g.Close() // closed already is just as good
}

func (g *guardConn) fail(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.failure == nil {
		g.failure = err
	}
}

// failed says what ended the connection, nil while nothing did.
func (g *guardConn) failed() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.failure
}

func (g *guardConn) isGreeted() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.greeted
}

// SetReadDeadline leaves the handshake's deadline in force until it is over.
func (g *guardConn) SetReadDeadline(t time.Time) error {
	return g.bounded(t, g.Conn.SetReadDeadline)
}

// SetWriteDeadline leaves the handshake's deadline in force until it is over.
func (g *guardConn) SetWriteDeadline(t time.Time) error {
	return g.bounded(t, g.Conn.SetWriteDeadline)
}

// SetDeadline leaves the handshake's deadline in force until it is over.
func (g *guardConn) SetDeadline(t time.Time) error {
	return g.bounded(t, g.Conn.SetDeadline)
}

func (g *guardConn) bounded(t time.Time, set func(time.Time) error) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.greeted {
		t = g.deadline
	}
	return set(t)
}
