package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
)

// sample gives the value of a series, such as `drover_upstream_panic{upstream="app"}`,
// and whether there is one.
func (n *node) sample(t *testing.T, series string) (value float64, ok bool) {
	t.Helper()
	w := httptest.NewRecorder()
	n.metrics.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != 200 {
		t.Fatalf("scrape answered %d: %s", w.Code, w.Body)
	}
	for line := range strings.Lines(w.Body.String()) {
		text, found := strings.CutPrefix(line, series+" ")
		if !found {
			continue
		}
		value, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
		if err != nil {
			t.Fatalf("cannot read %q: %v", line, err)
		}
		return value, true
	}
	return 0, false
}

// answering makes a peer answer requests, probes apart, with a status.
func (p *peer) answering(status int) {
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })
	p.handler.Store(&h)
}

// TestHealthMetrics ejects a server, keeps the other in since it is the last, and lets
// the first in again; all of it, and the checks, can be read from the metrics.
func TestHealthMetrics(t *testing.T) {
	a, b := startPeer(t, "a"), startPeer(t, "b")
	n := startNode(t, fmt.Sprintf(`listeners: [ { name: web, address: "LISTEN" } ]
upstreams:
  - name: app
    servers: [ { address: %q }, { address: %q } ]
    check: { path: /healthz, interval: 50ms, edge_interval: 50ms }
    outlier: { consecutive_failures: 2, eject_for: 100ms, max_ejected_percent: 50 }
routes: [ { upstream: app } ]
`, a.address, b.address))
	f := func(what, family string, want func(float64) bool) {
		t.Helper()
		eventually(t, what, func() bool {
			fetch(t, client(t, false), "GET", n.url("web")+"/", "")
			got, ok := n.sample(t, family)
			return ok && want(got)
		})
	}
	some, none := func(v float64) bool { return v > 0 }, func(v float64) bool { return v == 0 }
	f("nothing is suppressed yet", `drover_upstream_ejections_suppressed_total{upstream="app"}`, none)
	f("nobody was let in yet", `drover_upstream_readmissions_total{upstream="app"}`, none)
	a.answering(500)
	b.answering(500)
	f("a server is ejected", `drover_upstream_ejections_total{reason="consecutive_failures",upstream="app"}`, some)
	f("the last one is not", `drover_upstream_ejections_suppressed_total{upstream="app"}`, some)
	f("the first is let in again", `drover_upstream_readmissions_total{upstream="app"}`, some)
	f("checks run", `drover_upstream_probes_total{result="pass",upstream="app"}`, some)
	f("no check panics", `drover_upstream_probe_panics_total{upstream="app"}`, none)
	f("checks begin late by nothing or more", `drover_upstream_probe_lateness_seconds{upstream="app"}`, func(v float64) bool { return v >= 0 })
}
