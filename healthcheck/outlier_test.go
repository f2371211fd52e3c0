package healthcheck

import (
	"context"
	"fmt"
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

// watch is an Outlier that runs in a synctest bubble over servers named a, b, c …
type watch struct {
	*Outlier
	t       *testing.T
	members []*backend.Member
	changes *atomic.Int64
	logs    *observer.ObservedLogs
}

func startOutlier(t *testing.T, servers int, change func(*OutlierConfig)) *watch {
	t.Helper()
	cfg := &OutlierConfig{}
	cfg.SetDefaults()
	change(cfg)
	if err := cfg.Validate(); err != nil {
		t.Fatalf("got an invalid configuration: %v", err)
	}
	core, logs := observer.New(zapcore.InfoLevel)
	w := &watch{t: t, changes: &atomic.Int64{}, logs: logs}
	o, err := NewOutlier("users", cfg, func() { w.changes.Add(1) }, zap.New(core))
	if err != nil {
		t.Fatal(err)
	}
	w.Outlier = o
	for i := range servers {
		w.members = append(w.members, member(string(rune('a'+i))))
	}
	o.Sync(w.members)
	w.run(o)
	synctest.Wait()
	return w
}

func (w *watch) run(o *Outlier) {
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan error, 1)
	go func() { done <- o.Run(ctx) }()
	w.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("got %v from Run", err)
		}
	})
}

// report reports outcomes of a server, one letter each: o is well, 5 a status 503, 4 a
// status 404, c a failed connect, r a reset, t a time-out, p no HTTP, b a cut body, x a
// client that left, s a stale connection.
func (w *watch) report(server int, outcomes string) {
	w.t.Helper()
	for _, letter := range outcomes {
		out, ok := outcomesByLetter[letter]
		if !ok {
			w.t.Fatalf("got outcome %q", letter)
		}
		w.Report(w.members[server], out)
	}
	synctest.Wait()
}

var outcomesByLetter = map[rune]backend.Outcome{
	'o': {Status: 200},
	'5': {Status: 503},
	'4': {Status: 404},
	'c': {Failure: backend.FailureConnect},
	'r': {Failure: backend.FailureReset},
	't': {Failure: backend.FailureTimeout},
	'p': {Failure: backend.FailureProtocol},
	'b': {Failure: backend.FailureBody, Status: 200},
	'x': {Failure: backend.FailureClient},
	's': {Failure: backend.FailureStale},
}

// wantOut compares the ejected servers with their letters.
func (w *watch) wantOut(want string) {
	w.t.Helper()
	got := ""
	for _, m := range w.members {
		if m.Ejected() {
			got += m.Host
		}
	}
	if got != want {
		w.t.Errorf("got %q ejected; want %q", got, want)
	}
}

func TestOutlierConsecutive(t *testing.T) {
	f := func(outcomes string, out bool, change func(*OutlierConfig)) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			t.Helper()
			w := startOutlier(t, 2, change)
			w.report(0, outcomes)
			if got := w.members[0].Ejected(); got != out {
				t.Errorf("got ejected %v after %q; want %v", got, outcomes, out)
			}
		})
	}
	none := func(*OutlierConfig) {}
	f("5555", false, none)
	f("55555", true, none)
	f("crtpb", true, none)
	f("5555o5555", false, none)
	f("5555455555", true, none) // a 404 is an answer
	f("5555x5", true, none)     // what the client did changes nothing
	f("5555s5", true, none)
	f("xxxxxxxxssssssss", false, none)
	f("555", true, func(c *OutlierConfig) { c.ConsecutiveFailures = 3 })
	f("cc", true, func(c *OutlierConfig) { c.ConnectFailures = 2 })
	f("crcrc", true, func(c *OutlierConfig) { c.ConnectFailures = 2 })
	f("crcr", false, func(c *OutlierConfig) { c.ConnectFailures = 2 })
	f("rrrrrrrrcc", false, func(c *OutlierConfig) { c.ConsecutiveFailures, c.ConnectFailures = 0, 3 })
	f("rrrrrrrrccc", true, func(c *OutlierConfig) { c.ConsecutiveFailures, c.ConnectFailures = 0, 3 })
	f("5555555", false, func(c *OutlierConfig) { c.Statuses = []string{"500-502", "504"} })
	f("44444", true, func(c *OutlierConfig) { c.Statuses = []string{"404"} })
}

func TestOutlierSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := startOutlier(t, 2, func(c *OutlierConfig) { c.ConsecutiveFailures, c.SlowAfter = 2, time.Second })
		for range 5 { // long, not slow
			w.Report(w.members[0], backend.Outcome{Status: 200, Header: time.Second, Total: time.Hour})
		}
		synctest.Wait()
		w.wantOut("")
		for range 2 {
			w.Report(w.members[0], backend.Outcome{Status: 200, Header: time.Second + 1, Total: 2 * time.Second})
		}
		synctest.Wait()
		w.wantOut("a")
	})
}

func TestOutlierTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := startOutlier(t, 2, func(c *OutlierConfig) { c.MaxEjectFor = 70 * time.Second })
		for _, length := range []time.Duration{30 * time.Second, 60 * time.Second, 70 * time.Second, 70 * time.Second} {
			w.report(0, "55555")
			w.wantOut("a")
			sleep(length - time.Millisecond)
			w.wantOut("a")
			sleep(time.Millisecond)
			w.wantOut("")
			w.report(0, "o") // ends the probation
		}
		if got := w.changes.Load(); got != 8 {
			t.Errorf("got %d changes; want 8", got)
		}
		// 4 ejections: three are forgiven in 90s, and the next one is the second again.
		sleep(91 * time.Second)
		w.report(0, "55555")
		sleep(59 * time.Second)
		w.wantOut("a")
		sleep(time.Second)
		w.wantOut("")
		stats := w.Stats()
		if stats.Ejections["consecutive_failures"] != 5 || stats.Readmissions != 5 || stats.Suppressed != 0 {
			t.Errorf("got %+v", stats)
		}
	})
}

func TestOutlierProbation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := startOutlier(t, 2, func(*OutlierConfig) {})
		w.report(0, "ccccc")
		w.report(0, "o") // late: it must not end the probation to come
		sleep(30 * time.Second)
		w.wantOut("")
		w.report(0, "4xs") // a 404 is an answer, and ends it
		w.report(0, "5555")
		w.wantOut("")
		w.report(0, "5")
		w.wantOut("a")
		sleep(60 * time.Second)
		w.wantOut("")
		w.report(0, "c") // one is enough
		w.wantOut("a")
		if got := w.Stats().Ejections["probation"]; got != 1 {
			t.Errorf("got %d ejections on probation; want 1", got)
		}
		// No request came since: nothing is forgiven, it is the third ejection's 90s.
		sleep(89 * time.Second)
		w.wantOut("a")
		sleep(time.Second)
		w.wantOut("")
		sleep(10 * time.Minute) // unproven, so its count stays
		if got := w.members[0].Ejections(); got != 3 {
			t.Errorf("got %d ejections; want 3", got)
		}
		wantLines(t, w.logs,
			"server is ejected server=http://a:80 reason=consecutive_failures last_failure=connect for=30s ejections=1",
			"server is re-admitted on probation server=http://a:80 cause=time is over ejections=1 health=unknown",
			"server is ejected server=http://a:80 reason=consecutive_failures last_failure=status 503 for=1m0s ejections=2",
			"server is re-admitted on probation server=http://a:80 cause=time is over ejections=2 health=unknown",
			"server is ejected server=http://a:80 reason=probation last_failure=connect for=1m30s ejections=3",
			"server is re-admitted on probation server=http://a:80 cause=time is over ejections=3 health=unknown")
	})
}

// TestOutlierLateAttempts lets an attempt from before an ejection end after it.
func TestOutlierLateAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := startOutlier(t, 2, func(*OutlierConfig) {})
		w.report(0, "55555")
		sleep(35 * time.Second)
		w.wantOut("")
		w.Report(w.members[0], backend.Outcome{Failure: backend.FailureTimeout, Total: 40 * time.Second})
		synctest.Wait()
		w.wantOut("")
		w.Report(w.members[0], backend.Outcome{Failure: backend.FailureTimeout, Total: 4 * time.Second})
		synctest.Wait()
		w.wantOut("a")
	})
}

func TestOutlierPercent(t *testing.T) {
	f := func(servers, percent int, want string) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			t.Helper()
			w := startOutlier(t, servers, func(c *OutlierConfig) { c.MaxEjectedPercent = percent })
			for i := range w.members {
				w.report(i, "cccccccccccc")
			}
			w.wantOut(want)
		})
	}
	f(1, 50, "")
	f(1, 99, "")
	f(1, 100, "a")
	f(2, 50, "a")
	f(2, 100, "ab")
	f(3, 50, "a")
	f(3, 99, "ab")
	f(4, 50, "ab")
	f(5, 10, "a") // one always
	f(5, 0, "a")
	f(10, 30, "abc")
	f(3, 100, "abc")
}

// TestOutlierLastAvailable counts what the active checks and draining leave.
func TestOutlierLastAvailable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := startOutlier(t, 4, func(c *OutlierConfig) { c.MaxEjectedPercent = 90 })
		w.members[1].SetHealth(backend.HealthDown)
		w.members[2].Weight = 0
		w.report(0, "ccccc")
		w.wantOut("a")
		w.report(3, "ccccc")
		w.wantOut("a") // d is the last one
		w.members[1].SetHealth(backend.HealthUp)
		w.report(3, "ccccc")
		w.wantOut("ad")
		w.report(1, "ccccc")
		w.wantOut("ad") // now b is; c drains
	})
}

// TestOutlierSuppressed wants one line and a count, and an ejection once there is
// room.
func TestOutlierSuppressed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := startOutlier(t, 2, func(*OutlierConfig) {})
		w.report(0, "ccccc")
		for range 4 {
			w.report(1, "5555")
			w.report(1, "5")
		}
		w.wantOut("a")
		if got := w.Stats().Suppressed; got != 4 {
			t.Errorf("got %d suppressed; want 4", got)
		}
		if got := w.logs.FilterMessageSnippet("not ejected").Len(); got != 1 {
			t.Errorf("got %d lines; want 1", got)
		}
		sleep(30 * time.Second)
		w.report(1, "55555")
		w.wantOut("b")
	})
}

func TestOutlierReadmitOnCheck(t *testing.T) {
	f := func(on bool, flips []backend.Health, want string) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			t.Helper()
			w := startOutlier(t, 2, func(c *OutlierConfig) { c.ReadmitOnCheck = on })
			w.report(0, "ccccc")
			for _, health := range flips {
				w.members[0].SetHealth(health)
				sleep(time.Second)
			}
			w.wantOut(want)
		})
	}
	f(false, []backend.Health{backend.HealthDown, backend.HealthUp}, "a")
	f(true, []backend.Health{backend.HealthDown, backend.HealthUp}, "")
	f(true, []backend.Health{backend.HealthDown}, "a")
	f(true, []backend.Health{backend.HealthUp}, "a")
}

// TestOutlierTakesOver starts a second Outlier where the first one left off.
func TestOutlierTakesOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := startOutlier(t, 2, func(*OutlierConfig) {})
		w.members[0].Eject(time.Now().Add(10 * time.Second))
		w.members[1].Eject(time.Now().Add(-time.Second)) // its time was over while nobody looked
		w.Sync(w.members)
		synctest.Wait()
		w.wantOut("a")
		sleep(10 * time.Second)
		w.wantOut("")
		w.report(0, "c")
		w.wantOut("a")
	})
}

func TestOutlierMembersComeAndGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := startOutlier(t, 3, func(*OutlierConfig) {})
		w.report(0, "cccc")
		changed := *w.members[0] // new data, same server
		w.members[0] = &changed
		w.Sync(w.members)
		w.report(0, "c")
		w.wantOut("a")
		w.Sync(w.members[1:])
		sleep(time.Minute)
		w.wantOut("a") // nobody's any more
		w.Report(w.members[0], backend.Outcome{Failure: backend.FailureConnect})
		w.Sync(w.members)
		synctest.Wait()
		w.wantOut("")
	})
}

// TestOutlierRace reports from many goroutines while members change.
func TestOutlierRace(t *testing.T) {
	cfg := &OutlierConfig{}
	cfg.SetDefaults()
	cfg.SuccessRate.Enabled, cfg.EjectFor = true, 10*time.Millisecond
	o, err := NewOutlier("users", cfg, func() {}, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	members := make([]*backend.Member, 20)
	for i := range members {
		members[i] = member(fmt.Sprint(i))
	}
	o.Sync(members)
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	all.Go(func() { _ = o.Run(ctx) })
	var reports sync.WaitGroup
	for worker := range 4 {
		reports.Go(func() {
			for i := range 20_000 {
				out := backend.Outcome{Status: 200}
				if i/50%2 == 0 {
					out = backend.Outcome{Failure: backend.FailureConnect}
				}
				o.Report(members[(i+worker)%len(members)], out)
				if i%1000 == 0 {
					o.Sync(members[worker:])
					_ = o.Stats()
				}
			}
		})
	}
	reports.Wait()
	cancel()
	all.Wait()
	available := 0
	for _, m := range members {
		if m.Available() {
			available++
		}
	}
	if available < len(members)/2-4 {
		t.Errorf("got %d of %d available; want half", available, len(members))
	}
}
