package zookeeper

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"drover/backend"
)

// model is an obvious ZooKeeper: a map of znodes, one-shot watches, and a switch for
// each way of losing something. A tree is driven against it without any waiting.
type model struct {
	nodes   map[string]*node
	zxid    int64
	watches map[watchKey]bool
	events  []modelEvent // on their way to the client
}

type modelEvent struct {
	path string
	what zk.EventType
}

type node struct {
	data string
	stamp
}

func newModel() *model {
	return &model{nodes: map[string]*node{}, watches: map[watchKey]bool{}}
}

func (m *model) create(p, data string) bool {
	parent := m.nodes[path.Dir(p)]
	if m.nodes[p] != nil || (parent == nil && path.Dir(p) != "/") {
		return false
	}
	m.zxid++
	m.nodes[p] = &node{data, stamp{m.zxid, m.zxid, m.zxid}}
	if parent != nil {
		parent.children = m.zxid
	}
	m.fire(p, zk.EventNodeCreated)
	m.fire(path.Dir(p), zk.EventNodeChildrenChanged)
	return true
}

func (m *model) set(p, data string) bool {
	if m.nodes[p] == nil {
		return false
	}
	m.zxid++
	m.nodes[p].data, m.nodes[p].modified = data, m.zxid
	m.fire(p, zk.EventNodeDataChanged)
	return true
}

func (m *model) remove(p string) bool {
	if m.nodes[p] == nil || len(m.names(p)) > 0 {
		return false
	}
	m.zxid++
	delete(m.nodes, p)
	if parent := m.nodes[path.Dir(p)]; parent != nil {
		parent.children = m.zxid
	}
	m.fire(p, zk.EventNodeDeleted)
	m.fire(path.Dir(p), zk.EventNodeChildrenChanged)
	return true
}

func (m *model) fire(p string, what zk.EventType) {
	told := false
	for _, kind := range firedBy[what] {
		told = told || m.watches[watchKey{p, kind}]
		delete(m.watches, watchKey{p, kind})
	}
	if told {
		m.events = append(m.events, modelEvent{p, what})
	}
}

func (m *model) names(dir string) []string {
	var names []string
	for p := range m.nodes {
		if path.Dir(p) == dir {
			names = append(names, path.Base(p))
		}
	}
	slices.Sort(names)
	return names
}

// answer carries out a read as a server would.
func (m *model) answer(r read) reply {
	n := m.nodes[r.path]
	switch {
	case n == nil && r.op == opAwait:
		m.watches[watchKey{r.path, watchExist}] = true
		return reply{read: r, outcome: missing}
	case n == nil:
		return reply{read: r, outcome: missing}
	case r.op == opList:
		m.watches[watchKey{r.path, watchChild}] = true
		return reply{read: r, names: m.names(r.path), stat: n.stamp}
	case r.op == opData:
		m.watches[watchKey{r.path, watchData}] = true
		return reply{read: r, data: []byte(n.data), stat: n.stamp}
	default:
		return reply{read: r, stat: n.stamp}
	}
}

// truth is the set that a tree must come to, found the simplest way.
func (m *model) truth(dir string, c codec) []backend.Server {
	paths := slices.SortedFunc(maps.Keys(m.nodes), func(a, b string) int {
		return int(m.nodes[a].created - m.nodes[b].created)
	})
	var all []backend.Server
	for _, p := range paths {
		if path.Dir(p) == dir {
			servers, err := c.decode(p, []byte(m.nodes[p].data))
			if err == nil {
				all = append(all, servers...)
			}
		}
	}
	return backend.Merge(all)
}

// testCodec reads "host weight" from the data, or "name=host,weight" from the name.
func testCodec(log func(string, ...any)) codec {
	if log == nil {
		log = func(string, ...any) {}
	}
	return codec{
		decode: func(p string, data []byte) ([]backend.Server, error) {
			text := string(data)
			if _, record, ok := strings.Cut(path.Base(p), "="); ok {
				text = strings.ReplaceAll(record, ",", " ")
			}
			host, weight, ok := strings.Cut(text, " ")
			n, err := strconv.Atoi(weight)
			if !ok || err != nil {
				return nil, fmt.Errorf("got %q; want host weight", text)
			}
			return []backend.Server{{ID: backend.ID{Scheme: "http", Host: host, Port: 80}, Weight: n, Origin: p}}, nil
		},
		inName:   func(name string) bool { return strings.Contains(name, "=") },
		refused:  func(p string, err error) { log("refused %s: %v", p, err) },
		accepted: func(string) {},
	}
}

var testTiming = timing{debounce: 50 * time.Millisecond, maxDebounce: 500 * time.Millisecond, verify: time.Minute}

func half() float64 { return 0.5 }

// The tree ends with what is there, whatever happens in whatever order: changes
// between and during readings, replies and events in any interleaving that keeps
// the server's order, lost connections, lost sessions. With nothing lost on the
// way, no check may find what no watch told of.
func TestTreeComesToTheTruth(t *testing.T) {
	for seed := range uint64(400) {
		random := rand.New(rand.NewPCG(seed, 1))
		sim := newSim(random, seed%2 == 0)
		for range 300 {
			sim.act()
		}
		sim.settle(t, seed)
		want := sim.m.truth(sim.dir(), sim.codec)
		if !slices.EqualFunc(sim.set, want, backend.Server.SameData) {
			t.Fatalf("seed %d: got %#v\nwant %#v", seed, sim.set, want)
		}
		if sim.tree.stats.corrections != 0 {
			t.Fatalf("seed %d: %d corrections though no watch was lost", seed, sim.tree.stats.corrections)
		}
	}
}

// With watches lost on reconnect, the checks find what was missed.
func TestTreeRecoversFromLostWatches(t *testing.T) {
	corrected := uint64(0)
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 2))
		sim := newSim(random, false)
		sim.lossy = true
		for range 300 {
			sim.act()
		}
		for range 25 { // as many checks as see every child
			sim.settle(t, seed)
			sim.now = sim.now.Add(2 * testTiming.verify)
		}
		sim.settle(t, seed)
		want := sim.m.truth(sim.dir(), sim.codec)
		if !slices.EqualFunc(sim.set, want, backend.Server.SameData) {
			t.Fatalf("seed %d: got %#v\nwant %#v", seed, sim.set, want)
		}
		corrected += sim.tree.stats.corrections
	}
	if corrected == 0 {
		t.Fatal("no watch was lost: the test proves nothing")
	}
}

const notARecord = "not a record"

// sim drives a tree against a model with time that jumps.
type sim struct {
	random *rand.Rand
	m      *model
	tree   *tree
	codec  codec
	now    time.Time
	lossy  bool

	up    bool
	reads []read // sent, not yet carried out
	inbox []func()
	set   []backend.Server
	sets  int
}

func newSim(random *rand.Rand, descend bool) *sim {
	s := &sim{random: random, m: newModel(), codec: testCodec(nil), now: time.Unix(1e9, 0)}
	s.tree = newTree("/svc", descend, testTiming, s.codec, random.Float64)
	return s
}

// dir is where the servers are.
func (s *sim) dir() string {
	if s.tree.descend && s.m.nodes["/svc/providers"] != nil {
		return "/svc/providers"
	}
	return "/svc"
}

func (s *sim) act() {
	s.now = s.now.Add(time.Duration(s.random.IntN(40)) * time.Millisecond)
	switch n := s.random.IntN(100); {
	case n < 30:
		s.change()
	case n < 50 && len(s.reads) > 0: // any of those under way; the client sends in no order
		i := s.random.IntN(len(s.reads))
		s.carryOut(s.reads[i])
		s.reads = slices.Delete(s.reads, i, i+1)
	case n < 90:
		s.deliver()
	case n < 92 && s.up:
		s.disconnect()
	case n < 95 && !s.up:
		s.connect(s.random.IntN(2) == 0)
	}
	s.step()
}

func (s *sim) change() {
	name := "n" + strconv.Itoa(s.random.IntN(6))
	if s.random.IntN(4) == 0 {
		name += "=10.0.0." + strconv.Itoa(s.random.IntN(4)) + "," + strconv.Itoa(s.random.IntN(3))
	}
	data := "10.0.0." + strconv.Itoa(s.random.IntN(4)) + " " + strconv.Itoa(s.random.IntN(4))
	if s.random.IntN(8) == 0 {
		data = notARecord
	}
	dir := "/svc"
	if s.tree.descend && s.random.IntN(2) == 0 {
		dir = "/svc/providers"
	}
	switch s.random.IntN(8) {
	case 0:
		s.m.create("/svc", "")
	case 1:
		_ = s.m.remove("/svc/providers") || s.m.remove("/svc")
	case 2:
		if s.tree.descend {
			s.m.create("/svc/providers", "")
		}
	case 3, 4, 5:
		s.m.create(dir+"/"+name, data)
	case 6: // with rubbish, what holds depends on what was seen before: scenario overwritten
		if data != notARecord {
			s.m.set(dir+"/"+name, data)
		}
	case 7:
		s.m.remove(dir + "/" + name)
	}
	s.collect()
}

// collect queues the events that a change caused, behind what was sent before.
func (s *sim) collect() {
	for _, e := range s.m.events {
		s.inbox = append(s.inbox, func() { s.tree.touched(s.now, e.path) })
	}
	s.m.events = nil
}

func (s *sim) carryOut(r read) {
	answer := reply{read: r, outcome: unknown, err: errors.New("connection lost")}
	if s.up {
		answer = s.m.answer(r)
	}
	s.inbox = append(s.inbox, func() { s.tree.answered(s.now, answer) })
}

func (s *sim) deliver() {
	if len(s.inbox) > 0 {
		next := s.inbox[0]
		s.inbox = s.inbox[1:]
		next()
	}
}

func (s *sim) disconnect() {
	s.up = false
	s.inbox = append(s.inbox, func() { s.tree.linked(s.now, linkDown) })
}

func (s *sim) connect(renewed bool) {
	s.up = true
	link := linkBack
	if renewed || s.tree.link == linkDown && !s.tree.listed {
		link = linkRenewed
		clear(s.m.watches)
	} else if s.lossy {
		maps.DeleteFunc(s.m.watches, func(watchKey, bool) bool { return s.random.IntN(3) == 0 })
	}
	s.inbox = append(s.inbox, func() { s.tree.linked(s.now, link) })
}

func (s *sim) step() {
	reads, _ := s.tree.step(s.now)
	s.reads = append(s.reads, reads...)
	if set, ok := s.tree.take(); ok {
		s.set = set
		s.sets++
	}
}

// settle lets everything that is under way come to its end.
func (s *sim) settle(t *testing.T, seed uint64) {
	if !s.up {
		s.connect(false)
	}
	for range 100_000 {
		for len(s.inbox) > 0 {
			s.deliver()
			s.step()
		}
		s.step()
		switch {
		case len(s.reads) > 0:
			s.carryOut(s.reads[0])
			s.reads = s.reads[1:]
		case len(s.inbox) > 0:
		case s.tree.waiting > 0:
			t.Fatalf("seed %d: the tree waits for %d replies that nobody owes", seed, s.tree.waiting)
		case s.tree.pending() && s.tree.due.IsZero():
			t.Fatalf("seed %d: the tree has something to read and no time set for it", seed)
		case s.tree.pending() || !s.tree.due.IsZero():
			s.now = s.tree.due
		default:
			return
		}
	}
	t.Fatalf("seed %d: the tree does not come to rest", seed)
}
