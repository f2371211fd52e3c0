// Package balancer decides which server gets a request: policies, and the live set of
// an upstream's servers as immutable snapshots.
package balancer

import (
	"math/rand/v2"

	"drover/backend"
)

// candidate is a server that may be picked, with its weight of the moment: slow start
// lowers it below the configured one. It is above 0.
type candidate struct {
	member *backend.Member
	weight float64
}

// A policy builds pickers. It lives as long as its configuration, so that its cursor
// survives the changes of the set. Builds do not overlap.
type policy interface {
	// build makes the picker of a set, which is never empty and in ID order.
	build(set []candidate) picker
}

// A picker chooses from one snapshot. It is immutable but for atomics; pick never
// blocks, locks or allocates. Servers that were tried are avoided while there are
// others.
type picker interface {
	pick(key uint64, tried *backend.Tried) *backend.Member
}

// policySpec is one line of the table of policies.
type policySpec struct {
	make   func(PolicyConfig) policy
	hashes bool // picks by key
}

// policies is the one table of policies.
var policies = map[string]policySpec{
	"round_robin":   {make: func(PolicyConfig) policy { return &roundRobin{} }},
	"random":        {make: func(PolicyConfig) policy { return randomPolicy{} }},
	"least_request": {make: func(PolicyConfig) policy { return leastRequest{} }},
	"peak_ewma":     {make: func(PolicyConfig) policy { return peakEWMA{} }},
	"ring_hash":     {make: func(c PolicyConfig) policy { return ringHash{c.Points, c.BoundedLoad} }, hashes: true},
	"maglev":        {make: func(c PolicyConfig) policy { return maglev{c.TableSize, c.BoundedLoad} }, hashes: true},
}

// nextUntried walks the set once, from behind a server that was tried, and gives the
// first that was not; if all were, the one it began with.
func nextUntried(set []candidate, from int, tried *backend.Tried) *backend.Member {
	for i := range set {
		if m := set[(from+i)%len(set)].member; !tried.Has(m.Live) {
			return m
		}
	}
	return set[from%len(set)].member
}

// sampler draws servers by weight in constant time (Vose's alias method).
type sampler struct {
	set   []candidate
	keep  []float64 // the chance that a column stands for itself
	alias []int32
}

func newSampler(set []candidate) sampler {
	n := len(set)
	s := sampler{set: set, keep: make([]float64, n), alias: make([]int32, n)}
	sum := 0.0
	for _, c := range set {
		sum += c.weight
	}
	scaled := make([]float64, n)
	var small, large []int32
	for i, c := range set {
		scaled[i] = c.weight * float64(n) / sum
		if scaled[i] < 1 {
			small = append(small, int32(i)) //nolint:gosec // no set has 2^31 servers.
		} else {
			large = append(large, int32(i)) //nolint:gosec // see above.
		}
	}
	for len(small) > 0 && len(large) > 0 {
		less, more := small[len(small)-1], large[len(large)-1]
		small = small[:len(small)-1]
		s.keep[less], s.alias[less] = scaled[less], more
		if scaled[more] -= 1 - scaled[less]; scaled[more] < 1 {
			large = large[:len(large)-1]
			small = append(small, more)
		}
	}
	for _, i := range append(small, large...) {
		s.keep[i], s.alias[i] = 1, i // what rounding left over
	}
	return s
}

// draw gives an index.
func (s *sampler) draw() int {
	r := rand.Uint64()
	i := int(r % uint64(len(s.keep)))
	if float64(rand.Uint32())/(1<<32) < s.keep[i] {
		return i
	}
	return int(s.alias[i])
}

// pair gives two different indexes where there are two: the first drawn by weight, the
// second too, but for sets in which one weight dwarfs the rest.
func (s *sampler) pair() (a, b int) {
	a = s.draw()
	if len(s.set) == 1 {
		return a, a
	}
	for range 4 {
		if b = s.draw(); b != a {
			return a, b
		}
	}
	return a, (a + 1 + rand.IntN(len(s.set)-1)) % len(s.set)
}

// randomPolicy picks at random, by weight.
type randomPolicy struct{}

type randomPicker struct{ sampler }

func (randomPolicy) build(set []candidate) picker { return &randomPicker{newSampler(set)} }

func (p *randomPicker) pick(_ uint64, tried *backend.Tried) *backend.Member {
	i := p.draw()
	if m := p.set[i].member; !tried.Has(m.Live) {
		return m
	}
	return nextUntried(p.set, i, tried)
}

// leastRequest picks the less loaded of two servers drawn by weight (Mitzenmacher, The
// Power of Two Choices in Randomized Load Balancing, 2001). Load is requests in flight
// for the weight.
type leastRequest struct{}

type leastPicker struct{ sampler }

func (leastRequest) build(set []candidate) picker { return &leastPicker{newSampler(set)} }

func (p *leastPicker) pick(_ uint64, tried *backend.Tried) *backend.Member {
	a, b := p.pair()
	first, second := p.set[a], p.set[b]
	switch {
	case tried.Has(first.member.Live):
		if tried.Has(second.member.Live) {
			return nextUntried(p.set, a, tried)
		}
		return second.member
	case tried.Has(second.member.Live):
		return first.member
	case float64(second.member.InFlight())*first.weight < float64(first.member.InFlight())*second.weight:
		return second.member
	}
	return first.member
}
