package proxy

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// gate bounds what runs on an upstream at once and lets a bounded number of requests
// wait for a place. The way through without a wait takes no lock.
type gate struct {
	// immutable
	cfg    LimitConfig
	queued func(delta int)

	// atomic; shared with the gates of the same upstream's other configurations, so
	// that a reload lets nobody over the limit
	running *atomic.Int64

	mu      sync.Mutex
	places  line // of those who want a place on the upstream
	servers line // of those who have one, and want one on a server
}

// line is a part of the queue. They are two since what frees a place in the one need
// not free any in the other.
type line struct {
	// picky says that what does not suit the first may suit one behind: on a retry
	// not every server will do.
	picky bool

	// changed under the gate's mu
	length atomic.Int64
	queue  []chan struct{} // first come, first served; each holds one wake
}

func newGate(cfg LimitConfig, queued func(int)) *gate {
	return &gate{cfg: cfg, queued: queued, running: new(atomic.Int64), servers: line{picky: true}}
}

// enter takes a place on the upstream and reports whether there was one. It does not
// overtake those who wait.
func (g *gate) enter() bool { return g.places.length.Load() == 0 && g.take() }

// take is enter for whoever's turn it is.
func (g *gate) take() bool {
	limit := int64(g.cfg.MaxRequests)
	if limit == 0 {
		// Counted all the same: a reload may set a limit.
		g.running.Add(1)
		return true
	}
	for {
		n := g.running.Load()
		if n >= limit {
			return false
		}
		if g.running.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// leave gives a place back.
func (g *gate) leave() {
	g.running.Add(-1)
	g.wake(&g.places)
}

// wake tells the first of a line that something has become free.
func (g *gate) wake(l *line) {
	if l.length.Load() == 0 {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	l.signal(0)
}

func (l *line) signal(i int) {
	if i < len(l.queue) {
		select {
		case l.queue[i] <- struct{}{}:
		default: // it has yet to look
		}
	}
}

// A waitResult says how a wait for a place ended.
type waitResult int

const (
	waitGranted waitResult = iota
	waitFull               // the queue has no room
	waitTimeout
	waitLate // the request's own time is over
	waitGone // the client left
)

// lookInterval is how often a waiting request looks whether its client is still there,
// and the first of a line whether it can go on: servers also come and recover, and
// requests of an earlier configuration end, which wakes nobody.
const lookInterval = 100 * time.Millisecond

// wait queues until try succeeds. Try is asked after each wake, and once after
// queueing, so that a place freed in between is not missed.
func (g *gate) wait(l *line, until time.Time, try func() bool, gone func() bool) (result waitResult) {
	turn, ok := g.join(l)
	if !ok {
		return waitFull
	}
	defer func() { g.depart(l, turn, result == waitGranted) }()
	return g.await(l, turn, until, try, gone)
}

func (g *gate) await(l *line, turn chan struct{}, until time.Time, try func() bool, gone func() bool) waitResult {
	longest, end := g.cfg.Queue.Timeout, waitTimeout
	if left := time.Until(until); !until.IsZero() && left < longest {
		longest, end = left, waitLate
	}
	deadline := time.NewTimer(longest)
	defer deadline.Stop()
	look := time.NewTicker(lookInterval)
	defer look.Stop()
	for {
		select {
		case <-turn:
			if try() {
				return waitGranted
			}
			if l.picky {
				g.pass(l, turn)
			}
		case <-look.C:
			if gone() {
				return waitGone
			}
			g.look(l, turn)
		case <-deadline.C:
			return end
		}
	}
}

func (g *gate) join(l *line) (chan struct{}, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.places.queue)+len(g.servers.queue) >= g.cfg.Queue.Size {
		return nil, false
	}
	turn := make(chan struct{}, 1)
	l.queue = append(l.queue, turn)
	l.length.Add(1)
	g.queued(1)
	if l.picky || len(l.queue) == 1 {
		l.signal(len(l.queue) - 1)
	}
	return turn, true
}

// pass wakes the next after one that was woken in vain.
func (g *gate) pass(l *line, turn chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	l.signal(slices.Index(l.queue, turn) + 1)
}

// look wakes the first of a line if it is the one that asks.
func (g *gate) look(l *line, turn chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if l.queue[0] == turn {
		l.signal(0)
	}
}

// depart leaves the queue. A wake goes on to the next: more than one place may have
// become free, or one that is not wanted here any more.
func (g *gate) depart(l *line, turn chan struct{}, granted bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	i := slices.Index(l.queue, turn)
	l.queue = slices.Delete(l.queue, i, i+1)
	l.length.Add(-1)
	g.queued(-1)
	if granted || len(turn) > 0 {
		l.signal(i)
	}
}
