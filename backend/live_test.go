package backend

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestAvailable(t *testing.T) {
	for _, c := range []struct {
		health  Health
		ejected bool
		want    bool
	}{
		{HealthUnknown, false, true},
		{HealthUp, false, true},
		{HealthDown, false, false},
		{HealthUnknown, true, false},
		{HealthUp, true, false},
		{HealthDown, true, false},
	} {
		var l Live
		l.SetHealth(c.health)
		if c.ejected {
			l.Eject(time.Now().Add(time.Hour))
		}
		if got := l.Available(); got != c.want {
			t.Errorf("health %v, ejected %v: available %v; want %v", c.health, c.ejected, got, c.want)
		}
	}
}

func TestSetHealthReportsChange(t *testing.T) {
	var l Live
	if l.SetHealth(HealthUnknown) || !l.SetHealth(HealthUp) || l.SetHealth(HealthUp) || !l.SetHealth(HealthDown) {
		t.Error("SetHealth must report a change, and only a change")
	}
	if l.Health() != HealthDown || l.Health().String() != "down" {
		t.Errorf("health %v; want down", l.Health())
	}
}

func TestEjection(t *testing.T) {
	var l Live
	until := time.Unix(1_700_000_000, 5)
	if !l.EjectedUntil().IsZero() || l.Ejected() {
		t.Error("a new server is ejected")
	}
	l.Eject(until)
	l.Eject(until)
	if !l.EjectedUntil().Equal(until) || !l.Ejected() || l.Ejections() != 2 {
		t.Errorf("until %v with %d ejections; want %v and 2", l.EjectedUntil(), l.Ejections(), until)
	}
	l.Readmit()
	if l.Ejected() || l.Ejections() != 2 {
		t.Errorf("ejected %v with %d ejections after Readmit; want false and 2", l.Ejected(), l.Ejections())
	}
	for range 3 {
		l.ForgiveEjection()
	}
	if l.Ejections() != 0 {
		t.Errorf("%d ejections after forgiving three of two; want 0", l.Ejections())
	}
}

func TestWarming(t *testing.T) {
	var l Live
	since := time.Unix(1_700_000_000, 7)
	l.StartWarming(since)
	if !l.WarmSince().Equal(since) {
		t.Errorf("warm since %v; want %v", l.WarmSince(), since)
	}
	if l.StartWarming(time.Time{}); !l.WarmSince().IsZero() {
		t.Errorf("warm since %v after the end; want the zero time", l.WarmSince())
	}
}

func TestAcquireCountsServerAndGroup(t *testing.T) {
	var group atomic.Int64
	a, b := &Live{Group: &group}, &Live{Group: &group}
	for _, want := range []bool{true, true, false} {
		if got := a.Acquire(2); got != want {
			t.Fatalf("Acquire(2) with %d in flight: %v; want %v", a.InFlight(), got, want)
		}
	}
	if !a.Acquire(0) || !b.Acquire(-1) {
		t.Error("Acquire without a limit failed")
	}
	if a.InFlight() != 3 || b.InFlight() != 1 || group.Load() != 4 {
		t.Errorf("in flight %d, %d, %d together; want 3, 1, 4", a.InFlight(), b.InFlight(), group.Load())
	}
	a.Release()
	b.Release()
	if a.InFlight() != 2 || b.InFlight() != 0 || group.Load() != 2 {
		t.Errorf("in flight %d, %d, %d together; want 2, 0, 2", a.InFlight(), b.InFlight(), group.Load())
	}
	alone := &Live{}
	if !alone.Acquire(1) || alone.Acquire(1) {
		t.Error("a server without a group must count for itself")
	}
}

func TestAcquireNeverPassesItsLimit(t *testing.T) {
	const limit = 3
	var group atomic.Int64
	l := &Live{Group: &group}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 2000 {
				if l.Acquire(limit) {
					if n := l.InFlight(); n > limit {
						t.Errorf("%d in flight; want at most %d", n, limit)
					}
					l.Release()
				}
			}
		})
	}
	wg.Wait()
	if l.InFlight() != 0 || group.Load() != 0 {
		t.Errorf("%d and %d left in flight; want none", l.InFlight(), group.Load())
	}
}

func TestTried(t *testing.T) {
	var none *Tried
	if none.Has(&Live{}) || none.Len() != 0 {
		t.Error("a nil Tried has tried something")
	}
	var tried Tried
	lives := make([]Live, MaxTried+2)
	for i := range lives {
		if tried.Has(&lives[i]) {
			t.Errorf("server %d counts as tried before it was", i)
		}
		tried.Add(&lives[i])
	}
	if tried.Len() != MaxTried || !tried.Has(&lives[MaxTried-1]) || tried.Has(&lives[MaxTried]) {
		t.Errorf("%d tried; want the first %d", tried.Len(), MaxTried)
	}
}
