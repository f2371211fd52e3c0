package metrics

import (
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// Scrape collects the values that parts report when Prometheus asks.
type Scrape struct {
	out     chan<- prometheus.Metric
	max     int
	dropped *prometheus.CounterVec
	count   map[string]int
}

// Gauge reports a value. A series past the cap is left out and counted.
func (s *Scrape) Gauge(g Gauge, value float64, labels ...string) {
	s.report(family(g), prometheus.GaugeValue, value, labels)
}

// Counter reports a running count. A series past the cap is left out and counted.
func (s *Scrape) Counter(c Counter, value float64, labels ...string) {
	s.report(family(c), prometheus.CounterValue, value, labels)
}

func (s *Scrape) report(f family, kind prometheus.ValueType, value float64, labels []string) {
	if s.count[f.name] >= s.max {
		s.dropped.WithLabelValues(f.name).Inc()
		return
	}
	s.count[f.name]++
	for i, l := range labels {
		labels[i] = strings.ToValidUTF8(l, "?")
	}
	s.out <- prometheus.MustNewConstMetric(prometheus.NewDesc(f.name, f.help, f.labels, nil), kind, value, labels...)
}

// Bool is 1 for true: the value of a yes-or-no gauge.
func Bool(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// scrapeCollector is an unchecked collector: which series exist depends on the
// members of the moment.
type scrapeCollector struct {
	max     int
	dropped *prometheus.CounterVec

	mu      sync.Mutex
	reports []func(*Scrape)
}

// OnScrape adds a function that reports values at each scrape. It must not block.
func (m *Metrics) OnScrape(report func(*Scrape)) {
	m.scrape.mu.Lock()
	defer m.scrape.mu.Unlock()
	m.scrape.reports = append(m.scrape.reports, report)
}

func (c *scrapeCollector) Describe(chan<- *prometheus.Desc) {}

func (c *scrapeCollector) Collect(out chan<- prometheus.Metric) {
	c.mu.Lock()
	reports := c.reports
	c.mu.Unlock()
	s := &Scrape{out: out, max: c.max, dropped: c.dropped, count: map[string]int{}}
	for _, report := range reports {
		report(s)
	}
}
