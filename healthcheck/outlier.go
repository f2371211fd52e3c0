package healthcheck

import (
	"context"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"drover/backend"

	"go.uber.org/zap"
)

// Outlier ejects servers that fail on real requests. Report is called for each attempt
// and takes no lock while the server does well; ejecting and re-admitting are done
// under one.
//
// A server that was re-admitted is on probation: until its first success a single
// failure ejects it again, for longer.
type Outlier struct {
	// immutable
	cfg      *OutlierConfig
	statuses *statusSet
	logger   *zap.Logger
	onChange func()

	// atomic
	records atomic.Pointer[map[*backend.Live]*record]

	wake chan struct{} // an ejection was made: its end must be planned

	// under mu
	mu        sync.Mutex
	members   []*backend.Member
	ejections map[string]uint64
}

// record counts for one server.
type record struct {
	failures  atomic.Int32 // in a row
	connects  atomic.Int32 // failed connects in a row
	probation atomic.Bool
	good, bad atomic.Uint32 // in this success-rate window
}

// OutlierStats count ejections by reason, from the Outlier's start.
type OutlierStats struct{ Ejections map[string]uint64 }

// NewOutlier makes an Outlier. OnChange is called after each ejection and re-admission.
func NewOutlier(upstream string, cfg *OutlierConfig, onChange func(), logger *zap.Logger) (*Outlier, error) {
	statuses, err := parseStatuses(cfg.Statuses)
	if err != nil {
		return nil, fmt.Errorf("cannot watch upstream %q for outliers: %w", upstream, err)
	}
	o := &Outlier{
		cfg: cfg, statuses: statuses, logger: logger, onChange: onChange,
		wake: make(chan struct{}, 1), ejections: map[string]uint64{},
	}
	o.records.Store(&map[*backend.Live]*record{})
	return o, nil
}

// Sync tells the members.
func (o *Outlier) Sync(members []*backend.Member) {
	o.mu.Lock()
	defer o.mu.Unlock()
	old := *o.records.Load()
	next := make(map[*backend.Live]*record, len(members))
	for _, m := range members {
		r := old[m.Live]
		if r == nil {
			r = &record{}
		}
		next[m.Live] = r
	}
	o.members = members
	o.records.Store(&next)
	o.notify()
}

// Stats gives the counters.
func (o *Outlier) Stats() OutlierStats {
	o.mu.Lock()
	defer o.mu.Unlock()
	counts := make(map[string]uint64, len(o.ejections))
	for reason, n := range o.ejections {
		counts[reason] = n
	}
	return OutlierStats{counts}
}

// Reasons of ejections, as they stand in log and metrics.
const (
	reasonConsecutive = "consecutive_failures"
	reasonConnect     = "connect_failures"
	reasonRate        = "success_rate"
)

// Report learns from an attempt. What the client broke off, and a pooled connection
// that had died, say nothing about the server.
func (o *Outlier) Report(m *backend.Member, out backend.Outcome) {
	if out.Failure == backend.FailureClient || out.Failure == backend.FailureStale {
		return
	}
	r := (*o.records.Load())[m.Live]
	if r == nil {
		return // it has left
	}
	if !o.failed(out) {
		o.succeeded(m, r)
		return
	}
	r.bad.Add(1)
	if out.Failure == backend.FailureConnect {
		if n := r.connects.Add(1); o.cfg.ConnectFailures > 0 && int(n) >= o.cfg.ConnectFailures {
			o.eject(m, r, reasonConnect)
		}
	}
	n := r.failures.Add(1)
	if o.cfg.ConsecutiveFailures > 0 && (int(n) >= o.cfg.ConsecutiveFailures || r.probation.Load()) {
		o.eject(m, r, reasonConsecutive)
	}
}

func (o *Outlier) failed(out backend.Outcome) bool {
	return out.Failure != backend.FailureNone || o.statuses.has(out.Status) ||
		o.cfg.SlowAfter > 0 && out.Total > o.cfg.SlowAfter
}

// succeeded writes only where something changes: a server that does well is reported
// thousands of times a second.
func (o *Outlier) succeeded(m *backend.Member, r *record) {
	if o.cfg.SuccessRate.Enabled {
		r.good.Add(1)
	}
	if r.failures.Load() != 0 {
		r.failures.Store(0)
	}
	if r.connects.Load() != 0 {
		r.connects.Store(0)
	}
	if r.probation.Load() && !m.Ejected() {
		r.probation.Store(false)
	}
}

// eject takes a server out, if the share that may be out allows it.
func (o *Outlier) eject(m *backend.Member, r *record, reason string) {
	o.mu.Lock()
	if m.Ejected() || !o.mayEject() {
		o.mu.Unlock()
		return
	}
	length := min(o.cfg.EjectFor*time.Duration(m.Ejections()+1), o.cfg.MaxEjectFor)
	m.Eject(time.Now().Add(length))
	r.failures.Store(0)
	r.connects.Store(0)
	r.probation.Store(true)
	o.ejections[reason]++
	o.mu.Unlock()
	o.logger.Warn("server is ejected", zap.Stringer("server", m.ID), zap.String("reason", reason), zap.Duration("for", length))
	o.notify()
	o.onChange()
}

// mayEject keeps enough servers in: the last available one always, and no more out
// than the configured share, of which one is always allowed.
func (o *Outlier) mayEject() bool {
	ejected, available := 0, 0
	for _, m := range o.members {
		if m.Ejected() {
			ejected++
		}
		if m.Available() && m.Weight > 0 {
			available++
		}
	}
	if available <= 1 {
		return o.cfg.MaxEjectedPercent == 100
	}
	return ejected == 0 || (ejected+1)*100 <= o.cfg.MaxEjectedPercent*len(o.members)
}

func (o *Outlier) notify() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// Run re-admits servers and compares success rates until ctx ends.
func (o *Outlier) Run(ctx context.Context) error {
	compare := time.NewTicker(o.cfg.SuccessRate.Window)
	defer compare.Stop()
	end := time.NewTimer(0)
	defer end.Stop()
	forgive := time.NewTicker(o.cfg.MaxEjectFor)
	defer forgive.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-o.wake:
		case <-end.C:
		case <-forgive.C:
			o.forgive()
		case <-compare.C:
			o.compare()
		}
		if wait, ok := o.readmit(); ok {
			end.Reset(wait)
		}
	}
}

// readmit ends the ejections whose time is over, and gives the wait for the next one.
func (o *Outlier) readmit() (wait time.Duration, ok bool) {
	now := time.Now()
	changed := false
	o.mu.Lock()
	for _, m := range o.members {
		until := m.EjectedUntil()
		switch {
		case until.IsZero():
		case !until.After(now):
			m.Readmit()
			changed = true
			o.logger.Info("server is re-admitted on probation", zap.Stringer("server", m.ID))
		case !ok || until.Sub(now) < wait:
			wait, ok = until.Sub(now), true
		}
	}
	o.mu.Unlock()
	if changed {
		o.onChange()
	}
	return wait, ok
}

// forgive lets servers that behave earn back short ejections.
func (o *Outlier) forgive() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, m := range o.members {
		if !m.Ejected() {
			m.ForgiveEjection()
		}
	}
}

// compare ejects servers whose success rate is far below the others' (Envoy, outlier
// detection, success rate).
func (o *Outlier) compare() {
	cfg := o.cfg.SuccessRate
	if !cfg.Enabled {
		return
	}
	type rated struct {
		member *backend.Member
		record *record
		rate   float64
	}
	var list []rated
	sum := 0.0
	records := *o.records.Load()
	o.mu.Lock()
	members := o.members
	o.mu.Unlock()
	for _, m := range members {
		r := records[m.Live]
		if r == nil {
			continue
		}
		good, bad := r.good.Swap(0), r.bad.Swap(0)
		if total := int(good + bad); total >= cfg.MinRequests {
			rate := float64(good) / float64(total)
			list, sum = append(list, rated{m, r, rate}), sum+rate
		}
	}
	if len(list) < cfg.MinServers {
		return
	}
	mean, variance := sum/float64(len(list)), 0.0
	for _, x := range list {
		variance += (x.rate - mean) * (x.rate - mean)
	}
	least := mean - cfg.StdevFactor*math.Sqrt(variance/float64(len(list)))
	for _, x := range list {
		if x.rate < least {
			o.eject(x.member, x.record, reasonRate)
		}
	}
}
