package balancer

import (
	"math"
	"math/rand/v2"

	"drover/backend"
)

// peakEWMA lets each server's share follow its latency and load. Of two servers drawn
// by weight it picks with a probability that falls with the peak-sensitive latency
// average (Finagle's Peak EWMA) and with the requests in flight for the weight.
//
// Picking always the cheaper one, as is common, gives a server that is a little slower
// than all others next to nothing. Here the chance of each is in inverse proportion to
// latency^p * load^2, for p = log2(3): one that is twice as slow as its peers gets half
// their share. Load counts more, since a server that has stopped answering shows in
// the requests in flight long before it shows in any latency.
//
// One pick in ten is not compared at all, so that no server gets less than a tenth of
// its fair share, and each is measured now and then. That does not hold for one with
// clearly more requests in flight than is fair: it is not starving, it is stuck.
type peakEWMA struct{}

type ewmaPicker struct {
	sampler
	mean float64 // weight
}

// floor is the share of picks that ignore cost.
const floor = 0.10

// steepness makes half the share of double the cost.
var steepness = math.Log2(3)

func (peakEWMA) build(set []candidate) picker {
	p := &ewmaPicker{sampler: newSampler(set)}
	for _, c := range set {
		p.mean += c.weight / float64(len(set))
	}
	return p
}

func (p *ewmaPicker) pick(_ uint64, tried *backend.Tried) *backend.Member {
	a, b := p.pair()
	first, second := &p.set[a], &p.set[b]
	switch {
	case tried.Has(first.member.Live):
		if tried.Has(second.member.Live) {
			return nextUntried(p.set, a, tried)
		}
		return second.member
	case tried.Has(second.member.Live), a == b:
		return first.member
	case rand.Float64() < floor && !p.stuck(first):
		return first.member
	}
	if rand.Float64() < p.chance(first, second) {
		return first.member
	}
	return second.member
}

// chance is how likely the first of two is picked. A server without a measurement
// counts as quick as the other: it is tried, and its requests in flight keep it from
// being flooded.
func (p *ewmaPicker) chance(first, second *candidate) float64 {
	one, two := first.member.Latency().Last(), second.member.Latency().Last()
	switch {
	case one == 0 && two == 0:
		one, two = 1, 1
	case one == 0:
		one = two
	case two == 0:
		two = one
	}
	latency := float64(one) / float64(two)
	load := p.load(first) / p.load(second)
	return 1 / (1 + math.Pow(latency, steepness)*load*load)
}

// load is one for an idle server: weights are in the draw already, and count here only
// for what is in flight.
func (p *ewmaPicker) load(c *candidate) float64 {
	return 1 + float64(c.member.InFlight())*p.mean/c.weight
}

// stuck reports whether a server has more than its fair share in flight.
func (p *ewmaPicker) stuck(c *candidate) bool {
	total := 0.0
	if group := c.member.Group; group != nil {
		total = float64(group.Load())
	}
	return float64(c.member.InFlight()) > total*c.weight/(p.mean*float64(len(p.set)))+1
}
