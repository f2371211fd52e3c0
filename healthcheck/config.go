package healthcheck

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"drover/backend"
	"drover/invalid"
)

// CheckConfig is the `check` block: an active health probe. It has more than 15 fields,
// since three kinds of probe share it. Every probe opens a connection of its own, so
// that one that passes proves that the server still accepts connections.
type CheckConfig struct {
	// Type is http, tcp or grpc. Default http.
	Type string `yaml:"type"`
	// Path is the target that http asks for, with a query if needed. Default "/".
	Path string `yaml:"path"`
	// Method is the method of http. Default GET.
	Method string `yaml:"method"`
	// Host is the Host field of http and the authority of grpc. Default: the server's
	// address.
	Host string `yaml:"host"`
	// Protocol is what http is spoken in: auto, h1, h2 or h2c, as in transport. Default:
	// transport.protocol.
	Protocol string `yaml:"protocol"`
	// ProxyProtocol is v1 or v2 where servers want a PROXY header on their own ports; it
	// is the transport's.
	ProxyProtocol string `yaml:"-"`
	// Headers are further fields of http.
	Headers []Header `yaml:"headers"`
	// Statuses are what http accepts: "200", "200-299". Default 200-299. Redirects are
	// not followed.
	Statuses []string `yaml:"statuses"`
	// Body is a regular expression that the first 64 KiB of the answer must match, for
	// http. Default: any body.
	Body string `yaml:"body"`
	// BodyContains is a text that the first 64 KiB of the answer must hold, for http.
	// Default: any body.
	BodyContains string `yaml:"body_contains"`
	// Send is what tcp writes after connecting. Default: nothing.
	Send string `yaml:"send"`
	// Expect is a text that the first 64 KiB the server sends must hold, for tcp.
	// Default: connecting is enough.
	Expect string `yaml:"expect"`
	// Service is what grpc asks grpc.health.v1 about. Default "", the whole server.
	Service string `yaml:"service"`
	// Port is probed instead of the server's own. Default 0: the server's own.
	Port int `yaml:"port"`
	// TLS makes probes speak TLS; servers whose scheme is https get it anyway.
	TLS bool `yaml:"tls"`
	// CAFile holds the authorities to trust, PEM. Default: those of the upstream's
	// transport.tls, which are the system's by default.
	CAFile string `yaml:"ca_file"`
	// CertFile holds the client certificate to show, PEM. Default: that of transport.tls.
	CertFile string `yaml:"cert_file"`
	// KeyFile holds the client certificate's key, PEM. Default: that of transport.tls.
	KeyFile string `yaml:"key_file"`
	// ServerName is the name to verify and to send. Default: that of transport.tls,
	// else the server's host.
	ServerName string `yaml:"server_name"`
	// InsecureSkipVerify accepts any certificate. Default: as in transport.tls, but
	// false for a check with a ca_file of its own.
	InsecureSkipVerify bool `yaml:"insecure_skip_verify"`
	// Interval is the time from the start of a server's probe to the start of its next.
	// Default 5s.
	Interval time.Duration `yaml:"interval"`
	// EdgeInterval is used instead while a verdict may be about to change, and for a
	// new server. A value above interval has no effect. Default 500ms.
	EdgeInterval time.Duration `yaml:"edge_interval"`
	// Timeout bounds a probe in all. Default 2s.
	Timeout time.Duration `yaml:"timeout"`
	// HealthyAfter is how many probes in a row must pass before a server that is down
	// is up. A server that was never judged is up after its first. Default 2.
	HealthyAfter int `yaml:"healthy_after"`
	// UnhealthyAfter is how many probes in a row must fail before a server is down. It
	// takes traffic meanwhile, a new one too. Default 3.
	UnhealthyAfter int `yaml:"unhealthy_after"`
	// JitterPercent spreads probes around their interval. Default 20.
	JitterPercent int `yaml:"jitter_percent"`
	// Parallel is how many probes of an upstream may run at once. The log tells when it
	// is too small for the number of servers. Default 64.
	Parallel int `yaml:"parallel"`

	// Addresses is held against what a server's host resolves to, at each probe.
	Addresses *backend.AddressRules `yaml:"-"`
}

// Header is a field of an http probe.
type Header struct {
	// Name is the field's name.
	Name string `yaml:"name"`
	// Value is the field's value.
	Value string `yaml:"value"`
}

// SetDefaults implements the decoder's contract.
func (c *CheckConfig) SetDefaults() {
	*c = CheckConfig{
		Type: "http", Path: "/", Method: "GET", Statuses: []string{"200-299"},
		Interval: 5 * time.Second, EdgeInterval: 500 * time.Millisecond, Timeout: 2 * time.Second,
		HealthyAfter: 2, UnhealthyAfter: 3, JitterPercent: 20, Parallel: 64,
	}
}

// Validate implements the decoder's contract.
func (c *CheckConfig) Validate() error {
	return errors.Join(c.validateType(), c.validateHTTP(), c.validateTLS(), c.validateTimes())
}

// validateType refuses an unknown type, and settings that the type would not read: a
// check that silently ignores its path looks as if it had checked something.
func (c *CheckConfig) validateType() error {
	if _, ok := checkers[c.Type]; !ok {
		return invalid.Fieldf("type", "got %q; want one of %s", c.Type, strings.Join(checkerNames(), ", "))
	}
	var defaults CheckConfig
	defaults.SetDefaults()
	var faults []error
	for _, s := range []struct {
		key   string
		isSet bool
		types []string
	}{
		{"path", c.Path != defaults.Path, []string{"http"}},
		{"method", c.Method != defaults.Method, []string{"http"}},
		{"host", c.Host != "", []string{"http", "grpc"}},
		{"protocol", c.Protocol != "", []string{"http"}},
		{"headers", len(c.Headers) > 0, []string{"http"}},
		{"statuses", !slices.Equal(c.Statuses, defaults.Statuses), []string{"http"}},
		{"body", c.Body != "", []string{"http"}},
		{"body_contains", c.BodyContains != "", []string{"http"}},
		{"send", c.Send != "", []string{"tcp"}},
		{"expect", c.Expect != "", []string{"tcp"}},
		{"service", c.Service != "", []string{"grpc"}},
	} {
		if s.isSet && !slices.Contains(s.types, c.Type) {
			faults = append(faults, invalid.Fieldf(s.key, "got it in a check of type %s; want it only with type %s",
				c.Type, strings.Join(s.types, " or ")))
		}
	}
	return errors.Join(faults...)
}

func (c *CheckConfig) validateHTTP() error {
	var faults []error
	fault := func(key, text string, args ...any) { faults = append(faults, invalid.Fieldf(key, text, args...)) }
	if _, err := url.ParseRequestURI(c.Path); err != nil || !strings.HasPrefix(c.Path, "/") {
		fault("path", `got %q; want a path that begins with "/"`, c.Path)
	}
	// A method is a token, as a field's name is (RFC 9110, section 9.1).
	if !httpguts.ValidHeaderFieldName(c.Method) {
		fault("method", "got %q; want a method such as GET", c.Method)
	}
	if !httpguts.ValidHostHeader(c.Host) {
		fault("host", "got %q; want a host name, with a port if needed", c.Host)
	}
	if c.Protocol != "" && !slices.Contains(protocols, c.Protocol) {
		fault("protocol", "got %q; want one of %s", c.Protocol, strings.Join(protocols, ", "))
	}
	for i, h := range c.Headers {
		faults = append(faults, invalid.In(fmt.Sprintf("headers[%d]", i), h.validate()))
	}
	if _, err := parseStatuses(c.Statuses); err != nil {
		fault("statuses", "%w", err)
	}
	if len(c.Statuses) == 0 {
		fault("statuses", "got an empty list; want statuses such as 200-299")
	}
	if _, err := regexp.Compile(c.Body); err != nil {
		fault("body", "got %q; want a regular expression: %w", c.Body, err)
	}
	return errors.Join(faults...)
}

// framing are the fields that the probe itself writes.
var framing = []string{"connection", "content-length", "transfer-encoding", "upgrade", "trailer"}

func (h Header) validate() error {
	switch {
	case !httpguts.ValidHeaderFieldName(h.Name):
		return invalid.Fieldf("name", "got %q; want a field name", h.Name)
	case strings.EqualFold(h.Name, "host"):
		return invalid.Fieldf("name", `got %q; want it as the check's "host"`, h.Name)
	case slices.Contains(framing, strings.ToLower(h.Name)):
		return invalid.Fieldf("name", "got %q; want a field that does not frame the message", h.Name)
	case !httpguts.ValidHeaderFieldValue(h.Value):
		return invalid.Fieldf("value", "got %q; want a value without control characters", h.Value)
	}
	return nil
}

func (c *CheckConfig) validateTLS() error {
	if (c.CertFile == "") != (c.KeyFile == "") {
		return invalid.Fieldf("cert_file", "got cert_file %q and key_file %q; want both or neither", c.CertFile, c.KeyFile)
	}
	if _, err := newDialer(c); err != nil {
		key := "ca_file"
		if c.CertFile != "" && errors.Is(err, errClientCert) {
			key = "cert_file"
		}
		return invalid.Fieldf(key, "%w", err)
	}
	return nil
}

// minWait keeps a mistyped interval from becoming a flood of connections.
const minWait = 10 * time.Millisecond

func (c *CheckConfig) validateTimes() error {
	var faults []error
	for _, f := range []struct {
		key   string
		value time.Duration
	}{{"interval", c.Interval}, {"edge_interval", c.EdgeInterval}, {"timeout", c.Timeout}} {
		if f.value < minWait {
			faults = append(faults, invalid.Fieldf(f.key, "got %s; want %s or more", f.value, minWait))
		}
	}
	for _, f := range []struct {
		key              string
		value, low, high int
	}{
		{"healthy_after", c.HealthyAfter, 1, 1000},
		{"unhealthy_after", c.UnhealthyAfter, 1, 1000},
		{"jitter_percent", c.JitterPercent, 0, 90},
		{"parallel", c.Parallel, 1, 10_000},
		{"port", c.Port, 0, 65535},
	} {
		if f.value < f.low || f.value > f.high {
			faults = append(faults, invalid.Fieldf(f.key, "got %d; want %d to %d", f.value, f.low, f.high))
		}
	}
	return errors.Join(faults...)
}

// checkerNames lists the known types for messages.
func checkerNames() []string { return slices.Sorted(maps.Keys(checkers)) }
