package proxy

import (
	"time"

	"drover/backend"
	"drover/proxy/compress"
	"drover/units"
)

// RouteConfig says which requests a route takes, what becomes of them, and how. All
// conditions that are given must hold; one without any takes every request. Router
// says which route wins when several would take a request.
//
// It has as many fields as a route has keys: splitting it would split the
// configuration's vocabulary.
type RouteConfig struct {
	// Name stands in logs and metrics. Letters, digits, and "-_." only; unique.
	// Default "route-3" for the third route.
	Name string `yaml:"name"`
	// Listeners are the names of the listeners that the route is for. Default all.
	Listeners []string `yaml:"listeners"`

	// Host is the name that the request is for: exact ("api.example.com"), or
	// "*.example.com" for every name below example.com at any depth, but not
	// example.com itself. Without port; case and a trailing dot do not matter.
	// Default any.
	Host string `yaml:"host"`
	// Hosts is a list of such names instead.
	Hosts []string `yaml:"hosts"`
	// Path is the exact path. At most one of Path, PathPrefix and PathRegexp.
	Path string `yaml:"path"`
	// PathPrefix takes whole path segments: "/users" takes /users, /users/ and
	// /users/1 but not /usersx; "/users/" takes what is below, not /users itself.
	PathPrefix string `yaml:"path_prefix"`
	// PathRegexp is a regular expression (RE2) searched for in the path as the router
	// reads it, see Router. Anchor it with ^ and $.
	PathRegexp string `yaml:"path_regexp"`
	// Methods are the request methods, in capitals. GET does not imply HEAD. Default
	// all.
	Methods []string `yaml:"methods"`
	// Headers are conditions on request header fields; all must hold.
	Headers []MatchField `yaml:"headers"`
	// Query are conditions on the query's parameters, decoded; all must hold.
	Query []MatchField `yaml:"query"`

	// Upstream names the upstream that answers. Exactly one of Upstream, Split,
	// Redirect and Respond.
	Upstream string `yaml:"upstream"`
	// Split divides the requests over several upstreams by weight.
	Split []SplitConfig `yaml:"split"`
	// Redirect answers with a redirect.
	Redirect *RedirectConfig `yaml:"redirect"`
	// Respond answers with a fixed response.
	Respond *RespondConfig `yaml:"respond"`

	// StripPrefix takes whole segments off the front of the path that the server
	// sees: "/api" makes /api/x into /x and /api into /. Paths without it stay.
	StripPrefix string `yaml:"strip_prefix"`
	// Rewrite changes the path that the server sees, after StripPrefix.
	Rewrite *RewriteConfig `yaml:"rewrite"`
	// HostHeader is the Host that the server sees: "preserve" for the client's,
	// "upstream" for the server's address, any other text for itself. Default preserve.
	HostHeader string `yaml:"host_header"`
	// RequestHeaders changes the header fields on the way to the server, after
	// X-Forwarded-For and its like were added.
	RequestHeaders HeaderOps `yaml:"request_headers"`
	// ResponseHeaders changes the header fields on the way back. In interim answers (103)
	// it removes fields, and sets those that are there.
	ResponseHeaders HeaderOps `yaml:"response_headers"`
	// Timeout is the time from the request's head until the response's head, over all
	// attempts; 504 after it. Default 0s: only the transport's bounds hold.
	Timeout time.Duration `yaml:"timeout"`
	// MaxBodySize is the largest request body; 413 above. Default 0: the listener's.
	MaxBodySize units.Size `yaml:"max_body_size"`
	// Retry says when another server is tried.
	Retry RetryConfig `yaml:"retry"`
	// Tunnel bounds WebSockets and other tunnels.
	Tunnel TunnelConfig `yaml:"tunnel"`
	// Compress says which responses are compressed. Absent: bodies pass as they are.
	Compress *compress.Config `yaml:"compress"`
	// Access says who may use the route.
	Access AccessConfig `yaml:",inline"`
}

// MatchField is a condition on a header field or a query parameter: exactly one of
// Value, Regexp and Present. Where a name occurs several times, one that fits is
// enough.
type MatchField struct {
	// Name of the header field (case does not matter) or of the parameter (it does).
	Name string `yaml:"name"`
	// Value is the exact value.
	Value string `yaml:"value"`
	// Regexp is searched for in the value; anchor it with ^ and $. "^$" takes an empty
	// value.
	Regexp string `yaml:"regexp"`
	// Present takes any value, the empty one included.
	Present bool `yaml:"present"`
}

// SplitConfig is one share of a split.
type SplitConfig struct {
	// Upstream names the upstream.
	Upstream string `yaml:"upstream"`
	// Weight is the share relative to the other weights, 0 to 65535. 0 sends nothing
	// there; not all may be 0. Default 1.
	Weight int `yaml:"weight"`
}

// RedirectConfig is a redirect.
type RedirectConfig struct {
	// To is the new address, a template: "https://{host}{path}{query}". It begins with
	// "/", "{path}", "http://", "https://" or "{scheme}://". Characters that do not
	// belong in an address are percent-encoded.
	To string `yaml:"to"`
	// Status is 301, 302, 303, 307 or 308. Default 308: permanent, and clients repeat
	// the request as it was, body included.
	Status int `yaml:"status"`
}

// RespondConfig is a fixed response.
type RespondConfig struct {
	// Status is 200 to 599. Default 200.
	Status int `yaml:"status"`
	// Body is sent as it is. Default empty.
	Body string `yaml:"body"`
	// ContentType of the body. Default "text/plain; charset=utf-8"; not sent without
	// a body.
	ContentType string `yaml:"content_type"`
}

// RewriteConfig replaces what a regular expression finds in the path. The path is the
// client's, percent-encoded as it was sent; the query stays as it was.
type RewriteConfig struct {
	// Regexp is searched for; every match is replaced.
	Regexp string `yaml:"regexp"`
	// Replacement may use $1 or ${name} for groups of the regexp; $$ is a dollar sign.
	// It cannot hold "?" or "#".
	Replacement string `yaml:"replacement"`
}

// HeaderOps are changes of header fields: first those of Remove go, then Set
// replaces, then Add adds. Values are templates. Fields that frame a message or
// belong to one connection (Content-Length, Connection and their like) and Host
// cannot be named: drover writes those.
type HeaderOps struct {
	// Set gives a field one value, whatever it had.
	Set []HeaderValue `yaml:"set"`
	// Add adds a field beside those of the same name.
	Add []HeaderValue `yaml:"add"`
	// Remove takes every field of a name away.
	Remove []string `yaml:"remove"`
}

// HeaderValue is a header field to write.
type HeaderValue struct {
	// Name of the field, written in this spelling.
	Name string `yaml:"name"`
	// Value is a template, see templateVariables for what it may use.
	Value string `yaml:"value"`
}

// RetryConfig says when a request goes to another server. A retry also needs room in
// the upstream's retry budget, and nothing of a response may have reached the client.
type RetryConfig struct {
	// Attempts is how often a request is tried in all, the first time included, up to
	// 16. 0 and 1 both mean no retry. Default 2.
	Attempts int `yaml:"attempts"`
	// On lists what is retried: connect (no connection came about), stale (a kept
	// connection was dead), reset (the connection broke before the response head),
	// timeout (no response head in time), 502, 503, 504 (the server's answer). A
	// response whose body breaks is never retried. Default connect and stale.
	On []string `yaml:"on"`
	// Methods may be repeated even when the server may have acted on the first try.
	// Other methods are retried only where it is proven that no server took anything
	// of the request. Default GET, HEAD, OPTIONS, PUT, DELETE, TRACE: those that
	// RFC 9110, section 9.2.2, calls idempotent.
	Methods []string `yaml:"methods"`
	// PerTryTimeout is the time that one attempt has until its response head. Default
	// 0s: the transport's bounds.
	PerTryTimeout time.Duration `yaml:"per_try_timeout"`
	// MaxBufferedBody is the largest request body that is kept in memory so that it can
	// be sent again. Default 1MiB; with 0, a request whose body has begun is not
	// retried.
	MaxBufferedBody units.Size `yaml:"max_buffered_body"`
}

// maxAttempts bounds RetryConfig.Attempts; a request remembers that many servers.
const maxAttempts = backend.MaxTried

// maxSplitWeight bounds a weight, so that sums stay far from overflow.
const maxSplitWeight = 65535

// Values of RouteConfig.HostHeader with a meaning of their own.
const (
	hostHeaderPreserve = "preserve"
	hostHeaderUpstream = "upstream"
)

// SetDefaults implements the decoder's contract.
func (c *RouteConfig) SetDefaults() {
	c.HostHeader = hostHeaderPreserve
	c.Retry.SetDefaults()
	c.Tunnel.SetDefaults()
}

// Upstreams names the upstreams that the route leads to, none for one that drover
// answers itself.
func (c *RouteConfig) Upstreams() []string {
	if c.Upstream != "" {
		return []string{c.Upstream}
	}
	var names []string
	for _, share := range c.Split {
		names = append(names, share.Upstream)
	}
	return names
}

// SetDefaults implements the decoder's contract.
func (c *SplitConfig) SetDefaults() { c.Weight = 1 }

// SetDefaults implements the decoder's contract.
func (c *RedirectConfig) SetDefaults() { c.Status = 308 }

// SetDefaults implements the decoder's contract.
func (c *RespondConfig) SetDefaults() {
	c.Status = 200
	c.ContentType = "text/plain; charset=utf-8"
}

// SetDefaults implements the decoder's contract.
func (c *RetryConfig) SetDefaults() {
	c.Attempts = 2
	c.On = []string{"connect", "stale"}
	c.Methods = []string{"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"}
	c.MaxBufferedBody = units.MiB
}
