package discovery

import (
	"errors"
	"net/netip"

	"drover/backend"
	"drover/invalid"
	"drover/units"
)

// AddressConfig says which addresses servers may have. An address that is no one's to
// name is refused from a registry (ZooKeeper, files, DNS): link-local ones, where clouds
// keep their metadata, unspecified, multicast and broadcast ones, and drover's own admin
// address. Loopback is permitted: sidecars live there. Servers that the configuration
// lists are only held to allow and deny. A host name is checked each time that it is
// connected to, by what it resolves to, for requests and probes.
type AddressConfig struct {
	// Allow lists the networks that servers may be in; what is in none of them is
	// refused. One that lies within a range that registries are refused, such as
	// 169.254.7.0/24, permits it; the metadata address needs to be named itself.
	// Default none: all but what is refused.
	Allow []string `yaml:"allow"`
	// Deny lists networks that are refused in any case, such as 127.0.0.0/8 and ::1
	// where no sidecars are: a registry may name loopback addresses, and so whatever
	// listens there for drover's own host alone. Default none.
	Deny []string `yaml:"deny"`
	// AllowLinkLocal permits a registry link-local addresses (169.254.0.0/16,
	// fe80::/10), those of cloud metadata apart. Default false.
	AllowLinkLocal bool `yaml:"allow_link_local"`
}

// Validate implements the decoder's contract.
func (c *AddressConfig) Validate() error {
	var faults []error
	if _, err := units.ParsePrefixes(c.Allow); err != nil {
		faults = append(faults, invalid.Fieldf("allow", "%w", err))
	}
	if _, err := units.ParsePrefixes(c.Deny); err != nil {
		faults = append(faults, invalid.Fieldf("deny", "%w", err))
	}
	return errors.Join(faults...)
}

// Rules makes the rules of an upstream. Registry says that its servers come from a
// source other than the configuration; own are the addresses that no entry may lead to.
func (c *AddressConfig) Rules(registry bool, own []netip.AddrPort) (*backend.AddressRules, error) {
	allow, err := units.ParsePrefixes(c.Allow)
	if err != nil {
		return nil, err
	}
	deny, err := units.ParsePrefixes(c.Deny)
	if err != nil {
		return nil, err
	}
	return &backend.AddressRules{Deny: deny, Allow: allow, Registry: registry, LinkLocal: c.AllowLinkLocal, Own: own}, nil
}
