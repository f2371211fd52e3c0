// Package metrics holds every metric of drover: its name, its help text, and the
// typed handles that the parts count with.
package metrics

import (
	"net/http"
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// DefaultMaxSeries is the cap on series per metric where the configuration sets none.
const DefaultMaxSeries = 10_000

// Metrics is drover's registry. Methods are safe for concurrent use; the handles
// they give out are lock-free.
type Metrics struct {
	// immutable
	registry *prometheus.Registry
	scrape   *scrapeCollector
	dropped  *prometheus.CounterVec

	connections     *vec[prometheus.Gauge]
	connectionsSum  *vec[prometheus.Counter]
	rejected        *vec[prometheus.Counter]
	routeRequests   *vec[prometheus.Counter]
	routeDuration   *vec[prometheus.Observer]
	routeReceived   *vec[prometheus.Counter]
	routeSent       *vec[prometheus.Counter]
	routeInFlight   *vec[prometheus.Gauge]
	answers         *vec[prometheus.Counter]
	retries         *vec[prometheus.Counter]
	budgetExhausted *vec[prometheus.Counter]
	queued          *vec[prometheus.Gauge]
	queueRejected   *vec[prometheus.Counter]
	serverRequests  *vec[prometheus.Counter]
	serverFailures  *vec[prometheus.Counter]
	serverDuration  *vec[prometheus.Observer]
	reloads         *vec[prometheus.Counter]
}

// New makes an empty registry whose metrics hold at most maxSeries series each; 0
// means DefaultMaxSeries.
func New(maxSeries int, version string) *Metrics {
	if maxSeries <= 0 {
		maxSeries = DefaultMaxSeries
	}
	m := &Metrics{registry: prometheus.NewRegistry()}
	m.dropped = prometheus.NewCounterVec(prometheus.CounterOpts{Name: seriesDropped.name, Help: seriesDropped.help}, seriesDropped.labels)
	m.scrape = &scrapeCollector{max: maxSeries, dropped: m.dropped}
	m.registry.MustRegister(m.dropped, m.scrape,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))

	m.connections = m.gauge(listenerConnections, maxSeries)
	m.connectionsSum = m.counter(listenerConnectionsTotal, maxSeries)
	m.rejected = m.counter(listenerRejectedTotal, maxSeries)
	m.routeRequests = m.counter(routeRequestsTotal, maxSeries)
	m.routeDuration = m.histogram(routeDuration, maxSeries)
	m.routeReceived = m.counter(routeReceivedBytes, maxSeries)
	m.routeSent = m.counter(routeSentBytes, maxSeries)
	m.routeInFlight = m.gauge(routeInFlight, maxSeries)
	m.answers = m.counter(answersTotal, maxSeries)
	m.retries = m.counter(upstreamRetriesTotal, maxSeries)
	m.budgetExhausted = m.counter(upstreamBudgetExhausted, maxSeries)
	m.queued = m.gauge(upstreamQueued, maxSeries)
	m.queueRejected = m.counter(upstreamQueueRejected, maxSeries)
	m.serverRequests = m.counter(serverRequestsTotal, maxSeries)
	m.serverFailures = m.counter(serverFailuresTotal, maxSeries)
	m.serverDuration = m.histogram(serverDuration, maxSeries)
	m.reloads = m.counter(configReloadsTotal, maxSeries)
	m.OnScrape(func(s *Scrape) { s.Gauge(BuildInfo, 1, version, runtime.Version()) })
	return m
}

func (m *Metrics) counter(f family, limit int) *vec[prometheus.Counter] {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: f.name, Help: f.help}, f.labels)
	m.registry.MustRegister(c)
	return newVec(f, limit, c.WithLabelValues, c.DeleteLabelValues, m.dropped)
}

func (m *Metrics) gauge(f family, limit int) *vec[prometheus.Gauge] {
	g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: f.name, Help: f.help}, f.labels)
	m.registry.MustRegister(g)
	return newVec(f, limit, g.WithLabelValues, g.DeleteLabelValues, m.dropped)
}

func (m *Metrics) histogram(f family, limit int) *vec[prometheus.Observer] {
	h := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: f.name, Help: f.help, Buckets: durationBuckets}, f.labels)
	m.registry.MustRegister(h)
	return newVec(f, limit, h.WithLabelValues, h.DeleteLabelValues, m.dropped)
}

// Handler serves the registry in Prometheus' text format.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{Registry: m.registry})
}

// Reloaded counts one attempt to load a configuration.
func (m *Metrics) Reloaded(ok bool) {
	if ok {
		m.reloads.get("success").Inc()
		return
	}
	m.reloads.get("failure").Inc()
}
