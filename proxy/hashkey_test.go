package proxy

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"drover/exchange"

	"github.com/cespare/xxhash/v2"
)

func mustKey(t testing.TB, spec string) *Key {
	t.Helper()
	k, err := ParseKey(spec)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestKeyReadsItsPart(t *testing.T) {
	ex := requestFor("GET", "Shop.Test.:80", "/a%20b//c?X=no&x=%41+b&x=2&e=", "X-User: 7", "x-user: 8", "Cookie: aa=no; a=1=2;b", `cookie: a=3; q="x"`, "Empty:")
	for spec, want := range map[string]string{
		"header:X-USER": "7",
		"cookie:a":      "1=2",
		"cookie:aa":     "no",
		"cookie:q":      `"x"`,
		"query:x":       "A b",
		"query:X":       "no",
		"path":          "/a%20b//c",
		"host":          "shop.test",
	} {
		if got := mustKey(t, spec).Hash(ex); got != xxhash.Sum64String(want) {
			t.Errorf("%s: got another hash than that of %q", spec, want)
		}
	}
	client := ex.Remote.Addr().As16()
	for _, spec := range []string{"client", "header:None", "header:Empty", "cookie:b", "cookie:A", "query:e", "query:none", "header:No+cookie:no+query:no"} {
		if got := mustKey(t, spec).Hash(ex); got != xxhash.Sum64(client[:]) {
			t.Errorf("%s: got another hash than the client address's", spec)
		}
	}
}

func TestKeyIgnoresTheClientsPort(t *testing.T) {
	k := mustKey(t, "client")
	hash := func(addr string) uint64 {
		ex := requestFor("GET", "a.test", "/")
		ex.Remote = netip.MustParseAddrPort(addr)
		return k.Hash(ex)
	}
	if hash("192.0.2.1:1") != hash("192.0.2.1:2") || hash("192.0.2.1:1") != hash("[::ffff:192.0.2.1]:1") {
		t.Error("got different hashes for one address")
	}
	if hash("192.0.2.1:1") == hash("192.0.2.2:1") {
		t.Error("got one hash for two addresses")
	}
}

// Two requests have one hash exactly when they are alike in every part, a missing part
// being like an empty one.
func TestKeyAgainstSlowTwin(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 8))
	pick := func(list ...string) string { return list[random.IntN(len(list))] }
	k := mustKey(t, "header:H+cookie:c+query:q+host")
	slow := map[string]uint64{}
	for range 5000 {
		h, c, q, host := pick("", "a", "b", "ab"), pick("", "a", "bc", "c"), pick("", "a", "b c", "é"), pick("a.test", "b.test")
		ex := requestFor("GET", host, "/?x=1&q="+strings.ReplaceAll(strings.ReplaceAll(q, " ", pick("+", "%20")), "é", pick("é", "%C3%A9", "%c3%a9")), "H: "+h)
		if c != "" || random.IntN(2) == 0 {
			ex.Request.Header.Add("Cookie", "x=y; c="+c)
		}
		text := fmt.Sprintf("%q", []string{h, c, q, host})
		got := k.Hash(ex)
		if want, known := slow[text]; known && want != got {
			t.Fatalf("%s: got two hashes", text)
		}
		slow[text] = got
	}
	distinct := map[uint64]string{}
	for text, hash := range slow {
		if other, taken := distinct[hash]; taken {
			t.Errorf("%s and %s: got one hash", text, other)
		}
		distinct[hash] = text
	}
}

func TestKeySpecsThatAreWrong(t *testing.T) {
	for spec, want := range map[string]string{
		"":                "got no key",
		"user":            `got "user" in key "user"; want client, cookie:NAME, header:NAME, host, path, query:NAME, joined with +`,
		"Header:X":        `got "Header:X"`,
		"host+":           `got "" in key "host+"`,
		"header":          `got "header" in key "header"; want header:NAME`,
		"header:":         "want header:NAME",
		"query:":          "want query:NAME",
		"path:x":          "want path without a name",
		"header:a b":      `got the name "a b"`,
		"cookie:a;b":      `got the name "a;b"`,
		"host + client":   `got "host " in key`,
		"header:X,client": `got the name "X,client"`,
	} {
		if _, err := ParseKey(spec); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", spec, err, want)
		}
	}
}

func FuzzQueryTextHash(f *testing.F) {
	f.Add([]byte("a+b%20"), "a b ")
	f.Add([]byte(strings.Repeat("x", 62)+"%41%4"), "x")
	f.Add([]byte(strings.Repeat("%", 70)+"41"), "%")
	f.Fuzz(func(t *testing.T, text []byte, name string) {
		for shift := range 4 {
			padded := append([]byte(strings.Repeat("x", 60+shift)), text...)
			if got, _ := queryTextHash(padded); got != xxhash.Sum64(appendQueryText(nil, padded)) {
				t.Fatalf("%q: got another hash than that of the decoded text", padded)
			}
		}
		if got, want := decodesToQuery(text, name), string(appendQueryText(nil, text)) == name; got != want {
			t.Fatalf("%q is %q: got %v, want %v", text, name, got, want)
		}
	})
}

func FuzzCookies(f *testing.F) {
	f.Add("a=b; c=d", "a")
	f.Add(";;=; a", "a")
	f.Add("a==; a=", "a")
	f.Fuzz(func(t *testing.T, field, name string) {
		var got, want []string
		walk := cookieWalk{header: exchange.Header{{Name: []byte("cookie"), Value: []byte(field)}}}
		for value, ok := walk.next(name); ok; value, ok = walk.next(name) {
			got = append(got, string(value))
		}
		for _, pair := range strings.Split(field, ";") {
			if value, ok := strings.CutPrefix(strings.Trim(pair, " \t"), name+"="); ok {
				want = append(want, value)
			}
		}
		if fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
			t.Fatalf("%q in %q: got %q, want %q", name, field, got, want)
		}
	})
}
