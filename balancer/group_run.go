package balancer

import (
	"context"
	"slices"
	"time"

	"drover/backend"
)

// The wait between two looks at the clock: shorter while a server is warming up.
const (
	idleTick = time.Second
	warmTick = 200 * time.Millisecond
)

// Run builds snapshots when health changes and when time alone changes something,
// until ctx ends.
func (g *Group) Run(ctx context.Context) error {
	tick := time.NewTicker(idleTick)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-g.changed:
		case <-tick.C:
			if !g.timed() {
				continue
			}
		}
		if g.refresh() {
			tick.Reset(warmTick)
		} else {
			tick.Reset(idleTick)
		}
	}
}

// timed reports whether the clock alone may have changed something.
func (g *Group) timed() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.sweep(time.Now())
	return slices.ContainsFunc(g.members, func(m *backend.Member) bool { return m.Held() || !m.WarmSince().IsZero() })
}

// refresh builds a snapshot and reports whether a server is warming up.
func (g *Group) refresh() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	g.release(now)
	g.build(now)
	return slices.ContainsFunc(g.members, func(m *backend.Member) bool { return !m.WarmSince().IsZero() })
}

// sweep closes the connections of servers that left and have finished.
func (g *Group) sweep(now time.Time) {
	for id, d := range g.departed {
		if now.Sub(d.at) >= departedFor && d.live.InFlight() == 0 {
			closeConns(d.live)
			delete(g.departed, id)
		}
	}
}

// Close closes all connections; running exchanges finish on theirs.
func (g *Group) Close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, d := range g.departed {
		closeConns(d.live)
	}
	for _, m := range g.members {
		closeConns(m.Live)
	}
}

func closeConns(l *backend.Live) {
	if l.Conns != nil {
		_ = l.Conns.Close() // a pool's Close only closes sockets.
	}
}
