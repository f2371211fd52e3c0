package front

import "net/netip"

// admission counts the open connections of a Front against its limits.
type admission struct {
	total     int
	perClient map[netip.Addr]int // by clientKey
}

// enter counts a connection, unless it is one too many. One that a PROXY header will
// name another client for is not held to that of its sender.
func (a *admission) enter(addr netip.Addr, proxied bool, s *settings) refusal {
	key := clientKey(addr)
	switch {
	case s.maxConns > 0 && a.total >= s.maxConns:
		return overloaded
	case s.maxPerClient > 0 && key.IsValid() && a.perClient[key] >= s.maxPerClient && !proxied:
		return tooMany
	}
	a.total++
	a.perClient[key]++ // always: a reload may set a limit.
	return accepted
}

// move counts a connection as another client's, unless that has too many.
func (a *admission) move(from, to netip.Addr, s *settings) refusal {
	a.countOff(clientKey(from))
	key := clientKey(to)
	if s.maxPerClient > 0 && a.perClient[key] >= s.maxPerClient {
		a.perClient[clientKey(from)]++
		return tooMany
	}
	a.perClient[key]++
	return accepted
}

// leave counts a connection off that has ended.
func (a *admission) leave(addr netip.Addr) {
	a.total--
	a.countOff(clientKey(addr))
}

func (a *admission) countOff(key netip.Addr) {
	if a.perClient[key] > 1 {
		a.perClient[key]--
	} else {
		delete(a.perClient, key)
	}
}

// clientKey is what a client has one of: an IPv4 address, or the /64 that an IPv6 host
// can choose its addresses from. It is invalid for what is no IP connection.
func clientKey(addr netip.Addr) netip.Addr {
	if !addr.Is6() {
		return addr
	}
	net64, err := addr.WithZone("").Prefix(64)
	if err != nil {
		return addr
	}
	return net64.Addr()
}
