package proxy

import (
	"sync/atomic"
	"time"

	"drover/backend"
	"drover/exchange"
	"drover/metrics"
	"drover/transport"
)

// Balancer picks servers; balancer.Group implements it.
type Balancer interface {
	Pick(key uint64, tried *backend.Tried) *backend.Member
	PickFree(limit int, tried *backend.Tried) *backend.Member
	Find(idHash uint64) *backend.Member
}

// Reporter learns what attempts came to; healthcheck.Outlier implements it.
type Reporter interface {
	Report(*backend.Member, backend.Outcome)
}

// UpstreamOptions are the parts of an upstream that live longer than one
// configuration, and the settings of the one in force.
type UpstreamOptions struct {
	Name     string
	Balancer Balancer
	Reporter Reporter // nil without outlier detection
	Limits   LimitConfig
	Budget   BudgetConfig
	Key      *Key    // nil where the policy needs none
	Sticky   *Sticky // nil for none
	// LatencyDecay is the averaging period of the servers' latency.
	LatencyDecay time.Duration
	// Known reports whether the upstream's source has ever told its servers; it
	// makes the difference between "none" and "none yet" in the log.
	Members func() (known, available int)
	Metrics *metrics.Metrics
	// Servers counts per server; it is shared by all configurations of an upstream.
	Servers *ServerHandles
}

// Upstream is what the forward loop needs of a named group of servers. It is
// immutable but for its limits' and budget's counts.
type Upstream struct {
	UpstreamOptions

	gate    *gate
	budget  *budget
	metrics *metrics.Upstream
}

// NewUpstream makes an Upstream. It starts nothing.
func NewUpstream(o UpstreamOptions) *Upstream {
	handle := o.Metrics.Upstream(o.Name)
	return &Upstream{
		UpstreamOptions: o,
		gate:            newGate(o.Limits, handle.Queued),
		budget:          newBudget(o.Budget, time.Now()),
		metrics:         handle,
	}
}

// Inherit takes over the counts of the same upstream's earlier configuration: the
// running requests, and where the limits are unchanged the queue, where the budget is
// the budget. It leaves old as it is: the new configuration may yet be refused.
func (u *Upstream) Inherit(old *Upstream) {
	u.gate.running = old.gate.running
	if old.Limits == u.Limits {
		u.gate = old.gate
	}
	if old.Budget == u.Budget {
		u.budget = old.budget
	}
}

// Queued is how many requests wait for a place on the upstream.
func (u *Upstream) Queued() int { return int(u.gate.places.length.Load()) }

// Idle reports whether no request runs on the upstream or waits for a place on it.
func (u *Upstream) Idle() bool { return u.gate.running.Load() == 0 && u.Queued() == 0 }

// pick chooses a server: the one of the client's sticky cookie where it still takes
// requests, else the policy's.
func (u *Upstream) pick(ex *exchange.Exchange, key uint64, tried *backend.Tried) *backend.Member {
	if u.Sticky != nil && tried.Len() == 0 {
		if hash, ok := u.Sticky.Read(ex); ok {
			if m := u.Balancer.Find(hash); m != nil {
				return m
			}
		}
	}
	return u.Balancer.Pick(key, tried)
}

// report tells everyone who learns from attempts.
func (u *Upstream) report(m *backend.Member, out backend.Outcome) {
	switch out.Failure {
	case backend.FailureNone:
		m.Latency().Observe(time.Now(), out.Header, u.LatencyDecay)
	case backend.FailureTimeout, backend.FailureBody, backend.FailureReset:
		// A failure that took long is a slow answer; a quick one must not make the
		// server look fast.
		if out.Total > m.Latency().Last() {
			m.Latency().Observe(time.Now(), out.Total, u.LatencyDecay)
		}
	case backend.FailureConnect, backend.FailureStale, backend.FailureProtocol, backend.FailureClient:
	}
	if u.Reporter != nil {
		u.Reporter.Report(m, out)
	}
	failure := ""
	if out.Failure != backend.FailureNone {
		failure = out.Failure.String()
	}
	u.Servers.Get(m).Attempt(out.Status, failure, out.Header)
}

// pool is the server's connection pool: whoever builds the balancer puts one into
// each Live.
func pool(m *backend.Member) *transport.Pool { return m.Conns.(*transport.Pool) } //nolint:forcetypeassert,errcheck // see above.

// ServerHandles keeps the metric handles of an upstream's servers.
type ServerHandles struct {
	upstream string
	metrics  *metrics.Metrics
	byServer atomic.Pointer[map[*backend.Live]*metrics.Server]
}

// NewServerHandles makes an empty set.
func NewServerHandles(upstream string, m *metrics.Metrics) *ServerHandles {
	h := &ServerHandles{upstream: upstream, metrics: m}
	h.byServer.Store(&map[*backend.Live]*metrics.Server{})
	return h
}

// Sync makes handles for new members and removes the series of those that left.
// Calls must not overlap; the request path may read meanwhile.
func (h *ServerHandles) Sync(members []*backend.Member) {
	old := *h.byServer.Load()
	next := make(map[*backend.Live]*metrics.Server, len(members))
	names := make(map[string]bool, len(members))
	for _, m := range members {
		name := m.ID.String()
		names[name] = true
		if handle, ok := old[m.Live]; ok {
			next[m.Live] = handle
			continue
		}
		next[m.Live] = h.metrics.Server(h.upstream, name)
	}
	h.byServer.Store(&next)
	h.forget(old, names)
}

func (h *ServerHandles) forget(old map[*backend.Live]*metrics.Server, keep map[string]bool) {
	for live, handle := range old {
		if _, still := (*h.byServer.Load())[live]; !still && !keep[handle.Name()] {
			h.metrics.ForgetServer(h.upstream, handle.Name())
		}
	}
}

// Get gives the handle of a server, nil for one that has left: its series are gone
// and stay so.
func (h *ServerHandles) Get(m *backend.Member) *metrics.Server {
	return (*h.byServer.Load())[m.Live]
}
