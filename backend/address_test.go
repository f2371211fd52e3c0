package backend

import (
	"errors"
	"net/netip"
	"testing"
)

func prefixes(texts ...string) (list []netip.Prefix) {
	for _, text := range texts {
		list = append(list, netip.MustParsePrefix(text))
	}
	return list
}

func TestAddressRules(t *testing.T) {
	f := func(rules *AddressRules, permitted bool, addresses ...string) {
		t.Helper()
		for _, text := range addresses {
			id := ID{Scheme: "http", Host: text, Port: 80}
			err := rules.CheckID(id)
			if (err == nil) != permitted || err != nil && !errors.Is(err, ErrAddress) {
				t.Errorf("%s: got %v, want permitted %v", text, err, permitted)
			}
			if dialled := rules.Control(t.Context(), "tcp", id.Address(), nil); (dialled == nil) != permitted {
				t.Errorf("%s, dialled: got %v, want permitted %v", text, dialled, permitted)
			}
		}
	}
	f(nil, true, "169.254.169.254", "0.0.0.0")
	f(&AddressRules{}, true, "169.254.169.254", "0.0.0.0", "127.0.0.1")
	registry := &AddressRules{Registry: true}
	f(registry, true, "127.0.0.1", "::1", "10.0.0.1", "192.0.2.1", "fd00::1", "169.253.255.255", "2001:db8::1", "64:ff9b::a00:1")
	f(registry, false, "169.254.169.254", "169.254.0.1", "::ffff:169.254.169.254", "::ffff:a9fe:a9fe", "fe80::1", "fe80::1%eth0",
		"fd00:ec2::254", "fd00:ec2::254%x", "0.0.0.0", "0.1.2.3", "::", "::ffff:0.0.0.0", "224.0.0.1", "239.255.255.250", "ff02::1",
		"255.255.255.255", "64:ff9b::a9fe:a9fe", "::169.254.169.254")
	linkLocal := &AddressRules{Registry: true, LinkLocal: true}
	f(linkLocal, true, "169.254.0.1", "fe80::1", "10.0.0.1")
	f(linkLocal, false, "169.254.169.254", "fd00:ec2::254", "0.0.0.0", "::ffff:169.254.169.254")
	// A wide network permits nothing special; one inside the special range does.
	f(&AddressRules{Registry: true, Allow: prefixes("0.0.0.0/0")}, false, "169.254.0.1", "169.254.169.254", "0.0.0.0", "::1")
	narrow := &AddressRules{Registry: true, Allow: prefixes("169.254.7.0/24", "10.0.0.0/8")}
	f(narrow, true, "169.254.7.1", "10.1.1.1", "::ffff:10.1.1.1")
	f(narrow, false, "169.254.8.1", "127.0.0.1", "192.0.2.1", "fd00::1")
	f(&AddressRules{Registry: true, Allow: prefixes("169.254.0.0/16")}, false, "169.254.169.254")
	f(&AddressRules{Registry: true, Allow: prefixes("169.254.169.254/32")}, true, "169.254.169.254")
	// Deny wins, for the operator's own servers too.
	for _, r := range []bool{false, true} {
		denied := &AddressRules{Registry: r, Allow: prefixes("10.0.0.0/8"), Deny: prefixes("10.0.0.0/24", "64:ff9b::/96")}
		f(denied, true, "10.0.1.1")
		f(denied, false, "10.0.0.1", "::ffff:10.0.0.1", "64:ff9b::a00:101", "127.0.0.1")
	}
	own := &AddressRules{Registry: true, Own: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:80")}}
	f(own, false, "127.0.0.1", "::ffff:127.0.0.1")
	f(own, true, "127.0.0.2")
	own.Registry = false
	f(own, true, "127.0.0.1")
	if err := registry.CheckID(ID{Host: "metadata.internal", Port: 80}); err != nil {
		t.Errorf("a name: %v; want it checked when it is dialled", err)
	}
}
