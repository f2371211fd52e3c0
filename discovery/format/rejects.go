package format

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
)

// Rejected is an entry that cannot be used.
type Rejected struct {
	Path   string    `json:"path"`
	Reason string    `json:"reason"`
	At     time.Time `json:"at"`    // when it was first found so
	Count  int       `json:"count"` // how often it was found so
}

// maxRejects bounds what is remembered of a registry full of rubbish.
const maxRejects = 1000

// maxReasons bounds what one entry can put into the log.
const maxReasons = 8

// Rejects keeps the entries of one source that cannot be used. It is safe for
// concurrent use.
type Rejects struct {
	// immutable
	logger *zap.Logger

	// under mu
	mu       sync.Mutex
	rejected map[string]Rejected
	logged   map[string][]string // the reasons logged for each path
	total    int
}

// NewRejects makes an empty one.
func NewRejects(logger *zap.Logger) *Rejects {
	return &Rejects{logger: logger, rejected: map[string]Rejected{}, logged: map[string][]string{}}
}

// Add notes that an entry cannot be used. It is logged once for each path and reason.
func (r *Rejects) Add(path string, err error) {
	reason := err.Error()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.total++
	known, ok := r.rejected[path]
	if ok && known.Reason == reason {
		known.Count++
		r.rejected[path] = known
		return
	}
	if !ok && len(r.rejected) >= maxRejects {
		return
	}
	r.rejected[path] = Rejected{Path: path, Reason: reason, At: time.Now(), Count: 1}
	if logged := r.logged[path]; len(logged) < maxReasons && !slices.Contains(logged, reason) {
		r.logged[path] = append(logged, reason)
		r.logger.Warn("an entry cannot be used; its neighbours are", zap.String("entry", path), zap.String("reason", reason))
	}
}

// Remove notes that an entry is good again, or gone.
func (r *Rejects) Remove(path string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.rejected, path)
	delete(r.logged, path)
}

// List gives the entries that cannot be used at present, by path.
func (r *Rejects) List() []Rejected {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.SortedFunc(maps.Values(r.rejected), func(a, b Rejected) int { return strings.Compare(a.Path, b.Path) })
}

// Total counts all findings.
func (r *Rejects) Total() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.total
}
