package zookeeper

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"drover/backend"
)

// Dubbo registers a service's servers one level below the service, beside these.
const (
	providers       = "providers"
	providersSuffix = "/" + providers
)

// dubboSiblings are no servers, wherever providers are followed.
var dubboSiblings = map[string]bool{"consumers": true, "configurators": true, "routers": true}

// begin starts a round.
func (t *tree) begin(now time.Time) {
	t.due = time.Time{}
	if !t.pending() {
		return
	}
	t.round++
	t.stats.rounds++
	t.started, t.failed = now, false
	if t.dirty {
		// The children's turn comes when it is known which there are.
		t.want(read{op: opList, path: t.dir, rearm: t.lost})
		t.dirty, t.lost = false, false
		return
	}
	t.readChanged()
}

// readChanged asks for the content of what is new or changed.
func (t *tree) readChanged() {
	for _, name := range slices.Sorted(maps.Keys(t.changed)) {
		if c := t.children[name]; c != nil && !c.inName {
			t.want(read{op: opData, path: c.path, rearm: c.lost})
			c.reading, c.lost = true, false
		}
	}
	clear(t.changed)
}

// answered takes the reply to a read.
func (t *tree) answered(now time.Time, r reply) {
	if !r.urgent() {
		t.verified(now, r)
		return
	}
	t.waiting--
	switch r.op {
	case opList:
		t.gotNames(r)
	case opAwait:
		t.gotExistence(r)
	case opData:
		t.gotData(r)
	case opCompare:
		t.gotStamp(r)
	}
	if t.waiting == 0 && !t.compare() {
		t.end(now)
	}
}

func (t *tree) gotNames(r reply) {
	switch r.outcome {
	case found:
	case missing:
		t.gone()
		return
	default:
		t.dirty, t.failed, t.fault = true, true, r.err
		return
	}
	t.fault = nil
	t.stat, t.present = r.stat, true
	if t.descend && t.dir == t.base && slices.Contains(r.names, providers) {
		t.enter(t.base + providersSuffix)
		return
	}
	t.listed = true
	names := make(map[string]struct{}, len(r.names))
	for _, name := range r.names {
		if t.descend && t.dir == t.base && dubboSiblings[name] {
			continue
		}
		names[name] = struct{}{}
		c := t.children[name]
		if c == nil {
			t.add(name)
		} else if c.inName { // it may have been written again, which no watch tells
			c.stat, c.asked = stamp{}, false
		}
	}
	for name := range t.children {
		if _, still := names[name]; !still {
			t.drop(name)
		}
	}
	t.readChanged()
}

// gone handles a directory that does not exist: it may have been the "providers" of
// one that does, or it will be created one day.
func (t *tree) gone() {
	if t.dir != t.base {
		t.enter(t.base)
		return
	}
	t.empty()
	t.stat, t.present, t.fault = stamp{}, false, nil
	t.want(read{op: opAwait, path: t.dir, rearm: t.absent})
	t.absent = false
}

// enter changes the directory that is followed, inside a round.
func (t *tree) enter(dir string) {
	t.empty()
	t.dir = dir
	t.want(read{op: opList, path: dir})
}

// empty drops every child, until a reply says what there is instead.
func (t *tree) empty() {
	for name := range t.children {
		t.drop(name)
	}
	t.listed = false
}

func (t *tree) gotExistence(r reply) {
	switch r.outcome {
	case missing:
		t.listed = true
	case found: // it was created in between; another round lists it
		t.dirty = true
	default:
		t.dirty, t.failed, t.fault = true, true, r.err
	}
}

func (t *tree) add(name string) {
	c := &child{name: name, path: childPrefix(t.dir) + name, inName: t.entries.inName(name)}
	t.children[name] = c
	if !c.inName {
		t.changed[name] = struct{}{}
		return
	}
	t.decode(c, nil, false)
	c.read = true
}

// decode reads an entry. A bad one harms no other, and tells nothing: one that was
// overwritten keeps the servers that it had, a new one has none.
func (t *tree) decode(c *child, data []byte, overwritten bool) {
	servers, err := t.entries.decode(c.path, data)
	if err != nil {
		t.entries.refused(c.path, err)
		if !overwritten {
			c.servers = nil
		}
		return
	}
	t.entries.accepted(c.path)
	c.servers = servers
}

func (t *tree) drop(name string) {
	t.entries.accepted(t.children[name].path)
	delete(t.children, name)
	delete(t.changed, name)
}

func (t *tree) gotData(r reply) {
	c := t.childAt(r.path)
	if c == nil {
		return
	}
	c.reading = false
	switch r.outcome {
	case found:
		if !c.read || c.barred || c.stat.created != r.stat.created || c.stat.modified != r.stat.modified {
			t.decode(c, r.data, c.stat.created == r.stat.created)
		}
		c.stat, c.read, c.barred = r.stat, true, false
	case missing: // between the listing and now; the directory's watch tells as well
		t.drop(c.name)
	case denied:
		// Servers that are known stay; an unreadable entry never holds up the others.
		c.read, c.barred = true, true
		t.entries.refused(c.path, r.err)
	default:
		t.changed[c.name] = struct{}{}
		t.failed = true
	}
}

// compare asks for the age of entries that disagree about one server and whose name
// alone is known. It reports whether it asked.
func (t *tree) compare() bool {
	type claims struct {
		first    backend.Server
		disagree bool
		by       []*child // those of unknown age
	}
	known := map[backend.ID]*claims{}
	for _, c := range t.children {
		for _, s := range c.servers {
			of := known[s.ID]
			if of == nil {
				of = &claims{first: s}
				known[s.ID] = of
			}
			of.disagree = of.disagree || !of.first.SameData(s)
			if c.inName && !c.asked {
				of.by = append(of.by, c)
			}
		}
	}
	var ask []string
	for _, of := range known {
		for _, c := range of.by {
			if of.disagree && !c.asked {
				c.asked = true
				ask = append(ask, c.path)
			}
		}
	}
	slices.Sort(ask)
	for _, path := range ask {
		t.want(read{op: opCompare, path: path})
	}
	return t.waiting > 0
}

func (t *tree) gotStamp(r reply) {
	c := t.childAt(r.path)
	switch {
	case c == nil:
	case r.outcome == found:
		c.stat = r.stat
	case r.outcome == missing:
		t.drop(c.name)
	default: // the order of names decides until the next round
		t.dirty, t.failed = true, true
	}
}

// end closes a round: publish if everything is known, and see to what is left.
func (t *tree) end(now time.Time) {
	t.took = now.Sub(t.started)
	if t.verifyAt.IsZero() {
		t.planVerify(now)
	}
	if t.failed {
		t.retry = min(max(2*t.retry, minRetry), maxRetry)
		t.due = now.Add(t.retry/2 + time.Duration(t.random()*float64(t.retry)/2))
	} else {
		t.retry = 0
		if t.pending() {
			t.gather(now)
		}
	}
	if !t.listed || !t.complete() {
		return
	}
	if !t.failed {
		t.synced = now
	}
	set := t.set()
	if t.first || !slices.EqualFunc(set, t.last, backend.Server.SameData) {
		t.last, t.first, t.fresh = set, false, true
	}
}

func (t *tree) complete() bool {
	for _, c := range t.children {
		if !c.read {
			return false
		}
	}
	return true
}

// set merges the children's servers. Of two entries for one server the younger wins:
// a registrant that lost its session leaves the old entry until the session ends.
func (t *tree) set() []backend.Server {
	var all []backend.Server
	for _, c := range t.sorted() {
		all = append(all, c.servers...)
	}
	return backend.Merge(all)
}

// sorted gives the children from the oldest to the youngest, as far as known.
func (t *tree) sorted() []*child {
	children := slices.Collect(maps.Values(t.children))
	slices.SortFunc(children, func(a, b *child) int {
		return cmp.Or(cmp.Compare(a.stat.created, b.stat.created), cmp.Compare(a.name, b.name))
	})
	return children
}
