package backend

import (
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

// averageTwin is the plain formula over the whole history, without packing.
type averageTwin struct {
	cost float64
	at   time.Time
}

func (a *averageTwin) observe(now time.Time, took, decay time.Duration) {
	cost := float64(took)
	if !a.at.IsZero() && cost < a.cost {
		weight := math.Exp(-float64(now.Sub(a.at)) / float64(decay))
		cost = a.cost*weight + cost*(1-weight)
	}
	a.cost, a.at = cost, now
}

func TestLatencyTwin(t *testing.T) {
	const decay = 10 * time.Second
	for range 50 {
		var l Latency
		var twin averageTwin
		now := time.UnixMilli(1_700_000_000_000)
		for range 200 {
			now = now.Add(time.Duration(rand.IntN(3000)) * time.Millisecond)
			took := time.Duration(1 + rand.Int64N(int64(time.Second)))
			l.Observe(now, took, decay)
			twin.observe(now, took, decay)
			if got := float64(l.Last()); math.Abs(got-twin.cost) > 1e-4*twin.cost+1 {
				t.Fatalf("average %v; want %v", l.Last(), time.Duration(twin.cost))
			}
		}
	}
}

func TestLatencyAverage(t *testing.T) {
	const decay = 10 * time.Second
	start := time.UnixMilli(1_700_000_000_000)
	near := func(got, want time.Duration) bool { return math.Abs(float64(got-want)) <= 1e-3*float64(want)+1 }

	var l Latency
	if l.Average(start, decay) != 0 || l.Last() != 0 {
		t.Error("an average before the first observation; want 0")
	}
	l.Observe(start, 10*time.Millisecond, decay)
	l.Observe(start, time.Second, decay)
	if got := l.Last(); !near(got, time.Second) {
		t.Errorf("after a slow answer: %v; want 1s at once", got)
	}
	second := float64(time.Second)
	if got, want := l.Average(start.Add(decay), decay), time.Duration(second/math.E); !near(got, want) {
		t.Errorf("one decay later: %v; want %v", got, want)
	}
	if got := l.Last(); !near(got, time.Second) {
		t.Errorf("Last fell to %v by itself; want 1s", got)
	}
}

// TestLatencyTimeRunsBackwards: two requests end together, and the later of the two
// time stamps is stored first.
func TestLatencyTimeRunsBackwards(t *testing.T) {
	const decay = 10 * time.Second
	start := time.UnixMilli(1_700_000_000_000)
	for _, back := range []time.Duration{time.Millisecond, time.Hour} {
		var l Latency
		l.Observe(start, time.Second, decay)
		l.Observe(start.Add(-back), time.Millisecond, decay)
		if got := l.Last(); got < 999*time.Millisecond {
			t.Errorf("%v back: the peak fell to %v at once; want 1s", back, got)
		}
		if got := l.Average(start.Add(-2*back), decay); got > time.Second {
			t.Errorf("%v back: the average grew to %v; want 1s", back, got)
		}
		l.Observe(start.Add(-back+5*decay), time.Millisecond, decay)
		if got := l.Last(); got > 10*time.Millisecond {
			t.Errorf("%v back and 5 decays on: %v; want it nearly forgotten", back, got)
		}
	}
}

func TestLatencyOddInput(t *testing.T) {
	now := time.UnixMilli(1_700_000_000_000)
	for _, c := range []struct{ took, decay time.Duration }{
		{0, time.Second}, {-time.Second, time.Second}, {time.Second, 0}, {time.Second, -1},
		{math.MaxInt64, 1}, {1, math.MaxInt64},
	} {
		var l Latency
		for i := range 4 {
			l.Observe(now.Add(time.Duration(i/2)*time.Second), c.took/time.Duration(i+1), c.decay)
		}
		cost, _ := unpackLatency(l.state.Load())
		if average := float64(l.Average(now, c.decay)); cost <= 0 || math.IsNaN(float64(cost)) || average < 0 {
			t.Errorf("took %v, decay %v: cost %v, average %v; want positive numbers", c.took, c.decay, cost, average)
		}
	}
}

func TestLatencyConcurrent(t *testing.T) {
	var l Latency
	now := time.UnixMilli(1_700_000_000_000)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 5000 {
				l.Observe(now.Add(time.Duration(i)*time.Millisecond), time.Duration(1+i%7)*time.Millisecond, time.Second)
				if got := l.Last(); got <= 0 || got > 8*time.Millisecond {
					t.Errorf("average %v; want between 1ms and 7ms", got)
					return
				}
			}
		})
	}
	wg.Wait()
}
