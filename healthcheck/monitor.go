package healthcheck

import (
	"cmp"
	"container/heap"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"drover/backend"

	"go.uber.org/zap"
)

// Monitor runs the checks of one upstream and turns their results into verdicts. One
// goroutine keeps the schedule, at most Parallel others probe; a server costs a small
// struct. Verdicts are stored in each member's Live, where they outlive the Monitor.
type Monitor struct {
	// immutable
	cfg     *CheckConfig
	checker checker
	logger  *zap.Logger
	onFlip  func()

	// one goroutine: Run
	schedule schedule
	running  map[*backend.Live]bool

	synced chan []*backend.Member // the newest members, if Run has not seen them
	stats  struct{ passed, failed, flips atomic.Uint64 }

	// under mu
	mu      sync.Mutex
	tracked map[*backend.Live]*tracked
}

// tracked is what is known of one server.
type tracked struct {
	member *backend.Member
	due    time.Time
	index  int // in the schedule, -1 while its probe runs

	passes, fails int // in a row
	lastError     string
	lastAt        time.Time
	took          time.Duration
}

// CheckStatus is what the checks know of a server.
type CheckStatus struct {
	Server    string    `json:"server"`
	Passes    int       `json:"passes_in_a_row"`
	Fails     int       `json:"fails_in_a_row"`
	LastError string    `json:"last_error,omitempty"`
	LastAt    time.Time `json:"last_at"`
	Took      string    `json:"took"`
}

// MonitorStats count from the Monitor's start.
type MonitorStats struct{ Passed, Failed, Flips uint64 }

// NewMonitor makes a Monitor. OnFlip is called after each change of a verdict, from
// Run's goroutine.
func NewMonitor(upstream string, cfg *CheckConfig, onFlip func(), logger *zap.Logger) (*Monitor, error) {
	build, ok := checkers[cfg.Type]
	if !ok {
		return nil, fmt.Errorf("cannot check upstream %q: got type %q; want one of %v", upstream, cfg.Type, checkerNames())
	}
	c, err := build(cfg)
	if err != nil {
		return nil, fmt.Errorf("cannot check upstream %q: %w", upstream, err)
	}
	return &Monitor{
		cfg: cfg, checker: c, logger: logger, onFlip: onFlip,
		running: map[*backend.Live]bool{},
		synced:  make(chan []*backend.Member, 1),
		tracked: map[*backend.Live]*tracked{},
	}, nil
}

// Sync tells the members. It does not block; of several calls the last one counts.
func (m *Monitor) Sync(members []*backend.Member) {
	for {
		select {
		case m.synced <- members:
			return
		default:
		}
		select {
		case <-m.synced:
		default:
		}
	}
}

// Stats gives the counters.
func (m *Monitor) Stats() MonitorStats {
	return MonitorStats{m.stats.passed.Load(), m.stats.failed.Load(), m.stats.flips.Load()}
}

// Status lists what is known, by server.
func (m *Monitor) Status() []CheckStatus {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := make([]CheckStatus, 0, len(m.tracked))
	for _, t := range m.tracked {
		list = append(list, CheckStatus{
			Server: t.member.ID.String(), Passes: t.passes, Fails: t.fails,
			LastError: t.lastError, LastAt: t.lastAt, Took: t.took.String(),
		})
	}
	slices.SortFunc(list, func(a, b CheckStatus) int { return cmp.Compare(a.Server, b.Server) })
	return list
}

// result is what a probe found.
type result struct {
	t    *tracked
	err  error
	took time.Duration
}

// Run probes until ctx ends.
func (m *Monitor) Run(ctx context.Context) error {
	var probes sync.WaitGroup
	defer probes.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make(chan result, m.cfg.Parallel)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		m.start(ctx, &probes, results)
		if wait, ok := m.next(); ok {
			timer.Reset(wait)
		} else {
			timer.Stop()
		}
		select {
		case <-ctx.Done():
			return nil
		case members := <-m.synced:
			m.follow(members)
		case r := <-results:
			m.settle(r)
		case <-timer.C:
		}
	}
}

// next is the wait for the next probe, if one may start then.
func (m *Monitor) next() (time.Duration, bool) {
	if len(m.schedule) == 0 || len(m.running) >= m.cfg.Parallel {
		return 0, false
	}
	return max(time.Until(m.schedule[0].due), 0), true
}

// start starts the probes that are due.
func (m *Monitor) start(ctx context.Context, probes *sync.WaitGroup, results chan<- result) {
	now := time.Now()
	for len(m.schedule) > 0 && len(m.running) < m.cfg.Parallel && !m.schedule[0].due.After(now) {
		t := heap.Pop(&m.schedule).(*tracked) //nolint:forcetypeassert,errcheck // the schedule holds nothing else.
		m.running[t.member.Live] = true
		id := t.member.ID
		probes.Go(func() {
			begin := time.Now()
			err := m.probe(ctx, id)
			results <- result{t, err, time.Since(begin)} // room for every running probe
		})
	}
}

// probe runs one probe; one that panics has failed.
func (m *Monitor) probe(ctx context.Context, id backend.ID) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("the probe panicked: %v", cause)
			m.logger.Error("a health probe panicked", zap.Any("cause", cause), zap.Stack("stack"))
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, m.cfg.Timeout)
	defer cancel()
	return m.checker.check(ctx, id)
}

// follow takes over a new member set.
func (m *Monitor) follow(members []*backend.Member) {
	m.mu.Lock()
	defer m.mu.Unlock()
	present := make(map[*backend.Live]bool, len(members))
	spread := min(m.cfg.EdgeInterval, m.cfg.Interval)
	for _, member := range members {
		present[member.Live] = true
		if t := m.tracked[member.Live]; t != nil {
			t.member = member
			continue
		}
		t := &tracked{member: member, index: -1, due: time.Now().Add(rand.N(spread/4 + 1))}
		m.tracked[member.Live] = t
		if !m.running[member.Live] {
			heap.Push(&m.schedule, t)
		}
	}
	for live, t := range m.tracked {
		if !present[live] {
			delete(m.tracked, live)
			if t.index >= 0 {
				heap.Remove(&m.schedule, t.index)
			}
		}
	}
}

// settle takes a probe's result and plans the next probe.
func (m *Monitor) settle(r result) {
	live := r.t.member.Live
	delete(m.running, live)
	if r.err == nil {
		m.stats.passed.Add(1)
	} else {
		m.stats.failed.Add(1)
	}
	m.mu.Lock()
	t := m.tracked[live]
	if t == nil { // it left while it was probed
		m.mu.Unlock()
		return
	}
	verdict, flipped := t.learn(r, m.cfg)
	t.due = time.Now().Add(m.wait(t))
	heap.Push(&m.schedule, t)
	m.mu.Unlock()
	if flipped {
		m.flip(t, verdict)
	}
}

// learn counts a result and gives the verdict. The first probe that passes decides at
// once for a server without a verdict; failures must always reach the threshold.
func (t *tracked) learn(r result, cfg *CheckConfig) (verdict backend.Health, flipped bool) {
	t.lastAt, t.took = time.Now(), r.took
	verdict = t.member.Health()
	if r.err == nil {
		t.passes, t.fails, t.lastError = t.passes+1, 0, ""
		if verdict == backend.HealthUnknown || t.passes >= cfg.HealthyAfter {
			verdict = backend.HealthUp
		}
	} else {
		t.passes, t.fails, t.lastError = 0, t.fails+1, r.err.Error()
		if t.fails >= cfg.UnhealthyAfter {
			verdict = backend.HealthDown
		}
	}
	return verdict, t.member.SetHealth(verdict)
}

// flip tells of a changed verdict.
func (m *Monitor) flip(t *tracked, verdict backend.Health) {
	m.stats.flips.Add(1)
	if verdict == backend.HealthDown {
		m.logger.Warn("server is down", zap.Stringer("server", t.member.ID),
			zap.Int("failed_checks", t.fails), zap.String("error", t.lastError))
	} else {
		m.logger.Info("server is up", zap.Stringer("server", t.member.ID), zap.Int("passed_checks", t.passes))
	}
	m.onFlip()
}

// wait is the time to the next probe: short while the verdict may be about to change.
func (m *Monitor) wait(t *tracked) time.Duration {
	health := t.member.Health()
	settled := health == backend.HealthUp && t.fails == 0 || health == backend.HealthDown && t.passes == 0
	interval := m.cfg.Interval
	if !settled {
		interval = min(interval, m.cfg.EdgeInterval)
	}
	jitter := interval * time.Duration(m.cfg.JitterPercent) / 100
	return interval - jitter + rand.N(2*jitter+1)
}

// schedule is a heap of servers by their next probe.
type schedule []*tracked

func (s schedule) Len() int           { return len(s) }
func (s schedule) Less(i, j int) bool { return s[i].due.Before(s[j].due) }
func (s schedule) Swap(i, j int) {
	s[i], s[j] = s[j], s[i]
	s[i].index, s[j].index = i, j
}

// Push implements heap.Interface.
func (s *schedule) Push(x any) {
	t := x.(*tracked) //nolint:forcetypeassert,errcheck // nothing else is pushed.
	t.index = len(*s)
	*s = append(*s, t)
}

// Pop implements heap.Interface.
func (s *schedule) Pop() any {
	old := *s
	t := old[len(old)-1]
	old[len(old)-1] = nil
	*s = old[:len(old)-1]
	t.index = -1
	return t
}
