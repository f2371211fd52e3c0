package zktest

import (
	"io"
	"net"
	"sync"
	"testing"
)

// Link is a network between a client and a server that a test can cut. It counts
// what goes through.
type Link struct {
	listener net.Listener
	target   string
	workers  sync.WaitGroup

	mu       sync.Mutex
	cut      bool
	conns    map[net.Conn]struct{}
	accepted int
}

// NewLink makes a link to a server that lasts as long as the test.
func NewLink(t testing.TB, target string) *Link {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &Link{listener: listener, target: target, conns: map[net.Conn]struct{}{}}
	l.workers.Go(l.accept)
	t.Cleanup(func() {
		_ = listener.Close()
		l.Cut()
		l.workers.Wait()
	})
	return l
}

// Addr is where clients connect, host:port.
func (l *Link) Addr() string { return l.listener.Addr().String() }

// Accepted counts the connections so far, refused ones not included.
func (l *Link) Accepted() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.accepted
}

// Cut breaks every connection and refuses new ones.
func (l *Link) Cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = true
	l.breakAll()
}

// Break breaks every connection. New ones go through.
func (l *Link) Break() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.breakAll()
}

// Mend ends a Cut.
func (l *Link) Mend() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = false
}

// breakAll resets the connections. l.mu is held.
func (l *Link) breakAll() {
	for conn := range l.conns {
		_ = conn.Close()
	}
}

func (l *Link) accept() {
	for {
		near, err := l.listener.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", l.target)
		if err != nil {
			_ = near.Close()
			continue
		}
		l.mu.Lock()
		if l.cut {
			_, _ = near.Close(), far.Close()
			l.mu.Unlock()
			continue
		}
		l.accepted++
		l.conns[near], l.conns[far] = struct{}{}, struct{}{}
		l.mu.Unlock()
		l.workers.Go(func() { l.carry(near, far) })
		l.workers.Go(func() { l.carry(far, near) })
	}
}

// carry copies one way until either side ends, and ends both.
func (l *Link) carry(to, from net.Conn) {
	_, _ = io.Copy(to, from) // a broken link is the point of it
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, conn := range []net.Conn{to, from} {
		_ = conn.Close()
		delete(l.conns, conn)
	}
}
