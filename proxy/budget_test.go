package proxy

import (
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var budgetStart = time.Unix(1700000000, 0)

// granted withdraws until nothing is left, or for ever as far as a test is concerned.
func granted(b *budget, now time.Time) int {
	n := 0
	for n < 1_000_000 && b.withdraw(now) {
		n++
	}
	return n
}

func TestBudgetRatio(t *testing.T) {
	for _, tc := range []struct {
		percent  float64
		requests int
		want     int
	}{
		{0, 1000, 0}, {20, 0, 0}, {20, 4, 0}, {20, 5, 1}, {20, 50, 10}, {20, 100, 20}, {50, 3, 1}, {100, 7, 7},
		{1000, 3, 30}, {0.1, 1000, 1}, {0.05, 2000, 1}, {0.05, 1999, 0}, {29, 100, 29}, {57, 100, 57},
	} {
		b := newBudget(BudgetConfig{Percent: tc.percent}, budgetStart)
		for range tc.requests {
			b.deposit()
		}
		if got := granted(b, budgetStart); got != tc.want {
			t.Errorf("%g %% of %d requests: got %d retries, want %d", tc.percent, tc.requests, got, tc.want)
		}
	}
}

func TestBudgetMinimum(t *testing.T) {
	for _, tc := range []struct {
		perSecond float64
		every     time.Duration // how often a request fails
		total     time.Duration
		want      int
	}{
		{10, time.Second, 10 * time.Second, 10},                 // all that fail
		{10, 10 * time.Millisecond, 10 * time.Second, 10 + 100}, // a second's worth to begin with
		{10, time.Millisecond, 10 * time.Second, 10 + 100},      // oftener than it refills
		{0.5, 10 * time.Millisecond, 100 * time.Second, 50},     // half a one to begin with
		{0.05, 10 * time.Millisecond, 1000 * time.Second, 50},   // less than one in ten seconds
		{0.05, 10 * time.Second, 1000 * time.Second, 50},        //
		{1000, 10 * time.Millisecond, time.Second, 100},         //
		{0, 10 * time.Millisecond, 100 * time.Second, 0},        //
	} {
		b := newBudget(BudgetConfig{MinPerSecond: tc.perSecond}, budgetStart)
		got := 0
		for at := tc.every; at <= tc.total; at += tc.every {
			if b.withdraw(budgetStart.Add(at)) {
				got++
			}
		}
		// Fractions may be cut.
		if got > tc.want || got < tc.want-1-tc.want/100 {
			t.Errorf("%g per second, asked every %v for %v: got %d, want %d", tc.perSecond, tc.every, tc.total, got, tc.want)
		}
	}
}

// TestBudgetWindow: a quiet hour does not pay for a storm.
func TestBudgetWindow(t *testing.T) {
	for _, tc := range []struct {
		cfg      BudgetConfig
		requests int
		quiet    time.Duration
		want     int
	}{
		{BudgetConfig{MinPerSecond: 10}, 0, 0, 10},
		{BudgetConfig{MinPerSecond: 10}, 0, 5 * time.Second, 60},
		{BudgetConfig{MinPerSecond: 10}, 0, time.Hour, 100},
		{BudgetConfig{MinPerSecond: 10}, 0, 1000 * time.Hour, 100},
		{BudgetConfig{MinPerSecond: 0.01}, 0, time.Hour, 1},
		{BudgetConfig{Percent: 20}, 1_000_000, 0, 10 + 20},
		{BudgetConfig{Percent: 20}, 1_000_000, time.Hour, 10 + 20},
		{BudgetConfig{Percent: 20, MinPerSecond: 10}, 1_000_000, time.Hour, 100 + 20},
		{BudgetConfig{Percent: 20, MinPerSecond: 10}, 0, -time.Hour, 10}, // the clock was set back
	} {
		b := newBudget(tc.cfg, budgetStart)
		for range tc.requests {
			b.deposit()
		}
		now := budgetStart.Add(tc.quiet)
		if got := granted(b, now); got != tc.want {
			t.Errorf("%+v, %d requests, %v: got %d, want %d", tc.cfg, tc.requests, tc.quiet, got, tc.want)
		}
		if got := granted(b, now.Add(budgetRefillEvery-1)); got != 0 {
			t.Errorf("%+v: got %d more at once", tc.cfg, got)
		}
	}
}

func TestBudgetUnderLoad(t *testing.T) {
	const workers, rounds = 16, 5000
	b := newBudget(BudgetConfig{Percent: 20, MinPerSecond: 100}, budgetStart)
	first := b.balance.Load()
	var got, lost atomic.Int64
	var wait sync.WaitGroup
	for range workers {
		wait.Go(func() {
			for range rounds {
				before := b.balance.Load()
				b.deposit()
				if before >= b.ceiling {
					lost.Add(1)
				}
				if b.withdraw(budgetStart) {
					got.Add(1)
				}
				if b.balance.Load() < 0 {
					t.Error("the balance went below 0")
				}
			}
		})
	}
	wait.Wait()
	// Nothing is refilled while the clock stands, and the ceiling is never near: what
	// came in went out or is there.
	if in, out := first+workers*rounds*b.perRequest, got.Load()*retryUnit+b.balance.Load(); in != out || lost.Load() != 0 {
		t.Errorf("%d came in, %d went out or is left; %d deposits hit the ceiling", in, out, lost.Load())
	}
	// Many that ask at the same time get one refill.
	granted(b, budgetStart)
	b.balance.Store(0)
	got.Store(0)
	for range workers {
		wait.Go(func() { got.Add(int64(granted(b, budgetStart.Add(time.Second)))) })
	}
	wait.Wait()
	if got.Load() != 100 {
		t.Errorf("after a second: got %d retries, want 100", got.Load())
	}
}

func TestReloadKeepsTheBudget(t *testing.T) {
	upstream := func(percent float64) *Upstream {
		return newRig(t, nil, func(o *UpstreamOptions, _ *RouteConfig) { o.Budget = BudgetConfig{Percent: percent} }).up
	}
	old := upstream(20)
	for range 10 {
		old.budget.deposit()
	}
	same, other := upstream(20), upstream(30)
	same.Inherit(old)
	other.Inherit(old)
	if same.budget != old.budget {
		t.Error("the same budget began anew")
	}
	if other.budget == old.budget || other.budget.perRequest == old.budget.perRequest {
		t.Error("another budget was not used")
	}
}

func TestBudgetConfigThatIsRefused(t *testing.T) {
	for _, tc := range []struct {
		cfg  BudgetConfig
		want string
	}{
		{BudgetConfig{Percent: -1}, "want 0 to 1000"},
		{BudgetConfig{Percent: 1001}, "want 0 to 1000"},
		{BudgetConfig{Percent: math.NaN()}, "want 0 to 1000"},
		{BudgetConfig{MinPerSecond: -1}, "want 0 to 2147483647"},
		{BudgetConfig{MinPerSecond: math.Inf(1)}, "want 0 to 2147483647"},
		{BudgetConfig{MinPerSecond: math.NaN()}, "want 0 to 2147483647"},
	} {
		if err := tc.cfg.Validate(); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%+v: got %v, want %q", tc.cfg, err, tc.want)
		}
	}
	var good BudgetConfig
	good.SetDefaults()
	if err := good.Validate(); err != nil {
		t.Errorf("the defaults: %v", err)
	}
}
