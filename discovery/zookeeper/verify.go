package zookeeper

import (
	"maps"
	"slices"
	"time"
)

// Watches can be lost: the client library restores them after a reconnect relative
// to a mark that may be too young, and only logs it if the server refuses. So the
// directory's stamp is compared now and then, and the stamps of a part of the
// children, all of them in turn. What a check finds and no watch told of is a
// correction; it is read like any other change, with its watch armed anew.

// planVerify sets the time of the next check: 50 to 150 percent of the interval.
func (t *tree) planVerify(now time.Time) {
	t.verifyAt = now.Add(t.timing.verify/2 + time.Duration(t.random()*float64(t.timing.verify)))
}

// verify asks for the stamps.
func (t *tree) verify(now time.Time) {
	t.planVerify(now)
	if !t.listed {
		return
	}
	t.stats.checks++
	t.want(read{op: opVerify, path: t.dir})
	for _, name := range t.slice() {
		c := t.children[name]
		switch {
		case c.barred: // we may be allowed to, by now
			t.changed[name] = struct{}{}
			t.gather(now)
		case !c.inName:
			t.want(read{op: opVerifyChild, path: c.path})
		}
	}
}

// slice names the children whose turn it is.
func (t *tree) slice() []string {
	names := slices.Sorted(maps.Keys(t.children))
	size := max(minSlice, (len(names)+sliceRatio-1)/sliceRatio)
	if t.verifyAll || size >= len(names) {
		t.verifyAll, t.cursor = false, ""
		return names
	}
	from, _ := slices.BinarySearch(names, t.cursor+"\x00")
	turn := append(slices.Clone(names[from:]), names[:from]...)[:size]
	t.cursor = turn[size-1]
	return turn
}

// verified takes the reply to a check. An event that is on its way came before it,
// since the server sends the two in order, so what is dirty is no correction.
func (t *tree) verified(now time.Time, r reply) {
	if r.op == opVerifyChild {
		t.verifiedChild(now, r)
		return
	}
	if r.path != t.dir || r.after != t.round || t.dirty {
		return // overtaken
	}
	switch {
	case r.outcome == found && t.present && r.stat.children == t.stat.children && r.stat.created == t.stat.created,
		r.outcome == missing && !t.present:
		t.synced = now
	case r.outcome == found, r.outcome == missing:
		t.correct(now)
		t.dirty, t.lost, t.absent = true, true, !t.present
		// Children that were written again meanwhile look the same in a listing.
		t.verifyAll = true
		t.verifyAt = t.due.Add(t.spread())
	}
}

func (t *tree) verifiedChild(now time.Time, r reply) {
	c := t.childAt(r.path)
	if c == nil || r.outcome != found || c.reading {
		return // overtaken, or gone, which the directory's stamp shows
	}
	if _, known := t.changed[c.name]; known {
		return
	}
	if r.stat.modified > c.stat.modified || r.stat.created > c.stat.created {
		t.correct(now)
		t.changed[c.name] = struct{}{}
		c.lost = true
	}
}

func (t *tree) correct(now time.Time) {
	t.stats.corrections++
	t.gather(now)
}
