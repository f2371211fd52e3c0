//go:build !race

package proxy

import (
	"net/netip"
	"testing"
)

func TestSourceDoesNotAllocate(t *testing.T) {
	trusted := prefixes("192.0.2.0/24", "10.0.0.0/8")
	ex := requestFor("GET", "a.test", "/", "X-Forwarded-For: 2001:db8::1, 10.1.1.1:80, 10.1.1.2")
	ex.Remote = netip.MustParseAddrPort("192.0.2.7:1")
	noAllocations(t, "setSource", func() { setSource(ex, trusted) })
	bad := requestFor("GET", "a.test", "/", "X-Forwarded-For: unknown")
	bad.Remote = ex.Remote
	n := testing.AllocsPerRun(200, func() { setSource(bad, trusted) })
	if n > 2 { // the error's.
		t.Errorf("got %v allocations for a malformed element, want 2 at most", n)
	}
}
