package backend

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"syscall"
)

// ErrAddress is why a server's address is refused; errors say more.
var ErrAddress = errors.New("the address policy refuses it")

// AddressRules say which addresses an upstream's servers may have. They are
// immutable, and two that are reflect.DeepEqual mean the same. Nil permits all.
type AddressRules struct {
	// Deny is refused whatever else holds.
	Deny []netip.Prefix
	// Allow, unless it is empty, is all that is permitted. A special range is only
	// permitted by a network that lies within it.
	Allow []netip.Prefix
	// Registry says that strangers may write the entries: special ranges and Own are
	// refused.
	Registry bool
	// LinkLocal permits link-local addresses, those of cloud metadata apart.
	LinkLocal bool
	// Own are drover's own addresses that no entry may lead to.
	Own []netip.AddrPort
}

// special are the ranges that a registry has no business with.
var special = []struct {
	name      string
	linkLocal bool
	prefix    netip.Prefix
}{
	{"a cloud metadata address", false, netip.MustParsePrefix("169.254.169.254/32")},
	{"a cloud metadata address", false, netip.MustParsePrefix("fd00:ec2::254/128")},
	{"link-local", true, netip.MustParsePrefix("169.254.0.0/16")},
	{"link-local", true, netip.MustParsePrefix("fe80::/10")},
	{"unspecified", false, netip.MustParsePrefix("0.0.0.0/8")}, // RFC 1122, section 3.2.1.3
	{"unspecified", false, netip.MustParsePrefix("::/128")},
	{"multicast", false, netip.MustParsePrefix("224.0.0.0/4")},
	{"multicast", false, netip.MustParsePrefix("ff00::/8")},
	{"broadcast", false, netip.MustParsePrefix("255.255.255.255/32")},
}

// embeds are IPv6 networks whose last four bytes are the IPv4 address that is meant:
// NAT64 (RFC 6052), and the deprecated "IPv4-compatible" addresses (RFC 4291).
var embeds = []netip.Prefix{netip.MustParsePrefix("64:ff9b::/96"), netip.MustParsePrefix("::/96")}

// plainAddress gives the address that is meant: without a zone, and IPv4 where IPv6
// only wraps it.
func plainAddress(a netip.Addr) netip.Addr {
	a = a.WithZone("").Unmap()
	wraps := func(p netip.Prefix) bool { return p.Contains(a) }
	if a.IsLoopback() || a.IsUnspecified() || !slices.ContainsFunc(embeds, wraps) {
		return a
	}
	b := a.As16()
	return netip.AddrFrom4([4]byte(b[12:]))
}

// Check gives nil for an address that may be connected to, else an ErrAddress.
func (r *AddressRules) Check(at netip.AddrPort) error {
	if r == nil {
		return nil
	}
	given := at.Addr().WithZone("").Unmap()
	a := plainAddress(given)
	within := func(list []netip.Prefix) bool {
		return slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(a) || p.Contains(given) })
	}
	if within(r.Deny) {
		return fmt.Errorf("%w: %s is in deny", ErrAddress, a)
	}
	if r.Registry {
		if slices.Contains(r.Own, netip.AddrPortFrom(a, at.Port())) {
			return fmt.Errorf("%w: %s is drover's own admin address", ErrAddress, at)
		}
		if name := r.specialRange(a); name != "" {
			return fmt.Errorf("%w: %s is %s, got from a registry", ErrAddress, a, name)
		}
	}
	if len(r.Allow) > 0 && !within(r.Allow) {
		return fmt.Errorf("%w: %s is not in allow", ErrAddress, a)
	}
	return nil
}

// specialRange names the range that refuses an address, "" for none.
func (r *AddressRules) specialRange(a netip.Addr) string {
	for _, s := range special {
		named := func(p netip.Prefix) bool {
			return p.Contains(a) && p.Bits() >= s.prefix.Bits() && s.prefix.Contains(p.Addr())
		}
		if s.prefix.Contains(a) && !(s.linkLocal && r.LinkLocal) && !slices.ContainsFunc(r.Allow, named) {
			return s.name
		}
	}
	return ""
}

// CheckID is Check for a server. A host that is a name passes: what it resolves to is
// checked by Control, each time that it is connected to.
func (r *AddressRules) CheckID(id ID) error {
	a, err := netip.ParseAddr(id.Host)
	if err != nil {
		return nil
	}
	return r.Check(netip.AddrPortFrom(a, id.Port))
}

// Control is net.Dialer's ControlContext: it refuses an address before a byte is sent
// to it, after its name was resolved, so that no answer of DNS gets around the rules.
func (r *AddressRules) Control(_ context.Context, _, address string, _ syscall.RawConn) error {
	if r == nil {
		return nil
	}
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrAddress, err)
	}
	return r.Check(at)
}
