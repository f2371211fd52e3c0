package transport

import (
	"errors"
	"time"

	"drover/invalid"
	"drover/units"
)

// Protocol is the version of HTTP that servers are spoken to in.
type Protocol string

// The protocols; see Config.
const (
	ProtocolAuto Protocol = "auto"
	ProtocolH1   Protocol = "h1"
	ProtocolH2   Protocol = "h2"
	ProtocolH2C  Protocol = "h2c"
)

var protocols = []Protocol{ProtocolAuto, ProtocolH1, ProtocolH2, ProtocolH2C}

// alpn gives what is offered to https servers.
func (p Protocol) alpn() []string {
	switch p {
	case ProtocolAuto:
		return []string{"h2", "http/1.1"}
	case ProtocolH2:
		return []string{"h2"}
	default:
		return []string{"http/1.1"}
	}
}

// HTTP2Config is how HTTP/2 is spoken to servers.
type HTTP2Config struct {
	// StreamWindow is how much of a response's body may wait in memory for a client
	// that reads slowly, and so the most that is under way from the server at once. For a
	// client over HTTP/2 it is no more than what that has room for, but 2KiB at least.
	// Default 256KiB.
	StreamWindow units.Size `yaml:"stream_window"`
	// PingAfter is how long a server may say nothing while requests wait for it before
	// it is sent a PING. Default 15s.
	PingAfter time.Duration `yaml:"ping_after"`
	// PingTimeout bounds the wait for the answer to a PING, and for the server to take
	// what is written; then the connection and the requests on it are given up. Default
	// 10s.
	PingTimeout time.Duration `yaml:"ping_timeout"`
}

// SetDefaults implements the decoder's contract.
func (c *HTTP2Config) SetDefaults() {
	*c = HTTP2Config{StreamWindow: 256 * units.KiB, PingAfter: 15 * time.Second, PingTimeout: 10 * time.Second}
}

// Validate implements the decoder's contract.
func (c *HTTP2Config) Validate() error {
	var faults []error
	if c.StreamWindow < 64*units.KiB || c.StreamWindow > 1024*units.MiB {
		faults = append(faults, invalid.Fieldf("stream_window", "got %s; want 64KiB to 1GiB", c.StreamWindow))
	}
	if c.PingAfter <= 0 {
		faults = append(faults, invalid.Fieldf("ping_after", "got %s; want more than 0s", c.PingAfter))
	}
	if c.PingTimeout <= 0 {
		faults = append(faults, invalid.Fieldf("ping_timeout", "got %s; want more than 0s", c.PingTimeout))
	}
	return errors.Join(faults...)
}
