package zookeeper

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"drover/backend"
	"drover/discovery/format"
)

// saveEvery is how old the time in a snapshot on disk may get while nothing changes.
const saveEvery = 5 * time.Minute

// Source follows one path of an ensemble.
type Source struct {
	// Immutable.
	session *Session
	cfg     SourceConfig
	logger  *zap.Logger
	disk    *disk // nil without snapshots
	rejects *format.Rejects

	mu     sync.Mutex
	status Status
	stats  SourceStats
	ready  bool
}

// Status is what a source knows of its set.
type Status struct {
	Kind string // "zookeeper"
	Path string
	// LastSync is when the set was last known to be what ZooKeeper holds; for one
	// from disk, when that was written.
	LastSync time.Time
	// Servers is how many the set holds.
	Servers int
	// Connected says that the session is usable.
	Connected bool
	// Stale says that the set may be out of date: ZooKeeper cannot be reached, or
	// does not let us read the path, or the set is from disk.
	Stale bool
	// Fault is why the set is stale, as far as it is known.
	Fault string
	// Rejected lists the entries that cannot be used at present.
	Rejected []format.Rejected
}

// SourceStats are a source's counters.
type SourceStats struct {
	Emitted     uint64 // sets given to the upstream
	Rounds      uint64 // readings, most of which find a change
	Checks      uint64 // proofs that no change was missed
	Corrections uint64 // changes that only a check found; should stay 0
	SaveErrors  uint64 // snapshots that could not be written
}

// NewSource makes a source on a session. It needs the session's Run to be running
// beside its own.
func NewSource(s *Session, cfg SourceConfig, logger *zap.Logger) *Source {
	return &Source{
		session: s,
		cfg:     cfg,
		logger:  logger.With(zap.String("path", cfg.Path)),
		disk:    newDisk(s.cfg, cfg),
		rejects: format.NewRejects(logger),
		status:  Status{Kind: "zookeeper", Path: cfg.Path, Stale: true},
	}
}

// Status is the source's present status.
func (s *Source) Status() Status {
	s.mu.Lock()
	status := s.status
	s.mu.Unlock()
	status.Rejected = s.rejects.List()
	return status
}

// Stats are the source's counters.
func (s *Source) Stats() SourceStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats
}

// Ready says that there is a set, be it empty or stale.
func (s *Source) Ready() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ready
}

// Run follows the path until ctx ends. It gives emit the full set first when all of
// it is known, then at each change of it. A path that does not exist is an empty
// set. While ZooKeeper is away the last set stays; a start without it serves the
// last set on disk, if there is one.
func (s *Source) Run(ctx context.Context, emit func([]backend.Server)) error {
	decode, err := format.Lookup(s.cfg.Format)
	if err != nil {
		return fmt.Errorf("cannot follow %q: %w", s.cfg.Path, err)
	}
	box := s.session.join()
	defer s.session.leave(box)
	f := &follower{
		source: s,
		box:    box,
		emit:   emit,
		tree: newTree(s.cfg.Path, descends(s.cfg.Format),
			timing{s.session.cfg.Debounce, s.session.cfg.MaxDebounce, s.session.cfg.VerifyInterval},
			codec{decode: contained(decode), inName: nameIsRecord(s.cfg.Format), refused: s.rejects.Add, accepted: s.rejects.Remove},
			rand.Float64),
	}
	return f.run(ctx)
}

// contained makes a decoder's panic a fault of the entry. Decoders are fuzzed, but
// entries come from strangers, and one of them must not end every upstream.
func contained(decode format.Decoder) format.Decoder {
	return func(path string, data []byte) (servers []backend.Server, err error) {
		defer func() {
			if fault := recover(); fault != nil {
				servers, err = nil, fmt.Errorf("BUG: the decoder panicked: %v", fault)
			}
		}()
		return decode(path, data)
	}
}

// nameIsRecord tells which names need no reading: in some formats the name is the record.
func nameIsRecord(name string) func(string) bool {
	if name == "auto" || name == "dubbo" || name == "nerve" {
		return format.NameOnly
	}
	return func(string) bool { return false }
}

// descends tells the formats under which an interface's path stands for its providers.
func descends(name string) bool { return name == "dubbo" || name == "auto" }

// follower is one Run of a source.
type follower struct {
	source *Source
	box    *mailbox
	emit   func([]backend.Server)
	tree   *tree

	urgent, idle []read // wanted and not sent
	sent         int
	reads        sync.WaitGroup

	given   []backend.Server // the set emitted last, if one was
	gave    bool
	fault   string // as last logged
	counted uint64 // corrections
	saves   chan snapshot
	saved   time.Time // the time in the snapshot last given to saves
}

func (f *follower) run(ctx context.Context) error {
	saver := sync.WaitGroup{}
	f.saves = make(chan snapshot, 1)
	if f.source.disk != nil {
		saver.Go(func() { f.source.save(f.saves) })
	}
	defer saver.Wait()
	defer close(f.saves)
	defer f.reads.Wait()

	cold := time.NewTimer(f.source.session.cfg.ConnectTimeout)
	defer cold.Stop()
	alarm := time.NewTimer(time.Hour)
	defer alarm.Stop()
	for {
		now := time.Now()
		wake := f.advance(ctx, now)
		if wake.IsZero() {
			alarm.Stop()
		} else {
			alarm.Reset(wake.Sub(now))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-alarm.C:
		case <-cold.C:
			f.coldStart()
		case <-f.box.ready:
		}
	}
}

// advance carries the tree as far as it gets without waiting.
func (f *follower) advance(ctx context.Context, now time.Time) (wake time.Time) {
	for _, m := range f.box.take() {
		switch {
		case m.reply != nil:
			f.sent--
			f.tree.answered(now, *m.reply)
		case m.link != linkSame:
			f.tree.linked(now, m.link)
		default:
			f.tree.touched(now, m.changed)
		}
	}
	reads, wake := f.tree.step(now)
	for _, r := range reads {
		if r.urgent() {
			f.urgent = append(f.urgent, r)
		} else {
			f.idle = append(f.idle, r)
		}
	}
	f.send(ctx)
	f.publish()
	return wake
}

// send starts reads, those that a change waits for first.
func (f *follower) send(ctx context.Context) {
	for f.sent < maxCalls && len(f.urgent)+len(f.idle) > 0 {
		queue := &f.urgent
		if len(*queue) == 0 {
			queue = &f.idle
		}
		r := (*queue)[0]
		*queue = (*queue)[1:]
		f.sent++
		f.reads.Go(func() {
			answer := f.source.session.read(ctx, r, f.box)
			f.box.post(message{reply: &answer})
		})
	}
}

// publish gives away what the tree has found out.
func (f *follower) publish() {
	s, t := f.source, f.tree
	set, changed := t.take()
	connected := t.link != linkDown
	s.mu.Lock()
	s.status.Connected = connected
	s.status.Stale = !connected || t.first || t.fault != nil
	s.status.Fault = t.staleness()
	if !t.synced.IsZero() {
		s.status.LastSync = t.synced
	}
	s.stats.Rounds, s.stats.Checks, s.stats.Corrections = t.stats.rounds, t.stats.checks, t.stats.corrections
	s.mu.Unlock()
	s.session.counts.corrections.Add(t.stats.corrections - f.counted)
	f.counted = t.stats.corrections
	f.logFault()
	if changed {
		f.give(set)
	}
	if !t.first && (changed || t.synced.Sub(f.saved) >= saveEvery) {
		f.keep(snapshot{Synced: t.synced, Set: t.last})
	}
}

// give emits a set, unless it is the one that was emitted last: the one from disk,
// once ZooKeeper has confirmed it.
func (f *follower) give(set []backend.Server) {
	again := f.gave && slices.EqualFunc(set, f.given, backend.Server.SameData)
	s := f.source
	s.mu.Lock()
	s.ready = true
	s.status.Servers = len(set)
	if !again {
		s.stats.Emitted++
	}
	s.mu.Unlock()
	if !again {
		// Last, so that whoever is given a set finds a status that knows of it.
		f.emit(set)
		f.given, f.gave = slices.Clone(set), true
	}
}

// faultText is why the directory cannot be read, "" when it can.
func (t *tree) faultText() string {
	if t.fault == nil || errors.Is(t.fault, context.Canceled) {
		return ""
	}
	return t.fault.Error()
}

// staleness is why the set may be out of date, "" when it is not known to be.
func (t *tree) staleness() string {
	if text := t.faultText(); text != "" || t.link != linkDown {
		return text
	}
	return "no connection to zookeeper"
}

// logFault logs why the directory cannot be read, once for each reason.
func (f *follower) logFault() {
	fault := f.tree.faultText()
	if fault != f.fault && fault != "" {
		f.source.logger.Warn("cannot read the servers; serving what is known", zap.String("error", fault))
	}
	f.fault = fault
}

// keep hands a set to the saver, in place of one that still waits. An empty set
// never replaces one with servers: if ZooKeeper is reachable at the next start it
// decides, and if it is not, old servers beat none.
func (f *follower) keep(snap snapshot) {
	f.saved = snap.Synced
	if f.source.disk == nil || len(snap.Set) == 0 {
		return
	}
	snap.Set = slices.Clone(snap.Set)
	select {
	case <-f.saves:
	default:
	}
	f.saves <- snap
}

// coldStart serves from disk if ZooKeeper has not answered by now.
func (f *follower) coldStart() {
	s := f.source
	if !f.tree.first || s.disk == nil {
		return
	}
	snap, err := s.disk.load()
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			s.logger.Error("cannot start from disk; waiting for zookeeper", zap.Error(err))
		}
		return
	}
	s.logger.Warn("zookeeper does not answer; serving from disk",
		zap.Time("as_of", snap.Synced), zap.Int("servers", len(snap.Set)))
	s.mu.Lock()
	s.status.LastSync = snap.Synced
	s.mu.Unlock()
	f.give(snap.Set)
}

// save writes the sets that come, one at a time.
func (s *Source) save(sets <-chan snapshot) {
	failing := false
	for snap := range sets {
		err := s.disk.save(snap.Set, snap.Synced)
		if err != nil {
			s.mu.Lock()
			s.stats.SaveErrors++
			s.mu.Unlock()
		}
		if err != nil && !failing {
			s.logger.Warn("a start without zookeeper would find old servers or none", zap.Error(err))
		}
		failing = err != nil
	}
}
