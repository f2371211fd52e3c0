package proxy

import (
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

	// atomic
	running atomic.Int64
	waiting atomic.Int64

	// under mu
	mu    sync.Mutex
	queue []chan struct{} // first come, first served
}

func newGate(cfg LimitConfig, queued func(int)) *gate { return &gate{cfg: cfg, queued: queued} }

// enter takes a place on the upstream and reports whether there was one.
func (g *gate) enter() bool {
	limit := int64(g.cfg.MaxRequests)
	if limit == 0 {
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
	if g.cfg.MaxRequests > 0 {
		g.running.Add(-1)
	}
	g.wake()
}

// wake tells the first in the queue that something has become free.
func (g *gate) wake() {
	if g.waiting.Load() == 0 {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.queue) > 0 {
		close(g.queue[0])
		g.queue = g.queue[1:]
	}
}

// A waitResult says how a wait for a place ended.
type waitResult int

const (
	waitGranted waitResult = iota
	waitFull               // the queue has no room
	waitTimeout
	waitGone // the client left
)

// goneInterval is how often a waiting request looks whether its client is still there.
const goneInterval = 100 * time.Millisecond

// wait queues until try succeeds. Try is asked after each wake, and once after
// queueing, so that a place freed in between is not missed.
func (g *gate) wait(try func() bool, gone func() bool) waitResult {
	turn, ok := g.join()
	if !ok {
		return waitFull
	}
	defer g.left()
	if try() {
		g.abandon(turn)
		return waitGranted
	}
	deadline := time.NewTimer(g.cfg.Queue.Timeout)
	defer deadline.Stop()
	look := time.NewTicker(goneInterval)
	defer look.Stop()
	for {
		select {
		case <-turn:
			if try() {
				return waitGranted
			}
			turn = g.rejoin()
		case <-look.C:
			if gone() {
				g.abandon(turn)
				return waitGone
			}
		case <-deadline.C:
			g.abandon(turn)
			return waitTimeout
		}
	}
}

func (g *gate) join() (chan struct{}, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.queue) >= g.cfg.Queue.Size {
		return nil, false
	}
	turn := make(chan struct{})
	g.queue = append(g.queue, turn)
	g.waiting.Add(1)
	g.queued(1)
	return turn, true
}

// rejoin queues again in front: whoever was woken in vain keeps its turn.
func (g *gate) rejoin() chan struct{} {
	turn := make(chan struct{})
	g.mu.Lock()
	defer g.mu.Unlock()
	g.queue = append([]chan struct{}{turn}, g.queue...)
	return turn
}

// abandon leaves the queue. A wake that came meanwhile is passed on.
func (g *gate) abandon(turn chan struct{}) {
	g.mu.Lock()
	for i, t := range g.queue {
		if t == turn {
			g.queue = append(g.queue[:i], g.queue[i+1:]...)
			g.mu.Unlock()
			return
		}
	}
	g.mu.Unlock()
	g.wake()
}

func (g *gate) left() {
	g.waiting.Add(-1)
	g.queued(-1)
}
