package balancer

import (
	"container/heap"
	"math"
	"sync/atomic"

	"drover/backend"
)

// roundRobin is nginx's smooth weighted round-robin
// (ngx_http_upstream_get_round_robin_peer): in each step every server gains its weight,
// the one with the most is picked and loses the sum of all. The sequence repeats after
// that sum, so it is computed once per set and walked with an atomic cursor.
type roundRobin struct{ cursor atomic.Uint64 }

type roundRobinPicker struct {
	set      []candidate
	sequence []int32
	cursor   *atomic.Uint64
}

const (
	// maxSequence bounds a sequence; weights whose sum is larger lose precision.
	maxSequence = 1 << 16
	// smoothCost bounds servers times length for the exact algorithm; a larger set
	// gets its close cousin that needs no pass over all servers in each step.
	smoothCost = 1 << 22
)

func (r *roundRobin) build(set []candidate) picker {
	weights := wholeWeights(set)
	sum := 0
	for _, w := range weights {
		sum += w
	}
	p := &roundRobinPicker{set: set, cursor: &r.cursor}
	if sum*len(set) <= smoothCost {
		p.sequence = smoothSequence(weights, sum)
	} else {
		p.sequence = deadlineSequence(weights, sum)
	}
	return p
}

func (p *roundRobinPicker) pick(_ uint64, tried *backend.Tried) *backend.Member {
	n := uint64(len(p.sequence))
	i := int(p.sequence[(p.cursor.Add(1)-1)%n])
	if m := p.set[i].member; !tried.Has(m.Live) {
		return m
	}
	return nextUntried(p.set, i, tried)
}

// wholeWeights gives weights as small whole numbers in the same proportion.
func wholeWeights(set []candidate) []int {
	sum, whole := 0.0, true
	for _, c := range set {
		sum += c.weight
		whole = whole && c.weight == math.Trunc(c.weight)
	}
	factor := 1.0
	if !whole {
		factor = 100 // slow start moves in steps of a tenth and finer
	}
	if limit := float64(max(maxSequence, 2*len(set))); sum*factor > limit {
		factor = limit / sum
	}
	weights := make([]int, len(set))
	divisor := 0
	for i, c := range set {
		weights[i] = max(int(math.Round(c.weight*factor)), 1)
		divisor = gcd(divisor, weights[i])
	}
	for i := range weights {
		weights[i] /= divisor
	}
	return weights
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

func smoothSequence(weights []int, sum int) []int32 {
	sequence := make([]int32, 0, sum)
	current := make([]int, len(weights))
	for range sum {
		best := 0
		for i, w := range weights {
			current[i] += w
			if current[i] > current[best] {
				best = i
			}
		}
		current[best] -= sum
		sequence = append(sequence, int32(best)) //nolint:gosec // no set has 2^31 servers.
	}
	return sequence
}

// deadlineSequence spreads each server evenly over the sequence: earliest deadline
// first, as gRPC and Envoy do.
func deadlineSequence(weights []int, sum int) []int32 {
	queue := make(deadlines, len(weights))
	for i, w := range weights {
		queue[i] = deadline{at: 0.5 / float64(w), step: 1 / float64(w), index: int32(i)} //nolint:gosec // see above.
	}
	heap.Init(&queue)
	sequence := make([]int32, 0, sum)
	for range sum {
		next := &queue[0]
		sequence = append(sequence, next.index)
		next.at += next.step
		heap.Fix(&queue, 0)
	}
	return sequence
}

type deadline struct {
	at, step float64
	index    int32
}

type deadlines []deadline

func (d deadlines) Len() int { return len(d) }
func (d deadlines) Less(i, j int) bool {
	return d[i].at < d[j].at || d[i].at == d[j].at && d[i].index < d[j].index
}
func (d deadlines) Swap(i, j int) { d[i], d[j] = d[j], d[i] }
func (d *deadlines) Push(any)     {} // the number of servers does not change
func (d *deadlines) Pop() any     { return nil }
