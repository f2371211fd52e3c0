package balancer

import (
	"math"
	"math/rand/v2"

	"drover/backend"
)

// peakEWMA lets each server's share follow its latency and load: it falls with the
// peak-sensitive latency average (Finagle's Peak EWMA) and with the requests in flight.
// In a small set a server is drawn with a chance in proportion to
//
//	weight / (latency^p * load^2)
//
// and in a large one the same comparison decides between two servers drawn by weight.
// Picking always the cheaper one, as is common, would give a server that is a little
// slower than all others next to nothing; here one that is twice as slow gets about
// half the share it had. Load counts more, since a server that has stopped answering
// shows in the requests in flight long before it shows in any latency.
//
// One pick in ten looks at weight alone, so that no server gets less than a tenth of
// its fair share, and each is measured now and then. That does not hold for one with
// clearly more requests in flight than is fair: it is not starving, it is stuck.
type peakEWMA struct{}

type ewmaPicker struct {
	sampler
	mean float64 // weight
}

// floor is the share of picks that ignore cost.
const floor = 0.10

// smallSet is how many servers are looked at one by one.
const smallSet = 16

// steepness makes half the share of double the latency, of two servers drawn and with
// the floor counted in.
var steepness = math.Log2(3.5)

func (peakEWMA) build(set []candidate) picker {
	p := &ewmaPicker{sampler: newSampler(set)}
	for _, c := range set {
		p.mean += c.weight / float64(len(set))
	}
	return p
}

func (p *ewmaPicker) pick(_ uint64, tried *backend.Tried) *backend.Member {
	if i := p.draw(); rand.Float64() < floor && !p.stuck(&p.set[i]) && !tried.Has(p.set[i].member.Live) {
		return p.set[i].member
	}
	if len(p.set) <= smallSet {
		return p.pickOfAll(tried)
	}
	return p.pickOfTwo(tried)
}

// pickOfAll draws from all servers of a small set.
func (p *ewmaPicker) pickOfAll(tried *backend.Tried) *backend.Member {
	var shares [smallSet]float64
	sum, typical := 0.0, p.typical()
	for i := range p.set {
		c := &p.set[i]
		if tried.Has(c.member.Live) {
			continue
		}
		latency := float64(c.member.Latency().Last())
		if latency == 0 {
			latency = typical
		}
		load := p.load(c)
		shares[i] = c.weight / (latency * math.Sqrt(math.Sqrt(latency)) * load * load) // p = 1.25
		sum += shares[i]
	}
	at := rand.Float64() * sum
	for i := range p.set {
		if at -= shares[i]; at < 0 {
			return p.set[i].member
		}
	}
	return nextUntried(p.set, 0, tried)
}

// typical is what a server without a measurement counts as: the mean of the others. It
// is tried, and its requests in flight keep it from being flooded.
func (p *ewmaPicker) typical() float64 {
	sum, n := 0.0, 0
	for i := range p.set {
		if l := p.set[i].member.Latency().Last(); l != 0 {
			sum += float64(l)
			n++
		}
	}
	if n == 0 {
		return 1
	}
	return sum / float64(n)
}

// pickOfTwo compares two servers of a large set.
func (p *ewmaPicker) pickOfTwo(tried *backend.Tried) *backend.Member {
	a, b := p.draw(), p.draw()
	first, second := &p.set[a], &p.set[b]
	switch {
	case tried.Has(first.member.Live):
		if tried.Has(second.member.Live) {
			return nextUntried(p.set, a, tried)
		}
		return second.member
	case tried.Has(second.member.Live), rand.Float64() < p.chance(first, second):
		return first.member
	}
	return second.member
}

// chance is how likely the first of two is picked. One without a measurement counts as
// quick as the other.
func (p *ewmaPicker) chance(first, second *candidate) float64 {
	one, two := first.member.Latency().Last(), second.member.Latency().Last()
	if one == 0 || two == 0 {
		one, two = 1, 1
	}
	load := p.load(first) / p.load(second)
	return 1 / (1 + math.Pow(float64(one)/float64(two), steepness)*load*load)
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
