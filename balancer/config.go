package balancer

import (
	"errors"
	"math"
	"math/big"
	"slices"
	"strings"
	"time"

	"drover/invalid"
)

// Bounds of settings whose extremes would cost memory or mean nothing.
const (
	minTableSize = 101
	maxTableSize = 5_000_011
	maxPoints    = 65_536
	maxBoundLoad = 100
)

// Config is all that a Group can be told. Every setting may change while it runs.
type Config struct {
	// Policy says how one server is picked.
	Policy PolicyConfig `yaml:"policy"`
	// Zone prefers servers of drover's own failure domain. Off by default.
	Zone ZoneConfig `yaml:"zone"`
	// SlowStart is how long a server that comes up takes to reach its full weight,
	// beginning at a tenth. 0, the default, gives it all at once. The servers that
	// a group starts with are never slowed.
	SlowStart time.Duration `yaml:"slow_start"`
	// PanicThreshold is the percentage of available servers below which health is
	// ignored, since that many failures at once say more about the checks than
	// about the servers. 0, the default, never ignores health.
	PanicThreshold int `yaml:"panic_threshold"`
	// Brake keeps servers that vanish from their registry in bulk.
	Brake BrakeConfig `yaml:"removal_brake"`
}

// PolicyConfig chooses and tunes the policy. Settings of other policies than the
// chosen one are validated and otherwise ignored, bounded_load excepted.
type PolicyConfig struct {
	// Type is the policy's name: round_robin (the default), random, least_request,
	// peak_ewma, ring_hash or maglev.
	Type string `yaml:"type"`
	// Key says what ring_hash and maglev hash, such as "header:X-User-ID". The
	// request path reads it; a policy sees only the hash.
	Key string `yaml:"key"`
	// BoundedLoad is how far over its fair share of the requests in flight a server
	// may go before ring_hash and maglev send a key to the next one: 1.25 means 25 %.
	// Useful values lie between 1.1 and 2. 0, the default, sets no bound.
	BoundedLoad float64 `yaml:"bounded_load"`
	// Decay is the averaging period of peak_ewma: how long a slow answer is
	// remembered. Default 10s.
	Decay time.Duration `yaml:"decay"`
	// TableSize is the size of maglev's lookup table, a prime. Shares are exact to
	// one slot, so 100 slots for each server keep them within 1 %; a larger table
	// costs build time and 4 bytes a slot. Default 65537.
	TableSize int `yaml:"table_size"`
	// Points is how many points a server of typical weight has on the ring of
	// ring_hash. Loads deviate by about 1/sqrt(points); a point costs 8 bytes.
	// Default 640, which keeps the deviation near 4 %.
	Points int `yaml:"points"`
}

// ZoneConfig prefers the servers of one zone.
type ZoneConfig struct {
	// Own is drover's zone, spelled as the servers' zones are. "" has no preference.
	Own string `yaml:"own"`
	// MinAvailablePercent is how much of the own zone must be available for the
	// others to be left alone. Default 70.
	MinAvailablePercent int `yaml:"min_available_percent"`
}

// BrakeConfig bounds how fast a registry may empty a group. Session expiry after a
// network cut, a wiped path or a broken deploy take away many servers at once that
// work well; those that still pass their checks are kept for a while.
type BrakeConfig struct {
	// MaxRemovedPercent is how much of a group may go within Window, counted net of
	// servers that come, before the brake holds the rest. One server may always go,
	// unless it is the last. Default 30.
	MaxRemovedPercent int `yaml:"max_removed_percent"`
	// Window is the time over which removals add up. Default 30s.
	Window time.Duration `yaml:"window"`
	// Hold is the longest time that a vanished server is kept. Default 10m.
	Hold time.Duration `yaml:"hold"`
	// Disabled turns the brake off: every removal takes effect at once.
	Disabled bool `yaml:"disabled"`
}

// SetDefaults fills in every default.
func (c *Config) SetDefaults() {
	c.Policy.SetDefaults()
	c.Zone.SetDefaults()
	c.Brake.SetDefaults()
}

// SetDefaults fills in every default.
func (c *PolicyConfig) SetDefaults() {
	c.Type = "round_robin"
	c.Decay = 10 * time.Second
	c.TableSize = 65537
	c.Points = 640
}

// SetDefaults fills in every default.
func (c *ZoneConfig) SetDefaults() { c.MinAvailablePercent = 70 }

// SetDefaults fills in every default.
func (c *BrakeConfig) SetDefaults() {
	c.MaxRemovedPercent = 30
	c.Window = 30 * time.Second
	c.Hold = 10 * time.Minute
}

// Validate reports every faulty setting.
func (c *Config) Validate() error {
	var faults []error
	if c.SlowStart < 0 {
		faults = append(faults, invalid.Fieldf("slow_start", "got %v; want 0s or more", c.SlowStart))
	}
	faults = append(faults,
		percent("panic_threshold", c.PanicThreshold),
		invalid.In("policy", c.Policy.Validate()),
		invalid.In("zone", c.Zone.Validate()),
		invalid.In("removal_brake", c.Brake.Validate()))
	return errors.Join(faults...)
}

// Validate reports every faulty setting.
func (c *PolicyConfig) Validate() error {
	var faults []error
	fault := func(key, format string, args ...any) {
		faults = append(faults, invalid.Fieldf(key, format, args...))
	}
	_, known := policies[c.Type]
	if !known {
		fault("type", "got %q; want one of %s", c.Type, strings.Join(policyNames(), ", "))
	}
	// A NaN fails every comparison, so the test is for what is right.
	if c.BoundedLoad != 0 && !(c.BoundedLoad > 1 && c.BoundedLoad <= maxBoundLoad) {
		fault("bounded_load", "got %v; want 0 or a factor above 1 and up to %d", c.BoundedLoad, maxBoundLoad)
	}
	if known && c.BoundedLoad != 0 && !c.Hashes() {
		fault("bounded_load", "got %v for policy %s; want it only for a policy that hashes", c.BoundedLoad, c.Type)
	}
	if c.Decay < time.Millisecond {
		fault("decay", "got %v; want 1ms or more", c.Decay)
	}
	if c.TableSize < minTableSize || c.TableSize > maxTableSize || !isPrime(c.TableSize) {
		fault("table_size", "got %d; want a prime between %d and %d", c.TableSize, minTableSize, maxTableSize)
	}
	if c.Points < 1 || c.Points > maxPoints {
		fault("points", "got %d; want 1 to %d", c.Points, maxPoints)
	}
	return errors.Join(faults...)
}

// Hashes reports whether the policy picks by a hash, and so needs a key. A policy that
// is not known does not.
func (c *PolicyConfig) Hashes() bool { return policies[c.Type].hashes }

// Validate reports every faulty setting.
func (c *ZoneConfig) Validate() error {
	return percent("min_available_percent", c.MinAvailablePercent)
}

// Validate reports every faulty setting.
func (c *BrakeConfig) Validate() error {
	faults := []error{percent("max_removed_percent", c.MaxRemovedPercent)}
	if c.Window <= 0 {
		faults = append(faults, invalid.Fieldf("window", "got %v; want more than 0s", c.Window))
	}
	if c.Hold <= 0 {
		faults = append(faults, invalid.Fieldf("hold", "got %v; want more than 0s", c.Hold))
	}
	return errors.Join(faults...)
}

func percent(key string, got int) error {
	if got < 0 || got > 100 {
		return invalid.Fieldf(key, "got %d; want 0 to 100", got)
	}
	return nil
}

// isPrime is exact for every number below 2^64.
func isPrime(n int) bool { return n <= math.MaxInt32 && big.NewInt(int64(n)).ProbablyPrime(0) }

func policyNames() []string {
	names := make([]string, 0, len(policies))
	for name := range policies {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
