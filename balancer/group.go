package balancer

import (
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"drover/backend"

	"github.com/cespare/xxhash/v2"
	"go.uber.org/zap"
)

// Options are a Group's ties to the rest of drover.
type Options struct {
	// NewConns makes a server's connection pool.
	NewConns func(backend.ID) io.Closer
	// OnMembers is told each new member set, in order, after it is in force.
	OnMembers func(members []*backend.Member)
	Logger    *zap.Logger
}

// Group is the live set of one upstream. Updates and health changes build a new
// snapshot, off the request path, and publish it with one swap.
type Group struct {
	// immutable
	name     string
	options  Options
	inFlight atomic.Int64 // of all servers

	// atomic
	snapshot atomic.Pointer[Snapshot]
	updates  atomic.Uint64
	brakes   atomic.Uint64

	changed chan struct{} // Refresh was called

	// under mu
	mu       sync.Mutex
	cfg      Config
	policy   policy
	members  []*backend.Member // by ID; the held ones included
	departed map[backend.ID]departure
	brake    brake
	usable   map[*backend.Live]bool // as of the last build
	started  bool                   // a first set is in force
}

// departure is the live state of a server that left, kept for a while: registries
// lose entries and write them again.
type departure struct {
	live *backend.Live
	at   time.Time
}

// Snapshot is what one moment's requests see. It is immutable.
type Snapshot struct {
	// Members are all known servers in ID order, unavailable and held ones included.
	Members []*backend.Member
	// Available is how many of them may be picked as far as health and weight go.
	Available int
	// Held is how many the removal brake keeps.
	Held int
	// Panic says that health is ignored, since too few servers are available.
	Panic bool
	// Generation counts snapshots.
	Generation uint64

	picker picker // nil when nothing may be picked
	spares spares
	byHash map[uint64]*backend.Member
}

// Stats count from the Group's start.
type Stats struct {
	Updates uint64 // member sets that took effect
	Brakes  uint64 // times that the removal brake held servers
}

// departedFor is how long the live state of a server that left is kept.
const departedFor = time.Minute

// NewGroup makes an empty Group. It starts nothing.
func NewGroup(name string, cfg Config, opts Options) (*Group, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	g := &Group{
		name: name, options: opts, cfg: cfg, policy: policies[cfg.Policy.Type].make(cfg.Policy),
		changed:  make(chan struct{}, 1),
		departed: map[backend.ID]departure{},
		usable:   map[*backend.Live]bool{},
		brake:    newBrake(),
	}
	g.snapshot.Store(&Snapshot{})
	return g, nil
}

// Refresh asks for a new snapshot soon, since health has changed. It does not block;
// many calls make one snapshot.
func (g *Group) Refresh() {
	select {
	case g.changed <- struct{}{}:
	default:
	}
}

// Update takes a source's full set. What is alike keeps its Member, what is known its
// Live.
func (g *Group) Update(servers []backend.Server) { g.update(servers, false) }

// Replace is Update for a set that the operator has decided on: what is missing goes at
// once, and so does what the removal brake has kept until now.
func (g *Group) Replace(servers []backend.Server) { g.update(servers, true) }

func (g *Group) update(servers []backend.Server, decided bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	servers = backend.Merge(servers)
	old := make(map[backend.ID]*backend.Member, len(g.members))
	var listed []*backend.Member // without held ones
	for _, m := range g.members {
		old[m.ID] = m
		if !m.Held() {
			listed = append(listed, m)
		}
	}
	g.brake.forget(now, g.cfg.Brake.Window)
	next, came := g.reconcile(servers, old)
	if len(g.members) == 0 {
		came = 0 // they stand in for nobody: the brake must work from the start.
	}
	var vanished []*backend.Member
	for _, m := range listed {
		if _, gone := old[m.ID]; gone {
			vanished = append(vanished, m)
		}
	}
	if decided {
		g.brake = newBrake()
	} else {
		next = append(next, g.braked(now, vanished, old, len(listed), came, len(servers))...)
	}
	slices.SortFunc(next, func(a, b *backend.Member) int { return a.ID.Compare(b.ID) })
	g.install(next, now)
}

// reconcile makes the new members, taking out of old what is still there.
func (g *Group) reconcile(servers []backend.Server, old map[backend.ID]*backend.Member) (next []*backend.Member, came int) {
	for _, s := range servers {
		m := old[s.ID]
		delete(old, s.ID)
		lost := g.brake.listed(s.ID)
		switch {
		case m == nil:
			if !lost {
				came++
			}
			m = &backend.Member{Server: s, Live: g.live(s.ID)}
		case !m.SameData(s):
			m = &backend.Member{Server: s, Live: m.Live}
		}
		if m.Held() {
			m.SetHeld(false)
			delete(g.brake.held, m.ID)
		}
		next = append(next, m)
	}
	return next, came
}

// live gives the state of a server: the one it had, if it left a moment ago.
func (g *Group) live(id backend.ID) *backend.Live {
	if d, ok := g.departed[id]; ok {
		delete(g.departed, id)
		return d.live
	}
	l := &backend.Live{Group: &g.inFlight}
	if g.options.NewConns != nil {
		l.Conns = g.options.NewConns(id)
	}
	return l
}

// braked gives the members that stay though the registry has lost them: those that the
// brake holds now, and those it held before.
func (g *Group) braked(now time.Time, vanished []*backend.Member, gone map[backend.ID]*backend.Member, before, came, left int) []*backend.Member {
	var stay []*backend.Member
	for _, m := range gone {
		if m.Held() && !g.brake.expired(g.cfg.Brake, now, m) {
			stay = append(stay, m)
		}
	}
	kept := g.brake.hold(g.cfg.Brake, now, vanished, before, came, left)
	if len(kept) > 0 {
		g.brakes.Add(1)
		g.options.Logger.Warn("many servers vanished from the registry; those that still work are kept for a while",
			zap.Int("vanished", len(vanished)), zap.Int("kept", len(kept)), zap.Int("listed", left), zap.Duration("at_most", g.cfg.Brake.Hold))
	}
	for _, m := range kept {
		m.SetHeld(true)
	}
	return append(stay, kept...)
}

// install puts a member set into force.
func (g *Group) install(next []*backend.Member, now time.Time) {
	same := g.started && slices.Equal(next, g.members)
	for _, m := range g.members {
		if _, still := slices.BinarySearchFunc(next, m.ID, func(n *backend.Member, id backend.ID) int { return n.ID.Compare(id) }); !still {
			m.SetHeld(false)
			delete(g.brake.held, m.ID)
			delete(g.usable, m.Live)
			g.departed[m.ID] = departure{m.Live, now}
		}
	}
	g.members = next
	g.build(now)
	g.started = true
	if same {
		return
	}
	g.updates.Add(1)
	if g.options.OnMembers != nil {
		g.options.OnMembers(next)
	}
}

// release lets held members go whose time is over or whose check fails.
func (g *Group) release(now time.Time) {
	var next []*backend.Member
	for _, m := range g.members {
		if m.Held() && g.brake.expired(g.cfg.Brake, now, m) {
			g.options.Logger.Info("a held server is let go", zap.Stringer("server", m.ID),
				zap.Stringer("health", m.Health()), zap.Duration("after", now.Sub(g.brake.held[m.ID])))
			continue
		}
		next = append(next, m)
	}
	if len(next) != len(g.members) {
		g.install(next, now)
	}
}

// ReleaseHeld lets every held member go at once, as an operator may wish.
func (g *Group) ReleaseHeld() {
	g.mu.Lock()
	defer g.mu.Unlock()
	next := slices.DeleteFunc(slices.Clone(g.members), func(m *backend.Member) bool { return m.Held() })
	if len(next) != len(g.members) {
		g.install(next, time.Now())
	}
}

// build makes and publishes a snapshot.
func (g *Group) build(now time.Time) {
	s := &Snapshot{Members: g.members, Generation: g.snapshot.Load().Generation + 1, byHash: map[uint64]*backend.Member{}}
	weighted := 0
	for _, m := range g.members {
		usable := m.Weight > 0 && m.Available()
		if usable {
			s.Available++
		}
		if m.Weight > 0 {
			weighted++
		}
		if m.Held() {
			s.Held++
		}
		g.warm(m, usable, now)
	}
	s.Panic = g.cfg.PanicThreshold > 0 && weighted > 0 && s.Available*100 < g.cfg.PanicThreshold*weighted
	g.tellPanic(s, weighted)
	if set := g.candidates(s, now); len(set) > 0 {
		s.picker, s.spares = g.policy.build(set), sparesOf(s, set)
	}
	for _, m := range g.members {
		if s.pickable(m) {
			s.byHash[xxhash.Sum64String(m.ID.String())] = m
		}
	}
	g.snapshot.Store(s)
}

// tellPanic tells the log when panic begins and when it is over.
func (g *Group) tellPanic(s *Snapshot, weighted int) {
	fields := []zap.Field{zap.Int("available", s.Available), zap.Int("servers", weighted)}
	switch before := g.snapshot.Load().Panic; {
	case s.Panic && !before:
		g.options.Logger.Warn("panic: health is ignored since too few servers are available", fields...)
	case !s.Panic && before:
		g.options.Logger.Info("panic is over: health counts again", fields...)
	}
}

// pickable reports whether a member may be picked in this snapshot.
func (s *Snapshot) pickable(m *backend.Member) bool {
	return m.Weight > 0 && (s.Panic || m.Available())
}

// warmShare is the share of its weight that a server begins slow start with.
const warmShare = 0.1

// warm begins and ends slow start. A group's first servers are not slowed: there would
// be nobody to take what they do not.
func (g *Group) warm(m *backend.Member, usable bool, now time.Time) {
	was := g.usable[m.Live]
	g.usable[m.Live] = usable
	since := m.WarmSince()
	switch {
	case usable && !was && g.started && g.cfg.SlowStart > 0:
		m.StartWarming(now)
	case !since.IsZero() && (!usable || now.Sub(since) >= g.cfg.SlowStart):
		m.StartWarming(time.Time{})
	}
}

// weight is a server's weight of the moment.
func (g *Group) weight(m *backend.Member, now time.Time) float64 {
	w := float64(m.Weight)
	if since := m.WarmSince(); !since.IsZero() && g.cfg.SlowStart > 0 {
		progress := float64(now.Sub(since)) / float64(g.cfg.SlowStart)
		w *= warmShare + (1-warmShare)*min(max(progress, 0), 1)
	}
	return w
}
