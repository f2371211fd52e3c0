package balancer

import (
	"time"

	"drover/backend"
)

// Pick gives a server that may take a request, nil when there is none. It never
// blocks, locks or allocates.
func (g *Group) Pick(key uint64, tried *backend.Tried) *backend.Member {
	s := g.snapshot.Load()
	if s.picker == nil {
		return nil
	}
	m := s.picker.pick(key, tried)
	if tried.Has(m.Live) {
		if other := s.spares.pick(tried); other != nil {
			return other
		}
	}
	return m
}

// PickFree gives a server that may be picked, was not tried and has fewer than limit
// requests in flight: of the best priority, the one with the fewest. It is for when a
// policy has given full servers only, and looks at each server once.
func (g *Group) PickFree(limit int, tried *backend.Tried) *backend.Member {
	s := g.snapshot.Load()
	var best *backend.Member
	least := 0
	for _, m := range s.Members {
		n := m.InFlight()
		if n >= limit || !s.pickable(m) || tried.Has(m.Live) {
			continue
		}
		if best == nil || m.Priority < best.Priority || m.Priority == best.Priority && n < least {
			best, least = m, n
		}
	}
	return best
}

// Find gives the available member whose ID has the xxhash64, nil if there is none.
func (g *Group) Find(idHash uint64) *backend.Member { return g.snapshot.Load().byHash[idHash] }

// Snapshot gives the set of the moment.
func (g *Group) Snapshot() *Snapshot { return g.snapshot.Load() }

// Stats gives the counters.
func (g *Group) Stats() Stats { return Stats{g.updates.Load(), g.brakes.Load()} }

// Reconfigure puts new settings into force. Live state, and the policy's own where its
// settings are the same, carry over.
func (g *Group) Reconfigure(cfg Config) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.cfg.Policy != cfg.Policy {
		g.policy = policies[cfg.Policy.Type].make(cfg.Policy)
	}
	g.cfg = cfg
	g.release(time.Now())
	g.build(time.Now())
	return nil
}

// candidates gives the servers of the best priority that has any, of the own zone
// while enough of it is available.
func (g *Group) candidates(s *Snapshot, now time.Time) []candidate {
	best := -1
	for _, m := range g.members {
		if s.pickable(m) && (best < 0 || m.Priority < best) {
			best = m.Priority
		}
	}
	var all, own []candidate
	ownKnown := 0
	for _, m := range g.members {
		if m.Priority != best || m.Weight == 0 {
			continue
		}
		isOwn := g.cfg.Zone.Own != "" && m.Zone == g.cfg.Zone.Own
		if isOwn {
			ownKnown++
		}
		if !s.pickable(m) {
			continue
		}
		c := candidate{m, g.weight(m, now)}
		all = append(all, c)
		if isOwn {
			own = append(own, c)
		}
	}
	if len(own) > 0 && len(own)*100 >= g.cfg.Zone.MinAvailablePercent*ownKnown {
		return own
	}
	return all
}
