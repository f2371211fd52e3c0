package backend

import (
	"io"
	"sync/atomic"
	"time"
)

// Health is the verdict of the active checks on a server.
type Health uint32

// A server without a check, or not yet checked, is HealthUnknown and takes
// traffic: a proxy that has just started must not answer 503 while it probes.
const (
	HealthUnknown Health = iota
	HealthUp
	HealthDown
)

var healthNames = [...]string{HealthUnknown: "unknown", HealthUp: "up", HealthDown: "down"}

func (h Health) String() string { return healthNames[h] }

// Live is the state of one server that outlives every change of its data: it is
// keyed by ID inside one upstream and carried over membership changes and
// reloads. All of it is atomic; any goroutine may read and write it.
type Live struct {
	health       atomic.Uint32
	ejectedUntil atomic.Int64 // Unix nanoseconds; 0 when not ejected
	ejections    atomic.Uint32
	warmSince    atomic.Int64 // Unix nanoseconds; 0 when slow start is over or off
	held         atomic.Bool  // gone from the registry, kept by the removal brake
	inFlight     atomic.Int64
	latency      Latency

	// Conns is the server's connection pool, set once before the server can be
	// picked and closed by whoever drops the Live.
	Conns io.Closer
	// Group counts the requests in flight on all servers of the upstream, set once
	// before the server can be picked; nil where nobody asks.
	Group *atomic.Int64
}

// Health gives the active checks' verdict.
func (l *Live) Health() Health { return Health(l.health.Load()) }

// SetHealth stores a verdict and reports whether it differs from the one before.
func (l *Live) SetHealth(h Health) bool { return Health(l.health.Swap(uint32(h))) != h }

// Eject keeps the server out until the given time and counts the ejection.
func (l *Live) Eject(until time.Time) {
	l.ejections.Add(1)
	l.ejectedUntil.Store(until.UnixNano())
}

// Readmit ends an ejection. The count of past ejections stays.
func (l *Live) Readmit() { l.ejectedUntil.Store(0) }

// ForgiveEjection takes one from the count of past ejections, down to 0: a server
// that behaves earns back its short first ejection.
func (l *Live) ForgiveEjection() {
	for {
		n := l.ejections.Load()
		if n == 0 || l.ejections.CompareAndSwap(n, n-1) {
			return
		}
	}
}

// Ejections counts how often the server was ejected, less what was forgiven.
func (l *Live) Ejections() int { return int(l.ejections.Load()) }

// EjectedUntil is the end of the current ejection, the zero time when there is none.
func (l *Live) EjectedUntil() time.Time {
	if ns := l.ejectedUntil.Load(); ns != 0 {
		return time.Unix(0, ns)
	}
	return time.Time{}
}

// Ejected reports whether the server is ejected. An ejection ends when Readmit is
// called, not by the clock alone, so that readers and the balancer agree.
func (l *Live) Ejected() bool { return l.ejectedUntil.Load() != 0 }

// Available reports whether the server may take new requests as far as its health
// goes: the checks do not say down and it is not ejected.
func (l *Live) Available() bool { return l.Health() != HealthDown && !l.Ejected() }

// StartWarming begins slow start at the given time; the zero time ends it.
func (l *Live) StartWarming(at time.Time) {
	if at.IsZero() {
		l.warmSince.Store(0)
		return
	}
	l.warmSince.Store(at.UnixNano())
}

// WarmSince is when slow start began, the zero time when the server is warm.
func (l *Live) WarmSince() time.Time {
	if ns := l.warmSince.Load(); ns != 0 {
		return time.Unix(0, ns)
	}
	return time.Time{}
}

// SetHeld marks a server that its registry no longer lists and the removal brake keeps.
func (l *Live) SetHeld(held bool) { l.held.Store(held) }

// Held reports whether the removal brake keeps the server.
func (l *Live) Held() bool { return l.held.Load() }

// Acquire counts one request in flight. With a limit above 0 it fails, counting
// nothing, when that many are in flight already.
func (l *Live) Acquire(limit int) bool {
	if limit <= 0 {
		l.inFlight.Add(1)
	} else if !l.acquireBelow(int64(limit)) {
		return false
	}
	if l.Group != nil {
		l.Group.Add(1)
	}
	return true
}

func (l *Live) acquireBelow(limit int64) bool {
	for {
		n := l.inFlight.Load()
		if n >= limit {
			return false
		}
		if l.inFlight.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// Release ends a request that Acquire counted.
func (l *Live) Release() {
	l.inFlight.Add(-1)
	if l.Group != nil {
		l.Group.Add(-1)
	}
}

// InFlight is the number of requests that the server is working on for us.
func (l *Live) InFlight() int { return int(l.inFlight.Load()) }

// Latency is the server's latency average.
func (l *Live) Latency() *Latency { return &l.latency }

// Member is a server as one snapshot sees it: data and live state together. A
// Member is immutable; a change of data makes a new one around the same Live.
type Member struct {
	Server
	*Live
}

// MaxTried bounds the attempts of one request, and so the size of Tried.
const MaxTried = 16

// Tried remembers the servers that a request has already tried, so that a policy
// avoids them while it has others. The zero value is empty; it lives on the stack.
type Tried struct {
	ids [MaxTried]*Live
	n   int
}

// Add remembers a server. Past MaxTried it forgets, which costs a repeated try and
// nothing else.
func (t *Tried) Add(l *Live) {
	if t.n < MaxTried {
		t.ids[t.n] = l
		t.n++
	}
}

// Has reports whether the server was tried. A nil Tried has tried nothing.
func (t *Tried) Has(l *Live) bool {
	if t == nil {
		return false
	}
	for i := 0; i < t.n; i++ {
		if t.ids[i] == l {
			return true
		}
	}
	return false
}

// Len is the number of servers tried.
func (t *Tried) Len() int {
	if t == nil {
		return 0
	}
	return t.n
}
