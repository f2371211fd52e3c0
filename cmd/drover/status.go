package main

import (
	"fmt"
	"time"

	"drover/backend"
	"drover/discovery"
	"drover/discovery/format"
	"drover/healthcheck"
	"drover/metrics"
	"drover/transport"
)

// status is what /status shows.
type status struct {
	Version       string           `json:"version"`
	Ready         bool             `json:"ready"`
	NotReady      string           `json:"not_ready,omitempty"`
	Draining      bool             `json:"draining"`
	Loaded        time.Time        `json:"configuration_loaded"`
	Refused       string           `json:"configuration_refused,omitempty"`
	ZooKeeper     *zkStatus        `json:"zookeeper,omitempty"`
	Upstreams     []upstreamStatus `json:"upstreams"`
	AccessDropped int64            `json:"access_log_lines_dropped,omitempty"`
}

type zkStatus struct {
	Connected  bool      `json:"connected"`
	Since      time.Time `json:"since"`
	Session    string    `json:"session"`
	Reconnects uint64    `json:"reconnects"`
	Expiries   uint64    `json:"expiries"`
	LastError  string    `json:"last_error,omitempty"`
}

type upstreamStatus struct {
	Name      string         `json:"name"`
	Policy    string         `json:"policy"`
	Available int            `json:"available"`
	Held      int            `json:"held"`
	Panic     bool           `json:"panic"`
	Source    *sourceStatus  `json:"source,omitempty"`
	Servers   []serverStatus `json:"servers"`
}

type sourceStatus struct {
	Kind      string            `json:"kind"`
	Path      string            `json:"path,omitempty"`
	Connected bool              `json:"connected"`
	Stale     bool              `json:"stale"`
	Fault     string            `json:"fault,omitempty"`
	LastSync  time.Time         `json:"last_sync"`
	Rejected  []format.Rejected `json:"rejected,omitempty"`
}

type serverStatus struct {
	Server       string     `json:"server"`
	Origin       string     `json:"origin,omitempty"`
	Health       string     `json:"health"`
	Weight       int        `json:"weight"`
	Priority     int        `json:"priority,omitempty"`
	Zone         string     `json:"zone,omitempty"`
	Role         string     `json:"role,omitempty"`
	Tags         []string   `json:"tags,omitempty"`
	InFlight     int        `json:"in_flight"`
	Latency      string     `json:"latency"`
	EjectedUntil *time.Time `json:"ejected_until,omitempty"`
	Ejections    int        `json:"ejections,omitempty"`
	Held         bool       `json:"held,omitempty"`
	Warming      bool       `json:"warming,omitempty"`
	Check        any        `json:"check,omitempty"`
}

// status describes what runs at this moment.
func (e *engine) status() any {
	v := e.view.Load()
	s := status{Version: version(), Draining: e.draining.Load(), Loaded: v.loaded, Upstreams: []upstreamStatus{}}
	if err := e.ready(); err != nil {
		s.NotReady = err.Error()
	} else {
		s.Ready = true
	}
	if v.refused != nil {
		s.Refused = v.refused.Error()
	}
	if v.access != nil {
		s.AccessDropped = v.access.Dropped()
	}
	if v.session != nil {
		s.ZooKeeper = v.session.status()
	}
	for _, u := range v.upstreams {
		s.Upstreams = append(s.Upstreams, u.status(v))
	}
	return s
}

func (u *upstream) status(v *view) upstreamStatus {
	snapshot := u.group.Snapshot()
	s := upstreamStatus{
		Name: u.name, Available: snapshot.Available, Held: snapshot.Held, Panic: snapshot.Panic,
		Servers: []serverStatus{},
	}
	for _, cfg := range v.cfg.Upstreams {
		if cfg.Name == u.name {
			s.Policy = cfg.Balancer.Policy.Type
		}
	}
	if d, ok := u.discovery(); ok {
		s.Source = &sourceStatus{d.Kind, d.Path, d.Connected, d.Stale, d.Fault, d.LastSync, d.Rejected}
	}
	checks := map[string]healthcheck.CheckStatus{}
	if m := u.monitor.Load(); m != nil {
		for _, c := range m.Status() {
			checks[c.Server] = c
		}
	}
	for _, m := range snapshot.Members {
		server := describe(m)
		if c, ok := checks[server.Server]; ok {
			server.Check = c
		}
		s.Servers = append(s.Servers, server)
	}
	return s
}

func describe(m *backend.Member) serverStatus {
	s := serverStatus{
		Server: m.ID.String(), Origin: m.Origin, Health: m.Health().String(), Weight: m.Weight,
		Priority: m.Priority, Zone: m.Zone, Role: m.Role, Tags: m.Tags, InFlight: m.InFlight(),
		Latency: m.Latency().Last().String(), Ejections: m.Ejections(), Held: m.Held(), Warming: !m.WarmSince().IsZero(),
	}
	if m.Ejected() {
		until := m.EjectedUntil()
		s.EjectedUntil = &until
	}
	return s
}

// discovery gives the source's status, if it has one.
func (u *upstream) discovery() (discovery.Status, bool) {
	source := u.source.Load()
	if source == nil {
		return discovery.Status{}, false
	}
	teller, ok := (*source).(interface{ Status() discovery.Status })
	if !ok {
		return discovery.Status{}, false
	}
	status := teller.Status()
	status.Rejected = append(status.Rejected, u.addresses.rejects.List()...)
	return status, true
}

func (z *zkSession) status() *zkStatus {
	state := z.session.State()
	return &zkStatus{
		Connected: state.Connected, Since: state.Since, Session: fmt.Sprintf("%#x", state.SessionID),
		Reconnects: state.Reconnects, Expiries: state.Expiries, LastError: state.LastError,
	}
}

// report tells Prometheus what is true at this moment.
func (e *engine) report(s *metrics.Scrape) {
	v := e.view.Load()
	if v == nil || v.cfg == nil {
		return
	}
	s.Gauge(metrics.ConfigLastReloadSuccessful, metrics.Bool(v.refused == nil))
	s.Gauge(metrics.ConfigLastReloadTime, float64(v.loaded.Unix()))
	if v.session != nil {
		state := v.session.session.State()
		s.Gauge(metrics.ZooKeeperConnected, metrics.Bool(state.Connected))
		s.Counter(metrics.ZooKeeperReconnects, float64(state.Reconnects))
		s.Counter(metrics.ZooKeeperExpiries, float64(state.Expiries))
		s.Counter(metrics.ZooKeeperCorrections, float64(state.Corrections))
	}
	for _, u := range v.upstreams {
		u.report(s)
	}
}

func (u *upstream) report(s *metrics.Scrape) {
	snapshot, stats := u.group.Snapshot(), u.group.Stats()
	s.Gauge(metrics.UpstreamServers, float64(len(snapshot.Members)), u.name)
	s.Gauge(metrics.UpstreamAvailable, float64(snapshot.Available), u.name)
	s.Gauge(metrics.UpstreamHeld, float64(snapshot.Held), u.name)
	s.Gauge(metrics.UpstreamPanic, metrics.Bool(snapshot.Panic), u.name)
	s.Counter(metrics.UpstreamUpdatesTotal, float64(stats.Updates), u.name)
	s.Counter(metrics.UpstreamBrakesTotal, float64(stats.Brakes), u.name)
	if d, ok := u.discovery(); ok {
		s.Gauge(metrics.DiscoveryConnected, metrics.Bool(d.Connected), u.name)
		s.Gauge(metrics.DiscoveryStale, metrics.Bool(d.Stale), u.name)
		s.Gauge(metrics.DiscoveryLastSync, float64(d.LastSync.Unix()), u.name)
		s.Gauge(metrics.DiscoveryRejected, float64(len(d.Rejected)), u.name)
	}
	u.reportHealth(s)
	for _, m := range snapshot.Members {
		u.reportServer(s, m)
	}
}

func (u *upstream) reportHealth(s *metrics.Scrape) {
	if m := u.monitor.Load(); m != nil {
		stats := m.Stats()
		s.Counter(metrics.ProbesTotal, float64(stats.Passed), u.name, "pass")
		s.Counter(metrics.ProbesTotal, float64(stats.Failed), u.name, "fail")
		s.Counter(metrics.HealthFlipTotal, float64(stats.Flips), u.name)
		s.Counter(metrics.ProbePanicsTotal, float64(stats.Panicked), u.name)
		s.Gauge(metrics.ProbeLateness, stats.Late.Seconds(), u.name)
	}
	if o := u.outlier.Load(); o != nil {
		stats := o.Stats()
		for reason, n := range stats.Ejections {
			s.Counter(metrics.EjectionsTotal, float64(n), u.name, reason)
		}
		s.Counter(metrics.EjectionsSuppressedTotal, float64(stats.Suppressed), u.name)
		s.Counter(metrics.ReadmissionsTotal, float64(stats.Readmissions), u.name)
	}
}

// upValue is the value of drover_server_up.
var upValue = map[backend.Health]float64{backend.HealthUnknown: -1, backend.HealthUp: 1, backend.HealthDown: 0}

func (u *upstream) reportServer(s *metrics.Scrape, m *backend.Member) {
	name := m.ID.String()
	s.Gauge(metrics.ServerUp, upValue[m.Health()], u.name, name)
	s.Gauge(metrics.ServerEjected, metrics.Bool(m.Ejected()), u.name, name)
	s.Gauge(metrics.ServerWeight, float64(m.Weight), u.name, name)
	s.Gauge(metrics.ServerInFlight, float64(m.InFlight()), u.name, name)
	p, ok := m.Conns.(*transport.Pool)
	if !ok {
		return
	}
	stats := p.Stats()
	s.Gauge(metrics.ServerConns, float64(stats.Idle), u.name, name, "idle")
	s.Gauge(metrics.ServerConns, float64(stats.Open-stats.Idle), u.name, name, "active")
	s.Counter(metrics.ServerDials, float64(stats.Dials-stats.DialFailures), u.name, name, "success")
	s.Counter(metrics.ServerDials, float64(stats.DialFailures), u.name, name, "failure")
	s.Counter(metrics.ServerStale, float64(stats.Stale), u.name, name)
}
