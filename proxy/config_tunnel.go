package proxy

import (
	"errors"
	"time"

	"drover/invalid"
)

// TunnelConfig bounds a connection that a 101 has made a tunnel, as for WebSocket. A
// tunnel keeps the bounds that it began with over every reload.
type TunnelConfig struct {
	// IdleTimeout is how long neither side may send anything; pings count as traffic.
	// 0s is no limit. Default 1h.
	IdleTimeout time.Duration `yaml:"idle_timeout"`
	// MaxLifetime is how long it may last in all, traffic or not. Default 0s: no limit.
	MaxLifetime time.Duration `yaml:"max_lifetime"`
	// WriteIdleTimeout is how long a side may take nothing of what the other one sends
	// it. Toward the client the listener's write_idle_timeout holds too. Default 60s.
	WriteIdleTimeout time.Duration `yaml:"write_idle_timeout"`
}

// SetDefaults implements the decoder's contract.
func (c *TunnelConfig) SetDefaults() {
	c.IdleTimeout, c.WriteIdleTimeout = time.Hour, 60*time.Second
}

// Validate implements the decoder's contract.
func (c *TunnelConfig) Validate() error {
	var faults []error
	for _, f := range []struct {
		key   string
		value time.Duration
	}{{"idle_timeout", c.IdleTimeout}, {"max_lifetime", c.MaxLifetime}} {
		if f.value < 0 {
			faults = append(faults, invalid.Fieldf(f.key, "got %s; want 0s (no limit) or more", f.value))
		}
	}
	if c.WriteIdleTimeout <= 0 {
		faults = append(faults, invalid.Fieldf("write_idle_timeout", "got %s; want more than 0s", c.WriteIdleTimeout))
	}
	return errors.Join(faults...)
}
