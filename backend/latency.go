package backend

import (
	"math"
	"sync/atomic"
	"time"
)

// Latency is a peak-sensitive, exponentially weighted moving average of a server's
// response times: it jumps up to a slow answer at once and decays back with time,
// so a stall is seen after one request and forgotten after a few decay periods.
// After Finagle's Peak EWMA. The zero value is ready; it is lock-free and does not
// allocate, since every request writes it.
type Latency struct {
	// state packs the average, in nanoseconds as a float32, above the time of the
	// last observation, in milliseconds modulo 2^32 with 0 kept for "never".
	state atomic.Uint64
}

// Observe adds one response time seen at now. Decay is the averaging period: an
// observation's influence falls to 1/e after it. Time that runs backwards, as
// between two requests that end together or when the clock is set, counts as none.
// Two observations more than 24 days apart weigh as if they came together.
func (l *Latency) Observe(now time.Time, took, decay time.Duration) {
	at := latencyClock(now)
	for {
		old := l.state.Load()
		cost := float32(max(took, 1))
		if oldCost, oldAt := unpackLatency(old); oldAt != 0 && cost < oldCost {
			weight := float32(remaining(oldAt, at, decay))
			cost = oldCost*weight + cost*(1-weight)
		}
		if l.state.CompareAndSwap(old, packLatency(cost, at)) {
			return
		}
	}
}

// Average is the average at now: it decays towards nothing while no observation
// comes, so that a server that was once slow is tried again. It is 0 before the
// first observation.
func (l *Latency) Average(now time.Time, decay time.Duration) time.Duration {
	cost, at := unpackLatency(l.state.Load())
	if at == 0 {
		return 0
	}
	return time.Duration(float64(cost) * remaining(at, latencyClock(now), decay))
}

// Last is the average as of the last observation, 0 before the first.
func (l *Latency) Last() time.Duration {
	cost, _ := unpackLatency(l.state.Load())
	return time.Duration(cost)
}

// remaining is the part of an observation's influence that is left, from 0 to 1.
func remaining(from, to uint32, decay time.Duration) float64 {
	elapsed := max(int32(to-from), 0) //nolint:gosec // wraps on purpose: the difference may be negative.
	return math.Exp(-float64(elapsed) * float64(time.Millisecond) / float64(max(decay, 1)))
}

func latencyClock(t time.Time) uint32 {
	return max(uint32(t.UnixMilli()), 1) //nolint:gosec // wraps on purpose, see Latency.state.
}

func packLatency(cost float32, at uint32) uint64 {
	return uint64(math.Float32bits(cost))<<32 | uint64(at)
}

func unpackLatency(state uint64) (cost float32, at uint32) {
	return math.Float32frombits(uint32(state >> 32)), uint32(state) //nolint:gosec // the two halves.
}
