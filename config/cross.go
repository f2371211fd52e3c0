package config

import (
	"net"
	"net/netip"
	"slices"

	"drover/backend"
	"drover/discovery/format"
	"drover/discovery/zookeeper"
	"drover/proxy"
	"drover/proxy/front"
	"drover/transport"
)

// crossValidate checks what no block can check alone: that names are unique and
// refer to something, and that settings of different parts fit together.
func (l *loader) crossValidate() {
	for i := range l.cfg.Listeners {
		if err := validName(l.cfg.Listeners[i].Name); err != nil && l.cfg.Listeners[i].Name != "" {
			l.at(indexed("listeners", i)+".name", "%w", err)
		}
	}
	l.checkNames("listeners", len(l.cfg.Listeners), func(i int) string { return l.cfg.Listeners[i].Name })
	l.checkNames("upstreams", len(l.cfg.Upstreams), func(i int) string { return l.cfg.Upstreams[i].Name })
	l.checkNames("routes", len(l.cfg.Routes), func(i int) string { return l.cfg.Routes[i].Name })
	l.checkAddresses()
	for i := range l.cfg.Upstreams {
		l.checkUpstream(&l.cfg.Upstreams[i], indexed("upstreams", i))
	}
	l.checkReferences()
	l.checkSecrets()
}

// checkNames reports names that two elements of a list share, wherever they stand.
func (l *loader) checkNames(list string, n int, name func(int) string) {
	first := map[string]int{}
	for i := range n {
		if name(i) == "" {
			continue // said by the block, or given a name of its own.
		}
		earlier, taken := first[name(i)]
		if !taken {
			first[name(i)] = i
			continue
		}
		l.at(indexed(list, i)+".name", "got %q, which is %s too; want another name", name(i), l.described(indexed(list, earlier)+".name"))
	}
}

// checkAddresses reports listeners that cannot be opened beside each other.
func (l *loader) checkAddresses() {
	type bound struct{ path, host, port string }
	var all []bound
	add := func(path, address string) {
		host, port, err := net.SplitHostPort(address)
		if err != nil || port == "0" {
			return // faulty, or a free port each time.
		}
		for _, b := range all {
			if b.port == port && hostsClash(b.host, host) {
				l.at(path, "got %q, which %s listens on too; want another address or port", address, l.described(b.path))
				break
			}
		}
		all = append(all, bound{path, host, port})
	}
	add("admin.address", l.cfg.Admin.Address)
	for i := range l.cfg.Listeners {
		add(indexed("listeners", i)+".address", l.cfg.Listeners[i].Address)
	}
}

// described gives a key with its place: "listeners[0].address at drover.yaml:3:14".
func (l *loader) described(path string) string {
	at, local := l.find(path)
	if at == (Place{}) || !l.written(path) {
		return local + " (by default)"
	}
	return local + " at " + at.String()
}

// hostsClash reports whether one port cannot be opened on both hosts: they are the
// same, or one of them is every address.
func hostsClash(a, b string) bool {
	every := func(host string) bool {
		ip, err := netip.ParseAddr(host)
		return host == "" || err == nil && ip.IsUnspecified()
	}
	return a == b || every(a) || every(b)
}

const withoutZooKeeper = `got it without a zookeeper block; want one at the top level, such as zookeeper: { servers: [ "127.0.0.1:2181" ] }`

func (l *loader) checkUpstream(u *Upstream, path string) {
	switch policy := u.Balancer.Policy; {
	case policy.Key != "":
		if _, err := proxy.ParseKey(policy.Key); err != nil {
			l.at(path+".policy.key", "%w", err)
		}
		if !policy.Hashes() {
			l.remark(path+".policy.key", "got a key for policy %s, which does not use it", policy.Type)
		}
	case policy.Hashes():
		l.at(path+".policy", `got %s without a key; want key: what to hash, such as "header:X-User-ID" or "client"`, policy.Type)
	}
	if u.Balancer.PanicThreshold > 0 && u.Check == nil && u.Outlier.Disabled {
		l.at(path+".panic_threshold", "got %d with neither check nor outlier detection; want one of them, since nothing else takes a server out", u.Balancer.PanicThreshold)
	}
	if u.Discover != nil && u.Discover.ZooKeeper != nil && l.cfg.ZooKeeper == nil {
		l.at(path+".discover.zookeeper", withoutZooKeeper)
	}
	seen := map[string]int{}
	protocol := u.Transport.Protocol
	for i := range u.Servers {
		at := indexed(path+".servers", i) + ".address"
		id, ok := serverID(u.Servers[i].Address)
		if !ok {
			continue // said by the block.
		}
		if id.Scheme == "http" && protocol == transport.ProtocolH2 || id.Scheme == "https" && protocol == transport.ProtocolH2C {
			l.at(path+".transport.protocol", "got %s, and %s in servers; want h2 with https servers and h2c with http servers", protocol, id)
		}
		if earlier, twice := seen[id.String()]; twice {
			l.at(at, "got %s, which is %s too; want each server once", id, indexed("servers", earlier))
			continue
		}
		seen[id.String()] = i
	}
}

// serverID reads the address of one of an upstream's servers as the static source does.
func serverID(address string) (id backend.ID, ok bool) {
	decode, err := format.Lookup("plain")
	if err != nil {
		return id, false
	}
	servers, err := decode("", []byte(address))
	if err != nil || len(servers) != 1 {
		return id, false
	}
	return servers[0].ID, true
}

// checkReferences reports routes to listeners and upstreams that do not exist.
func (l *loader) checkReferences() {
	var listeners, upstreams []string
	for i := range l.cfg.Listeners {
		listeners = append(listeners, l.cfg.Listeners[i].Name)
	}
	for i := range l.cfg.Upstreams {
		upstreams = append(upstreams, l.cfg.Upstreams[i].Name)
	}
	refer := func(path, name, what string, known []string) {
		if name != "" && !slices.Contains(known, name) {
			l.at(path, "got unknown %s %q; %s", what, name, didYouMean(name, known))
		}
	}
	for i := range l.cfg.Routes {
		r, path := &l.cfg.Routes[i], indexed("routes", i)
		refer(path+".upstream", r.Upstream, "upstream", upstreams)
		if auth := r.Access.ForwardAuth; auth != nil {
			refer(path+".forward_auth.upstream", auth.Upstream, "upstream", upstreams)
		}
		for j, name := range r.Listeners {
			refer(indexed(path+".listeners", j), name, "listener", listeners)
		}
		for j := range r.Split {
			refer(indexed(path+".split", j)+".upstream", r.Split[j].Upstream, "upstream", upstreams)
		}
	}
}

// checkSecrets reports secrets that are to be shared through ZooKeeper, where that cannot
// be or would give them away.
func (l *loader) checkSecrets() {
	for i := range l.cfg.Listeners {
		tls := l.cfg.Listeners[i].TLS
		if tls == nil {
			continue
		}
		path := indexed("listeners", i) + ".tls"
		l.checkSecret(path+".session_tickets.zookeeper", tls.SessionTickets.ZooKeeper, "the keys of clients' sessions")
		if tls.ACME != nil {
			l.checkSecret(path+".acme.storage_zookeeper", tls.ACME.Account.StorageZooKeeper, "the certificates' private keys")
		}
	}
}

func (l *loader) checkSecret(path, znode, what string) {
	if znode == "" {
		return
	}
	if err := zookeeper.ValidateSecretPath(znode); err != nil {
		l.at(path, "%w", err)
	}
	ensemble := l.cfg.ZooKeeper
	switch {
	case ensemble == nil:
		l.at(path, withoutZooKeeper)
	case ensemble.Auth == nil && !ensemble.AllowOpenSecrets:
		l.at(path, "got it without zookeeper.auth, so that whoever can connect to the ensemble could read and replace %s; want auth, or zookeeper.allow_open_secrets: true where all who can connect may", what)
	}
}

// shares reports whether a listener shares secrets through ZooKeeper.
func shares(l *front.Config) bool {
	return l.TLS != nil && (l.TLS.SessionTickets.ZooKeeper != "" || l.TLS.ACME != nil && l.TLS.ACME.Account.StorageZooKeeper != "")
}
