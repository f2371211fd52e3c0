package healthcheck

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"drover/backend"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// fakeChecker answers as it is told and keeps count.
type fakeChecker struct {
	answer  func(ctx context.Context, id backend.ID) error // nil passes
	running atomic.Int64

	mu    sync.Mutex
	at    map[string][]time.Time
	peak  int64
	fails map[string]bool
}

func (f *fakeChecker) check(ctx context.Context, id backend.ID) error {
	now := f.running.Add(1)
	defer f.running.Add(-1)
	f.mu.Lock()
	if f.at == nil {
		f.at = map[string][]time.Time{}
	}
	f.at[id.Host] = append(f.at[id.Host], time.Now())
	f.peak = max(f.peak, now)
	fail := f.fails[id.Host]
	f.mu.Unlock()
	if f.answer != nil {
		return f.answer(ctx, id)
	}
	if fail {
		return errors.New("told to fail")
	}
	return nil
}

func (f *fakeChecker) setFails(host string, fails bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fails == nil {
		f.fails = map[string]bool{}
	}
	f.fails[host] = fails
}

// times gives when a server was probed.
func (f *fakeChecker) times(host string) []time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]time.Time(nil), f.at[host]...)
}

// bench is a Monitor that runs in a synctest bubble.
type bench struct {
	*Monitor
	checker *fakeChecker
	flips   *atomic.Int64
	logs    *observer.ObservedLogs
	stop    func()
}

func startMonitor(t *testing.T, change func(*CheckConfig)) *bench {
	t.Helper()
	core, logs := observer.New(zapcore.InfoLevel)
	b := &bench{checker: &fakeChecker{}, flips: &atomic.Int64{}, logs: logs}
	cfg := withDefaults(t, func(c *CheckConfig) {
		c.JitterPercent = 0
		change(c)
	})
	m, err := NewMonitor("users", cfg, func() { b.flips.Add(1) }, zap.New(core))
	if err != nil {
		t.Fatal(err)
	}
	m.checker = b.checker
	b.Monitor = m
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	b.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("got %v from Run", err)
		}
	})
	t.Cleanup(b.stop)
	return b
}

func member(host string) *backend.Member {
	return &backend.Member{Server: backend.Server{ID: backend.ID{Scheme: "http", Host: host, Port: 80}, Weight: 1}, Live: &backend.Live{}}
}

func wantHealth(t *testing.T, m *backend.Member, want backend.Health) {
	t.Helper()
	if got := m.Health(); got != want {
		t.Errorf("got %s %s; want %s", m.Host, got, want)
	}
}

// sleep lets time pass in a synctest bubble, and what is due then happen.
func sleep(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestMonitorThresholds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startMonitor(t, func(*CheckConfig) {})
		a := member("a")
		wantHealth(t, a, backend.HealthUnknown)
		b.Sync([]*backend.Member{a})
		sleep(time.Millisecond)
		wantHealth(t, a, backend.HealthUp) // the first probe was at once, and decided
		begin := time.Now().Add(-time.Millisecond)

		b.checker.setFails("a", true)
		sleep(5*time.Second - time.Millisecond + 999*time.Millisecond) // probes at 5s and 5.5s failed
		wantHealth(t, a, backend.HealthUp)
		sleep(2 * time.Millisecond)
		wantHealth(t, a, backend.HealthDown) // at 6s
		b.checker.setFails("a", false)
		sleep(5 * time.Second) // 11s passed
		wantHealth(t, a, backend.HealthDown)
		sleep(500 * time.Millisecond)
		wantHealth(t, a, backend.HealthUp)
		sleep(5 * time.Second)

		want := []time.Duration{0, 5000, 5500, 6000, 11000, 11500, 16500}
		got := b.checker.times("a")
		if len(got) != len(want) {
			t.Fatalf("got %d probes; want %d", len(got), len(want))
		}
		for i, at := range got {
			if at.Sub(begin) != want[i]*time.Millisecond {
				t.Errorf("got probe %d at %s; want %s", i, at.Sub(begin), want[i]*time.Millisecond)
			}
		}
		if got := b.flips.Load(); got != 3 {
			t.Errorf("got %d flips; want 3", got)
		}
		if got, want := b.Stats(), (MonitorStats{Passed: 4, Failed: 3, Flips: 3}); got != want {
			t.Errorf("got %+v; want %+v", got, want)
		}
		wantLines(t, b.logs, `server is down server=http://a:80 from=up to=down failed_checks=3 error=told to fail`,
			`server is up server=http://a:80 from=down to=up passed_checks=2`)
	})
}

// TestMonitorNewAndFailing wants a new server that fails to take traffic until it has
// failed often enough, and to be found out fast.
func TestMonitorNewAndFailing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startMonitor(t, func(*CheckConfig) {})
		a := member("a")
		b.checker.setFails("a", true)
		b.Sync([]*backend.Member{a})
		sleep(999 * time.Millisecond)
		wantHealth(t, a, backend.HealthUnknown)
		if !a.Available() {
			t.Error("got a server that is not available before its verdict")
		}
		sleep(2 * time.Millisecond)
		wantHealth(t, a, backend.HealthDown)
		status := b.Status()
		if len(status) != 1 || status[0].Fails != 3 || status[0].LastError != "told to fail" || status[0].Verdict != "down" || status[0].LastAt.IsZero() {
			t.Errorf("got %+v", status)
		}
	})
}

func TestMonitorEdgeIsNeverLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startMonitor(t, func(c *CheckConfig) { c.Interval, c.EdgeInterval = time.Second, time.Minute })
		b.checker.setFails("a", true)
		a := member("a")
		b.Sync([]*backend.Member{a})
		sleep(2001 * time.Millisecond)
		wantHealth(t, a, backend.HealthDown)
	})
}

func TestMonitorJitter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startMonitor(t, func(c *CheckConfig) { c.JitterPercent = 20 })
		b.Sync([]*backend.Member{member("a")})
		sleep(10 * time.Minute)
		times := b.checker.times("a")
		short, long := time.Hour, time.Duration(0)
		for i := 1; i < len(times); i++ {
			short, long = min(short, times[i].Sub(times[i-1])), max(long, times[i].Sub(times[i-1]))
		}
		if short < 4*time.Second || long > 6*time.Second || long-short < time.Second {
			t.Errorf("got waits from %s to %s; want them spread from 4s to 6s", short, long)
		}
		if len(times) < 100 || len(times) > 150 {
			t.Errorf("got %d probes; want about 120", len(times))
		}
	})
}

// TestMonitorCarriesVerdicts starts a second Monitor on what the first one found.
func TestMonitorCarriesVerdicts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := member("a")
		a.SetHealth(backend.HealthDown)
		b := startMonitor(t, func(*CheckConfig) {})
		b.Sync([]*backend.Member{a})
		sleep(time.Millisecond)
		wantHealth(t, a, backend.HealthDown)
		if b.flips.Load() != 0 {
			t.Error("got a flip without a probe")
		}
		sleep(6 * time.Second) // its first probe came within an interval, the second soon after
		wantHealth(t, a, backend.HealthUp)
	})
}

// TestMonitorReloadSpreadsProbes wants servers with a carried verdict to be probed over an
// interval, not all at once.
func TestMonitorReloadSpreadsProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startMonitor(t, func(c *CheckConfig) { c.Parallel = 1000 })
		members := make([]*backend.Member, 1000)
		for i := range members {
			members[i] = member(fmt.Sprintf("s%d", i))
			members[i].SetHealth(backend.HealthUp)
		}
		b.Sync(members)
		for second := 1; second <= 5; second++ {
			before := b.Stats().Passed
			sleep(time.Second)
			if got := b.Stats().Passed - before; got < 100 || got > 300 {
				t.Errorf("got %d probes in second %d; want about 200", got, second)
			}
		}
	})
}

func TestMonitorTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startMonitor(t, func(*CheckConfig) {})
		b.checker.answer = func(ctx context.Context, _ backend.ID) error {
			<-ctx.Done()
			return ctx.Err()
		}
		a := member("a")
		b.Sync([]*backend.Member{a})
		sleep(5999 * time.Millisecond) // three probes, one after the other, of 2s each
		wantHealth(t, a, backend.HealthUnknown)
		sleep(2 * time.Millisecond)
		wantHealth(t, a, backend.HealthDown)
		if b.checker.peak != 1 {
			t.Errorf("got %d probes of one server at a time", b.checker.peak)
		}
	})
}

// TestMonitorForgets wants no probe of a server that left.
func TestMonitorForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startMonitor(t, func(*CheckConfig) {})
		a, other := member("a"), member("b")
		b.Sync([]*backend.Member{a, other})
		sleep(7 * time.Second)
		b.Sync([]*backend.Member{other})
		sleep(time.Minute)
		if got := len(b.checker.times("a")); got != 2 {
			t.Errorf("got %d probes of the server that left; want 2", got)
		}
		if got := len(b.checker.times("b")); got != 14 {
			t.Errorf("got %d probes of the one that stayed; want 14", got)
		}
		if got := b.Status(); len(got) != 1 || got[0].Server != "http://b:80" {
			t.Errorf("got %+v; want one server", got)
		}
	})
}

// TestMonitorIgnoresTheGone takes a server away while it is probed, and brings it back:
// what comes in late of the first probe must not judge it.
func TestMonitorIgnoresTheGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startMonitor(t, func(c *CheckConfig) { c.UnhealthyAfter, c.Parallel = 1, 1 })
		release := make(chan error)
		b.checker.answer = func(context.Context, backend.ID) error { return <-release }
		a := member("a")
		b.Sync([]*backend.Member{a})
		synctest.Wait()
		b.Sync(nil)
		synctest.Wait()
		b.Sync([]*backend.Member{a})
		synctest.Wait()
		release <- errors.New("late")
		synctest.Wait()
		wantHealth(t, a, backend.HealthUnknown)
		release <- nil
		synctest.Wait()
		wantHealth(t, a, backend.HealthUp)
	})
}

// TestMonitorFollowsData gives a server new data, which must not disturb its probes.
func TestMonitorFollowsData(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startMonitor(t, func(*CheckConfig) {})
		a := member("a")
		for range 10 {
			changed := *a
			b.Sync([]*backend.Member{&changed})
			sleep(time.Second)
		}
		if got := len(b.checker.times("a")); got != 3 {
			t.Errorf("got %d probes; want 3, at 0s, 5s and 10s", got)
		}
	})
}

func TestMonitorSurvivesPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startMonitor(t, func(*CheckConfig) {})
		b.checker.answer = func(_ context.Context, id backend.ID) error {
			if id.Host == "a" {
				panic("oops")
			}
			return nil
		}
		a, other := member("a"), member("b")
		b.Sync([]*backend.Member{a, other})
		sleep(1001 * time.Millisecond)
		wantHealth(t, a, backend.HealthDown)
		wantHealth(t, other, backend.HealthUp)
		if got := b.Stats(); got.Panicked != 3 || got.Failed != 3 {
			t.Errorf("got %+v; want 3 panics", got)
		}
		if got := b.Status()[0].LastError; got != "the check panicked: oops" {
			t.Errorf("got %q", got)
		}
	})
}

// TestMonitorStopsAtOnce cancels a Monitor whose probes hang.
func TestMonitorStopsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startMonitor(t, func(c *CheckConfig) { c.Timeout, c.UnhealthyAfter = time.Hour, 1 })
		b.checker.answer = func(ctx context.Context, _ backend.ID) error {
			<-ctx.Done()
			return ctx.Err()
		}
		a := member("a")
		b.Sync([]*backend.Member{a})
		sleep(time.Second)
		begin := time.Now()
		b.stop()
		if took := time.Since(begin); took > 0 {
			t.Errorf("got %s to stop", took)
		}
		wantHealth(t, a, backend.HealthUnknown) // a canceled probe says nothing
	})
}

// TestMonitorManyServers checks 10,000 servers with 64 probes at a time.
func TestMonitorManyServers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startMonitor(t, func(c *CheckConfig) { c.JitterPercent = 20 })
		var goroutines atomic.Int64
		b.checker.answer = func(context.Context, backend.ID) error {
			goroutines.Store(max(goroutines.Load(), int64(runtime.NumGoroutine())))
			time.Sleep(5 * time.Millisecond)
			return nil
		}
		members := make([]*backend.Member, 10_000)
		for i := range members {
			members[i] = member(fmt.Sprintf("s%d", i))
		}
		b.Sync(members)
		sleep(2 * time.Second)
		for _, m := range members {
			if m.Health() != backend.HealthUp {
				t.Fatalf("got %s %s; want up", m.Host, m.Health())
			}
		}
		sleep(10 * time.Second)
		if b.checker.peak != 64 {
			t.Errorf("got up to %d probes at a time; want 64", b.checker.peak)
		}
		if got := goroutines.Load(); got > 100 {
			t.Errorf("got %d goroutines", got)
		}
		if got := b.Stats().Passed; got < 20_000 || got > 40_000 {
			t.Errorf("got %d probes in 12s; want about 30000", got)
		}
		if b.logs.Len() != 0 {
			t.Errorf("got log lines for servers that are well: %v", b.logs.All()[0].Message)
		}
	})
}

// TestMonitorTellsThatItLags wants one line when there are too few probes at a time.
func TestMonitorTellsThatItLags(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startMonitor(t, func(c *CheckConfig) { c.Parallel = 1 })
		b.checker.answer = func(context.Context, backend.ID) error {
			time.Sleep(time.Second)
			return nil
		}
		members := make([]*backend.Member, 20)
		for i := range members {
			members[i] = member(fmt.Sprintf("s%d", i))
		}
		b.Sync(members)
		sleep(2 * time.Minute)
		b.Sync(members[:1])
		sleep(time.Minute)
		if got := b.logs.FilterMessageSnippet("fall behind").Len(); got != 1 {
			t.Errorf("got %d lines about falling behind; want 1", got)
		}
		if got := b.logs.FilterMessageSnippet("caught up").Len(); got != 1 {
			t.Errorf("got %d lines about catching up; want 1", got)
		}
	})
}

// TestMonitorSyncNeverBlocks calls Sync before Run, and from many goroutines.
func TestMonitorSyncNeverBlocks(t *testing.T) {
	m, err := NewMonitor("users", withDefaults(t, func(*CheckConfig) {}), func() {}, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	var calls sync.WaitGroup
	for range 8 {
		calls.Go(func() {
			for range 1000 {
				m.Sync([]*backend.Member{member("a")})
				_ = m.Status()
			}
		})
	}
	calls.Wait()
}

// wantLines compares the log with lines of message and fields.
func wantLines(t *testing.T, logs *observer.ObservedLogs, want ...string) {
	t.Helper()
	var got []string
	for _, entry := range logs.All() {
		got = append(got, logLine(entry))
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got log\n%q; want\n%q", got, want)
	}
}

func logLine(entry observer.LoggedEntry) string {
	line := entry.Message
	for _, f := range entry.Context {
		enc := zapcore.NewMapObjectEncoder()
		f.AddTo(enc)
		line += fmt.Sprintf(" %s=%v", f.Key, enc.Fields[f.Key])
	}
	return line
}
