package metrics

import (
	"slices"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// otherLabel is the value that stands for all series past the cap.
const otherLabel = "other"

// A vec is a metric vector that never holds more than a given number of series:
// further label values are folded into "other", counted, and nothing is lost from
// the sums. It is off the request path, which keeps the handles it gives out.
type vec[M any] struct {
	// immutable
	name    string
	max     int
	with    func(labels ...string) M
	del     func(labels ...string) bool
	dropped prometheus.Counter

	mu    sync.Mutex
	known map[string]M
}

func newVec[M any](f family, limit int, with func(...string) M, del func(...string) bool, dropped *prometheus.CounterVec) *vec[M] {
	return &vec[M]{
		name: f.name, max: limit, with: with, del: del,
		dropped: dropped.WithLabelValues(f.name), known: map[string]M{},
	}
}

const labelSeparator = "\xff" // no valid label value holds this byte

// get gives the series of the label values, making it on first use.
func (v *vec[M]) get(labels ...string) M {
	for i, l := range labels {
		labels[i] = strings.ToValidUTF8(l, "?")
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	key := strings.Join(labels, labelSeparator)
	if m, ok := v.known[key]; ok {
		return m
	}
	if len(v.known) >= v.max {
		v.dropped.Inc()
		for i := range labels {
			labels[i] = otherLabel
		}
		return v.with(labels...)
	}
	m := v.with(labels...)
	v.known[key] = m
	return m
}

// forget removes every series whose first labels are those given.
func (v *vec[M]) forget(prefix ...string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for key := range v.known {
		labels := strings.Split(key, labelSeparator)
		if len(labels) >= len(prefix) && slices.Equal(labels[:len(prefix)], prefix) {
			v.del(labels...)
			delete(v.known, key)
		}
	}
}
