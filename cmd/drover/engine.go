package main

import (
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"drover/config"
	"drover/discovery/zookeeper"
	"drover/metrics"
	"drover/proxy"
	"drover/proxy/access"

	"go.uber.org/zap"
)

// engine is everything that runs. One goroutine applies configurations to it, one
// after the other; the request path and the operator's interface read snapshots.
type engine struct {
	// immutable
	logger  *zap.Logger
	logFile *logOutput
	metrics *metrics.Metrics
	proxy   *proxy.Proxy

	// one goroutine: whoever calls apply and shutdown
	cfg       *config.Config
	session   *zkSession
	upstreams map[string]*upstream
	listeners map[string]*listener
	admin     *adminServer
	access    *accessLog
	keySets   map[access.KeySetConfig]*keySet
	drains    sync.WaitGroup // listeners and upstreams that a reload replaced or removed
	drainCtx  context.Context
	cutDrains context.CancelFunc

	// atomic
	view     atomic.Pointer[view]
	ensemble atomic.Pointer[zookeeper.Session] // nil for none
	secrets  atomic.Pointer[secrets]
	draining atomic.Bool
	warm     atomic.Bool // every upstream of one configuration has known its servers
}

// view is what the operator's interface reads.
type view struct {
	cfg       *config.Config
	loaded    time.Time
	refused   error // why the newest configuration is not in force
	upstreams []*upstream
	session   *zkSession
	access    *proxy.AccessLog
}

type accessLog struct {
	log  *proxy.AccessLog
	task *task
}

// sourceWait is how long a start or a reload waits for new upstreams to tell their
// servers before requests may reach them. A registry that is away must not keep the
// rest from serving.
const sourceWait = 3 * time.Second

func newEngine(logger *zap.Logger, logFile *logOutput, m *metrics.Metrics) *engine {
	e := &engine{
		logger: logger, logFile: logFile, metrics: m,
		upstreams: map[string]*upstream{},
		listeners: map[string]*listener{},
	}
	e.drainCtx, e.cutDrains = context.WithCancel(context.Background())
	e.proxy = proxy.New(nil, logger)
	e.view.Store(&view{})
	e.secrets.Store(&secrets{})
	m.OnScrape(e.report)
	return e
}

// change is a planned configuration: everything that can fail has been done.
type change struct {
	cfg       *config.Config
	session   *zkSession
	upstreams []*upstreamPlan
	listeners []*listenerPlan
	admin     *adminServer
	access    *accessLog
	keySets   map[access.KeySetConfig]*keySet
	secrets   *secrets
	log       *logPlan
	table     *proxy.Table
}

// apply puts a configuration into force, or changes nothing and says why. What the
// configuration leaves alone is not touched.
func (e *engine) apply(ctx context.Context, cfg *config.Config) error {
	c, err := e.planAll(cfg)
	if err != nil {
		e.undo(c)
		return err
	}
	if e.admin == nil && c.admin != nil {
		c.admin.start(e.logger) // first of all: whoever asks why there is no answer yet gets one
		e.admin = c.admin
	}
	e.commitLog(c.log)
	if e.cfg != nil && e.cfg.Metrics.MaxSeries != cfg.Metrics.MaxSeries {
		e.logger.Warn("metrics.max_series stays as it is until the next start", zap.Int("configured", cfg.Metrics.MaxSeries))
	}
	e.commitUpstreams(ctx, c)
	e.proxy.SetTable(c.table) // the one swap: from here on, requests see the new configuration.
	quic := e.quicInUse()
	retired := e.commitListeners(c)
	e.retireQUIC(quic, cfg.DrainTimeout)
	e.retire(c, retired)
	e.cfg = cfg
	e.publish(nil)
	return nil
}

func (e *engine) planAll(cfg *config.Config) (*change, error) {
	c := &change{cfg: cfg}
	var err error
	if c.log, err = e.planLog(cfg.Log); err != nil {
		return c, err
	}
	if c.session, err = e.planSession(cfg); err != nil {
		return c, err
	}
	byName := map[string]*proxy.Upstream{}
	for _, u := range cfg.Upstreams {
		p, err := e.plan(u, cfg, c.session)
		if err != nil {
			return c, err
		}
		c.upstreams = append(c.upstreams, p)
		byName[u.Name] = p.proxied
	}
	if c.access, err = e.planAccessLog(cfg.AccessLog); err != nil {
		return c, err
	}
	if c.admin, err = e.planAdmin(cfg.Admin); err != nil {
		return c, err
	}
	if c.keySets, err = e.planKeySets(cfg); err != nil {
		return c, err
	}
	if c.secrets, err = e.planSecrets(cfg); err != nil {
		return c, err
	}
	if c.table, err = e.planTable(c, byName); err != nil {
		return c, err
	}
	for _, l := range cfg.Listeners {
		p, err := e.planListener(l, cfg)
		if p != nil {
			c.listeners = append(c.listeners, p)
		}
		if err != nil {
			return c, err
		}
	}
	return c, nil
}

func (e *engine) planTable(c *change, upstreams map[string]*proxy.Upstream) (*proxy.Table, error) {
	listeners := map[string]proxy.ListenerOptions{}
	for _, l := range c.cfg.Listeners {
		listeners[l.Name] = listenerOptions(&l)
	}
	o := proxy.TableOptions{
		Routes: c.cfg.Routes, Upstreams: upstreams, Listeners: listeners,
		AccessLog: c.cfg.AccessLog, Metrics: e.metrics, Challenge: e.challenged, KeySets: map[access.KeySetConfig]*access.KeySet{},
	}
	for cfg, s := range c.keySets {
		o.KeySets[cfg] = s.set
	}
	if c.access != nil {
		o.Log = c.access.log
	}
	return proxy.NewTable(o)
}

// planAccessLog opens the access log, or keeps the open one.
func (e *engine) planAccessLog(cfg proxy.AccessLogConfig) (*accessLog, error) {
	switch {
	case cfg.Format == "off":
		return nil, nil //nolint:nilnil // none is wanted.
	case e.access != nil && e.access.log.Output() == cfg.Output:
		return e.access, nil
	}
	log, err := proxy.OpenAccessLog(cfg.Output, func(err error) {
		e.logger.Error("access log", zap.Error(err))
	})
	if err != nil {
		return nil, err
	}
	return &accessLog{log: log}, nil
}

// undo gives back what a plan took.
func (e *engine) undo(c *change) {
	for _, p := range c.listeners {
		p.undo()
	}
	for _, p := range c.upstreams {
		if p.fresh {
			p.running.group.Close()
		}
	}
	if c.admin != nil && c.admin != e.admin {
		c.admin.close()
	}
	if c.access != nil && c.access != e.access {
		c.access.log.Close()
	}
	c.log.undo()
	e.forget(c.cfg, e.cfg)
}

// commitUpstreams starts new upstreams and changes those that run, and waits a
// bounded time until the new ones know their servers.
func (e *engine) commitUpstreams(ctx context.Context, c *change) {
	if c.session != nil && c.session != e.session {
		c.session.task = startTask("ZooKeeper session", e.logger, c.session.session.Run)
		e.ensemble.Store(c.session.session)
	}
	if c.access != nil && c.access != e.access {
		c.access.task = startTask("access log", e.logger, c.access.log.Run)
	}
	e.startKeySets(c.keySets)
	for _, p := range c.upstreams {
		p.commit()
		e.upstreams[p.cfg.Name] = p.running
	}
	waiting, cancel := context.WithTimeout(ctx, sourceWait)
	defer cancel()
	for _, p := range c.upstreams {
		if !p.fresh {
			continue
		}
		select {
		case <-p.running.first:
		case <-waiting.Done():
			p.running.logger.Warn("no servers known yet; requests get 503 until the source tells some")
		}
	}
	e.beginSecrets(ctx, waiting, c.secrets)
}

// commitListeners starts new listeners and gives those that must be drained.
func (e *engine) commitListeners(c *change) []*listener {
	var retired []*listener
	wanted := map[string]bool{}
	for _, p := range c.listeners {
		wanted[p.cfg.Name] = true
		if old := e.commitListener(p); old != nil {
			retired = append(retired, old)
		}
	}
	for name, l := range e.listeners {
		if !wanted[name] {
			_ = l.socket.ln.Close() // its front drains what it has accepted.
			retired = append(retired, l)
			delete(e.listeners, name)
		}
	}
	return retired
}

// retire stops what the new configuration no longer has. Requests that still run on
// it finish first: listeners drain beside the service. Their tunnels go on, until the
// service ends.
func (e *engine) retire(c *change, listeners []*listener) {
	for _, l := range listeners {
		e.drains.Go(func() {
			ctx, cancel := context.WithTimeout(e.drainCtx, c.cfg.DrainTimeout)
			defer cancel()
			e.drainListener(ctx, e.drainCtx, l)
		})
	}
	wanted := map[string]bool{}
	for _, p := range c.upstreams {
		wanted[p.cfg.Name] = true
	}
	for name, u := range e.upstreams {
		if !wanted[name] {
			u.stopTasks()
			delete(e.upstreams, name)
			e.drains.Go(func() {
				ctx, cancel := context.WithTimeout(e.drainCtx, c.cfg.DrainTimeout)
				defer cancel()
				u.drain(ctx)
			})
		}
	}
	if e.session != nil && e.session != c.session {
		e.session.task.stop()
	}
	if e.access != nil && e.access != c.access {
		e.access.task.stop()
	}
	if e.admin != c.admin {
		e.admin.stop()
		if c.admin != nil {
			c.admin.start(e.logger)
		}
	}
	e.retireKeySets(c.keySets)
	e.commitSecrets(c.secrets)
	e.session, e.access, e.admin = c.session, c.access, c.admin
	e.forget(e.cfg, c.cfg)
}

// publish shows the operator's interface what runs now.
func (e *engine) publish(refused error) {
	v := &view{cfg: e.cfg, loaded: time.Now(), refused: refused, session: e.session}
	if old := e.view.Load(); refused != nil {
		v.loaded = old.loaded
	}
	for _, name := range slices.Sorted(maps.Keys(e.upstreams)) {
		v.upstreams = append(v.upstreams, e.upstreams[name])
	}
	if e.access != nil {
		v.access = e.access.log
	}
	e.view.Store(v)
}

// reload applies a configuration and reports what came of it in log and metrics.
func (e *engine) reload(ctx context.Context, cfg *config.Config, err error) error {
	if err == nil {
		err = e.apply(ctx, cfg)
	}
	e.metrics.Reloaded(err == nil)
	if err != nil {
		e.publish(err)
		if e.cfg == nil {
			e.logger.Error("cannot start", zap.Error(err))
		} else {
			e.logger.Error("the new configuration is refused; the one in force stays", zap.Error(err))
		}
		return err
	}
	e.logger.Info("configuration in force", zap.Int("listeners", len(cfg.Listeners)),
		zap.Int("upstreams", len(cfg.Upstreams)), zap.Int("routes", len(cfg.Routes)))
	return nil
}

// shutdown drains everything until ctx ends, then closes what is left. Upstreams,
// checks and discovery go on until the last request is answered.
func (e *engine) shutdown(ctx context.Context) {
	e.draining.Store(true)
	defer context.AfterFunc(ctx, e.cutDrains)()
	var wg sync.WaitGroup
	for _, l := range e.listeners {
		_ = l.socket.ln.Close() // its front drains what it has accepted.
		if l.quic != nil {
			l.quic.StopAccepting()
		}
		wg.Go(func() {
			e.drainListener(ctx, ctx, l)
			if l.quic != nil {
				l.quic.finish(ctx)
			}
		})
	}
	wg.Wait()
	e.drains.Wait()
	for _, u := range e.upstreams {
		u.stop()
	}
	e.commitSecrets(&secrets{}) // an order that is broken off gives its lock back, which needs the session.
	if e.session != nil {
		e.session.task.stop()
	}
	e.admin.stop()
	e.retireKeySets(nil)
	if e.access != nil {
		e.access.task.stop()
	}
}

// reopenLogs opens all log files anew, after they were rotated.
func (e *engine) reopenLogs() {
	if err := e.logFile.reopen(); err != nil {
		e.logger.Error("the log stays where it is", zap.Error(err))
	}
	if e.access != nil {
		e.access.log.Reopen()
	}
}
