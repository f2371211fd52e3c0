// Package backend holds the one noun that every part of drover shares: a server,
// as data that discovery found (Server) and as state that lives on while the
// data changes (Live).
package backend

import (
	"cmp"
	"net"
	"slices"
	"strconv"
)

// DefaultWeight is the weight of a server whose entry names none.
const DefaultWeight = 1

// MaxWeight bounds a weight; decoders clamp to it. Dubbo's usual 100 and
// HAProxy's 256 fit with room to spare, and sums over 10,000 servers stay far
// from overflow.
const MaxWeight = 65535

// ID identifies a server inside one upstream. Two registry entries with one ID
// are one server, and an entry that is deleted and written again is the same
// server: clients do both whenever their registry hiccups.
type ID struct {
	Scheme string // "http" or "https"
	Host   string // a name or an IP address, without brackets
	Port   uint16
}

// Address is host:port as net.Dial takes it, IPv6 addresses in brackets.
func (id ID) Address() string {
	return net.JoinHostPort(id.Host, strconv.Itoa(int(id.Port)))
}

// String is scheme://host:port, the server's name in logs, metrics and status.
func (id ID) String() string { return id.Scheme + "://" + id.Address() }

// Compare orders IDs by host, port, scheme.
func (id ID) Compare(other ID) int {
	return cmp.Or(
		cmp.Compare(id.Host, other.Host),
		cmp.Compare(id.Port, other.Port),
		cmp.Compare(id.Scheme, other.Scheme),
	)
}

// Server is one server as its source describes it. It is a value: a changed
// entry makes a new Server with the same ID.
type Server struct {
	ID
	// Weight is the server's share relative to its peers. 0 means drain: no new
	// requests, running ones finish. Decoders decide this once.
	Weight int
	// Priority orders groups of servers: 0 is used first; a higher number is a
	// backup that gets traffic only when the groups before it cannot serve.
	Priority int
	// Zone names the failure domain, "" when unknown.
	Zone string
	// Role is free text such as "leader", "" when the registry has none.
	Role string
	// Tags are free text, in the registry's order.
	Tags []string
	// Origin says where the entry was read: a znode's path, file:line, a DNS name.
	// It is for people; nothing compares it.
	Origin string
}

// SameData reports whether two servers are alike in everything that changes how
// they are used. Origin is left out: a re-created znode is no change.
func (s Server) SameData(other Server) bool {
	return s.ID == other.ID && s.Weight == other.Weight && s.Priority == other.Priority &&
		s.Zone == other.Zone && s.Role == other.Role && slices.Equal(s.Tags, other.Tags)
}

// Merge gives the servers in ID order with duplicates joined: the last one of an
// ID wins, so a source lists older entries first. The input is not changed.
func Merge(servers []Server) []Server {
	merged := slices.Clone(servers)
	slices.SortStableFunc(merged, func(a, b Server) int { return a.ID.Compare(b.ID) })
	kept := merged[:0]
	for _, s := range merged {
		if n := len(kept); n > 0 && kept[n-1].ID == s.ID {
			kept[n-1] = s
			continue
		}
		kept = append(kept, s)
	}
	return kept
}
