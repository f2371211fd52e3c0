package balancer

import (
	"time"

	"drover/backend"
)

// brake decides which of the servers that vanished from their registry are kept. It
// does no I/O and knows no clock; it belongs to the Group's lock.
type brake struct {
	changes []setChange // within the window
	held    map[backend.ID]time.Time
}

// setChange is what one update did to the set.
type setChange struct {
	at      time.Time
	removed int // net of what came; may be negative
}

// hold gives those of the vanished members that stay. Old is the set before, without
// held members; came is how many servers are new.
func (b *brake) hold(cfg BrakeConfig, now time.Time, old, vanished []*backend.Member, came, left int) []*backend.Member {
	b.forget(now, cfg.Window)
	net := len(vanished) - came
	before := 0
	for _, c := range b.changes {
		before += c.removed
	}
	if net != 0 {
		b.changes = append(b.changes, setChange{now, net})
	}
	if cfg.Disabled || len(vanished) == 0 {
		return nil
	}
	base := len(old) + max(before, 0)
	removed := before + net
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

func (b *brake) forget(now time.Time, window time.Duration) {
	for len(b.changes) > 0 && now.Sub(b.changes[0].at) > window {
		b.changes = b.changes[1:]
	}
}
