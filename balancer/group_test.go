package balancer

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"drover/backend"

	"github.com/cespare/xxhash/v2"
	"go.uber.org/zap"
)

type fakeConns struct{ closed atomic.Bool }

func (f *fakeConns) Close() error { f.closed.Store(true); return nil }

func newGroup(t *testing.T, change ...func(*Config)) *Group {
	t.Helper()
	var cfg Config
	cfg.SetDefaults()
	for _, f := range change {
		f(&cfg)
	}
	g, err := NewGroup("app", cfg, Options{
		NewConns: func(backend.ID) io.Closer { return &fakeConns{} },
		Logger:   zap.NewNop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// servers reads "a b:0 c@zone d!1": weight behind a colon, zone behind @, priority
// behind !.
func servers(text string) []backend.Server {
	var list []backend.Server
	for _, word := range strings.Fields(text) {
		s := backend.Server{ID: backend.ID{Scheme: "http", Host: word[:1], Port: 80}, Weight: 1}
		for _, part := range []struct {
			mark byte
			set  func(string)
		}{
			{':', func(v string) { _, _ = fmt.Sscan(v, &s.Weight) }},
			{'@', func(v string) { s.Zone = v }},
			{'!', func(v string) { _, _ = fmt.Sscan(v, &s.Priority) }},
		} {
			if i := strings.IndexByte(word, part.mark); i >= 0 {
				end := i + 1
				for end < len(word) && !strings.ContainsRune(":@!", rune(word[end])) {
					end++
				}
				part.set(word[i+1 : end])
			}
		}
		list = append(list, s)
	}
	return list
}

// picked gives the hosts that get requests.
func picked(g *Group) string {
	seen := map[string]bool{}
	for i := range 300 {
		if m := g.Pick(uint64(i)*0x9e3779b97f4a7c15, nil); m != nil {
			seen[m.Host] = true
		}
	}
	var b strings.Builder
	for _, m := range g.Snapshot().Members {
		if seen[m.Host] {
			b.WriteString(m.Host)
		}
	}
	return b.String()
}

func member(g *Group, host string) *backend.Member {
	for _, m := range g.Snapshot().Members {
		if m.Host == host {
			return m
		}
	}
	return nil
}

func wantPicked(t *testing.T, g *Group, want, when string) {
	t.Helper()
	if got := picked(g); got != want {
		t.Errorf("%s: %q get requests; want %q", when, got, want)
	}
}

func TestGroupReconciles(t *testing.T) {
	var told [][]*backend.Member
	g := newGroup(t)
	g.options.OnMembers = func(m []*backend.Member) { told = append(told, m) }
	wantPicked(t, g, "", "empty")
	g.Update(servers("c a b a"))
	wantPicked(t, g, "abc", "three, one twice")
	a, b := member(g, "a"), member(g, "b")
	b.SetHealth(backend.HealthDown)
	g.Update(servers("a b:2 c"))
	if member(g, "a") != a {
		t.Error("a member that did not change was made anew")
	}
	if now := member(g, "b"); now == b || now.Live != b.Live || now.Weight != 2 {
		t.Error("a changed member must be a new one around the same live state")
	}
	wantPicked(t, g, "ac", "b is down")
	g.Update(servers("a b:2 c"))
	if len(told) != 2 {
		t.Errorf("told of %d sets; want 2, since an equal set is no change", len(told))
	}
	g.Update(servers("a:0 b c"))
	wantPicked(t, g, "c", "a is drained")
	if hash := xxhash.Sum64String("http://c:80"); g.Find(hash) != member(g, "c") {
		t.Error("Find does not find c")
	}
	if hash := xxhash.Sum64String("http://b:80"); g.Find(hash) != nil {
		t.Error("Find gives b, which is down")
	}
}

func TestGroupPrioritiesZonesPanic(t *testing.T) {
	g := newGroup(t, func(c *Config) { c.Zone.Own = "x"; c.PanicThreshold = 30 })
	set := "a@x b@x c@y d!1 e!1"
	g.Update(servers(set))
	wantPicked(t, g, "ab", "own zone")
	member(g, "a").SetHealth(backend.HealthDown)
	g.Update(servers(set + " f!1"))
	wantPicked(t, g, "bc", "half the own zone is down")
	for _, host := range []string{"b", "c"} {
		member(g, host).SetHealth(backend.HealthDown)
	}
	g.Update(servers(set))
	wantPicked(t, g, "de", "backups")
	member(g, "d").Eject(time.Now().Add(time.Hour))
	g.Update(servers(set + " f!1"))
	member(g, "f").SetHealth(backend.HealthDown)
	g.Update(servers(set))
	if !g.Snapshot().Panic {
		t.Errorf("no panic with %d of 5 available", g.Snapshot().Available)
	}
	wantPicked(t, g, "ab", "panic: health is ignored")
}

func TestRemovalBrake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- g.Run(ctx) }()
		pass := func(d time.Duration) {
			time.Sleep(d) // the bubble's clock
			synctest.Wait()
		}
		for _, host := range []string{"a", "b", "c", "d"} {
			g.Update(servers("a b c d"))
			member(g, host).SetHealth(backend.HealthUp)
		}
		g.Update(servers("a b c"))
		wantPicked(t, g, "abc", "one may go")
		g.Update(servers("a b c e"))
		pass(time.Minute)
		g.Update(servers("b f c"))
		wantPicked(t, g, "bcf", "one replaced and one gone")
		pass(time.Minute)
		g.Update(nil)
		wantPicked(t, g, "bcf", "an empty list is braked")
		if held := g.Snapshot().Held; held != 3 || g.Stats().Brakes != 1 {
			t.Errorf("held %d with %d brakes; want 3 and 1", held, g.Stats().Brakes)
		}
		member(g, "b").SetHealth(backend.HealthDown)
		g.Refresh()
		pass(time.Second)
		wantPicked(t, g, "cf", "a held server whose check fails goes")
		g.Update(servers("c"))
		if m := member(g, "c"); m.Held() {
			t.Error("c is listed again and still held")
		}
		pass(g.cfg.Brake.Hold + time.Second)
		wantPicked(t, g, "c", "the hold is over")
		g.Update(nil)
		wantPicked(t, g, "c", "the last one is braked")
		g.ReleaseHeld()
		wantPicked(t, g, "", "the operator lets it go")
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestBrakeFromTheStart empties a group that was filled a moment ago: the servers that
// filled it make up for none that go.
func TestBrakeFromTheStart(t *testing.T) {
	for _, c := range []struct {
		name  string
		sets  []string
		want  string // picked at the end
		brake uint64
	}{
		{"most of the first set goes", []string{"a b c d", "a"}, "abcd", 1},
		{"all of it goes", []string{"a b c d", ""}, "abcd", 1},
		{"one of it goes", []string{"a b c d", "a b c"}, "abc", 0},
		{"the registry was empty at first", []string{"", "a b c d", "a"}, "abcd", 1},
		{"others come first", []string{"a b", "a b c d", "c d"}, "cd", 0},
	} {
		g := newGroup(t, func(*Config) {})
		for _, set := range c.sets {
			g.Update(servers(set))
		}
		wantPicked(t, g, c.want, c.name)
		if got := g.Stats().Brakes; got != c.brake {
			t.Errorf("%s: the brake held %d times; want %d", c.name, got, c.brake)
		}
	}
}

// TestBrakeAfterABlip: what vanished and came back has not vanished.
func TestBrakeAfterABlip(t *testing.T) {
	g := newGroup(t)
	all := servers("a b c d e f g h i j k l m n o p q r s t")
	for _, step := range []struct{ listed, held int }{{20, 0}, {10, 10}, {20, 0}, {18, 0}, {10, 8}} {
		g.Update(all[:step.listed])
		if got := g.Snapshot(); got.Held != step.held || len(got.Members) != step.listed+step.held {
			t.Errorf("%d listed: %d members, %d of them held; want %d held", step.listed, len(got.Members), got.Held, step.held)
		}
	}
}

// TestBrakeAfterALateReturn: what comes back after the window makes up for nothing that
// goes next.
func TestBrakeAfterALateReturn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t)
		all := servers("a b c d e f g h i j k l m n o p q r s t")
		pass := g.cfg.Brake.Window + time.Second
		for _, step := range []struct {
			wait         time.Duration
			listed, held int
		}{{0, 20, 0}, {0, 10, 10}, {pass, 20, 0}, {0, 10, 10}, {0, 20, 0}, {0, 14, 0}, {0, 13, 1}} {
			time.Sleep(step.wait) // the bubble's clock
			g.Update(all[:step.listed])
			if got := g.Snapshot().Held; got != step.held {
				t.Errorf("%d listed: %d held; want %d", step.listed, got, step.held)
			}
		}
		g.Update(append(servers("u v w x"), all[:13]...))
		g.Update(all[:13])
		if got := g.Snapshot().Held; got != 5 {
			t.Errorf("%d held after four new ones went too; want 5 with the one before", got)
		}
	})
}

// TestBrakeIsNotForTheOperator: what an operator takes out is out, at once, and with it
// what the brake has held.
func TestBrakeIsNotForTheOperator(t *testing.T) {
	g := newGroup(t)
	g.Update(servers("a b c d e f"))
	g.Update(servers("a b c"))
	if got := g.Snapshot().Held; got != 3 {
		t.Fatalf("%d held; want 3", got)
	}
	g.Replace(servers("a"))
	wantPicked(t, g, "a", "after the operator's word")
	if got := g.Snapshot(); got.Held != 0 || len(got.Members) != 1 {
		t.Errorf("%d members, %d held; want one, none", len(got.Members), got.Held)
	}
	g.Update(servers(""))
	if got := g.Snapshot().Held; got != 1 {
		t.Errorf("%d held of a registry that lost its last; want it", got)
	}
}

// TestPickFree: the best priority's least loaded server with room.
func TestPickFree(t *testing.T) {
	g := newGroup(t)
	g.Update(servers("a b c:0 d e!1"))
	member(g, "d").SetHealth(backend.HealthDown)
	g.refresh()
	var tried backend.Tried
	for _, want := range []string{"a", "b", "a", "b", "e", "e", ""} {
		m := g.PickFree(2, &tried)
		if got := m != nil; got != (want != "") || got && m.Host != want {
			t.Fatalf("got %v; want %q", m, want)
		}
		if m != nil {
			m.Acquire(2)
		}
	}
	tried.Add(member(g, "a").Live)
	if m := g.PickFree(3, &tried); m.Host != "b" {
		t.Errorf("got %s; want one that was not tried", m.Host)
	}
}

func TestSlowStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, func(c *Config) { c.SlowStart = 10 * time.Second; c.Policy.Type = "random" })
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- g.Run(ctx) }()
		part := func() float64 {
			n := 0
			for range 20_000 {
				if g.Pick(0, nil).Host == "b" {
					n++
				}
			}
			return float64(n) / 20_000
		}
		g.Update(servers("a"))
		if m := member(g, "a"); !m.WarmSince().IsZero() {
			t.Error("the first server is slowed")
		}
		g.Update(servers("a b"))
		for _, step := range []struct {
			wait time.Duration
			want float64
		}{{0, 0.1 / 1.1}, {5 * time.Second, 0.55 / 1.55}, {6 * time.Second, 0.5}} {
			time.Sleep(step.wait)
			synctest.Wait()
			if got := part(); got < step.want-0.04 || got > step.want+0.04 {
				t.Errorf("after a further %s b gets %.3f; want about %.3f", step.wait, got, step.want)
			}
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestDepartedKeepTheirState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, func(c *Config) { c.Brake.Disabled = true })
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- g.Run(ctx) }()
		g.Update(servers("a b"))
		b := member(g, "b")
		b.SetHealth(backend.HealthDown)
		g.Update(servers("a"))
		g.Update(servers("a b"))
		if again := member(g, "b"); again.Live != b.Live {
			t.Error("a server that came back at once has lost its state")
		}
		b.Acquire(0)
		g.Update(servers("a"))
		time.Sleep(2 * departedFor)
		synctest.Wait()
		if b.Conns.(*fakeConns).closed.Load() {
			t.Error("connections were closed under a running request")
		}
		b.Release()
		time.Sleep(2 * idleTick)
		synctest.Wait()
		if !b.Conns.(*fakeConns).closed.Load() {
			t.Error("the connections of a server that left stay open")
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
