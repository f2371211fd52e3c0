// Package healthcheck decides which servers are fit for traffic: active checks probe
// them, outlier detection watches how they do on real requests.
package healthcheck

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"drover/invalid"
)

// CheckConfig is the `check` block: an active health probe. It has more than 15 fields,
// since three kinds of probe share it.
type CheckConfig struct {
	// Type is http, tcp or grpc. Default http.
	Type string `yaml:"type"`
	// Path is the target that http asks for. Default "/".
	Path string `yaml:"path"`
	// Method is the method of http. Default GET.
	Method string `yaml:"method"`
	// Host is the Host field of http. Default: the server's address.
	Host string `yaml:"host"`
	// Headers are further fields of http.
	Headers []Header `yaml:"headers"`
	// Statuses are what http accepts: "200", "200-299". Default 200-299. Redirects are
	// not followed.
	Statuses []string `yaml:"statuses"`
	// Body is a regular expression that the first 64 KiB of the answer must match.
	// Default: any body.
	Body string `yaml:"body"`
	// Service is what grpc asks grpc.health.v1 about. Default "", the whole server.
	Service string `yaml:"service"`
	// Port is probed instead of the server's own. Default 0: the server's own.
	Port int `yaml:"port"`
	// TLS makes http and grpc speak TLS; servers whose scheme is https get it anyway.
	TLS bool `yaml:"tls"`
	// CAFile holds the authorities to trust, PEM. Default: the system's.
	CAFile string `yaml:"ca_file"`
	// ServerName is the name to verify and to send. Default: the server's host.
	ServerName string `yaml:"server_name"`
	// InsecureSkipVerify accepts any certificate. Default false.
	InsecureSkipVerify bool `yaml:"insecure_skip_verify"`
	// Interval is the time between two probes of a server. Default 5s.
	Interval time.Duration `yaml:"interval"`
	// EdgeInterval is used instead while a verdict may be about to change, and for a
	// new server. It is never longer than Interval. Default 500ms.
	EdgeInterval time.Duration `yaml:"edge_interval"`
	// Timeout bounds a probe in all. Default 2s.
	Timeout time.Duration `yaml:"timeout"`
	// HealthyAfter is how many probes in a row must pass before a server that is down
	// is up. Default 2.
	HealthyAfter int `yaml:"healthy_after"`
	// UnhealthyAfter is how many probes in a row must fail before a server is down.
	// Default 3.
	UnhealthyAfter int `yaml:"unhealthy_after"`
	// JitterPercent spreads probes around their interval. Default 20.
	JitterPercent int `yaml:"jitter_percent"`
	// Parallel is how many probes of an upstream may run at once. Default 64.
	Parallel int `yaml:"parallel"`
}

// Header is a field of an http probe.
type Header struct {
	Name  string `yaml:"name"`
	Value string `yaml:"value"`
}

// OutlierConfig is the `outlier` block: passive detection on real requests.
type OutlierConfig struct {
	// ConsecutiveFailures ejects a server after that many failures in a row: no
	// connection, a broken or late or invalid answer, a body cut short, or a status in
	// Statuses. Default 5; 0 is off.
	ConsecutiveFailures int `yaml:"consecutive_failures"`
	// ConnectFailures ejects after that many failed connects in a row. Default 0: they
	// count among the others.
	ConnectFailures int `yaml:"connect_failures"`
	// Statuses are the answers that count as failures. Default 500-599.
	Statuses []string `yaml:"statuses"`
	// SlowAfter makes an answer that takes longer in all count as a failure. Default 0:
	// off.
	SlowAfter time.Duration `yaml:"slow_after"`
	// SuccessRate ejects servers whose share of successes is far below their peers'.
	SuccessRate SuccessRateConfig `yaml:"success_rate"`
	// EjectFor is how long the first ejection lasts; the n-th lasts n times as long.
	// Default 30s.
	EjectFor time.Duration `yaml:"eject_for"`
	// MaxEjectFor bounds that. Default 5m.
	MaxEjectFor time.Duration `yaml:"max_eject_for"`
	// MaxEjectedPercent bounds the share of an upstream that may be ejected at once.
	// One server may always be, unless it is the last. Default 50.
	MaxEjectedPercent int `yaml:"max_ejected_percent"`
}

// SuccessRateConfig compares servers (Envoy's success rate outlier detection): one is
// ejected whose rate is below the mean less StdevFactor standard deviations.
type SuccessRateConfig struct {
	// Enabled turns it on. Default false.
	Enabled bool `yaml:"enabled"`
	// Window is how often rates are compared. Default 10s.
	Window time.Duration `yaml:"window"`
	// MinRequests is how many requests in a window make a server's rate count.
	// Default 100.
	MinRequests int `yaml:"min_requests"`
	// MinServers is how many such servers make a comparison. Default 3.
	MinServers int `yaml:"min_servers"`
	// StdevFactor is how far from the mean is too far. Default 1.9.
	StdevFactor float64 `yaml:"stdev_factor"`
}

// SetDefaults implements the decoder's contract.
func (c *CheckConfig) SetDefaults() {
	*c = CheckConfig{
		Type: "http", Path: "/", Method: "GET", Statuses: []string{"200-299"},
		Interval: 5 * time.Second, EdgeInterval: 500 * time.Millisecond, Timeout: 2 * time.Second,
		HealthyAfter: 2, UnhealthyAfter: 3, JitterPercent: 20, Parallel: 64,
	}
}

// SetDefaults implements the decoder's contract.
func (c *OutlierConfig) SetDefaults() {
	*c = OutlierConfig{
		ConsecutiveFailures: 5, Statuses: []string{"500-599"},
		EjectFor: 30 * time.Second, MaxEjectFor: 5 * time.Minute, MaxEjectedPercent: 50,
	}
	c.SuccessRate.SetDefaults()
}

// SetDefaults implements the decoder's contract.
func (c *SuccessRateConfig) SetDefaults() {
	*c = SuccessRateConfig{Window: 10 * time.Second, MinRequests: 100, MinServers: 3, StdevFactor: 1.9}
}

// Validate implements the decoder's contract.
func (c *CheckConfig) Validate() error {
	var faults []error
	fault := func(key, text string, args ...any) { faults = append(faults, invalid.Fieldf(key, text, args...)) }
	if _, ok := checkers[c.Type]; !ok {
		fault("type", "got %q; want one of %s", c.Type, strings.Join(checkerNames(), ", "))
	}
	if c.Type == "http" && !strings.HasPrefix(c.Path, "/") {
		fault("path", "got %q; want a path that begins with /", c.Path)
	}
	if strings.ContainsAny(c.Path+c.Method+c.Host, " \r\n\x00") || c.Method == "" {
		fault("method", "got white space in method, path or host; want none, and a method")
	}
	for i, h := range c.Headers {
		if h.Name == "" || strings.ContainsAny(h.Name, " :\r\n\x00") || strings.ContainsAny(h.Value, "\r\n\x00") {
			fault(fmt.Sprintf("headers[%d]", i), "got %q: %q; want a field name and a value on one line", h.Name, h.Value)
		}
	}
	if _, err := parseStatuses(c.Statuses); err != nil {
		fault("statuses", "%w", err)
	}
	if _, err := regexp.Compile(c.Body); err != nil {
		fault("body", "got %q; want a regular expression: %w", c.Body, err)
	}
	if c.Port < 0 || c.Port > 65535 {
		fault("port", "got %d; want 1 to 65535, or 0 for the server's own", c.Port)
	}
	if _, err := c.tlsConfig(""); err != nil {
		fault("ca_file", "%w", err)
	}
	faults = append(faults, c.validateTimes())
	return errors.Join(faults...)
}

func (c *CheckConfig) validateTimes() error {
	var faults []error
	for _, f := range []struct {
		key   string
		value time.Duration
	}{{"interval", c.Interval}, {"edge_interval", c.EdgeInterval}, {"timeout", c.Timeout}} {
		if f.value < time.Millisecond {
			faults = append(faults, invalid.Fieldf(f.key, "got %s; want 1ms or more", f.value))
		}
	}
	for _, f := range []struct {
		key       string
		value     int
		low, high int
	}{
		{"healthy_after", c.HealthyAfter, 1, 1000},
		{"unhealthy_after", c.UnhealthyAfter, 1, 1000},
		{"jitter_percent", c.JitterPercent, 0, 90},
		{"parallel", c.Parallel, 1, 10_000},
	} {
		if f.value < f.low || f.value > f.high {
			faults = append(faults, invalid.Fieldf(f.key, "got %d; want %d to %d", f.value, f.low, f.high))
		}
	}
	return errors.Join(faults...)
}

// Validate implements the decoder's contract.
func (c *OutlierConfig) Validate() error {
	var faults []error
	fault := func(key, text string, args ...any) { faults = append(faults, invalid.Fieldf(key, text, args...)) }
	if c.ConsecutiveFailures < 0 {
		fault("consecutive_failures", "got %d; want 0 (off) or more", c.ConsecutiveFailures)
	}
	if c.ConnectFailures < 0 {
		fault("connect_failures", "got %d; want 0 (as the others) or more", c.ConnectFailures)
	}
	if _, err := parseStatuses(c.Statuses); err != nil {
		fault("statuses", "%w", err)
	}
	if c.SlowAfter < 0 {
		fault("slow_after", "got %s; want 0s (off) or more", c.SlowAfter)
	}
	if c.EjectFor <= 0 || c.MaxEjectFor < c.EjectFor {
		fault("eject_for", "got %s, and max_eject_for %s; want more than 0s, and max_eject_for no less", c.EjectFor, c.MaxEjectFor)
	}
	if c.MaxEjectedPercent < 0 || c.MaxEjectedPercent > 100 {
		fault("max_ejected_percent", "got %d; want 0 to 100", c.MaxEjectedPercent)
	}
	return errors.Join(faults...)
}

// Validate implements the decoder's contract.
func (c *SuccessRateConfig) Validate() error {
	var faults []error
	if c.Window < time.Second {
		faults = append(faults, invalid.Fieldf("window", "got %s; want 1s or more", c.Window))
	}
	if c.MinRequests < 1 || c.MinServers < 2 {
		faults = append(faults, invalid.Fieldf("min_requests", "got %d, and min_servers %d; want 1 and 2 or more", c.MinRequests, c.MinServers))
	}
	if !(c.StdevFactor > 0) {
		faults = append(faults, invalid.Fieldf("stdev_factor", "got %g; want more than 0", c.StdevFactor))
	}
	return errors.Join(faults...)
}

// statusSet is a set of HTTP statuses.
type statusSet [1000]bool

// has reports whether a status is in the set.
func (s *statusSet) has(status int) bool { return status > 0 && status < len(s) && s[status] }

// parseStatuses reads "204" and "200-299".
func parseStatuses(list []string) (*statusSet, error) {
	set := &statusSet{}
	for _, text := range list {
		low, high, ranged := strings.Cut(text, "-")
		if !ranged {
			high = low
		}
		from, err1 := strconv.Atoi(strings.TrimSpace(low))
		to, err2 := strconv.Atoi(strings.TrimSpace(high))
		if err1 != nil || err2 != nil || from < 100 || to > 999 || from > to {
			return nil, fmt.Errorf("got %q; want a status or a range such as 200-299", text)
		}
		for status := from; status <= to; status++ {
			set[status] = true
		}
	}
	return set, nil
}
