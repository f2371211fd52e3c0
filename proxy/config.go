package proxy

import (
	"errors"
	"math"
	"time"

	"drover/invalid"
)

// LimitConfig bounds the work that an upstream is given at once.
type LimitConfig struct {
	// MaxRequests is the number of requests that may run on the whole upstream;
	// further ones wait in the queue. Default 0: no limit.
	MaxRequests int `yaml:"max_requests"`
	// MaxRequestsPerServer is the number that may run on one server. A full server
	// is passed over; when all are full, requests wait in the queue. Default 0: no
	// limit.
	MaxRequestsPerServer int `yaml:"max_requests_per_server"`
	// Queue holds requests that found no free place.
	Queue QueueConfig `yaml:"queue"`
}

// QueueConfig bounds the wait for a free place.
type QueueConfig struct {
	// Size is how many requests may wait; the next one gets 503 at once. Default 0:
	// nobody waits.
	Size int `yaml:"size"`
	// Timeout is how long one may wait before it gets 503. Default 1s.
	Timeout time.Duration `yaml:"timeout"`
}

// SetDefaults implements the decoder's contract.
func (c *LimitConfig) SetDefaults() { c.Queue.Timeout = time.Second }

// Validate implements the decoder's contract.
func (c *LimitConfig) Validate() error {
	var faults []error
	for _, f := range []struct {
		key   string
		value int
	}{
		{"max_requests", c.MaxRequests},
		{"max_requests_per_server", c.MaxRequestsPerServer},
		{"queue.size", c.Queue.Size},
	} {
		if f.value < 0 {
			faults = append(faults, invalid.Fieldf(f.key, "got %d; want 0 (no limit) or more", f.value))
		}
	}
	if c.Queue.Timeout <= 0 {
		faults = append(faults, invalid.Fieldf("queue.timeout", "got %s; want more than 0", c.Queue.Timeout))
	}
	if c.Queue.Size > 0 && c.MaxRequests == 0 && c.MaxRequestsPerServer == 0 {
		faults = append(faults, invalid.Fieldf("queue.size",
			"got %d without a limit to wait for; want max_requests or max_requests_per_server too", c.Queue.Size))
	}
	return errors.Join(faults...)
}

// BudgetConfig bounds retries, so that they never multiply the load of an upstream
// that is already in trouble.
type BudgetConfig struct {
	// Percent is how many retries there may be per 100 requests. Default 20.
	Percent float64 `yaml:"percent"`
	// MinPerSecond is how many retries a second are allowed whatever the traffic,
	// so that a quiet upstream can retry at all. Default 10.
	MinPerSecond float64 `yaml:"min_per_second"`
}

// SetDefaults implements the decoder's contract.
func (c *BudgetConfig) SetDefaults() { c.Percent, c.MinPerSecond = 20, 10 }

// Validate implements the decoder's contract.
func (c *BudgetConfig) Validate() error {
	var faults []error
	if !(c.Percent >= 0 && c.Percent <= 1000) {
		faults = append(faults, invalid.Fieldf("percent", "got %g; want 0 to 1000", c.Percent))
	}
	if !(c.MinPerSecond >= 0 && c.MinPerSecond <= math.MaxInt32) {
		faults = append(faults, invalid.Fieldf("min_per_second", "got %g; want 0 to %d", c.MinPerSecond, math.MaxInt32))
	}
	return errors.Join(faults...)
}

// AccessLogConfig says how finished requests are logged.
type AccessLogConfig struct {
	// Format is combined, json or off. Combined is the line of nginx and Apache with
	// drover's fields behind it. Default combined.
	Format string `yaml:"format"`
	// Output is stdout, stderr or a file's path, reopened on SIGUSR1. Default stdout.
	Output string `yaml:"output"`
	// Sample is the share of requests logged, from 0 to 1. Requests that drover
	// answered itself and those with a status of 500 and above are always logged.
	// Default 1.
	Sample float64 `yaml:"sample"`
}

// SetDefaults implements the decoder's contract.
func (c *AccessLogConfig) SetDefaults() { c.Format, c.Output, c.Sample = "combined", "stdout", 1 }

// Validate implements the decoder's contract.
func (c *AccessLogConfig) Validate() error {
	var faults []error
	if _, ok := accessFormats[c.Format]; !ok && c.Format != accessLogOff {
		faults = append(faults, invalid.Fieldf("format", "got %q; want combined, json or off", c.Format))
	}
	if c.Output == "" {
		faults = append(faults, invalid.Fieldf("output", "got nothing; want stdout, stderr or a file's path"))
	}
	if !(c.Sample >= 0 && c.Sample <= 1) {
		faults = append(faults, invalid.Fieldf("sample", "got %g; want 0 to 1", c.Sample))
	}
	return errors.Join(faults...)
}
