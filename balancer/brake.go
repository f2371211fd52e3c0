package balancer

import (
	"maps"
	"time"

	"drover/backend"
)

// brake decides which of the servers that vanished from their registry are kept. It
// does no I/O and knows no clock; it belongs to the Group's lock.
type brake struct {
	// within the window
	lost     map[backend.ID]time.Time // vanished, held or not, and not listed since
	arrivals []arrival

	held map[backend.ID]time.Time
}

// arrival is how many servers one update brought that were not lost before.
type arrival struct {
	at   time.Time
	came int
}

func newBrake() brake {
	return brake{lost: map[backend.ID]time.Time{}, held: map[backend.ID]time.Time{}}
}

// listed notes that the registry has a server, and reports whether it was lost. One
// that comes back takes back its own removal, and makes up for no other's.
func (b *brake) listed(id backend.ID) (lost bool) {
	_, lost = b.lost[id]
	delete(b.lost, id)
	return lost
}

// hold gives those of the vanished members that stay. Before is how many members there
// were, without held ones; came is how many servers are new.
func (b *brake) hold(cfg BrakeConfig, now time.Time, vanished []*backend.Member, before, came, left int) []*backend.Member {
	for _, m := range vanished {
		b.lost[m.ID] = now
	}
	if came > 0 {
		b.arrivals = append(b.arrivals, arrival{now, came})
	}
	if cfg.Disabled || len(vanished) == 0 {
		return nil
	}
	removed := len(b.lost) // net of what came; may be negative
	for _, a := range b.arrivals {
		removed -= a.came
	}
	base := max(before, left+removed)
	if left > 0 && (removed <= 1 || removed*100 <= cfg.MaxRemovedPercent*base) {
		return nil
	}
	var kept []*backend.Member
	for _, m := range vanished {
		if worthHolding(m) {
			b.held[m.ID] = now
			kept = append(kept, m)
		}
	}
	return kept
}

// worthHolding reports whether a vanished server still seems to work: its checks pass,
// or, where there are none, real requests do not say otherwise.
func worthHolding(m *backend.Member) bool { return m.Available() && m.Weight > 0 }

// expired reports whether a held server must go now.
func (b *brake) expired(cfg BrakeConfig, now time.Time, m *backend.Member) bool {
	return cfg.Disabled || now.Sub(b.held[m.ID]) >= cfg.Hold || !worthHolding(m)
}

// forget drops what is older than the window.
func (b *brake) forget(now time.Time, window time.Duration) {
	for len(b.arrivals) > 0 && now.Sub(b.arrivals[0].at) > window {
		b.arrivals = b.arrivals[1:]
	}
	maps.DeleteFunc(b.lost, func(_ backend.ID, at time.Time) bool { return now.Sub(at) > window })
}
