package balancer

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"drover/backend"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// makeSet makes candidates with the given weights; they share an in-flight count.
func makeSet(weights ...float64) []candidate {
	total := new(atomic.Int64)
	set := make([]candidate, len(weights))
	for i, w := range weights {
		id := backend.ID{Scheme: "http", Host: fmt.Sprintf("10.0.%d.%d", i/250, i%250+1), Port: 80}
		m := &backend.Member{Server: backend.Server{ID: id, Weight: int(w)}, Live: &backend.Live{Group: total}}
		set[i] = candidate{m, w}
	}
	slices.SortFunc(set, func(a, b candidate) int { return a.member.ID.Compare(b.member.ID) })
	return set
}

func equal(n int) []float64 { return slices.Repeat([]float64{1}, n) }

func mixed(n int) []float64 {
	weights := make([]float64, n)
	for i := range weights {
		weights[i] = float64(1 + i%5)
	}
	return weights
}

func build(t testing.TB, name string, set []candidate, change ...func(*PolicyConfig)) picker {
	t.Helper()
	var cfg PolicyConfig
	cfg.SetDefaults()
	cfg.Type = name
	for _, f := range change {
		f(&cfg)
	}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	return policies[name].make(cfg).build(set)
}

// tally picks n times with random keys.
func tally(p picker, n int) map[*backend.Live]int {
	counts := map[*backend.Live]int{}
	for range n {
		counts[p.pick(rand.Uint64(), nil).Live]++
	}
	return counts
}

// TestConformance holds every policy of the table to what all must do.
func TestConformance(t *testing.T) {
	for name := range policies {
		t.Run(name, func(t *testing.T) {
			t.Run("one member", func(t *testing.T) {
				set := makeSet(3)
				var tried backend.Tried
				tried.Add(set[0].member.Live)
				p := build(t, name, set)
				if p.pick(1, nil) != set[0].member || p.pick(1, &tried) != set[0].member {
					t.Error("the only member is not picked")
				}
			})
			t.Run("tried are avoided", func(t *testing.T) {
				set := makeSet(mixed(7)...)
				p := build(t, name, set)
				var tried backend.Tried
				for i := range set[:6] {
					tried.Add(set[i].member.Live)
				}
				for range 200 {
					if m := p.pick(rand.Uint64(), &tried); m != set[6].member {
						t.Fatalf("picked %s, which was tried; want %s", m.ID, set[6].member.ID)
					}
				}
				tried.Add(set[6].member.Live)
				if p.pick(rand.Uint64(), &tried) == nil {
					t.Error("nothing is picked when all were tried; want any")
				}
			})
			t.Run("shares follow weights", func(t *testing.T) {
				for _, weights := range [][]float64{equal(10), mixed(10), {1, 1000}, {0.1, 1, 1}} {
					set := makeSet(weights...)
					sum := 0.0
					for _, w := range weights {
						sum += w
					}
					const n = 100_000
					counts := tally(build(t, name, set), n)
					for _, c := range set {
						want := float64(n) * c.weight / sum
						if got := float64(counts[c.member.Live]); math.Abs(got-want) > 0.15*want+60 {
							t.Errorf("weights %v: weight %g got %.0f of %d; want about %.0f", weights, c.weight, got, n, want)
						}
					}
				}
			})
			t.Run("concurrent", func(t *testing.T) {
				set := makeSet(mixed(20)...)
				p := build(t, name, set)
				var wg sync.WaitGroup
				for range 4 {
					wg.Go(func() {
						for range 2000 {
							m := p.pick(rand.Uint64(), nil)
							m.Acquire(0)
							m.Latency().Observe(time.Now(), time.Millisecond, time.Second)
							m.Release()
						}
					})
				}
				wg.Wait()
			})
		})
	}
}

// TestSmoothTwin compares round_robin with nginx's algorithm, step by step.
func TestSmoothTwin(t *testing.T) {
	for range 50 {
		weights := make([]float64, 1+rand.IntN(8))
		for i := range weights {
			weights[i] = float64(1 + rand.IntN(9))
		}
		set := makeSet(weights...)
		p := build(t, "round_robin", set)
		current := make([]float64, len(set))
		for step := range 200 {
			best, sum := 0, 0.0
			for i, c := range set {
				current[i] += c.weight
				sum += c.weight
				if current[i] > current[best] {
					best = i
				}
			}
			current[best] -= sum
			if got := p.pick(0, nil); got != set[best].member {
				t.Fatalf("weights %v, step %d: got %s; want %s", weights, step, got.ID, set[best].member.ID)
			}
		}
	}
}

func TestCursorSurvivesBuild(t *testing.T) {
	var r roundRobin
	set := makeSet(equal(3)...)
	first := r.build(set).pick(0, nil)
	if second := r.build(set).pick(0, nil); second == first {
		t.Errorf("after a rebuild %s was picked again; want the next one", first.ID)
	}
}

// share gives each server's part of the picks for its weight, 1 being fair.
func share(set []candidate, counts map[*backend.Live]int, n int) []float64 {
	sum := 0.0
	for _, c := range set {
		sum += c.weight
	}
	shares := make([]float64, len(set))
	for i, c := range set {
		shares[i] = float64(counts[c.member.Live]) / (float64(n) * c.weight / sum)
	}
	return shares
}

// owned counts the slots of maglev's table, which are the shares without the noise of
// random keys.
func owned(p *maglevPicker) map[*backend.Live]int {
	counts := map[*backend.Live]int{}
	for _, i := range p.table {
		counts[p.set[i].member.Live]++
	}
	return counts
}

func TestMaglevDistribution(t *testing.T) {
	for _, weights := range [][]float64{equal(100), mixed(100)} {
		set := makeSet(weights...)
		p := build(t, "maglev", set).(*maglevPicker)
		for i, s := range share(set, owned(p), len(p.table)) {
			if math.Abs(s-1) > 0.02 {
				t.Errorf("weight %g: share %.4f of fair; want within 2 %%", set[i].weight, s)
			}
		}
		moved, kept := movedKeys(t, "maglev", set)
		if part := float64(moved) / float64(kept); part > 0.03 {
			t.Errorf("removing one moved %.2f %% of the others' keys; want at most 3 %%", 100*part)
		}
	}
}

func TestRingDistribution(t *testing.T) {
	for _, weights := range [][]float64{equal(100), mixed(100)} {
		set := makeSet(weights...)
		p := build(t, "ring_hash", set).(*ringPicker)
		// The ring's arcs are the shares without the noise of random keys.
		arcs := map[*backend.Live]float64{}
		for i, h := range p.hashes {
			before := p.hashes[(i+len(p.hashes)-1)%len(p.hashes)]
			arcs[p.set[p.owners[i]].member.Live] += float64(h - before)
		}
		sum := 0.0
		for _, w := range weights {
			sum += w
		}
		variance := 0.0
		for _, c := range set {
			s := arcs[c.member.Live] / math.Exp2(64) / (c.weight / sum)
			variance += (s - 1) * (s - 1) / float64(len(set))
		}
		if dev := math.Sqrt(variance); dev > 0.05 {
			t.Errorf("standard deviation of shares %.4f; want within 5 %%", dev)
		}
		if moved, _ := movedKeys(t, "ring_hash", set); moved != 0 {
			t.Errorf("removing one moved %d keys of others; want none", moved)
		}
	}
}

// movedKeys removes one server and counts the keys of others that moved.
func movedKeys(t *testing.T, name string, set []candidate) (moved, kept int) {
	t.Helper()
	before := build(t, name, set)
	gone := set[len(set)/2].member
	after := build(t, name, slices.Delete(slices.Clone(set), len(set)/2, len(set)/2+1))
	for range 200_000 {
		key := rand.Uint64()
		was := before.pick(key, nil)
		if was == gone {
			continue
		}
		kept++
		if after.pick(key, nil) != was {
			moved++
		}
	}
	return moved, kept
}

func TestBoundedLoad(t *testing.T) {
	const c = 1.25
	for _, name := range []string{"ring_hash", "maglev"} {
		for _, weights := range [][]float64{equal(10), mixed(10)} {
			set := makeSet(weights...)
			p := build(t, name, set, func(cfg *PolicyConfig) { cfg.BoundedLoad = c })
			sum := 0.0
			for _, w := range weights {
				sum += w
			}
			const hot = 42 // one key only: the worst case
			for total := range 2000 {
				m := p.pick(hot, nil)
				i := slices.IndexFunc(set, func(x candidate) bool { return x.member == m })
				bound := math.Ceil(c * float64(total+1) * set[i].weight / sum)
				if m.Acquire(0); float64(m.InFlight()) > bound {
					t.Fatalf("%s: %s has %d of %d in flight; want at most %.0f", name, m.ID, m.InFlight(), total+1, bound)
				}
			}
		}
	}
}

// TestEWMAFollowsLatency runs a simulated clock: one of ten servers becomes twice as
// slow, then a thousand times.
func TestEWMAFollowsLatency(t *testing.T) {
	for _, n := range []int{10, 40} {
		t.Run(fmt.Sprint(n, " servers"), func(t *testing.T) { ewmaFollowsLatency(t, n) })
	}
}

func ewmaFollowsLatency(t *testing.T, n int) {
	set := makeSet(equal(n)...)
	p := build(t, "peak_ewma", set)
	now := time.Unix(1_000_000, 0)
	simulate := func(slow time.Duration, seconds int) float64 {
		counts := map[*backend.Live]int{}
		const perSecond = 20_000 // enough that chance moves a share by a few percent at most
		for i := range seconds * perSecond {
			now = now.Add(time.Second / perSecond)
			m := p.pick(0, nil)
			took := 10 * time.Millisecond
			if m == set[3].member {
				took = slow
			}
			m.Latency().Observe(now, took, 10*time.Second)
			if i >= (seconds-5)*perSecond {
				counts[m.Live]++
			}
		}
		for _, s := range share(set, counts, 5*perSecond) {
			if s < floor*0.7 {
				t.Errorf("a server got %.3f of its fair share; want no less than a tenth, but for noise", s)
			}
		}
		return share(set, counts, 5*perSecond)[3]
	}
	if s := simulate(10*time.Millisecond, 10); math.Abs(s-1) > 0.1 {
		t.Errorf("as quick as the others, it got %.2f of its fair share; want about 1", s)
	}
	if s := simulate(20*time.Millisecond, 10); s > 0.6 || s < 0.4 {
		t.Errorf("twice as slow, it got %.2f of its fair share within 10s; want about half", s)
	}
	if s := simulate(10*time.Second, 10); s > 0.2 {
		t.Errorf("a thousand times as slow, it got %.2f of its fair share; want about a tenth", s)
	}
}

func TestEWMALeavesStuckServers(t *testing.T) {
	set := makeSet(equal(3)...)
	p := build(t, "peak_ewma", set)
	for range 310 { // answers at once, but for one that never does
		if m := p.pick(0, nil); m == set[0].member {
			m.Acquire(0)
		}
	}
	if n := set[0].member.InFlight(); n > 25 {
		t.Errorf("a server that never answers got %d of 310 requests; want few", n)
	}
}

func BenchmarkPick(b *testing.B) {
	for name := range policies {
		for _, n := range []int{3, 100, 10_000} {
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) {
				p := build(b, name, makeSet(mixed(n)...))
				b.ReportAllocs()
				for i := range b.N {
					p.pick(uint64(i)*0x9e3779b97f4a7c15, nil)
				}
			})
		}
	}
}
