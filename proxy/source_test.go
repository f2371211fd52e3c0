package proxy

import (
	"net/netip"
	"strings"
	"testing"
)

func prefixes(list ...string) []netip.Prefix {
	var all []netip.Prefix
	for _, text := range list {
		all = append(all, netip.MustParsePrefix(text))
	}
	return all
}

func TestSourceIsFoundFromTheRight(t *testing.T) {
	trusted := prefixes("192.0.2.0/24", "10.0.0.0/8", "2001:db8:1::/48")
	for name, tc := range map[string]struct {
		peer  string
		lines []string
		want  string
	}{
		"nothing said":           {"192.0.2.7:1", nil, "192.0.2.7"},
		"peer not trusted":       {"203.0.113.7:1", []string{"X-Forwarded-For: 198.51.100.1"}, "203.0.113.7"},
		"one element":            {"192.0.2.7:1", []string{"X-Forwarded-For: 198.51.100.1"}, "198.51.100.1"},
		"the client lies":        {"192.0.2.7:1", []string{"X-Forwarded-For: 127.0.0.1, 10.1.1.1, 198.51.100.1"}, "198.51.100.1"},
		"proxies in a row":       {"192.0.2.7:1", []string{"X-Forwarded-For: 1.1.1.1,198.51.100.1 ,\t10.1.1.1, 10.2.2.2"}, "198.51.100.1"},
		"several fields":         {"192.0.2.7:1", []string{"x-forwarded-for: 1.1.1.1, 198.51.100.1", "A: b", "X-Forwarded-For: 10.1.1.1"}, "198.51.100.1"},
		"all trusted":            {"192.0.2.7:1", []string{"X-Forwarded-For: 10.3.3.3, 10.1.1.1"}, "10.3.3.3"},
		"empty elements":         {"192.0.2.7:1", []string{"X-Forwarded-For: 198.51.100.1, ,", "X-Forwarded-For: ", "X-Forwarded-For: ,10.1.1.1,,"}, "198.51.100.1"},
		"malformed":              {"192.0.2.7:1", []string{"X-Forwarded-For: 198.51.100.1, unknown, 10.1.1.1"}, "10.1.1.1"},
		"malformed at the end":   {"192.0.2.7:1", []string{"X-Forwarded-For: 198.51.100.1, _hidden"}, "192.0.2.7"},
		"leading zero":           {"192.0.2.7:1", []string{"X-Forwarded-For: 198.51.100.010"}, "192.0.2.7"},
		"a zone":                 {"192.0.2.7:1", []string{"X-Forwarded-For: fe80::1%eth0"}, "192.0.2.7"},
		"a port":                 {"192.0.2.7:1", []string{"X-Forwarded-For: 1.1.1.1, 198.51.100.1:443"}, "198.51.100.1"},
		"IPv6":                   {"[2001:db8:1::1]:1", []string{"X-Forwarded-For: 2001:db8:2::2, 2001:db8:1::2"}, "2001:db8:2::2"},
		"IPv6 with a port":       {"192.0.2.7:1", []string{"X-Forwarded-For: [2001:db8:2::2]:80"}, "2001:db8:2::2"},
		"IPv4 as IPv6":           {"[::ffff:192.0.2.7]:1", []string{"X-Forwarded-For: 198.51.100.1, ::ffff:10.1.1.1"}, "198.51.100.1"},
		"disguised":              {"192.0.2.7:1", []string{"X_Forwarded_For: 198.51.100.1"}, "192.0.2.7"},
		"longer than an address": {"192.0.2.7:1", []string{"X-Forwarded-For: 00000000000000000000000000000000000000000000000000000000000000000000000000"}, "192.0.2.7"},
	} {
		ex := requestFor("GET", "a.test", "/", tc.lines...)
		ex.Remote = netip.MustParseAddrPort(tc.peer)
		setSource(ex, trusted)
		if got := ex.Source().String(); got != tc.want {
			t.Errorf("%s: got %s, want %s", name, got, tc.want)
		}
	}
}

// What a trusted peer said goes on; what anyone else said does not.
func TestTrustedPeerIsPassedOn(t *testing.T) {
	lines := []string{"Host: a.test", "X-Forwarded-For: 198.51.100.1", "X-Forwarded-Proto: https", "X-Forwarded-Host: b.test",
		"X-Forwarded-Port: 443", "Forwarded: for=198.51.100.1", "X-Real-IP: 1.1.1.1", "X-Forwarded-Prefix: /x", "X_Forwarded_Proto: evil"}
	for trusted, want := range map[string]string{
		"192.0.2.0/24": "Host: a.test|X-Forwarded-Proto: https|X-Forwarded-Host: b.test|X-Forwarded-Port: 443|Forwarded: for=198.51.100.1|X-Forwarded-For: 198.51.100.1, 192.0.2.7|",
		"10.0.0.0/8":   "Host: a.test|X-Forwarded-For: 198.51.100.1, 192.0.2.7|X-Forwarded-Proto: http|X-Forwarded-Host: a.test|",
	} {
		ex := requestFor("GET", "a.test", "/", lines...)
		ex.Remote = netip.MustParseAddrPort("192.0.2.7:1")
		setSource(ex, prefixes(trusted))
		if got := headerText(OutgoingHeader(nil, ex, HeaderOptions{})); got != want {
			t.Errorf("trusted %s:\ngot  %s\nwant %s", trusted, got, want)
		}
	}
	ex := requestFor("GET", "a.test", "/", "Host: a.test", "Forwarded: for=198.51.100.1")
	ex.Remote = netip.MustParseAddrPort("192.0.2.7:1")
	setSource(ex, prefixes("192.0.2.0/24"))
	want := "Host: a.test|X-Forwarded-For: 192.0.2.7|X-Forwarded-Proto: http|X-Forwarded-Host: a.test|Forwarded: for=198.51.100.1, for=192.0.2.7;host=a.test;proto=http|"
	if got := headerText(OutgoingHeader(nil, ex, HeaderOptions{Forwarded: true})); got != want {
		t.Errorf("with drover's Forwarded:\ngot  %s\nwant %s", got, want)
	}
}

// Hashes, logs and templates take the client that was found.
func TestSourceIsUsed(t *testing.T) {
	ex := requestFor("GET", "a.test", "/", "X-Forwarded-For: 198.51.100.1")
	ex.Remote = netip.MustParseAddrPort("192.0.2.7:1")
	direct := requestFor("GET", "a.test", "/")
	direct.Remote = netip.MustParseAddrPort("198.51.100.1:1")
	setSource(ex, prefixes("192.0.2.0/24"))
	setSource(direct, nil)
	got, _ := clientHash(ex)
	if want, ok := clientHash(direct); got != want || !ok {
		t.Errorf("got hash %x, want that of the client behind the proxy, %x", got, want)
	}
	if got := expanded(t, "{client_ip}", Vars{Exchange: ex}); got != "198.51.100.1" {
		t.Errorf("{client_ip}: got %s, want 198.51.100.1", got)
	}
	var line []byte
	if line = appendJSON(line, &entry{ex: ex}); !strings.Contains(string(line), `"client":"198.51.100.1","peer":"192.0.2.7"`) {
		t.Errorf("got log line %s, want the client and the peer", line)
	}
}
