package main

import (
	"net"
	"net/netip"
	"sync"

	"drover/admin"
	"drover/backend"
	"drover/config"
	"drover/discovery/format"

	"go.uber.org/zap"
)

// addressFilter holds what an upstream's source brings to the address rules. A refused
// entry is as good as not listed: its neighbours stand, and what it took the place of
// is for the removal brake to judge.
type addressFilter struct {
	// immutable
	rejects *format.Rejects

	// under mu, which also keeps the sets in order
	mu      sync.Mutex
	rules   *backend.AddressRules
	last    []backend.Server // as the source gave it
	given   bool
	refused map[backend.ID]string // where it was read first: a file's lines move
}

func newAddressFilter(logger *zap.Logger) *addressFilter {
	return &addressFilter{rejects: format.NewRejects(logger), refused: map[backend.ID]string{}}
}

// pass gives the servers whose addresses are permitted.
func (f *addressFilter) pass(servers []backend.Server) []backend.Server {
	refused := map[backend.ID]string{}
	var passed []backend.Server
	for _, s := range servers {
		err := f.rules.CheckID(s.ID)
		if err == nil {
			passed = append(passed, s)
			continue
		}
		path, known := f.refused[s.ID]
		if !known {
			path = s.Origin + " " + s.ID.String()
		}
		refused[s.ID] = path
		f.rejects.Add(path, err)
	}
	for id, path := range f.refused {
		if _, still := refused[id]; !still {
			f.rejects.Remove(path)
		}
	}
	f.refused = refused
	return passed
}

// give puts a source's full set into force, less what the address rules refuse.
func (u *upstream) give(servers []backend.Server, decided bool) {
	f := u.addresses
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last, f.given = servers, true
	if passed := f.pass(servers); decided {
		u.group.Replace(passed)
	} else {
		u.group.Update(passed)
	}
}

// setAddresses changes the rules, and holds the present servers to them: those that are
// refused go at once, since the operator has decided it; those that the removal brake
// keeps are kept on, if they are permitted.
func (u *upstream) setAddresses(rules *backend.AddressRules) {
	f := u.addresses
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rules = rules
	if !f.given {
		return
	}
	next := f.pass(f.last)
	for _, m := range u.group.Snapshot().Members {
		if m.Held() && rules.CheckID(m.ID) == nil {
			next = append(next, m.Server)
		}
	}
	u.group.Replace(next)
}

// addressRules makes an upstream's rules.
func addressRules(u config.Upstream, operator admin.Config) (*backend.AddressRules, error) {
	return u.Addresses.Rules(u.Discover != nil, ownAddresses(operator.Address))
}

// ownAddresses gives the addresses by which the operator's interface is reached from
// this host, as far as they can be known.
func ownAddresses(address string) []netip.AddrPort {
	tcp, err := net.ResolveTCPAddr("tcp", address)
	if address == "" || err != nil {
		return nil
	}
	port := tcp.AddrPort().Port()
	if ip := tcp.AddrPort().Addr(); ip.IsValid() && !ip.IsUnspecified() {
		return []netip.AddrPort{netip.AddrPortFrom(ip.Unmap().WithZone(""), port)}
	}
	own := []netip.AddrPort{
		netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port),
		netip.AddrPortFrom(netip.IPv6Loopback(), port),
	}
	interfaces, err := net.InterfaceAddrs()
	if err != nil {
		return own // the loopback is what matters most.
	}
	for _, a := range interfaces {
		if p, err := netip.ParsePrefix(a.String()); err == nil && !p.Addr().IsLoopback() {
			own = append(own, netip.AddrPortFrom(p.Addr().Unmap(), port))
		}
	}
	return own
}
