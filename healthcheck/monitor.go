package healthcheck

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"drover/backend"

	"go.uber.org/zap"
)

// Monitor runs the checks of one upstream and turns their results into verdicts. One
// goroutine keeps the schedule, at most Parallel others probe. Verdicts are stored in
// each member's Live, where they outlive the Monitor: the next one begins with them.
type Monitor struct {
	// immutable
	cfg     *CheckConfig
	checker checker
	onFlip  func()
	logger  *zap.Logger
	wake    chan struct{} // 1 slot: newest has changed

	// atomic
	newest                          atomic.Pointer[[]*backend.Member]
	passed, failed, panicked, flips atomic.Uint64
	late                            atomic.Int64 // nanoseconds, of the last probe that began

	// one goroutine: Run's
	schedule schedule
	running  int
	lagging  bool // too few probes at a time, and the log knows

	// under mu, written by Run's goroutine alone
	mu      sync.Mutex
	targets map[*backend.Live]*target
}

// NewMonitor makes a Monitor for a valid configuration, and reads the TLS files that it
// names. OnFlip is called from Run's goroutine, once after each change of a verdict.
func NewMonitor(upstream string, cfg *CheckConfig, onFlip func(), logger *zap.Logger) (*Monitor, error) {
	c, err := newChecker(cfg)
	if err != nil {
		return nil, fmt.Errorf("cannot check upstream %q: %w", upstream, err)
	}
	return &Monitor{
		cfg: cfg, checker: c, onFlip: onFlip, logger: logger,
		wake:    make(chan struct{}, 1),
		targets: map[*backend.Live]*target{},
	}, nil
}

// Sync tells the members. It does not block; of several calls the last one counts. The
// slice must not change afterwards.
func (m *Monitor) Sync(members []*backend.Member) {
	m.newest.Store(&members)
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// probed is what one probe came to.
type probed struct {
	target *target
	err    error
	took   time.Duration
}

// Run probes until ctx ends, and waits for the probes that run then. Their results
// count no more.
func (m *Monitor) Run(ctx context.Context) error {
	var probes sync.WaitGroup
	defer probes.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make(chan probed, m.cfg.Parallel) // room for every probe that runs: none waits here
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		m.start(ctx, &probes, results)
		if t := m.schedule.next(); t != nil && m.running < m.cfg.Parallel {
			timer.Reset(time.Until(t.due))
		} else {
			timer.Stop()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-m.wake:
			m.follow(*m.newest.Load())
		case p := <-results:
			m.settle(p)
		case <-timer.C:
		}
	}
}

// start starts the probes that are due, as many as may run.
func (m *Monitor) start(ctx context.Context, probes *sync.WaitGroup, results chan<- probed) {
	now := time.Now()
	for t := m.schedule.next(); t != nil && m.running < m.cfg.Parallel && !t.due.After(now); t = m.schedule.next() {
		m.schedule.remove(t)
		m.noteLate(now.Sub(t.due))
		t.begun = now
		m.running++
		id := t.member.ID
		probes.Go(func() {
			err := m.probe(ctx, id)
			results <- probed{t, err, time.Since(now)}
		})
	}
}

// noteLate tells once when the checks fall behind by a whole interval, and once when
// they have caught up.
func (m *Monitor) noteLate(late time.Duration) {
	m.late.Store(int64(late))
	switch {
	case late > m.cfg.Interval && !m.lagging:
		m.lagging = true
		m.logger.Warn("health checks fall behind; raise check.parallel or check.interval",
			zap.Duration("late", late), zap.Int("parallel", m.cfg.Parallel), zap.Int("servers", len(m.targets)))
	case late < m.cfg.Interval/2 && m.lagging:
		m.lagging = false
		m.logger.Info("health checks have caught up")
	}
}

// probe runs one probe. One that panics has failed, and says so where it is read.
func (m *Monitor) probe(ctx context.Context, id backend.ID) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			m.panicked.Add(1)
			m.logger.Error("BUG: a health check panicked", zap.Stringer("server", id), zap.Any("cause", cause), zap.Stack("stack"))
			err = fmt.Errorf("the check panicked: %v", cause)
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, m.cfg.Timeout)
	defer cancel()
	return m.checker.check(ctx, id)
}

// follow takes over a new member set. Servers that stay keep their place in the
// schedule; one that left and came back begins anew, with the verdict in its Live.
func (m *Monitor) follow(members []*backend.Member) {
	m.mu.Lock()
	defer m.mu.Unlock()
	targets := make(map[*backend.Live]*target, len(members))
	for _, member := range members {
		t := m.targets[member.Live]
		if t == nil {
			t = &target{index: -1, due: time.Now().Add(m.firstWait(member.Health()))}
			m.schedule.add(t)
		}
		t.member = member
		targets[member.Live] = t
	}
	for live, t := range m.targets {
		if targets[live] != t {
			m.schedule.remove(t)
		}
	}
	m.targets = targets
}

// firstWait is the time to a server's first probe. A new server's is at once, spread by
// the jitter. A verdict that was carried over is no older than an interval, so that
// its server waits its turn: a reload must not probe all servers together.
func (m *Monitor) firstWait(verdict backend.Health) time.Duration {
	if verdict != backend.HealthUnknown {
		return rand.N(m.cfg.Interval)
	}
	return rand.N(m.edgeInterval()*time.Duration(m.cfg.JitterPercent)/100 + 1)
}

// settle takes a probe's result, judges the server and plans its next probe.
func (m *Monitor) settle(p probed) {
	m.running--
	if p.err == nil {
		m.passed.Add(1)
	} else {
		m.failed.Add(1)
	}
	t := p.target
	live := t.member.Live
	if m.targets[live] != t { // it left, or left and came back, while it was probed
		return
	}
	before := live.Health()
	m.mu.Lock()
	after := t.streak.learn(p.err == nil, before, m.cfg)
	t.lastAt, t.took, t.lastError = time.Now(), p.took, ""
	if p.err != nil {
		t.lastError = p.err.Error()
	}
	m.mu.Unlock()
	// Probes of one server never overlap: a slow one puts off the next.
	t.due = t.begun.Add(m.wait(t.streak.onEdge(after)))
	m.schedule.add(t)
	if live.SetHealth(after) {
		m.tellFlip(t, before, after)
	}
}

// wait is the time between two probes of a server.
func (m *Monitor) wait(onEdge bool) time.Duration {
	interval := m.cfg.Interval
	if onEdge {
		interval = m.edgeInterval()
	}
	jitter := interval * time.Duration(m.cfg.JitterPercent) / 100
	return interval - jitter + rand.N(2*jitter+1)
}

func (m *Monitor) edgeInterval() time.Duration { return min(m.cfg.EdgeInterval, m.cfg.Interval) }

// tellFlip tells of a verdict that has changed. The first verdict of a new server that
// passes is no news: 10,000 of them at a start would bury the log.
func (m *Monitor) tellFlip(t *target, before, after backend.Health) {
	m.flips.Add(1)
	fields := []zap.Field{zap.Stringer("server", t.member.ID), zap.Stringer("from", before), zap.Stringer("to", after)}
	switch {
	case after == backend.HealthDown:
		m.logger.Warn("server is down", append(fields, zap.Int("failed_checks", t.streak.fails), zap.String("error", t.lastError))...)
	case before == backend.HealthUnknown:
		m.logger.Debug("server is up", append(fields, zap.Int("passed_checks", t.streak.passes))...)
	default:
		m.logger.Info("server is up", append(fields, zap.Int("passed_checks", t.streak.passes))...)
	}
	m.onFlip()
}
