// Package access decides who may use a route: by the client's address, by the origin
// that a browser names, by password and by token. It knows exchange and no more of
// drover; proxy calls it.
package access

import (
	"fmt"
	"net/netip"
	"strings"
)

// Addresses are ranges of client addresses. The zero value holds none. They are
// immutable.
type Addresses []netip.Prefix

// ParseAddresses reads ranges such as "10.0.0.0/8" and "2001:db8::/32"; a bare address
// is a range of one. It gives the index of the text that is wrong with the error.
func ParseAddresses(texts []string) (list Addresses, at int, err error) {
	for i, text := range texts {
		p, err := parseRange(text)
		if err != nil {
			return nil, i, err
		}
		list = append(list, p)
	}
	return list, 0, nil
}

func parseRange(text string) (netip.Prefix, error) {
	var p netip.Prefix
	if strings.Contains(text, "/") {
		parsed, err := netip.ParsePrefix(text)
		if err != nil {
			return p, fmt.Errorf(`got %q; want an address or a range such as "10.0.0.0/8"`, text)
		}
		p = parsed
	} else {
		addr, err := netip.ParseAddr(text)
		if err != nil || addr.Zone() != "" {
			return p, fmt.Errorf(`got %q; want an address or a range such as "10.0.0.0/8"`, text)
		}
		p = netip.PrefixFrom(addr, addr.BitLen())
	}
	if p.Addr().Is4In6() {
		return p, fmt.Errorf("got %q; want an IPv4 range in its own form, not ::ffff: and so on", text)
	}
	if p != p.Masked() {
		return p, fmt.Errorf("got %q, which has bits behind the prefix; want %q", text, p.Masked())
	}
	return p, nil
}

// Contains reports whether an address is in one of the ranges. An IPv4 address counts
// as one however it is written. It does not allocate.
func (l Addresses) Contains(addr netip.Addr) bool {
	addr = addr.Unmap().WithZone("")
	for _, p := range l {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

// Permits applies a deny and an allow list: what deny holds is out, whatever allow
// says; of the rest an empty allow list takes everything, another what it holds.
func Permits(allow, deny Addresses, addr netip.Addr) bool {
	return !deny.Contains(addr) && (len(allow) == 0 || allow.Contains(addr))
}
