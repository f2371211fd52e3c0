package front

import (
	"net/netip"

	"drover/units"
)

// Trusted gives TrustedProxies of a valid configuration.
func (c *Config) Trusted() []netip.Prefix {
	list, _ := units.ParsePrefixes(c.TrustedProxies) // Validate has seen that it works.
	return list
}
