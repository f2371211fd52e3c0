// Package admin is the operator's interface, on a listener of its own.
package admin

import (
	"net"
	"strconv"

	"drover/invalid"
)

// Config is the `admin` block.
type Config struct {
	// Address is where the interface listens, host:port. Empty turns it off. It has no
	// login: leave it on the loopback interface, or on a network that only operators
	// reach.
	Address string `yaml:"address"`
	// PProf serves Go's profiles under /debug/pprof/. They show memory content and
	// can load the machine; keep it off where others reach the address.
	PProf bool `yaml:"pprof"`
}

// SetDefaults fills in the defaults.
func (c *Config) SetDefaults() { c.Address = "127.0.0.1:9900" }

// Validate reports what is wrong with the block.
func (c *Config) Validate() error {
	if c.Address == "" {
		return nil
	}
	_, port, err := net.SplitHostPort(c.Address)
	if err != nil {
		return invalid.Fieldf("address", "got %q; want host:port such as 127.0.0.1:9900, or nothing to turn it off", c.Address)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return invalid.Fieldf("address", "got port %q; want a number from 0 to 65535", port)
	}
	return nil
}
