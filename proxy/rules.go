package proxy

import (
	"fmt"
	"regexp"
	"sort"
	"time"

	"drover/backend"
	"drover/exchange"
	"drover/proxy/compress"
	"drover/units"
)

// Route is a compiled route: how it matches, and what the request path needs to know
// to act on it. It is immutable.
//
// As RouteConfig it has a field for each thing that a route can say.
type Route struct {
	// Name is the configured name, or the default one. It is unique in its Router.
	Name string
	// Targets are the upstreams that answer; PickTarget chooses one. There is none
	// for a redirect or a fixed response.
	Targets []Target
	// Redirect and Respond are nil unless they are the route's action.
	Redirect *Redirect
	Respond  *Respond
	// Timeout bounds the time until the response's head over all attempts; 0 for none.
	Timeout time.Duration
	// MaxBodySize is the largest request body in bytes; 0 for the listener's.
	MaxBodySize units.Size
	Retry       Retry
	// Tunnel bounds what a 101 makes a tunnel.
	Tunnel TunnelConfig
	// RequestOps change the header on the way to the server, ResponseOps on the way
	// back.
	RequestOps  HeaderRules
	ResponseOps HeaderRules
	// Compress is nil for bodies that pass as they are.
	Compress *compress.Config
	// Access says who may use the route.
	Access AccessConfig

	hosts      []string // as parseHost spells them
	path       pathCondition
	conditions conditions
	shares     []uint64 // cumulative weights of Targets
	rewrite    targetRewrite
	hostHeader hostHeader
}

// Target is one upstream of a route.
type Target struct {
	Upstream string
	Weight   int
}

// Respond is a compiled fixed response. It is immutable.
type Respond struct {
	Status int
	// Header holds Content-Type and Content-Length where the status has a body.
	Header exchange.Header
	Body   []byte
}

// compileRoute checks a route and compiles it. Position is its index in the list.
func compileRoute(cfg *RouteConfig, position int) (*Route, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	r := &Route{
		Name:        cfg.Name,
		Timeout:     cfg.Timeout,
		MaxBodySize: cfg.MaxBodySize,
		Retry:       compileRetry(&cfg.Retry),
		Tunnel:      cfg.Tunnel,
		Compress:    cfg.Compress,
		Access:      cfg.Access,
		path:        compilePathCondition(cfg),
		conditions: conditions{
			listeners: cfg.Listeners,
			methods:   cfg.Methods,
			headers:   compileFields(cfg.Headers),
			query:     compileFields(cfg.Query),
		},
		rewrite:    compileTargetRewrite(cfg),
		hostHeader: compileHostHeader(cfg.HostHeader),
	}
	if r.Name == "" {
		r.Name = fmt.Sprintf("route-%d", position+1)
	}
	var err error
	if r.RequestOps, err = compileHeaderRules(&cfg.RequestHeaders); err != nil {
		return nil, err
	}
	if r.ResponseOps, err = compileHeaderRules(&cfg.ResponseHeaders); err != nil {
		return nil, err
	}
	r.compileHosts(cfg)
	return r, r.compileAction(cfg)
}

func (r *Route) compileAction(cfg *RouteConfig) (err error) {
	switch {
	case cfg.Redirect != nil:
		r.Redirect, err = compileRedirect(cfg.Redirect)
	case cfg.Respond != nil:
		r.Respond = compileRespond(cfg.Respond)
	case len(cfg.Split) > 0:
		for _, s := range cfg.Split {
			r.addTarget(Target(s))
		}
	default:
		r.addTarget(Target{Upstream: cfg.Upstream, Weight: 1})
	}
	return err
}

func (r *Route) addTarget(t Target) {
	sum := uint64(t.Weight) //nolint:gosec // validated to be 0 or more.
	if n := len(r.shares); n > 0 {
		sum += r.shares[n-1]
	}
	r.Targets, r.shares = append(r.Targets, t), append(r.shares, sum)
}

// PickTarget gives the index in Targets that a random number falls on, each index in
// proportion to its weight. It gives 0 for a route without targets.
func (r *Route) PickTarget(random uint32) int {
	n := len(r.shares)
	if n <= 1 {
		return 0
	}
	point := uint64(random) * r.shares[n-1] >> 32 // below the sum, as random is below 2^32
	return sort.Search(n-1, func(i int) bool { return point < r.shares[i] })
}

func (r *Route) compileHosts(cfg *RouteConfig) {
	for _, text := range append(cfg.Hosts[:len(cfg.Hosts):len(cfg.Hosts)], cfg.Host) {
		host, err := parseHost(text)
		if err == nil && !containsText(r.hosts, []byte(host)) {
			r.hosts = append(r.hosts, host)
		}
	}
}

func compilePathCondition(cfg *RouteConfig) pathCondition {
	c := pathCondition{}
	if cfg.Path != "" {
		c.exact = canonicalPath(cfg.Path)
	}
	if cfg.PathPrefix != "" {
		c.prefix = canonicalPath(cfg.PathPrefix)
	}
	if cfg.PathRegexp != "" {
		c.regexp = regexp.MustCompile(cfg.PathRegexp) // Validate has compiled it
	}
	return c
}

// canonicalPath spells a configured path as requests' paths are read.
func canonicalPath(path string) string {
	decoded, _ := appendDecoded(nil, []byte(path))
	return string(appendReading(nil, decoded, dotsResolved))
}

func compileFields(list []MatchField) []fieldCondition {
	var all []fieldCondition
	for _, f := range list {
		c := fieldCondition{name: f.Name, value: f.Value, present: f.Present}
		if f.Regexp != "" {
			c.regexp = regexp.MustCompile(f.Regexp) // Validate has compiled it
		}
		all = append(all, c)
	}
	return all
}

func compileRespond(cfg *RespondConfig) *Respond {
	r := &Respond{Status: cfg.Status}
	if !exchange.BodyAllowed(nil, cfg.Status) {
		return r
	}
	r.Body = []byte(cfg.Body)
	if len(r.Body) > 0 && cfg.ContentType != "" {
		r.Header.Add("Content-Type", cfg.ContentType)
	}
	r.Header.Add("Content-Length", fmt.Sprint(len(r.Body)))
	return r
}

// hostHeader is the Host that servers see.
type hostHeader struct {
	server bool   // the server's own address
	fixed  []byte // this text; nil for the client's
}

func compileHostHeader(value string) hostHeader {
	switch value {
	case "", hostHeaderPreserve:
		return hostHeader{}
	case hostHeaderUpstream:
		return hostHeader{server: true}
	default:
		return hostHeader{fixed: []byte(value)}
	}
}

// UpstreamHost gives the Host to send to a server for a request with the given one. A
// request without Host, which HTTP/1.0 allows, gets the server's address: HTTP/1.1
// requires one (RFC 9112, section 3.2).
func (r *Route) UpstreamHost(host []byte, server backend.ID) []byte {
	switch {
	case r.hostHeader.fixed != nil:
		return r.hostHeader.fixed
	case r.hostHeader.server, len(host) == 0:
		return []byte(server.Address())
	default:
		return host
	}
}

// RetryCondition is a set of reasons to try another server.
type RetryCondition uint16

// The reasons; RetryConfig.On says what they mean.
const (
	RetryConnect RetryCondition = 1 << iota
	RetryStale
	RetryReset
	RetryTimeout
	Retry502
	Retry503
	Retry504
)

// retryConditions are the reasons by their names in the configuration.
var retryConditions = map[string]RetryCondition{
	"connect": RetryConnect,
	"stale":   RetryStale,
	"reset":   RetryReset,
	"timeout": RetryTimeout,
	"502":     Retry502,
	"503":     Retry503,
	"504":     Retry504,
}

// Retry is a compiled retry rule. It is immutable.
type Retry struct {
	// Attempts is how often a request is tried in all, 1 or more.
	Attempts int
	// PerTryTimeout bounds one attempt until its response head; 0 for none.
	PerTryTimeout time.Duration
	// MaxBufferedBody is the largest body in bytes that is kept to be sent again.
	MaxBufferedBody units.Size

	on      RetryCondition
	methods []string
}

func compileRetry(cfg *RetryConfig) Retry {
	r := Retry{
		Attempts:        max(cfg.Attempts, 1),
		PerTryTimeout:   cfg.PerTryTimeout,
		MaxBufferedBody: cfg.MaxBufferedBody,
		methods:         cfg.Methods,
	}
	for _, name := range cfg.On {
		r.on |= retryConditions[name]
	}
	return r
}

// On reports whether the rule retries for that reason.
func (r *Retry) On(reason RetryCondition) bool { return r.on&reason != 0 }

// Method reports whether a request of that method may be sent again even when a
// server may have acted on it.
func (r *Retry) Method(method []byte) bool { return containsText(r.methods, method) }

// Repeats reports whether the rule can send a request of that method again once a
// part of it was sent. Without leave to repeat the method that needs a proof that
// nothing was taken, which only a broken connection or a silent server leaves.
func (r *Retry) Repeats(method []byte) bool {
	if r.Method(method) {
		return r.on != 0
	}
	return r.on&(RetryConnect|RetryStale|RetryTimeout) != 0
}
