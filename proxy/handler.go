// Package proxy is the request path: router, middleware chain, forward loop.
package proxy

import (
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"drover/exchange"
	"drover/metrics"
	"drover/proxy/access"
	"drover/proxy/compress"

	"go.uber.org/zap"
)

// Table is the routing snapshot: everything a request reads of the configuration.
// It is immutable; a reload publishes a new one with one swap, and a request that
// has loaded one sees nothing newer.
type Table struct {
	router    *Router
	routes    map[*Route]*binding
	noRoute   *metrics.Route
	listeners map[string]*ListenerOptions
	challenge func(host, path string) ([]byte, bool)
	access    *AccessLog
	accessCfg AccessLogConfig
}

// ListenerOptions are the settings of a listener that the request path needs.
type ListenerOptions struct {
	Forwarded bool // send Forwarded
	Via       bool // send Via both ways
	// Trusted are the proxies whose word about their clients counts.
	Trusted   []netip.Prefix
	RequestID RequestIDOptions
	Path      PathOptions
}

// A binding joins a route to the running upstreams it names.
type binding struct {
	targets []target
	guard   *guard // nil for a route that everybody may use
	// compress is nil for a route that passes bodies on as they are.
	compress *compress.Policy
}

type target struct {
	upstream *Upstream // nil for a redirect or a fixed response
	metrics  *metrics.Route
}

// TableOptions is what a Table is built from.
type TableOptions struct {
	Routes    []RouteConfig
	Upstreams map[string]*Upstream
	Listeners map[string]ListenerOptions
	AccessLog AccessLogConfig
	Log       *AccessLog
	Metrics   *metrics.Metrics
	// KeySets hold the keys of tokens, for each jwks_url of a route.
	KeySets map[access.KeySetConfig]*access.KeySet
	// Challenge gives the answer to an authority that asks for one at a path of a host
	// (ACME's HTTP-01), nil for none.
	Challenge func(host, path string) (answer []byte, ok bool)
}

// noRouteName labels requests that no route matches.
const noRouteName = "none"

// NewTable compiles routes and joins them to upstreams.
func NewTable(o TableOptions) (*Table, error) {
	router, err := Compile(o.Routes)
	if err != nil {
		return nil, err
	}
	t := &Table{
		router:    router,
		routes:    map[*Route]*binding{},
		noRoute:   o.Metrics.Route(noRouteName, ""),
		listeners: map[string]*ListenerOptions{},
		challenge: o.Challenge,
		access:    o.Log,
		accessCfg: o.AccessLog,
	}
	for name, l := range o.Listeners {
		t.listeners[name] = &l
	}
	slots := access.NewSlots()
	for _, r := range router.Routes() {
		b := &binding{}
		for _, ref := range r.Targets {
			u, ok := o.Upstreams[ref.Upstream]
			if !ok {
				return nil, fmt.Errorf("cannot bind route %q: no upstream %q", r.Name, ref.Upstream)
			}
			b.targets = append(b.targets, target{u, o.Metrics.Route(r.Name, u.Name)})
		}
		if len(b.targets) == 0 {
			b.targets = []target{{nil, o.Metrics.Route(r.Name, "")}}
		}
		if b.guard, err = newGuard(&r.Access, &o, slots); err != nil {
			return nil, fmt.Errorf("cannot guard route %q: %w", r.Name, err)
		}
		if r.Compress != nil {
			if b.compress, err = compress.New(r.Compress); err != nil {
				return nil, fmt.Errorf("cannot compress for route %q: %w", r.Name, err)
			}
		}
		t.routes[r] = b
	}
	return t, nil
}

// Proxy is the handler that every front calls.
type Proxy struct {
	// immutable
	logger    *zap.Logger
	handle    handler
	callGrace time.Duration

	// atomic
	table atomic.Pointer[Table]

	pool sync.Pool // of *request
}

// New makes a Proxy that routes by t.
func New(t *Table, logger *zap.Logger) *Proxy {
	p := &Proxy{logger: logger, callGrace: callGrace}
	p.pool.New = func() any { return p.newRequest() }
	p.handle = p.chain()
	p.table.Store(t)
	return p
}

// SetTable publishes a new routing snapshot.
func (p *Proxy) SetTable(t *Table) { p.table.Store(t) }

// Rejected logs an exchange that the front answered itself. One that came this far
// before has its line.
func (p *Proxy) Rejected(ex *exchange.Exchange) {
	t := p.table.Load()
	if t.access == nil || ex.Result.Route != "" {
		return
	}
	now := time.Now()
	if ex.Start.IsZero() {
		ex.Start = now // its head has never been complete.
	}
	t.access.Log(t.accessCfg, ex, ex.Result.Status, now.Sub(ex.Start))
}

func (p *Proxy) newRequest() *request {
	rq := &request{}
	rq.done = func() {
		rq.reset()
		p.pool.Put(rq)
	}
	return rq
}

// Serve answers one exchange. It returns when the exchange is over, tunnels included,
// but for what the front may yet hold back of the answer: see exchange.Exchange.Done.
func (p *Proxy) Serve(ex *exchange.Exchange) {
	rq := p.pool.Get().(*request) //nolint:forcetypeassert,errcheck // the pool holds nothing else.
	rq.ex, rq.table, rq.newest = ex, p.table.Load(), &p.table
	ex.Done = rq.done
	p.handle(rq)
}
