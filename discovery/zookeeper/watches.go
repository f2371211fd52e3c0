package zookeeper

import (
	"slices"
	"sync"
)

// watchKind is what a watch is armed on, in the client library's terms.
type watchKind uint8

const (
	watchData  watchKind = iota // content of a znode that exists
	watchExist                  // creation of one that does not
	watchChild                  // names in a directory
)

type watchKey struct {
	path string
	kind watchKind
}

// watch is the state of one (path, kind) of the session.
type watch struct {
	armed  bool
	arming chan struct{} // closed when the read under way that arms it has ended; nil for none
	fired  uint64        // how often it fired while this entry exists
	boxes  []*mailbox
}

// watchTable knows which watches are armed, so that each is armed once however many
// sources read its path: the server counts a watch once, but the client library
// keeps one channel for each call and cannot take a watch back. Watches are
// one-shot; so is the interest of a source.
type watchTable struct {
	mu      sync.Mutex
	entries map[watchKey]*watch
}

func newWatchTable() *watchTable { return &watchTable{entries: map[watchKey]*watch{}} }

// begin notes that box reads what key watches, and says whether the read has to arm
// the watch. It comes before the read is sent: an event may overtake the caller of
// an answered read. Force arms a watch that is believed armed but was seen to fail.
// While another read arms the watch, begin waits for it.
func (t *watchTable) begin(key watchKey, box *mailbox, force bool) (arm bool, fired uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for {
		w := t.entries[key]
		if w == nil {
			w = &watch{}
			t.entries[key] = w
		}
		if !slices.Contains(w.boxes, box) {
			w.boxes = append(w.boxes, box)
		}
		if w.arming == nil {
			if w.armed && !force {
				return false, w.fired
			}
			w.arming = make(chan struct{})
			return true, w.fired
		}
		other := w.arming
		t.mu.Unlock()
		<-other
		t.mu.Lock()
		force = false // if the other succeeded it did what was forced
	}
}

// end notes the outcome of a read that begin told to arm. Fired is begin's: if the
// watch fired since, nobody knows which one it was, and it counts as not armed,
// which costs a repeated arming and loses nothing.
func (t *watchTable) end(key watchKey, box *mailbox, fired uint64, armed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	w := t.entries[key]
	close(w.arming)
	w.arming = nil
	switch {
	case armed && w.fired == fired:
		w.armed = true
	case !armed && !w.armed:
		w.boxes = slices.DeleteFunc(w.boxes, func(b *mailbox) bool { return b == box })
	}
	t.tidy(key, w)
}

// fire tells whoever reads path that it changed. Path is what the box is told.
func (t *watchTable) fire(path, told string, kinds []watchKind) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, kind := range kinds {
		key := watchKey{path, kind}
		w := t.entries[key]
		if w == nil {
			continue
		}
		for _, box := range w.boxes {
			box.post(message{changed: told})
		}
		w.boxes = nil
		w.armed = false
		w.fired++
		t.tidy(key, w)
	}
}

// reset forgets every watch: the session that they belonged to is gone.
func (t *watchTable) reset() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for key, w := range t.entries {
		w.boxes = nil
		w.armed = false
		w.fired++
		t.tidy(key, w)
	}
}

// leave ends the interest of box. Armed watches stay, for the next source of a path.
func (t *watchTable) leave(box *mailbox) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for key, w := range t.entries {
		w.boxes = slices.DeleteFunc(w.boxes, func(b *mailbox) bool { return b == box })
		t.tidy(key, w)
	}
}

// armed counts the armed watches.
func (t *watchTable) armed() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	for _, w := range t.entries {
		if w.armed {
			n++
		}
	}
	return n
}

// tidy drops an entry that says nothing. t.mu is held.
func (t *watchTable) tidy(key watchKey, w *watch) {
	if !w.armed && w.arming == nil && len(w.boxes) == 0 {
		delete(t.entries, key)
	}
}
