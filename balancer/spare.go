package balancer

import (
	"cmp"
	"math/rand/v2"
	"slices"

	"drover/backend"
)

// spares are the servers that a policy does not see since better ones can serve:
// backups, and those of other zones. A request that has tried, or found full, all that
// the policy has goes to one of them rather than to the same servers again.
type spares struct {
	members []*backend.Member // by priority
	next    int               // how many have the first one's priority
}

// sparesOf gives the servers that may be picked and are not in the policy's set.
func sparesOf(s *Snapshot, set []candidate) spares {
	chosen := make(map[*backend.Live]bool, len(set))
	for i := range set {
		chosen[set[i].member.Live] = true
	}
	var left spares
	for _, m := range s.Members {
		if s.pickable(m) && !chosen[m.Live] {
			left.members = append(left.members, m)
		}
	}
	slices.SortStableFunc(left.members, func(a, b *backend.Member) int { return cmp.Compare(a.Priority, b.Priority) })
	for left.next < len(left.members) && left.members[left.next].Priority == left.members[0].Priority {
		left.next++
	}
	return left
}

// pick gives a spare of the best priority that was not tried, nil for none. Those of
// one priority take turns by chance.
func (s *spares) pick(tried *backend.Tried) *backend.Member {
	if len(s.members) == 0 {
		return nil
	}
	start := rand.IntN(s.next)
	for i := range s.members {
		at := i
		if i < s.next {
			at = (start + i) % s.next
		}
		if m := s.members[at]; !tried.Has(m.Live) {
			return m
		}
	}
	return nil
}
