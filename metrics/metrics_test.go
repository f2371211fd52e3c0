package metrics

import (
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

func scrapeText(t *testing.T, m *Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != 200 {
		t.Fatalf("scrape answered %d: %s", w.Code, w.Body)
	}
	return w.Body.String()
}

func wantLine(t *testing.T, text, line string, want bool) {
	t.Helper()
	if strings.Contains(text, line+"\n") != want {
		t.Errorf("scrape has line %q: %v; want %v\n%s", line, !want, want, text)
	}
}

func TestRequestMetrics(t *testing.T) {
	m := New(0, "v1")
	r := m.Route("api", "users")
	r.Begin()
	r.End([]byte("GET"), 200, "", 3*time.Millisecond, 5, 7)
	r.Begin()
	r.End([]byte("BREW"), 503, "AD", time.Millisecond, 0, 0)
	text := scrapeText(t, m)
	wantLine(t, text, `drover_route_requests_total{code="200",method="GET",route="api",upstream="users"} 1`, true)
	wantLine(t, text, `drover_route_requests_total{code="503",method="other",route="api",upstream="users"} 1`, true)
	wantLine(t, text, `drover_answers_total{reason="AD",route="api"} 1`, true)
	wantLine(t, text, `drover_route_in_flight{route="api"} 0`, true)
	wantLine(t, text, `drover_route_sent_bytes_total{route="api"} 7`, true)
}

func TestForgottenServerLeaves(t *testing.T) {
	m := New(0, "v1")
	gone, stays := m.Server("u", "http://a:1"), m.Server("u", "http://a:12")
	for _, s := range []*Server{gone, stays} {
		s.Attempt(200, "", time.Millisecond)
		s.Attempt(0, "reset", 0)
	}
	m.ForgetServer("u", "http://a:1")
	text := scrapeText(t, m)
	if strings.Contains(text, `server="http://a:1"`) {
		t.Errorf("a forgotten server's series are still there:\n%s", text)
	}
	wantLine(t, text, `drover_server_requests_total{code="2xx",server="http://a:12",upstream="u"} 1`, true)
}

func TestSeriesCap(t *testing.T) {
	m := New(3, "v1")
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		m.Upstream(name).BudgetExhausted()
	}
	text := scrapeText(t, m)
	wantLine(t, text, `drover_upstream_retry_budget_exhausted_total{upstream="c"} 1`, true)
	wantLine(t, text, `drover_upstream_retry_budget_exhausted_total{upstream="d"} 1`, false)
	wantLine(t, text, `drover_upstream_retry_budget_exhausted_total{upstream="other"} 2`, true)
	wantLine(t, text, `drover_metrics_series_dropped_total{metric="drover_upstream_retry_budget_exhausted_total"} 2`, true)
}

func TestScrapeReportsAndCap(t *testing.T) {
	m := New(2, "v1")
	m.OnScrape(func(s *Scrape) {
		s.Gauge(ServerUp, 1, "u", "a")
		s.Gauge(ServerUp, 0, "u", "b\xfe")
		s.Gauge(ServerUp, 1, "u", "c")
	})
	text := scrapeText(t, m)
	wantLine(t, text, `drover_server_up{server="a",upstream="u"} 1`, true)
	wantLine(t, text, `drover_server_up{server="b?",upstream="u"} 0`, true)
	wantLine(t, text, `drover_server_up{server="c",upstream="u"} 1`, false)
	wantLine(t, text, `drover_build_info{goversion="`+goVersion()+`",version="v1"} 1`, true)
}

func TestHandlesAreConcurrent(t *testing.T) {
	m := New(0, "v1")
	r := m.Route("api", "u")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for code := 200; code < 300; code++ {
				r.Begin()
				r.End([]byte("GET"), code, "", 0, 0, 0)
			}
		})
	}
	wg.Wait()
	text := scrapeText(t, m)
	for _, code := range []string{"200", "263", "264", "299"} {
		wantLine(t, text, `drover_route_requests_total{code="`+code+`",method="GET",route="api",upstream="u"} 8`, true)
	}
}

func goVersion() string { return runtime.Version() }
