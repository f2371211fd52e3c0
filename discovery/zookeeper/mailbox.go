package zookeeper

import "sync"

// message is what a session tells one of its sources. Exactly one of its parts is set.
type message struct {
	link    linkChange
	changed string // path of a directory or a child, below the chroot
	reply   *reply
}

// linkChange is a change of the session as a whole.
type linkChange uint8

const (
	linkSame    linkChange = iota
	linkDown               // no server answers; what was read last stays
	linkBack               // a connection again, for the same session: watches are kept
	linkRenewed            // a session that has no watches yet
)

// mailbox carries messages to a source, in order. Posting never blocks, since the
// client library's receive loop posts: a blocked one would stop every other path.
// The queue is bounded by what the source asked for: one event for each armed
// watch, one reply for each read.
type mailbox struct {
	// ready holds a token while there may be messages.
	ready chan struct{}

	mu    sync.Mutex
	queue []message
}

func newMailbox() *mailbox { return &mailbox{ready: make(chan struct{}, 1)} }

func (b *mailbox) post(m message) {
	b.mu.Lock()
	b.queue = append(b.queue, m)
	b.mu.Unlock()
	select {
	case b.ready <- struct{}{}:
	default:
	}
}

// take empties the box.
func (b *mailbox) take() []message {
	b.mu.Lock()
	defer b.mu.Unlock()
	queue := b.queue
	b.queue = nil
	return queue
}
