package units

import (
	"fmt"
	"net/netip"
)

// ParsePrefixes reads a list of networks such as "10.0.0.0/8" and single addresses. An
// IPv4 network is never written as an IPv6 one, and no bit of it is set that its length
// does not cover: that would be a mistake.
func ParsePrefixes(list []string) ([]netip.Prefix, error) {
	var prefixes []netip.Prefix
	for _, text := range list {
		p, err := netip.ParsePrefix(text)
		if addr, single := netip.ParseAddr(text); single == nil && addr.Zone() == "" {
			p, err = netip.PrefixFrom(addr, addr.BitLen()), nil
		}
		if err != nil || p != p.Masked() || p.Addr().Is4In6() {
			return nil, fmt.Errorf("got %q; want a network such as 10.0.0.0/8 or fd00::/8, or an address", text)
		}
		prefixes = append(prefixes, p)
	}
	return prefixes, nil
}
