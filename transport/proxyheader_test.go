package transport

import (
	"bufio"
	"bytes"
	"net/netip"
	"testing"

	"drover/exchange"

	proxyproto "github.com/pires/go-proxyproto"
)

func TestProxyHeader(t *testing.T) {
	for _, tc := range []struct{ remote, local, v1, source string }{
		{"192.0.2.1:7", "198.51.100.1:80", "PROXY TCP4 192.0.2.1 198.51.100.1 7 80\r\n", "192.0.2.1:7"},
		{"[2001:db8::1]:7", "[2001:db8::2]:80", "PROXY TCP6 2001:db8::1 2001:db8::2 7 80\r\n", "[2001:db8::1]:7"},
		{"192.0.2.1:7", "[2001:db8::2]:80", "PROXY TCP6 ::ffff:192.0.2.1 2001:db8::2 7 80\r\n", "192.0.2.1:7"},
		{"[2001:db8::1]:7", "198.51.100.1:80", "PROXY TCP6 2001:db8::1 ::ffff:198.51.100.1 7 80\r\n", "[2001:db8::1]:7"},
		{"", "", "PROXY UNKNOWN\r\n", ""},
	} {
		ex := &exchange.Exchange{}
		if tc.remote != "" {
			ex.Remote, ex.Local = netip.MustParseAddrPort(tc.remote), netip.MustParseAddrPort(tc.local)
		}
		one, err := proxyHeader(1, ex)
		if err != nil || string(one) != tc.v1 {
			t.Errorf("%s: version 1 is %q, %v; want %q", tc.remote, one, err, tc.v1)
		}
		two, err := proxyHeader(2, ex)
		if err != nil {
			t.Errorf("%s: %v", tc.remote, err)
			continue
		}
		h, err := proxyproto.Read(bufio.NewReader(bytes.NewReader(two)))
		if err != nil || h.Version != 2 {
			t.Errorf("%s: version 2 reads as %v, %v", tc.remote, h, err)
			continue
		}
		got := ""
		if h.SourceAddr != nil {
			got = h.SourceAddr.String()
		}
		if got != tc.source {
			t.Errorf("%s: version 2 names %q; want %q", tc.remote, got, tc.source)
		}
	}
}
