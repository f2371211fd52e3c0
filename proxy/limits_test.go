package proxy

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"drover/backend"
	"drover/exchange"
)

// testGate is a gate that counts what it reports as queued.
func testGate(limit, size int) (*gate, *atomic.Int64) {
	queued := &atomic.Int64{}
	return newGate(LimitConfig{MaxRequests: limit, Queue: QueueConfig{Size: size, Timeout: time.Second}},
		func(delta int) { queued.Add(int64(delta)) }), queued
}

func stays() bool { return false }

// idle checks that nothing is left in a gate.
func idle(t *testing.T, g *gate, queued *atomic.Int64) {
	t.Helper()
	if n := g.running.Load(); n != 0 {
		t.Errorf("%d requests run at the end, want 0", n)
	}
	for _, l := range []*line{&g.places, &g.servers} {
		if n := l.length.Load(); n != 0 || len(l.queue) != 0 {
			t.Errorf("%d requests (%d turns) wait at the end, want 0", n, len(l.queue))
		}
	}
	if n := queued.Load(); n != 0 {
		t.Errorf("the metric says that %d wait at the end, want 0", n)
	}
}

func TestGateLimit(t *testing.T) {
	for _, tc := range []struct{ limit, tries, want int }{{0, 50, 50}, {1, 3, 1}, {3, 5, 3}} {
		g, queued := testGate(tc.limit, 0)
		got := 0
		for range tc.tries {
			if g.enter() {
				got++
			}
		}
		if got != tc.want {
			t.Errorf("limit %d: %d of %d got in, want %d", tc.limit, got, tc.tries, tc.want)
		}
		if result := g.wait(&g.places, time.Time{}, g.take, stays); tc.limit > 0 && result != waitFull {
			t.Errorf("limit %d: got %v without a queue, want waitFull", tc.limit, result)
		}
		for range got {
			g.leave()
		}
		idle(t, g, queued)
	}
}

func TestGateServesFirstComeFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, queued := testGate(1, 10)
		g.enter()
		order := make(chan int, 1)
		for i := range 5 {
			go func() {
				if got := g.wait(&g.places, time.Time{}, g.take, stays); got != waitGranted {
					t.Errorf("%d: got %v", i, got)
				}
				order <- i
			}()
			synctest.Wait()
		}
		if got := queued.Load(); got != 5 {
			t.Errorf("%d wait, want 5", got)
		}
		for want := range 5 {
			g.leave()
			// The place is free, and the one whose turn it is has yet to look.
			if g.enter() {
				t.Errorf("a newcomer overtook number %d", want)
			}
			synctest.Wait()
			if got := <-order; got != want {
				t.Errorf("number %d got the place, want %d", got, want)
			}
		}
		g.leave()
		if !g.enter() {
			t.Error("the empty gate let nobody in")
		}
		g.leave()
		idle(t, g, queued)
	})
}

func TestGateQueueIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, queued := testGate(1, 2)
		g.enter()
		results := make(chan waitResult, 3)
		go func() { results <- g.wait(&g.places, time.Time{}, g.take, stays) }()
		go func() { results <- g.wait(&g.servers, time.Time{}, func() bool { return false }, stays) }()
		synctest.Wait()
		// Both kinds of waiting share the bound.
		for _, l := range []*line{&g.places, &g.servers} {
			if got := g.wait(l, time.Time{}, g.take, stays); got != waitFull {
				t.Errorf("the third got %v, want waitFull", got)
			}
		}
		g.leave()
		if got := <-results; got != waitGranted {
			t.Errorf("got %v, want waitGranted", got)
		}
		go func() { results <- g.wait(&g.places, time.Time{}, g.take, stays) }()
		synctest.Wait()
		if got := queued.Load(); got != 2 {
			t.Errorf("%d wait after one left, want 2", got)
		}
		for range 2 {
			if got := <-results; got != waitTimeout {
				t.Errorf("got %v, want waitTimeout", got)
			}
		}
		g.leave()
		idle(t, g, queued)
	})
}

func TestGateTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, queued := testGate(1, 9)
		g.enter()
		late := make(chan waitResult, 1)
		go func() {
			time.Sleep(time.Second / 2)
			late <- g.wait(&g.places, time.Time{}, g.take, stays)
		}()
		start := time.Now()
		if got := g.wait(&g.places, time.Time{}, g.take, stays); got != waitTimeout {
			t.Errorf("got %v, want waitTimeout", got)
		}
		if took := time.Since(start); took != time.Second {
			t.Errorf("waited %v, want 1s", took)
		}
		g.leave() // the turn is now that of the one behind
		if got := <-late; got != waitGranted {
			t.Errorf("behind one that timed out: got %v, want waitGranted", got)
		}
		if took := time.Since(start); took != time.Second {
			t.Errorf("behind one that timed out: got in after %v, want 1s", took)
		}
		g.leave()
		idle(t, g, queued)
	})
}

func TestGateNoticesThatTheClientLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, queued := testGate(1, 9)
		g.enter()
		start := time.Now()
		gone := func() bool { return time.Since(start) > 150*time.Millisecond }
		if got := g.wait(&g.places, time.Time{}, g.take, gone); got != waitGone {
			t.Errorf("got %v, want waitGone", got)
		}
		if took := time.Since(start); took != 2*lookInterval {
			t.Errorf("noticed after %v, want %v", took, 2*lookInterval)
		}
		g.leave()
		idle(t, g, queued)
	})
}

// TestGateWakesAll: what becomes free reaches whoever can use it, wherever it stands.
func TestGateWakesAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, queued := testGate(0, 9)
		var free [2]atomic.Int64
		granted := make(chan string, 3)
		enter := func(name string, server int) {
			go func() {
				got := g.wait(&g.servers, time.Time{}, func() bool {
					if free[server].Load() == 0 {
						return false
					}
					free[server].Add(-1)
					return true
				}, stays)
				if got != waitGranted {
					t.Errorf("%s: got %v", name, got)
				}
				granted <- name
			}()
			synctest.Wait()
		}
		start := time.Now()
		enter("first", 0)
		enter("second", 1)
		enter("third", 1)
		free[1].Add(1)
		g.wake(&g.servers) // does not suit the first
		synctest.Wait()
		if len(granted) != 1 || <-granted != "second" {
			t.Errorf("a server that the first cannot use did not go to the second")
		}
		free[0].Add(1)
		free[1].Add(1)
		g.wake(&g.servers) // two at once, and one wake is lost on whoever is awake already
		synctest.Wait()
		if len(granted) != 2 || <-granted != "first" || <-granted != "third" {
			t.Errorf("two places were not given to two")
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("took %v, want no time at all", took)
		}
		idle(t, g, queued)
	})
}

func TestGatePassesAWakeOn(t *testing.T) {
	g, queued := testGate(1, 9)
	for _, l := range []*line{&g.places, &g.servers} {
		first, _ := g.join(l)
		second, _ := g.join(l)
		for _, turn := range []chan struct{}{first, second} {
			select {
			case <-turn:
			default:
			}
		}
		g.wake(l)
		g.depart(l, first, false) // it timed out just as it was woken
		if len(second) != 1 {
			t.Error("a wake was lost with the one that it was for")
		}
		g.depart(l, second, false)
	}
	idle(t, g, queued)
}

// TestGateMissesNoWake: what became free before the request was in the queue woke
// nobody.
func TestGateMissesNoWake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, queued := testGate(1, 9)
		start := time.Now()
		if got := g.wait(&g.places, time.Time{}, g.take, stays); got != waitGranted {
			t.Errorf("got %v for a free place", got)
		}
		blocked := make(chan waitResult)
		go func() { blocked <- g.wait(&g.servers, time.Time{}, func() bool { return false }, stays) }()
		synctest.Wait()
		if got := g.wait(&g.servers, time.Time{}, func() bool { return true }, stays); got != waitGranted {
			t.Errorf("got %v for a free server", got)
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("took %v, want no time at all", took)
		}
		<-blocked
		g.leave()
		idle(t, g, queued)
	})
}

func TestGateLooksByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, queued := testGate(0, 9)
		recovered := time.Now().Add(250 * time.Millisecond)
		start := time.Now()
		// Nobody wakes the queue when a server comes back.
		if got := g.wait(&g.servers, time.Time{}, func() bool { return time.Now().After(recovered) }, stays); got != waitGranted {
			t.Errorf("got %v, want waitGranted", got)
		}
		if took := time.Since(start); took != 3*lookInterval {
			t.Errorf("took %v, want %v", took, 3*lookInterval)
		}
		idle(t, g, queued)
	})
}

func TestGateCountsUnderLoad(t *testing.T) {
	const limit, size, clients, rounds = 4, 20, 64, 200
	g, queued := testGate(limit, size)
	g.cfg.Queue.Timeout = time.Millisecond // some give up
	var running, served, turnedAway atomic.Int64
	var server backend.Live
	var workers sync.WaitGroup
	for n := range clients {
		workers.Go(func() {
			for i := range rounds {
				gone := func() bool { return (n+i)%7 == 0 }
				if !g.enter() {
					if g.wait(&g.places, time.Time{}, g.take, gone) != waitGranted {
						turnedAway.Add(1)
						continue
					}
				}
				if now := running.Add(1); now > limit {
					t.Errorf("%d run at once, want %d at most", now, limit)
				}
				acquire := func() bool { return server.Acquire(2) }
				if acquire() || g.wait(&g.servers, time.Time{}, acquire, gone) == waitGranted {
					if now := server.InFlight(); now > 2 {
						t.Errorf("%d run on the server, want 2 at most", now)
					}
					server.Release()
					g.wake(&g.servers)
				}
				served.Add(1)
				running.Add(-1)
				g.leave()
			}
		})
	}
	workers.Wait()
	if total := served.Load() + turnedAway.Load(); total != clients*rounds || served.Load() == 0 {
		t.Errorf("%d served and %d turned away, want %d in all", served.Load(), turnedAway.Load(), clients*rounds)
	}
	if n := server.InFlight(); n != 0 {
		t.Errorf("%d in flight at the end, want 0", n)
	}
	idle(t, g, queued)
}

// TestReloadKeepsCounting: requests of the earlier configuration count against the
// limit of the next.
func TestReloadKeepsCounting(t *testing.T) {
	for _, tc := range []struct {
		what                  string
		before, running, next int
		wantMore              int
	}{
		{"the same", 3, 2, 3, 1},
		{"raised", 2, 2, 5, 3},
		{"lowered", 5, 4, 2, 0},
		{"lowered to what runs", 5, 2, 2, 0},
		{"limit taken away", 2, 2, 0, 50},
		{"limit set", 0, 4, 5, 1},
		{"limit set below what runs", 0, 7, 5, 0},
	} {
		upstream := func(limit int) *Upstream {
			return newRig(t, nil, func(o *UpstreamOptions, _ *RouteConfig) { o.Limits.MaxRequests = limit }).up
		}
		old, next := upstream(tc.before), upstream(tc.next)
		for range tc.running {
			if !old.gate.enter() {
				t.Fatalf("%s: cannot enter", tc.what)
			}
		}
		next.Inherit(old)
		if got := old.gate.cfg.MaxRequests; got != tc.before {
			t.Errorf("%s: the old configuration's limit is now %d", tc.what, got)
		}
		more := 0
		for more < 50 && next.gate.enter() {
			more++
		}
		if more != tc.wantMore {
			t.Errorf("%s: %d more got in, want %d", tc.what, more, tc.wantMore)
		}
		for range tc.running {
			old.gate.leave()
		}
		for range more {
			next.gate.leave()
		}
		if n := next.gate.running.Load(); n != 0 {
			t.Errorf("%s: %d run at the end, want 0", tc.what, n)
		}
	}
}

// TestReloadWhileRequestsWait: those that wait under the old limits and those that
// wait under the new ones all get a place in the end.
func TestReloadWhileRequestsWait(t *testing.T) {
	for _, next := range []int{0, 1, 3} {
		synctest.Test(t, func(t *testing.T) {
			before, queuedBefore := testGate(2, 9)
			after, queuedAfter := testGate(next, 9)
			before.enter()
			before.enter()
			results := make(chan waitResult, 2)
			go func() { results <- before.wait(&before.places, time.Time{}, before.take, stays) }()
			synctest.Wait()
			after.running = before.running
			go func() {
				if after.enter() {
					results <- waitGranted
					return
				}
				results <- after.wait(&after.places, time.Time{}, after.take, stays)
			}()
			synctest.Wait()
			before.leave()
			before.leave()
			for n := range 2 {
				if got := <-results; got != waitGranted {
					t.Errorf("limit 2, then %d: number %d got %v, want waitGranted", next, n, got)
				}
				before.leave()
			}
			idle(t, before, queuedBefore)
			idle(t, after, queuedAfter)
		})
	}
}

func TestLimitPerServer(t *testing.T) {
	members := []*backend.Member{
		{Server: backend.Server{ID: backend.ID{Scheme: "http", Host: "10.0.0.1", Port: 80}}, Live: &backend.Live{}},
		{Server: backend.Server{ID: backend.ID{Scheme: "http", Host: "10.0.0.2", Port: 80}}, Live: &backend.Live{}},
	}
	r := newRig(t, members, func(o *UpstreamOptions, _ *RouteConfig) { o.Limits.MaxRequestsPerServer = 2 })
	rq := &request{ex: requestFor("GET", "a.test", "/"), target: target{upstream: r.up}}
	for n, want := range []*backend.Member{members[0], members[0], members[1], members[1], nil, nil} {
		m, full := rq.tryAcquire(0)
		if m != want || full != (want == nil) {
			t.Errorf("number %d: got %v, full %v, want %v", n, m, full, want)
		}
	}
	// On a retry a place on the server that failed is no use while the other is full.
	members[0].Release()
	rq.tried.Add(members[0].Live)
	if m, full := rq.tryAcquire(0); m != nil && m != members[0] || full != (m == nil) {
		t.Errorf("tried and free, the other full: got %v, %v", m, full)
	}
}

func TestTurnedAway(t *testing.T) {
	full := &backend.Member{Server: backend.Server{ID: stickyID}, Live: &backend.Live{}}
	full.Acquire(0)
	for _, tc := range []struct {
		what       string
		limits     LimitConfig
		gone       bool
		status     int
		reason     exchange.Reason
		wantMetric string
	}{
		{"upstream full, no queue", LimitConfig{MaxRequests: 1}, false, 503, exchange.ReasonQueueFull, `reason="QF"`},
		{"upstream full, in the queue", LimitConfig{MaxRequests: 1, Queue: QueueConfig{Size: 1}}, false, 503, exchange.ReasonQueueTimeout, `reason="QT"`},
		{"upstream full, client left", LimitConfig{MaxRequests: 1, Queue: QueueConfig{Size: 1}}, true, 0, exchange.ReasonClientGone, ""},
		{"server full, no queue", LimitConfig{MaxRequestsPerServer: 1}, false, 503, exchange.ReasonQueueFull, `reason="QF"`},
		{"server full, in the queue", LimitConfig{MaxRequestsPerServer: 1, Queue: QueueConfig{Size: 1}}, false, 503, exchange.ReasonQueueTimeout, `reason="QT"`},
		{"server full, client left", LimitConfig{MaxRequestsPerServer: 1, Queue: QueueConfig{Size: 1}}, true, 0, exchange.ReasonClientGone, ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			tc.limits.Queue.Timeout = time.Second
			r := newRig(t, []*backend.Member{full}, func(o *UpstreamOptions, _ *RouteConfig) { o.Limits = tc.limits })
			r.up.gate.running.Store(int64(tc.limits.MaxRequests))
			ex := requestFor("GET", "a.test", "/")
			c := &client{}
			c.left.Store(tc.gone)
			ex.Client = c
			_, result := r.serve(ex)
			if result.Status != tc.status || result.Reason != tc.reason || c.response.Status != tc.status {
				t.Errorf("%s: got %d, %d, %q, want %d, %q", tc.what, c.response.Status, result.Status, result.Reason, tc.status, tc.reason)
			}
			if got := r.metric("drover_upstream_queue_rejected_total"); !strings.Contains(got, tc.wantMetric) || tc.wantMetric == "" && got != "" {
				t.Errorf("%s: got metric %q, want %s", tc.what, got, tc.wantMetric)
			}
			r.up.gate.running.Add(int64(-tc.limits.MaxRequests))
			if n := r.up.gate.running.Load(); n != 0 || full.InFlight() != 1 {
				t.Errorf("%s: %d run and %d on the server at the end, want 0 and 1", tc.what, n, full.InFlight())
			}
		})
	}
}

// TestOneFreeAmongManyFull: more full servers than a policy is asked for do not hide
// one that has room.
func TestOneFreeAmongManyFull(t *testing.T) {
	var members []*backend.Member
	for range 40 {
		m := member(t, absent(t))
		if !m.Acquire(1) {
			t.Fatal("no place")
		}
		members = append(members, m)
	}
	free := members[len(members)-1]
	free.Release()
	r := newRig(t, members, func(o *UpstreamOptions, c *RouteConfig) {
		o.Limits.MaxRequestsPerServer, c.Retry.Attempts = 1, 1
	})
	c, result := r.serve(requestFor("GET", "a.test", "/"))
	if c.response.Status != 502 || result.Server != free.ID.String() {
		t.Errorf("got %d from %q; want a try of the one with room, %s", c.response.Status, result.Server, free.ID)
	}
}

// overtaken is a Balancer whose free servers are taken by others at the last moment.
type overtaken struct {
	orFirst
	times *int
}

func (b overtaken) PickFree(limit int, tried *backend.Tried) *backend.Member {
	m := b.orFirst.PickFree(limit, tried)
	if m != nil && *b.times > 0 {
		*b.times--
		m.Acquire(limit)
	}
	return m
}

// TestOvertakenByOthers: whoever loses one free server to another request takes the
// next.
func TestOvertakenByOthers(t *testing.T) {
	for _, tc := range []struct{ free, times, want int }{{1, 0, 17}, {3, 2, 19}, {5, 4, 21}, {2, 2, -1}} {
		members := make([]*backend.Member, backend.MaxTried+1+tc.free)
		for i := range members {
			members[i] = &backend.Member{Live: &backend.Live{}}
			if i <= backend.MaxTried {
				members[i].Acquire(0)
			}
		}
		r := newRig(t, members, func(o *UpstreamOptions, _ *RouteConfig) {
			o.Balancer, o.Limits.MaxRequestsPerServer = overtaken{members, &tc.times}, 1
		})
		rq := &request{ex: requestFor("GET", "a.test", "/"), target: target{upstream: r.up}}
		m, full := rq.tryAcquire(0)
		if got := slices.Index(members, m); got != tc.want || full != (m == nil) {
			t.Errorf("%d free: got number %d, full %v; want %d", tc.free, got, full, tc.want)
		}
	}
}
