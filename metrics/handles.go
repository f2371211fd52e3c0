package metrics

import (
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Listener counts for one listener.
type Listener struct {
	metrics *Metrics
	name    string
	open    prometheus.Gauge
	total   prometheus.Counter
}

// Listener gives the handle of a listener.
func (m *Metrics) Listener(name string) *Listener {
	return &Listener{metrics: m, name: name, open: m.connections.get(name), total: m.connectionsSum.get(name)}
}

// Connections adds delta, +1 or -1, to the open connections.
func (l *Listener) Connections(delta int) {
	if delta > 0 {
		l.total.Add(float64(delta))
	}
	l.open.Add(float64(delta))
}

// Rejected counts a request or connection that the listener answered itself.
func (l *Listener) Rejected(reason string) { l.metrics.rejected.get(l.name, reason).Inc() }

// ForgetListener removes a listener's series.
func (m *Metrics) ForgetListener(name string) {
	m.connections.forget(name)
	m.connectionsSum.forget(name)
	m.rejected.forget(name)
}

// counters is a small copy-on-write table of counters for label values that come
// with a request. Lookups are lock-free; a new value costs a lock once.
type counters struct {
	make func(key string, code int) prometheus.Counter

	mu      sync.Mutex
	entries atomic.Pointer[[]counterEntry]
}

type counterEntry struct {
	key     string
	code    int
	counter prometheus.Counter
}

// maxEntries bounds what one handle remembers; past it the series is looked up in
// its vector, slower but right.
const maxEntries = 64

func (c *counters) get(key string, code int) prometheus.Counter {
	if known := c.entries.Load(); known != nil {
		for i := range *known {
			if e := &(*known)[i]; e.code == code && e.key == key {
				return e.counter
			}
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	made := c.make(key, code)
	var old []counterEntry
	if known := c.entries.Load(); known != nil {
		old = *known
	}
	if len(old) < maxEntries {
		next := append(old[:len(old):len(old)], counterEntry{key, code, made})
		c.entries.Store(&next)
	}
	return made
}

// Route counts for one route and upstream.
type Route struct {
	requests counters
	answers  counters
	duration prometheus.Observer
	received prometheus.Counter
	sent     prometheus.Counter
	inFlight prometheus.Gauge
}

// Route gives the handle of a route towards an upstream ("" for none).
func (m *Metrics) Route(route, upstream string) *Route {
	r := &Route{
		duration: m.routeDuration.get(route),
		received: m.routeReceived.get(route),
		sent:     m.routeSent.get(route),
		inFlight: m.routeInFlight.get(route),
	}
	r.requests.make = func(method string, code int) prometheus.Counter {
		return m.routeRequests.get(route, upstream, method, strconv.Itoa(code))
	}
	r.answers.make = func(reason string, _ int) prometheus.Counter { return m.answers.get(route, reason) }
	return r
}

// ForgetRoute removes a route's series.
func (m *Metrics) ForgetRoute(route string) {
	m.routeRequests.forget(route)
	m.routeDuration.forget(route)
	m.routeReceived.forget(route)
	m.routeSent.forget(route)
	m.routeInFlight.forget(route)
	m.answers.forget(route)
}

// ForgetRouteUpstream removes what a route counted for an upstream that it no longer
// leads to.
func (m *Metrics) ForgetRouteUpstream(route, upstream string) {
	m.routeRequests.forget(route, upstream)
}

// Begin counts a request that starts.
func (r *Route) Begin() { r.inFlight.Inc() }

// knownMethods are the methods that get a label of their own; a client can invent
// any number of others.
var knownMethods = [...]string{"GET", "POST", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS", "TRACE", "CONNECT"}

func methodLabel(method []byte) string {
	for _, known := range knownMethods {
		if string(method) == known {
			return known
		}
	}
	return otherLabel
}

// End counts a request that ended. Reason is "" unless drover answered itself.
func (r *Route) End(method []byte, code int, reason string, took time.Duration, received, sent int64) {
	r.inFlight.Dec()
	r.requests.get(methodLabel(method), code).Inc()
	r.duration.Observe(took.Seconds())
	r.received.Add(float64(received))
	r.sent.Add(float64(sent))
	if reason != "" {
		r.answers.get(reason, 0).Inc()
	}
}

// Upstream counts for one upstream.
type Upstream struct {
	metrics   *Metrics
	name      string
	retries   counters
	exhausted prometheus.Counter
	queued    prometheus.Gauge
	rejected  counters
}

// Upstream gives the handle of an upstream.
func (m *Metrics) Upstream(name string) *Upstream {
	u := &Upstream{metrics: m, name: name, exhausted: m.budgetExhausted.get(name), queued: m.queued.get(name)}
	u.retries.make = func(reason string, _ int) prometheus.Counter { return m.retries.get(name, reason) }
	u.rejected.make = func(reason string, _ int) prometheus.Counter { return m.queueRejected.get(name, reason) }
	return u
}

// ForgetUpstream removes an upstream's series, its servers' included.
func (m *Metrics) ForgetUpstream(name string) {
	m.retries.forget(name)
	m.budgetExhausted.forget(name)
	m.queued.forget(name)
	m.queueRejected.forget(name)
	m.serverRequests.forget(name)
	m.serverFailures.forget(name)
	m.serverDuration.forget(name)
}

// Retry counts an attempt after the first.
func (u *Upstream) Retry(reason string) { u.retries.get(reason, 0).Inc() }

// BudgetExhausted counts a retry that the budget forbade.
func (u *Upstream) BudgetExhausted() { u.exhausted.Inc() }

// Queued adds delta, +1 or -1, to the requests that wait.
func (u *Upstream) Queued(delta int) { u.queued.Add(float64(delta)) }

// QueueRejected counts a request turned away by the queue.
func (u *Upstream) QueueRejected(reason string) { u.rejected.get(reason, 0).Inc() }

// Server counts for one server of an upstream.
type Server struct {
	name     string
	requests counters
	failures counters
	header   prometheus.Observer
}

// statusClasses are the values of the code label of servers, whose number is the
// product of servers and codes and must stay small.
var statusClasses = [...]string{"other", "1xx", "2xx", "3xx", "4xx", "5xx"}

// Server gives the handle of a server.
func (m *Metrics) Server(upstream, server string) *Server {
	s := &Server{name: server, header: m.serverDuration.get(upstream, server)}
	s.requests.make = func(_ string, class int) prometheus.Counter {
		return m.serverRequests.get(upstream, server, statusClasses[class])
	}
	s.failures.make = func(failure string, _ int) prometheus.Counter {
		return m.serverFailures.get(upstream, server, failure)
	}
	return s
}

// Name is the server's label value.
func (s *Server) Name() string { return s.name }

// Attempt counts one attempt: its status (0 for none), the failure ("" for none)
// and the time to the response head. A nil Server, one whose series are gone,
// counts nothing.
func (s *Server) Attempt(status int, failure string, header time.Duration) {
	if s == nil {
		return
	}
	if status != 0 {
		class := status / 100
		if class >= len(statusClasses) {
			class = 0
		}
		s.requests.get("", class).Inc()
		s.header.Observe(header.Seconds())
	}
	if failure != "" {
		s.failures.get(failure, 0).Inc()
	}
}

// ForgetServer removes the series of a server that is gone.
func (m *Metrics) ForgetServer(upstream, server string) {
	m.serverRequests.forget(upstream, server)
	m.serverFailures.forget(upstream, server)
	m.serverDuration.forget(upstream, server)
}
