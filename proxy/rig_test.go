package proxy

import (
	"net"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"drover/backend"
	"drover/exchange"
	"drover/metrics"
	"drover/transport"

	"go.uber.org/zap"
)

// client is a client that keeps what it is sent.
type client struct {
	response exchange.Response
	body     []byte
	left     atomic.Bool
}

func (c *client) Inform(*exchange.Response) error { return nil }

func (c *client) Start(r *exchange.Response) error { c.response = *r; return nil }

func (c *client) Write(p []byte) (int, error) { c.body = append(c.body, p...); return len(p), nil }

func (c *client) Flush() error { return nil }

func (c *client) Gone() bool { return c.left.Load() }

func (c *client) AbortBody() {}

func (c *client) Hijack() (net.Conn, error) { return nil, net.ErrClosed }

// orFirst picks the first server that was not tried, and the first of all when there
// is none.
type orFirst []*backend.Member

func (b orFirst) Pick(_ uint64, tried *backend.Tried) *backend.Member {
	for _, m := range b {
		if !tried.Has(m.Live) {
			return m
		}
	}
	if len(b) > 0 {
		return b[0]
	}
	return nil
}

func (b orFirst) PickFree(limit int, tried *backend.Tried) *backend.Member {
	for _, m := range b {
		if !tried.Has(m.Live) && m.InFlight() < limit {
			return m
		}
	}
	return nil
}

func (b orFirst) Find(uint64) *backend.Member { return nil }

// member makes a server with a pool that lasts as long as the test.
func member(t testing.TB, id backend.ID) *backend.Member {
	t.Helper()
	var cfg transport.Config
	cfg.SetDefaults()
	conns, err := transport.NewPool(id, &cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conns.Close() })
	return &backend.Member{Server: backend.Server{ID: id, Weight: 1}, Live: &backend.Live{Conns: conns}}
}

// rig is a proxy with one route to one upstream, both named "a".
type rig struct {
	*Proxy
	up      *Upstream
	metrics *metrics.Metrics
}

func newRig(t testing.TB, members []*backend.Member, change func(o *UpstreamOptions, c *RouteConfig)) *rig {
	t.Helper()
	m := metrics.New(0, "test")
	o := UpstreamOptions{
		Name: "a", Balancer: orFirst(members), Metrics: m, LatencyDecay: time.Second,
		Members: func() (int, int) { return len(members), len(members) },
		Servers: NewServerHandles("a", m),
	}
	o.Limits.SetDefaults()
	o.Budget.SetDefaults()
	c := routeTo("a", func(c *RouteConfig) { change(&o, c) })
	o.Servers.Sync(members)
	up := NewUpstream(o)
	table, err := NewTable(TableOptions{
		Routes: []RouteConfig{c}, Upstreams: map[string]*Upstream{"a": up}, Metrics: m,
	})
	if err != nil {
		t.Fatal(err)
	}
	return &rig{New(table, zap.NewNop()), up, m}
}

// serve runs one request and gives what the client got and what became of it.
func (r *rig) serve(ex *exchange.Exchange) (*client, *exchange.Result) {
	c, ok := ex.Client.(*client)
	if !ok {
		c = &client{}
		ex.Client = c
	}
	ex.Start = time.Now()
	r.Serve(ex)
	if ex.Done != nil {
		ex.Done()
	}
	return c, &ex.Result
}

// metric gives the lines of a metric as a scrape would read them.
func (r *rig) metric(name string) string {
	rec := httptest.NewRecorder()
	r.metrics.Handler().ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
	var lines []string
	for line := range strings.Lines(rec.Body.String()) {
		if strings.HasPrefix(line, name) {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return strings.Join(lines, "\n")
}
