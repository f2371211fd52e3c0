package healthcheck

import (
	"errors"
	"math"
	"time"

	"drover/invalid"
)

// OutlierConfig is the `outlier` block: passive detection on real requests. It is on by
// default, since an upstream without checks would otherwise keep sending requests to a
// server that fails all of them.
type OutlierConfig struct {
	// Disabled turns it off: no server is taken out for what its answers were.
	// Default false.
	Disabled bool `yaml:"disabled"`
	// ConsecutiveFailures ejects a server after that many failures in a row: no
	// connection, a broken or late or invalid answer, a body cut short, or a status in
	// statuses. What the client broke off does not count. Default 5; 0 is off.
	ConsecutiveFailures int `yaml:"consecutive_failures"`
	// ConnectFailures ejects after that many failed connects in a row. They count among
	// the others too, so only a smaller number makes a difference. Default 0: off.
	ConnectFailures int `yaml:"connect_failures"`
	// Statuses are the answers that count as failures. Default 500-599.
	Statuses []string `yaml:"statuses"`
	// SlowAfter makes an answer whose head takes longer count as a failure. The body's
	// time does not matter: a long download is not a slow server. Default 0: off.
	SlowAfter time.Duration `yaml:"slow_after"`
	// SuccessRate ejects servers whose share of successes is far below their peers'.
	SuccessRate SuccessRateConfig `yaml:"success_rate"`
	// EjectFor is how long the first ejection lasts; the n-th lasts n times as long.
	// Each such time that a server then does well in service takes one off the count.
	// Default 30s.
	EjectFor time.Duration `yaml:"eject_for"`
	// MaxEjectFor bounds that. Default 5m.
	MaxEjectFor time.Duration `yaml:"max_eject_for"`
	// MaxEjectedPercent bounds the share of an upstream that may be ejected at once.
	// One server may always be, but never the last available one, unless this is 100.
	// Draining servers are left aside. Default 50.
	MaxEjectedPercent int `yaml:"max_ejected_percent"`
	// ReadmitOnCheck ends an ejection early when the active check, after it had found
	// the server down, finds it up. Default false: a server whose check passes while its
	// requests fail must stay out.
	ReadmitOnCheck bool `yaml:"readmit_on_check"`
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
	// MinServers is how many such servers make a comparison. One of n servers is at
	// most the square root of n-1 deviations away, so few have no outlier. Default 5.
	MinServers int `yaml:"min_servers"`
	// StdevFactor is how far from the mean is too far. Default 1.9.
	StdevFactor float64 `yaml:"stdev_factor"`
	// GoodPercent is a rate that is never too low, however well the peers do: among
	// servers without failures a single one would stand out. Default 95.
	GoodPercent int `yaml:"good_percent"`
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
	*c = SuccessRateConfig{Window: 10 * time.Second, MinRequests: 100, MinServers: 5, StdevFactor: 1.9, GoodPercent: 95}
}

// Validate implements the decoder's contract. The success_rate block has its own.
func (c *OutlierConfig) Validate() error {
	var faults []error
	fault := func(key, text string, args ...any) { faults = append(faults, invalid.Fieldf(key, text, args...)) }
	if c.ConsecutiveFailures < 0 {
		fault("consecutive_failures", "got %d; want 1 or more, or 0 for off", c.ConsecutiveFailures)
	}
	if c.ConnectFailures < 0 {
		fault("connect_failures", "got %d; want 1 or more, or 0 for off", c.ConnectFailures)
	}
	if !c.Disabled && c.ConsecutiveFailures == 0 && c.ConnectFailures == 0 && !c.SuccessRate.Enabled {
		fault("consecutive_failures", "got no rule at all; want consecutive_failures, connect_failures or success_rate, or disabled: true")
	}
	if _, err := parseStatuses(c.Statuses); err != nil {
		fault("statuses", "%w", err)
	}
	if c.SlowAfter < 0 {
		fault("slow_after", "got %s; want 0s (off) or more", c.SlowAfter)
	}
	if c.EjectFor < minWait {
		fault("eject_for", "got %s; want %s or more", c.EjectFor, minWait)
	}
	if c.MaxEjectFor < c.EjectFor {
		fault("max_eject_for", "got %s; want eject_for (%s) or more", c.MaxEjectFor, c.EjectFor)
	}
	if c.MaxEjectedPercent < 0 || c.MaxEjectedPercent > 100 {
		fault("max_ejected_percent", "got %d; want 0 to 100", c.MaxEjectedPercent)
	}
	return errors.Join(faults...)
}

// Validate implements the decoder's contract.
func (c *SuccessRateConfig) Validate() error {
	var faults []error
	fault := func(key, text string, args ...any) { faults = append(faults, invalid.Fieldf(key, text, args...)) }
	if c.Window < time.Second {
		fault("window", "got %s; want 1s or more", c.Window)
	}
	if c.MinRequests < 1 {
		fault("min_requests", "got %d; want 1 or more", c.MinRequests)
	}
	if c.GoodPercent < 1 || c.GoodPercent > 100 {
		fault("good_percent", "got %d; want 1 to 100", c.GoodPercent)
	}
	if !(c.StdevFactor > 0) || math.IsInf(c.StdevFactor, 0) {
		fault("stdev_factor", "got %g; want more than 0", c.StdevFactor)
		return errors.Join(faults...)
	}
	if c.MinServers < 2 || math.Sqrt(float64(c.MinServers-1)) <= c.StdevFactor {
		fault("min_servers", "got %d with stdev_factor %g; want 2 or more, and more than %.0f, since no server can be farther out than the square root of the others' number",
			c.MinServers, c.StdevFactor, math.Floor(c.StdevFactor*c.StdevFactor)+1)
	}
	return errors.Join(faults...)
}
