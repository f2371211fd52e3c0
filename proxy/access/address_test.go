package access

import (
	"net/netip"
	"testing"
)

func addresses(t *testing.T, texts ...string) Addresses {
	t.Helper()
	list, _, err := ParseAddresses(texts)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestPermits(t *testing.T) {
	for _, c := range []struct {
		allow, deny []string
		addr        string
		want        bool
	}{
		{nil, nil, "192.0.2.1", true},
		{[]string{"10.0.0.0/8"}, nil, "10.1.2.3", true},
		{[]string{"10.0.0.0/8"}, nil, "::ffff:10.1.2.3", true},
		{[]string{"10.0.0.0/8"}, nil, "11.0.0.0", false},
		{[]string{"10.0.0.0/8"}, nil, "::1", false},
		{nil, []string{"10.0.0.0/8"}, "10.1.2.3", false},
		{nil, []string{"10.0.0.0/8"}, "9.255.255.255", true},
		{[]string{"10.1.0.0/16"}, []string{"10.1.2.3"}, "10.1.2.3", false},
		{[]string{"10.1.2.3"}, []string{"10.0.0.0/8"}, "10.1.2.3", false},
		{[]string{"10.1.2.3"}, []string{"10.1.2.4"}, "10.1.2.3", true},
		{[]string{"fe80::/10"}, nil, "fe80::1%eth0", true},
		{[]string{"0.0.0.0/0"}, nil, "2001:db8::1", false},
	} {
		addr := netip.MustParseAddr(c.addr)
		if got := Permits(addresses(t, c.allow...), addresses(t, c.deny...), addr); got != c.want {
			t.Errorf("allow %q, deny %q: %s permitted: %v; want %v", c.allow, c.deny, addr, got, c.want)
		}
	}
	list := addresses(t, "10.0.0.0/8", "2001:db8::/32")
	addr := netip.MustParseAddr("192.0.2.1")
	if n := testing.AllocsPerRun(100, func() { Permits(list, list, addr) }); n > 0 {
		t.Errorf("got %v allocations; want none", n)
	}
}

func TestParseAddressesRefuses(t *testing.T) {
	for _, text := range []string{"", "10.0.0.1/8", "10.0.0.0/33", "localhost", "::ffff:10.0.0.0/104", "::ffff:10.0.0.1", "fe80::1%eth0", "10.0.0.0/08"} {
		if _, at, err := ParseAddresses([]string{"::1", text}); err == nil || at != 1 {
			t.Errorf("%q: got error %v at %d; want one at 1", text, err, at)
		}
	}
}
