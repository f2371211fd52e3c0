package healthcheck

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"drover/backend"

	"go.uber.org/zap"
)

// Outlier ejects servers that fail on real requests. Report is called for every attempt
// and only counts: it takes no lock and does not allocate. Where a count reaches its
// limit, Report tells Run, which alone ejects and re-admits.
//
// A server that was re-admitted is on probation: until its first success a single
// failure ejects it again, for longer.
type Outlier struct {
	// immutable
	cfg      *OutlierConfig
	statuses *statusSet
	onChange func()
	logger   *zap.Logger
	synced   chan struct{}        // 1 slot: the view has changed
	tripped  chan *backend.Member // servers that reached a limit

	// atomic
	view         atomic.Pointer[outlierView]
	ejections    [reasonCount]atomic.Uint64
	suppressed   atomic.Uint64
	readmissions atomic.Uint64

	syncing sync.Mutex // orders calls of Sync

	// one goroutine: Run's
	full bool // an ejection was suppressed, and the log knows
}

// outlierView is the members and the counts of each; its map is not written once
// published.
type outlierView struct {
	members []*backend.Member
	records map[*backend.Live]*record
}

// record counts for one server.
type record struct {
	// atomic
	failures   atomic.Uint32 // in a row
	connects   atomic.Uint32 // failed connects in a row
	trip       atomic.Uint32 // the reason that waits in Outlier.tripped, reasonNone for none
	probation  atomic.Bool
	readmitted atomic.Int64  // Unix nanoseconds
	last       atomic.Uint32 // the last failure, packed
	window     atomic.Uint64 // requests of this success-rate window: good above all

	// one goroutine: Run's
	forgiveAt time.Time // when an ejection is forgiven next; zero for never
	wasDown   bool      // the active check found it down during the ejection
}

// The reasons of ejections.
const (
	reasonNone = iota
	reasonConsecutive
	reasonConnect
	reasonRate
	reasonProbation
	reasonCount
)

// reasonNames are what log and metrics say.
var reasonNames = [reasonCount]string{
	reasonConsecutive: "consecutive_failures",
	reasonConnect:     "connect_failures",
	reasonRate:        "success_rate",
	reasonProbation:   "probation",
}

// OutlierStats count from the Outlier's start.
type OutlierStats struct {
	Ejections    map[string]uint64 // by reason, every reason present
	Suppressed   uint64            // ejections that max_ejected_percent prevented
	Readmissions uint64
}

// maxTripped bounds the servers that wait for Run. One that finds no room comes again
// with its next failure.
const maxTripped = 256

// NewOutlier makes an Outlier for a valid configuration. OnChange is called from Run's
// goroutine after servers were ejected or re-admitted.
func NewOutlier(upstream string, cfg *OutlierConfig, onChange func(), logger *zap.Logger) (*Outlier, error) {
	statuses, err := parseStatuses(cfg.Statuses)
	if err != nil {
		return nil, fmt.Errorf("cannot watch upstream %q for outliers: statuses: %w", upstream, err)
	}
	o := &Outlier{
		cfg: cfg, statuses: statuses, onChange: onChange, logger: logger,
		synced: make(chan struct{}, 1), tripped: make(chan *backend.Member, maxTripped),
	}
	o.view.Store(&outlierView{})
	return o, nil
}

// Sync tells the members. The slice must not change afterwards.
func (o *Outlier) Sync(members []*backend.Member) {
	o.syncing.Lock()
	defer o.syncing.Unlock()
	old := o.view.Load().records
	next := &outlierView{members: members, records: make(map[*backend.Live]*record, len(members))}
	for _, m := range members {
		r := old[m.Live]
		if r == nil {
			r = &record{}
		}
		next.records[m.Live] = r
	}
	o.view.Store(next)
	select {
	case o.synced <- struct{}{}:
	default:
	}
}

// Stats gives the counters.
func (o *Outlier) Stats() OutlierStats {
	counts := make(map[string]uint64, reasonCount-1)
	for reason := reasonNone + 1; reason < reasonCount; reason++ {
		counts[reasonNames[reason]] = o.ejections[reason].Load()
	}
	return OutlierStats{Ejections: counts, Suppressed: o.suppressed.Load(), Readmissions: o.readmissions.Load()}
}

// Report learns from an attempt. What the client broke off, and a pooled connection
// that had died, say nothing about the server; neither does what comes in late, of an
// attempt from before an ejection.
func (o *Outlier) Report(m *backend.Member, out backend.Outcome) {
	if out.Failure == backend.FailureClient || out.Failure == backend.FailureStale {
		return
	}
	r := o.view.Load().records[m.Live]
	if r == nil || m.Ejected() || r.predates(out) {
		return
	}
	if o.failed(out) {
		o.countFailure(m, r, out)
	} else {
		o.countSuccess(r)
	}
}

// failed reports whether the attempt counts against the server.
func (o *Outlier) failed(out backend.Outcome) bool {
	return out.Failure != backend.FailureNone || o.statuses.has(out.Status) ||
		o.cfg.SlowAfter > 0 && out.Header > o.cfg.SlowAfter
}

// predates reports whether the attempt began before the server was re-admitted. It
// matters until the first success only.
func (r *record) predates(out backend.Outcome) bool {
	return r.probation.Load() && time.Now().Add(-out.Total).UnixNano() < r.readmitted.Load()
}

const goodRequest = 1<<32 | 1 // in record.window

// countSuccess writes only where something changes: a server that does well is reported
// thousands of times a second.
func (o *Outlier) countSuccess(r *record) {
	if o.cfg.SuccessRate.Enabled {
		r.window.Add(goodRequest)
	}
	if r.failures.Load() != 0 {
		r.failures.Store(0)
	}
	if r.connects.Load() != 0 {
		r.connects.Store(0)
	}
	if r.probation.Load() {
		r.probation.Store(false)
	}
}

func (o *Outlier) countFailure(m *backend.Member, r *record, out backend.Outcome) {
	if o.cfg.SuccessRate.Enabled {
		r.window.Add(1)
	}
	r.last.Store(packFailure(out))
	var connects uint32
	if out.Failure == backend.FailureConnect {
		connects = r.connects.Add(1)
	} else if r.connects.Load() != 0 {
		r.connects.Store(0) // it takes connections
	}
	failures := r.failures.Add(1)
	switch {
	case r.probation.Load():
		o.trip(m, r, reasonProbation)
	case o.cfg.ConnectFailures > 0 && int(connects) >= o.cfg.ConnectFailures:
		o.trip(m, r, reasonConnect)
	case o.cfg.ConsecutiveFailures > 0 && int(failures) >= o.cfg.ConsecutiveFailures:
		o.trip(m, r, reasonConsecutive)
	}
}

// trip hands a server to Run, once until Run has dealt with it.
func (o *Outlier) trip(m *backend.Member, r *record, reason uint32) {
	if !r.trip.CompareAndSwap(reasonNone, reason) {
		return
	}
	select {
	case o.tripped <- m:
	default:
		r.trip.Store(reasonNone)
	}
}

func packFailure(out backend.Outcome) uint32 {
	return uint32(out.Failure)<<16 | uint32(out.Status)&0xffff //nolint:gosec // a status has three digits.
}

// lastFailure is the record's last failure in words.
func (r *record) lastFailure() string {
	packed := r.last.Load()
	failure, status := backend.Failure(packed>>16), packed&0xffff //nolint:gosec // as packed above.
	if failure != backend.FailureNone {
		return failure.String()
	}
	return fmt.Sprintf("status %d", status)
}

// forget starts the counts anew.
func (r *record) forget() {
	r.failures.Store(0)
	r.connects.Store(0)
	r.trip.Store(reasonNone)
}
