package zookeeper

import (
	"slices"
	"strings"
	"time"

	"drover/backend"
)

// op is a kind of read that a tree wants.
type op uint8

const (
	opList        op = iota // names of the directory, watched
	opAwait                 // is the directory there, watched for its creation
	opData                  // content of a child, watched
	opCompare               // stamp of a child, to tell which of two is newer
	opVerify                // stamp of the directory, to prove that no change was missed
	opVerifyChild           // stamp of a child, for the same
)

// read is one read that a tree wants.
type read struct {
	op    op
	path  string
	rearm bool   // arm the watch although it is believed armed
	after uint64 // the round that came before
}

// urgent tells the reads that a change waits for from those that only prove.
func (r read) urgent() bool { return r.op != opVerify && r.op != opVerifyChild }

// outcome is how a read ended.
type outcome uint8

const (
	found   outcome = iota
	missing         // there is no such znode
	denied          // we may not read it; see err
	unknown         // no usable answer; see err
)

// reply is the answer to a read.
type reply struct {
	read
	outcome outcome
	names   []string
	data    []byte
	stat    stamp
	err     error
}

// stamp are the transaction numbers of a znode.
type stamp struct {
	created  int64 // czxid
	modified int64 // mzxid
	children int64 // pzxid: the last child that came or went
}

// timing are a tree's waits; see Config.
type timing struct {
	debounce    time.Duration
	maxDebounce time.Duration
	verify      time.Duration
}

// Waits that are not configured.
const (
	// reReadBase and reReadEach bound the random wait before a tree is read again in a
	// new session or checked after a reconnect, so that the proxies of a fleet, and
	// the paths of one proxy, do not come as one.
	reReadBase  = 100 * time.Millisecond
	reReadEach  = 3 * time.Millisecond
	maxReRead   = 30 * time.Second
	minRetry    = time.Second
	maxRetry    = 30 * time.Second
	gatherRatio = 4  // changes are gathered that many times as long as the last reading took
	sliceRatio  = 10 // a check looks at one child in that many
	minSlice    = 16
)

// tree follows one directory. It is pure: it does no I/O and reads no clock. Changes
// and replies go in with the time they came at; step says what to read and when to
// call it again; take gives the set when there is a new one.
//
// Reading goes in rounds: gather changes for a while, then list the directory if its
// names may have changed, read the children that are new or changed, and publish.
// What changes during a round waits for the next. Every error other than "no such
// znode" leaves what is known as it is.
//
// One goroutine owns a tree.
type tree struct {
	// Immutable.
	base    string // as configured
	descend bool   // follow a child named "providers" in place of base
	timing  timing
	random  func() float64
	entries codec

	link linkChange // linkDown or, while the session is up, anything else
	dir  string     // base, or its "providers"

	known
	todo
	running
	checks
	published
	stats treeStats
}

// known is what a tree has read.
type known struct {
	listed   bool // children is what dir holds, as of its last listing
	present  bool
	stat     stamp
	children map[string]*child
	fault    error // why dir cannot be read, nil if it can
}

// todo is what a tree is to read.
type todo struct {
	dirty   bool                // dir is to be listed
	lost    bool                // and its watch to be armed anew
	absent  bool                // the watch for its creation as well, when it is next missing
	changed map[string]struct{} // children to be read
	due     time.Time           // when the next round starts, zero for none
	retry   time.Duration       // the wait after the last failed round
}

// running is the round under way, or the last one.
type running struct {
	round   uint64 // its number
	waiting int    // replies to come, 0 between rounds
	wanted  []read // reads that step has not given away yet
	failed  bool
	started time.Time
	took    time.Duration
}

// checks are the proofs that no change was missed; see verify.
type checks struct {
	verifyAt  time.Time // next check
	verifyAll bool      // it looks at every child
	cursor    string    // the child after which the next check starts
}

// published is what a tree has given away.
type published struct {
	last   []backend.Server
	first  bool      // nothing yet
	fresh  bool      // last is still to be taken
	synced time.Time // when last was last known to be right
}

// treeStats count what a tree did.
type treeStats struct {
	rounds, checks, corrections uint64
}

// codec is what a tree knows of its entries' format.
type codec struct {
	// decode gives the servers of one entry. Path is the znode's.
	decode func(path string, data []byte) ([]backend.Server, error)
	// inName tells whether a name is the whole record, so that there is no need to
	// read the znode.
	inName func(name string) bool
	// refused is told of an entry that cannot be used, each time that it is tried;
	// accepted of one that can be again, or that is gone.
	refused  func(path string, err error)
	accepted func(path string)
}

// child is one entry of the directory.
type child struct {
	name    string
	path    string
	inName  bool
	read    bool // its content is known, or known to be out of reach
	barred  bool // it may not be read
	lost    bool // its watch is to be armed anew
	reading bool
	stat    stamp // modified is 0 while only the name is known
	asked   bool  // opCompare was tried
	servers []backend.Server
}

func newTree(base string, descend bool, t timing, c codec, random func() float64) *tree {
	return &tree{
		base:      base,
		descend:   descend && !strings.HasSuffix(base, providersSuffix),
		timing:    t,
		random:    random,
		entries:   c,
		link:      linkDown,
		dir:       base,
		known:     known{children: map[string]*child{}},
		todo:      todo{changed: map[string]struct{}{}},
		published: published{first: true},
	}
}

// linked tells the tree that the session came or went.
func (t *tree) linked(now time.Time, link linkChange) {
	t.link = link
	if link == linkDown {
		return
	}
	t.retry = 0
	switch {
	case link == linkRenewed || !t.listed:
		t.dirty = true
		for name, c := range t.children {
			if !c.inName {
				t.changed[name] = struct{}{}
			}
		}
		t.due = now
		if !t.first {
			t.due = now.Add(t.spread())
		}
	default:
		// The library has restored the watches, but not always all of them, nor
		// in time for every change.
		t.verifyAll = true
		t.verifyAt = now.Add(t.spread())
		if t.pending() {
			t.due = now
		}
	}
}

func (t *tree) spread() time.Duration {
	most := min(maxReRead, reReadBase+time.Duration(len(t.children))*reReadEach)
	return time.Duration(t.random() * float64(most))
}

// touched tells the tree that a watch on path fired.
func (t *tree) touched(now time.Time, path string) {
	if path == t.dir {
		t.dirty = true
		t.gather(now)
		return
	}
	if c := t.childAt(path); c != nil { // else of a directory that was left, or a child that is gone
		t.changed[c.name] = struct{}{}
		t.gather(now)
	}
}

// gather makes sure that a round is due. The first change of a round sets the time;
// later ones join it, so a steady stream of changes cannot put it off.
func (t *tree) gather(now time.Time) {
	window := min(max(t.timing.debounce, gatherRatio*t.took), t.timing.maxDebounce)
	due := now.Add(window + time.Duration(t.random()*float64(window)/10))
	if t.due.IsZero() || (t.failed && due.Before(t.due)) { // a retry may be far off
		t.due = due
	}
}

func (t *tree) pending() bool { return t.dirty || len(t.changed) > 0 }

// step starts what is due and gives the reads to send. Wake is when to call it
// again, if nothing comes before; the zero time for never.
func (t *tree) step(now time.Time) (reads []read, wake time.Time) {
	if t.link != linkDown {
		if t.waiting == 0 && !t.due.IsZero() && !now.Before(t.due) {
			t.begin(now)
		}
		if t.waiting == 0 && !t.verifyAt.IsZero() && !now.Before(t.verifyAt) {
			t.verify(now)
		}
		if t.waiting == 0 { // else a reply comes first
			wake = t.due
			if !t.verifyAt.IsZero() && (wake.IsZero() || t.verifyAt.Before(wake)) {
				wake = t.verifyAt
			}
		}
	}
	reads, t.wanted = t.wanted, nil
	return reads, wake
}

// take gives the set if it is new.
func (t *tree) take() ([]backend.Server, bool) {
	if !t.fresh {
		return nil, false
	}
	t.fresh = false
	return slices.Clone(t.last), true
}

func (t *tree) want(r read) {
	r.after = t.round
	if r.urgent() {
		t.waiting++
	}
	t.wanted = append(t.wanted, r)
}

// childAt gives the child with a path, nil if there is none.
func (t *tree) childAt(path string) *child {
	name, below := strings.CutPrefix(path, childPrefix(t.dir))
	if !below {
		return nil
	}
	return t.children[name]
}

func childPrefix(dir string) string {
	if dir == "/" {
		return dir
	}
	return dir + "/"
}
