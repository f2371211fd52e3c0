package main

import (
	"context"
	"io"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"drover/backend"
	"drover/balancer"
	"drover/config"
	"drover/discovery"
	"drover/healthcheck"
	"drover/metrics"
	"drover/proxy"
	"drover/transport"

	"go.uber.org/zap"
)

// upstream is one running upstream. It lives as long as its name is in the
// configuration; a reload changes the parts whose settings changed and leaves the
// others, and all live state, alone.
type upstream struct {
	// immutable
	name    string
	logger  *zap.Logger
	group   *balancer.Group
	servers *proxy.ServerHandles
	first   chan struct{} // closed at the first full set

	addresses *addressFilter

	// atomic: members come from discovery's goroutine while a reload swaps parts
	monitor   atomic.Pointer[healthcheck.Monitor]
	outlier   atomic.Pointer[healthcheck.Outlier]
	transport atomic.Pointer[transport.Config]
	source    atomic.Pointer[discovery.Source]

	// one goroutine: the engine's
	cfg     config.Upstream
	session *zkSession
	proxied *proxy.Upstream
	tasks   upstreamTasks
	seen    sync.Once
}

type upstreamTasks struct{ group, source, monitor, outlier *task }

// upstreamPlan is what a new configuration makes of one upstream: all that can fail
// has been done, nothing that runs has been touched.
type upstreamPlan struct {
	cfg     config.Upstream
	running *upstream // the upstream to change, made new if it was not there
	fresh   bool
	session *zkSession

	source  discovery.Source     // nil: unchanged
	monitor *healthcheck.Monitor // with newMonitor
	outlier *healthcheck.Outlier // with newOutlier
	proxied *proxy.Upstream

	newMonitor, newOutlier, newTransport bool
}

func newUpstream(cfg config.Upstream, logger *zap.Logger, m *metrics.Metrics) (*upstream, error) {
	u := &upstream{
		name:    cfg.Name,
		logger:  logger.With(zap.String("upstream", cfg.Name)),
		servers: proxy.NewServerHandles(cfg.Name, m),
		first:   make(chan struct{}),
	}
	u.addresses = newAddressFilter(u.logger)
	u.addresses.rules = cfg.Transport.Addresses
	u.transport.Store(&cfg.Transport)
	group, err := balancer.NewGroup(cfg.Name, cfg.Balancer, balancer.Options{
		NewConns:  u.newPool,
		OnMembers: u.onMembers,
		Logger:    u.logger,
	})
	if err != nil {
		return nil, err
	}
	u.group = group
	return u, nil
}

// newPool makes a server's connection pool.
func (u *upstream) newPool(id backend.ID) io.Closer {
	p, err := transport.NewPool(id, u.transport.Load())
	if err != nil {
		// The settings were validated, files included, and may have gone since: a
		// pool that cannot dial reports so on each request, and checks tell too.
		u.logger.Error("cannot make a connection pool", zap.Stringer("server", id), zap.Error(err))
		return transport.BrokenPool(id, err)
	}
	return p
}

// onMembers tells everyone who follows the member set.
func (u *upstream) onMembers(members []*backend.Member) {
	u.servers.Sync(members)
	u.refit(members)
	if m := u.monitor.Load(); m != nil {
		m.Sync(members)
	}
	if o := u.outlier.Load(); o != nil {
		o.Sync(members)
	}
}

// plan prepares a change to cfg.
func (e *engine) plan(cfg config.Upstream, next *config.Config, session *zkSession) (*upstreamPlan, error) {
	rules, err := addressRules(cfg, next.Admin)
	if err != nil {
		return nil, err
	}
	cfg.Transport.Addresses = rules // for requests and, by way of checkOf, for probes
	p := &upstreamPlan{cfg: cfg, session: session}
	if p.running = e.upstreams[cfg.Name]; p.running == nil {
		made, err := newUpstream(cfg, e.logger, e.metrics)
		if err != nil {
			return nil, err
		}
		p.running, p.fresh = made, true
	}
	u := p.running
	old := u.cfg
	if p.fresh || !reflect.DeepEqual(old.Discover, cfg.Discover) || !reflect.DeepEqual(old.Servers, cfg.Servers) ||
		usesZooKeeper(cfg) && u.session != session {
		source, err := newSource(cfg, session, u.logger)
		if err != nil {
			return nil, err
		}
		p.source = source
	}
	wire := cfg.Transport.TLS
	wireFiles := filesChanged(next, e.cfg, wire.CAFile, wire.CertFile, wire.KeyFile)
	p.newTransport = !p.fresh && (wireFiles || !reflect.DeepEqual(old.Transport, cfg.Transport))
	check := checkOf(cfg)
	checkFiles := check != nil && filesChanged(next, e.cfg, check.CAFile, check.CertFile, check.KeyFile)
	if p.newMonitor = p.fresh || checkFiles || !reflect.DeepEqual(checkOf(old), check); p.newMonitor && check != nil {
		monitor, err := healthcheck.NewMonitor(cfg.Name, check, u.group.Refresh, u.logger)
		if err != nil {
			return nil, err
		}
		p.monitor = monitor
	}
	if p.newOutlier = p.fresh || !reflect.DeepEqual(old.Outlier, cfg.Outlier); p.newOutlier && !cfg.Outlier.Disabled {
		outlier, err := healthcheck.NewOutlier(cfg.Name, &cfg.Outlier, u.group.Refresh, u.logger)
		if err != nil {
			return nil, err
		}
		p.outlier = outlier
	}
	return p, e.planProxied(p)
}

// planProxied builds what the request path reads of the upstream.
func (e *engine) planProxied(p *upstreamPlan) error {
	o := proxy.UpstreamOptions{
		Name:         p.cfg.Name,
		Balancer:     p.running.group,
		Reporter:     p.running,
		Limits:       limits(p.cfg),
		Budget:       p.cfg.RetryBudget,
		LatencyDecay: p.cfg.Balancer.Policy.Decay,
		Members:      p.running.counts,
		Metrics:      e.metrics,
		Servers:      p.running.servers,
	}
	if spec := p.cfg.Balancer.Policy.Key; spec != "" {
		key, err := proxy.ParseKey(spec)
		if err != nil {
			return err
		}
		o.Key = key
	}
	if p.cfg.Sticky != nil {
		sticky, err := proxy.NewSticky(p.cfg.Sticky, p.cfg.Name)
		if err != nil {
			return err
		}
		o.Sticky = sticky
	}
	p.proxied = proxy.NewUpstream(o)
	if p.running.proxied != nil {
		p.proxied.Inherit(p.running.proxied)
	}
	return nil
}

// limits gives the request limits. An exchange over HTTP/1.1 has a connection of its
// own, and idle ones are used first, so a limit on connections is one on requests.
// Where all is HTTP/2, the pools keep to it.
func limits(cfg config.Upstream) proxy.LimitConfig {
	l := cfg.Limits
	shared := cfg.Transport.Protocol == transport.ProtocolH2 || cfg.Transport.Protocol == transport.ProtocolH2C
	if most := cfg.Transport.MaxConnections; most > 0 && !shared && (l.MaxRequestsPerServer == 0 || most < l.MaxRequestsPerServer) {
		l.MaxRequestsPerServer = most
	}
	return l
}

// Report implements proxy.Reporter with whatever outlier detection is in force.
func (u *upstream) Report(m *backend.Member, out backend.Outcome) {
	if o := u.outlier.Load(); o != nil {
		o.Report(m, out)
	}
}

func (u *upstream) counts() (known, available int) {
	s := u.group.Snapshot()
	return len(s.Members), s.Available
}

// commit carries a plan out. It cannot fail.
func (p *upstreamPlan) commit() {
	u := p.running
	old := u.cfg
	u.cfg, u.session, u.proxied = p.cfg, p.session, p.proxied
	if p.newTransport {
		u.setTransport(&p.cfg.Transport)
	}
	if !p.fresh && !reflect.DeepEqual(old.Transport.Addresses, p.cfg.Transport.Addresses) {
		u.setAddresses(p.cfg.Transport.Addresses)
	}
	if !p.fresh && !reflect.DeepEqual(old.Balancer, p.cfg.Balancer) {
		if err := u.group.Reconfigure(p.cfg.Balancer); err != nil {
			u.logger.DPanic("BUG: a validated balancer configuration was refused", zap.Error(err))
		}
	}
	if p.newMonitor {
		u.setMonitor(p.monitor)
	}
	if p.newOutlier {
		u.setOutlier(p.outlier)
	}
	if p.fresh {
		u.tasks.group = startTask("upstream "+u.name, u.logger, u.group.Run)
	}
	if p.source != nil {
		u.tasks.source.stop()
		u.source.Store(&p.source)
		decided := !p.fresh && (!reflect.DeepEqual(old.Discover, p.cfg.Discover) || !reflect.DeepEqual(old.Servers, p.cfg.Servers))
		u.tasks.source = startTask("source of "+u.name, u.logger, u.discover(p.source, p.cfg.Discover == nil, decided))
	}
}

func (u *upstream) setTransport(cfg *transport.Config) {
	u.transport.Store(cfg)
	u.refit(u.group.Snapshot().Members)
}

// refit gives the settings in force to pools that have others: that of a server which
// was away while they changed, for one.
func (u *upstream) refit(members []*backend.Member) {
	cfg := u.transport.Load()
	for _, m := range members {
		if pool, ok := m.Conns.(*transport.Pool); ok && !pool.Has(cfg) {
			if err := pool.SetConfig(cfg); err != nil {
				u.logger.Error("cannot apply transport settings", zap.Stringer("server", m.ID), zap.Error(err))
			}
		}
	}
}

// setMonitor replaces the active checks. Without checks no verdict may linger.
func (u *upstream) setMonitor(next *healthcheck.Monitor) {
	u.tasks.monitor.stop()
	u.tasks.monitor = nil
	u.monitor.Store(next)
	members := u.group.Snapshot().Members
	if next == nil {
		for _, m := range members {
			m.SetHealth(backend.HealthUnknown)
		}
		u.group.Refresh()
		return
	}
	next.Sync(members)
	u.tasks.monitor = startTask("checks of "+u.name, u.logger, next.Run)
}

// setOutlier replaces passive detection. Without it nobody stays ejected.
func (u *upstream) setOutlier(next *healthcheck.Outlier) {
	u.tasks.outlier.stop()
	u.tasks.outlier = nil
	u.outlier.Store(next)
	members := u.group.Snapshot().Members
	if next == nil {
		for _, m := range members {
			m.Readmit()
		}
		u.group.Refresh()
		return
	}
	next.Sync(members)
	u.tasks.outlier = startTask("outlier detection of "+u.name, u.logger, next.Run)
}

// stop ends all parts at once. Running requests finish on the connections they have.
func (u *upstream) stop() {
	u.stopTasks()
	u.group.Close()
}

func (u *upstream) stopTasks() {
	u.tasks.source.stop()
	u.tasks.monitor.stop()
	u.tasks.outlier.stop()
	u.tasks.group.stop()
}

// idleLook is how often a removed upstream is looked at. It is much longer than a
// request takes from loading the routing table to its place on the upstream.
const idleLook = 200 * time.Millisecond

// drain closes the connections of an upstream that the configuration no longer has,
// once the requests of the earlier one have ended: they may yet wait for a place, or
// try another server. It waits until ctx ends at most.
func (u *upstream) drain(ctx context.Context) {
	defer u.group.Close()
	look := time.NewTicker(idleLook)
	defer look.Stop()
	for idle := false; ; {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
		before := idle
		if idle = u.proxied.Idle(); idle && before {
			return
		}
	}
}
