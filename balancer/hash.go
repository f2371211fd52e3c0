package balancer

import (
	"cmp"
	"math"
	"math/bits"
	"slices"
	"sort"

	"drover/backend"

	"github.com/cespare/xxhash/v2"
)

// load bounds what a hash policy gives one server (Mirrokni, Thorup, Zadimoghaddam:
// Consistent Hashing with Bounded Loads, 2016): never more requests in flight than
// factor times its fair share of all of them, this one included.
type load struct {
	factor float64 // 0 for no bound
	sum    float64 // of weights
}

func newLoad(factor float64, set []candidate) load {
	l := load{factor: factor}
	for _, c := range set {
		l.sum += c.weight
	}
	return l
}

// allows reports whether a server may have one more.
func (l *load) allows(c *candidate) bool {
	if l.factor == 0 {
		return true
	}
	total := float64(c.member.InFlight())
	if group := c.member.Group; group != nil {
		total = float64(group.Load())
	}
	return float64(c.member.InFlight()+1) <= math.Ceil(l.factor*(total+1)*c.weight/l.sum)
}

// fallback is asked when a walk has met no server that takes the request: the first
// that allows it, else the first that was not tried.
func (l *load) fallback(set []candidate, from int, tried *backend.Tried) *backend.Member {
	for i := range set {
		c := &set[(from+i)%len(set)]
		if !tried.Has(c.member.Live) && l.allows(c) {
			return c.member
		}
	}
	return nextUntried(set, from, tried)
}

// maxWalk bounds the walk along a ring or a table before fallback takes over.
const maxWalk = 64

// mix scrambles a number (the finalizer of splitmix64).
func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}

// ringHash is Karger's consistent hashing with many points per server, as in ketama:
// a key belongs to the server of the next point on the ring. A server's points depend
// on nothing but itself, so its leaving moves no other server's keys.
//
// Very large sets get fewer points, in steps of a half, when the ring would exceed
// maxRing points; only when a set grows or shrinks past such a step do keys of others
// move.
type ringHash struct {
	points int
	bound  float64
}

type ringPicker struct {
	load
	set    []candidate
	hashes []uint64
	owners []int32
}

// maxRing bounds the points of a ring: 12 bytes each.
const maxRing = 1 << 20

func (r ringHash) build(set []candidate) picker {
	counts := r.counts(set)
	type point struct {
		hash  uint64
		owner int32
	}
	var ring []point
	for i, c := range set {
		seed := xxhash.Sum64String(c.member.ID.String())
		for k := range counts[i] {
			hash := mix(seed + uint64(k+1)*0x9e3779b97f4a7c15) //nolint:gosec // k is not negative.
			ring = append(ring, point{hash, int32(i)})         //nolint:gosec // no set has 2^31 servers.
		}
	}
	slices.SortFunc(ring, func(a, b point) int {
		return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.owner, b.owner))
	})
	p := &ringPicker{load: newLoad(r.bound, set), set: set, hashes: make([]uint64, len(ring)), owners: make([]int32, len(ring))}
	for i, x := range ring {
		p.hashes[i], p.owners[i] = x.hash, x.owner
	}
	return p
}

// counts gives each server's points: `points` for a weight of the reference, which is
// the power of two at or below the median weight and so hardly ever changes.
func (r ringHash) counts(set []candidate) []int {
	weights := make([]float64, len(set))
	for i, c := range set {
		weights[i] = c.weight
	}
	slices.Sort(weights)
	median := max(int(weights[len(weights)/2]), 1)
	reference := float64(int(1) << (bits.Len(uint(median)) - 1)) //nolint:gosec // 1 or more.
	sum := 0.0
	for _, w := range weights {
		sum += float64(r.points) * w / reference
	}
	scale := 1.0
	for sum*scale > maxRing {
		scale /= 2
	}
	counts := make([]int, len(set))
	for i, c := range set {
		counts[i] = max(int(math.Round(float64(r.points)*c.weight/reference*scale)), 1)
	}
	return counts
}

func (p *ringPicker) pick(key uint64, tried *backend.Tried) *backend.Member {
	n := len(p.hashes)
	start := sort.Search(n, func(i int) bool { return p.hashes[i] >= key })
	for step := range min(n, maxWalk) {
		c := &p.set[p.owners[(start+step)%n]]
		if !tried.Has(c.member.Live) && p.allows(c) {
			return c.member
		}
	}
	return p.fallback(p.set, int(p.owners[start%n]), tried)
}

// maglev is Google's Maglev hashing (Eisenbud et al., NSDI 2016): every server lists
// all slots of a table in an order of its own and they take slots in turn, so shares
// are even to a slot and a change of the set moves few keys. Weights let a server take
// its turn less often.
type maglev struct {
	size  int
	bound float64
}

type maglevPicker struct {
	load
	set   []candidate
	table []int32
}

func (m maglev) build(set []candidate) picker {
	size := uint64(m.size) //nolint:gosec // validated.
	table := make([]int32, m.size)
	for i := range table {
		table[i] = -1
	}
	type turn struct{ next, skip uint64 }
	turns := make([]turn, len(set))
	heaviest := 0.0
	for i, c := range set {
		hash := xxhash.Sum64String(c.member.ID.String())
		turns[i] = turn{hash % size, mix(hash)%(size-1) + 1}
		heaviest = max(heaviest, c.weight)
	}
	credit := make([]float64, len(set))
	for filled := 0; filled < m.size; {
		for i := range set {
			if credit[i] += set[i].weight / heaviest; credit[i] < 1 {
				continue
			}
			credit[i]--
			t := &turns[i]
			for table[t.next] >= 0 {
				t.next = (t.next + t.skip) % size
			}
			table[t.next] = int32(i) //nolint:gosec // no set has 2^31 servers.
			if filled++; filled == m.size {
				break
			}
		}
	}
	return &maglevPicker{newLoad(m.bound, set), set, table}
}

func (p *maglevPicker) pick(key uint64, tried *backend.Tried) *backend.Member {
	n := uint64(len(p.table))
	slot := key % n
	for range maxWalk {
		c := &p.set[p.table[slot]]
		if !tried.Has(c.member.Live) && p.allows(c) {
			return c.member
		}
		// A key that is turned away goes its own way, so that the keys of a full
		// server spread over all others.
		key = mix(key + 1)
		slot = key % n
	}
	return p.fallback(p.set, int(p.table[slot]), tried)
}
