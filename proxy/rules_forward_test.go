package proxy

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"drover/exchange"
)

// outgoing gives what a server would get for a request with these fields, its length
// as the framing says.
func outgoing(opts HeaderOptions, change func(ex *exchange.Exchange), lines ...string) string {
	ex := requestFor("GET", "a.test", "/")
	ex.Request.Header = headerOf(lines...)
	if change != nil {
		change(ex)
	}
	return headerText(OutgoingHeader(nil, ex, opts))
}

// drovers is what drover adds to every request of these tests.
const drovers = "X-Forwarded-For: 192.0.2.7|X-Forwarded-Proto: http|X-Forwarded-Host: a.test|"

func length(n int64) func(ex *exchange.Exchange) {
	return func(ex *exchange.Exchange) { ex.Request.ContentLength = n }
}

func upgrade(ex *exchange.Exchange) { ex.Request.Upgrade = "websocket" }

func TestOutgoingHeader(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(ex *exchange.Exchange)
		lines  []string
		want   string
	}{
		"order, spelling and duplicates": {nil,
			[]string{"hOsT: a.test", "b: 1", "A: 2", "B: 3", "Cookie: x", "cookie: y", "Empty:"},
			"hOsT: a.test|b: 1|A: 2|B: 3|Cookie: x|cookie: y|Empty: |" + drovers},
		"one Host, of the request line": {nil, []string{"A: 1", "Host: other", "Host: more"}, "A: 1|Host: a.test|" + drovers},
		"no Host":                       {nil, []string{"A: 1"}, "Host: a.test|A: 1|" + drovers},
		"hop-by-hop": {nil,
			[]string{"Host: h", "Connection: close, X-Own , keep-alive", "X-OWN: 1", "X-Other: 2", "Keep-Alive: 5", "Proxy-Connection: x", "Upgrade: h2c",
				"HTTP2-Settings: x", "TE: gzip", "Expect: 100-continue", "Proxy-Authorization: Basic x", "connection: x-more", "X-More: 3"},
			"Host: a.test|X-Other: 2|" + drovers},
		"authorization is the server's": {nil, []string{"Host: h", "Authorization: Basic x"}, "Host: a.test|Authorization: Basic x|" + drovers},
		"proof against Connection": {length(3),
			[]string{"Connection: Host, Content-Length, content-type, Cookie, Authorization, Via, X-Forwarded-For, X-Forwarded-Proto, X-Forwarded-Host, Cache-Control",
				"Host: a.test", "Content-Length: 3", "Content-Type: x", "Cookie: c", "Authorization: a", "Via: v", "Cache-Control: no-store"},
			"Host: a.test|Content-Length: 3|Content-Type: x|Cookie: c|Authorization: a|Via: v|Cache-Control: no-store|" + drovers},
		"trailers":                      {nil, []string{"Host: h", "te: gzip;q=1, TRAILERS ;q=0.5", "TE: x"}, "Host: a.test|Connection: TE|TE: trailers|" + drovers},
		"a field that ends in trailers": {nil, []string{"Host: h", "TE: xtrailers, trailers2"}, "Host: a.test|" + drovers},
		"upgrade": {upgrade, []string{"Host: h", "Connection: Upgrade", "Upgrade: WebSocket", "Sec-WebSocket-Key: k"},
			"Host: a.test|Sec-WebSocket-Key: k|Connection: Upgrade|Upgrade: websocket|" + drovers},
		"upgrade and trailers": {upgrade, []string{"Host: h", "TE: trailers"}, "Host: a.test|Connection: TE, Upgrade|TE: trailers|Upgrade: websocket|" + drovers},
		"length":               {length(7), []string{"A: 1", "content-LENGTH: 007", "Host: h", "Content-Length: 7"}, "A: 1|content-LENGTH: 007|Host: a.test|" + drovers},
		"length of HTTP/2":     {length(0), []string{"Host: h", "A: 1"}, "Host: a.test|A: 1|Content-Length: 0|" + drovers},
		"length without body":  {length(exchange.NoBody), []string{"Host: h", "Content-Length: 7", "Transfer-Encoding: chunked", "Trailer: X"}, "Host: a.test|" + drovers},
		"length and chunks":    {length(7), []string{"Host: h", "Transfer-Encoding: chunked", "Content-Length: 7", "Trailer: X"}, "Host: a.test|Content-Length: 7|" + drovers},
		"chunks": {length(exchange.LengthUnknown), []string{"transfer-ENCODING: Chunked", "Host: h", "Trailer: X", "Content-Length: 7", "Transfer-Encoding: gzip", "Connection: Trailer, transfer-encoding"},
			"transfer-ENCODING: chunked|Host: a.test|Trailer: X|" + drovers},
		"chunks of HTTP/2": {length(exchange.LengthUnknown), []string{"Host: h"}, "Host: a.test|Transfer-Encoding: chunked|" + drovers},
		"forwarded": {nil,
			[]string{"X-Forwarded-For: 198.51.100.9, spoof", "Host: h", "x-forwarded-proto: https", "X-FORWARDED-HOST: evil", "X-Forwarded-For: ", "X-Real-IP: evil",
				"X-Forwarded-For: 203.0.113.1 ,", "Forwarded: for=evil", "X-Forwarded-Port: 1", "X-Forwarded-Prefix: //evil", "X-Forwarded-Client-Certificate-Hash: x"},
			"Host: a.test|X-Forwarded-For: 198.51.100.9, spoof, 203.0.113.1, 192.0.2.7|X-Forwarded-Proto: http|X-Forwarded-Host: a.test|"},
		"underscores": {length(1),
			[]string{"Host: h", "X_Forwarded_For: evil", "X_Forwarded-Proto: https", "Content_Length: 0", "Transfer_Encoding: chunked", "x_real_ip: evil", "X_Own: 1", "Content-Length: 1"},
			"Host: a.test|X_Own: 1|Content-Length: 1|" + drovers},
		"over TLS": {func(ex *exchange.Exchange) { ex.Secure = true }, []string{"Host: h"},
			"Host: a.test|" + strings.Replace(drovers, "http|", "https|", 1)},
		"from IPv6": {func(ex *exchange.Exchange) { ex.Remote = netip.MustParseAddrPort("[2001:db8::7]:1") }, []string{"Host: h"},
			"Host: a.test|" + strings.Replace(drovers, "192.0.2.7", "2001:db8::7", 1)},
		"HTTP/1.0 without Host": {func(ex *exchange.Exchange) { ex.Request.Host, ex.Request.ProtoMinor = nil, 0 }, []string{"X-Forwarded-Host: evil"},
			"Host: |X-Forwarded-For: 192.0.2.7|X-Forwarded-Proto: http|"},
	} {
		if got := outgoing(HeaderOptions{}, tc.change, tc.lines...); got != tc.want {
			t.Errorf("%s:\ngot  %s\nwant %s", name, got, tc.want)
		}
	}
}

func TestOutgoingForwardedAndVia(t *testing.T) {
	const plain = "Host: a.test|" + drovers
	for _, tc := range []struct {
		change func(ex *exchange.Exchange)
		lines  []string
		want   string
	}{
		{nil, []string{"Host: h"}, plain + "Forwarded: for=192.0.2.7;host=a.test;proto=http|Via: 1.1 drover|"},
		{func(ex *exchange.Exchange) { ex.Request.ProtoMinor = 0 }, []string{"Host: h", "Via: 1.1 cdn"},
			"Host: a.test|Via: 1.1 cdn|" + drovers + "Forwarded: for=192.0.2.7;host=a.test;proto=http|Via: 1.0 drover|"},
		{nil, []string{"Host: h", `Forwarded: for="[2001:db8::1]";By=x , for=y`, "FORWARDED: , proto=http;;"},
			plain + `Forwarded: for="[2001:db8::1]";By=x , for=y, proto=http;;, for=192.0.2.7;host=a.test;proto=http|Via: 1.1 drover|`},
		{nil, []string{"Host: h", "Forwarded: for=y", `Forwarded: for="`}, plain + "Forwarded: for=192.0.2.7;host=a.test;proto=http|Via: 1.1 drover|"},
	} {
		if got := outgoing(HeaderOptions{Forwarded: true, Via: true}, tc.change, tc.lines...); got != tc.want {
			t.Errorf("%q:\ngot  %s\nwant %s", tc.lines, got, tc.want)
		}
	}
	got := outgoing(HeaderOptions{Forwarded: true}, func(ex *exchange.Exchange) {
		ex.Secure = true
		ex.Request.Host, ex.Remote = []byte("a\"\\\r\nb:80"), netip.MustParseAddrPort("[2001:db8::7]:1")
	}, "Host: h")
	if want := `Forwarded: for="[2001:db8::7]";host="a\"\\b:80";proto=https|`; !strings.HasSuffix(got, want) {
		t.Errorf("got %s, want …%s", got, want)
	}
}

func TestForwardedGrammar(t *testing.T) {
	for value, want := range map[string]bool{
		"": true, "for=1.2.3.4": true, `for="a,b;c\"d"`: true, "for=a;proto=b, for=c": true, " ,; ,": true, "for=a ; by=b": true,
		`for="a`: false, `for="a\"`: false, "for": false, "for=": false, "=a": false, "for=a b": false, "for=a:80": false, "for = a": false,
		`for="a"b`: false, "for=\"a\nb\"": false, "for=a/": false,
	} {
		if got := isForwarded([]byte(value)); got != want {
			t.Errorf("%q: got %v, want %v", value, got, want)
		}
	}
}

func FuzzForwarded(f *testing.F) {
	for _, value := range []string{"for=a", `for="[::1]:80";proto=http, for=b`, `for="`, `"`, `\`, "for=a\\", `a="\`, ",;"} {
		f.Add(value, "a.test")
	}
	f.Fuzz(func(t *testing.T, value, host string) {
		ex := requestFor("GET", host, "/", "Forwarded: "+value)
		got := appendForwarded(nil, ex)
		if !isForwarded(got) {
			t.Fatalf("got %q, which is ill-formed", got)
		}
		// Drover's own element is the last one however a server splits.
		own := appendForwarded(nil, requestFor("GET", host, "/"))
		if rest, ok := strings.CutSuffix(string(got), string(own)); !ok || rest != "" && (!strings.HasSuffix(rest, ", ") || !isForwarded([]byte(rest))) {
			t.Fatalf("got %q, want it to end with %q", got, own)
		}
	})
}

// Whatever a client puts into Connection, and whatever else it sends: what drover
// writes, routes by and frames by is there once and says what drover says.
func TestNoFieldNamesAwayWhatDroverSets(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	pick := func(list ...string) string { return list[random.IntN(len(list))] }
	names := []string{"X-Forwarded-For", "x-forwarded-proto", "X-FORWARDED-HOST", "Forwarded", "Via", "Host", "Content-Length", "Transfer-Encoding", "X-Own", "Cookie",
		"X_Forwarded_For", "Connection", "TE", "Trailer", "Upgrade", "close", "X-Real-IP", ""}
	for range 5000 {
		var lines []string
		for range random.IntN(8) {
			if random.IntN(2) == 0 {
				options := ""
				for range random.IntN(6) {
					options += pick(names...) + pick(",", ", ", " ,", "\t,,", ";", " ")
				}
				lines = append(lines, pick("Connection", "connection", "CONNECTION")+": "+options)
				continue
			}
			if name := pick(names...); name != "" {
				lines = append(lines, name+": "+pick("evil", "evil, evil", "", "7", "chunked"))
			}
		}
		size := []int64{exchange.NoBody, exchange.LengthUnknown, 0, 7}[random.IntN(4)]
		h := headerOf(strings.Split(strings.TrimSuffix(outgoing(HeaderOptions{Forwarded: true, Via: true}, length(size), lines...), "|"), "|")...)
		for name, want := range map[string]string{"X-Forwarded-Proto": "http", "X-Forwarded-Host": "a.test", "Host": "a.test"} {
			if h.Count(name) != 1 || string(h.Get(name)) != want {
				t.Fatalf("%q: got %s, want one %s: %s", lines, headerText(h), name, want)
			}
		}
		for name, suffix := range map[string]string{"X-Forwarded-For": "192.0.2.7", "Forwarded": "for=192.0.2.7;host=a.test;proto=http"} {
			if value := string(h.Get(name)); h.Count(name) != 1 || value != suffix && !strings.HasSuffix(value, ", "+suffix) {
				t.Fatalf("%q: got %s, want one %s that ends in %s", lines, headerText(h), name, suffix)
			}
		}
		if last := h[len(h)-1]; string(last.Name) != "Via" || string(last.Value) != "1.1 drover" {
			t.Fatalf("%q: got %s, want Via: 1.1 drover last", lines, headerText(h))
		}
		if got, want := h.Count("Content-Length"), map[bool]int{true: 1}[size >= 0]; got != want {
			t.Fatalf("length %d, %q: got %d Content-Length, want %d", size, lines, got, want)
		}
		if got, want := h.Count("Transfer-Encoding"), map[bool]int{true: 1}[size == exchange.LengthUnknown]; got != want {
			t.Fatalf("length %d, %q: got %d Transfer-Encoding, want %d", size, lines, got, want)
		}
		if connection := string(h.Get("Connection")); connection != "" && connection != "TE" || slices.ContainsFunc(h, func(f exchange.Field) bool { return strings.Contains(string(f.Name), "_") }) {
			t.Fatalf("%q: got %s", lines, headerText(h))
		}
	}
}

func TestConnectionOptionsAreBounded(t *testing.T) {
	long := "Connection: " + strings.Repeat("x,", 100_000)
	if got := outgoing(HeaderOptions{}, nil, "Host: h", "A: 1", long, "Connection: A"); got != "Host: a.test|A: 1|"+drovers {
		t.Errorf("got %s", got)
	}
}

func TestResponseHeader(t *testing.T) {
	for name, tc := range map[string]struct {
		upgrade bool
		lines   []string
		want    string
	}{
		"as it is": {false, []string{"date: x", "Content-Length: 3", "Set-Cookie: a", "set-cookie: b", "Trailer: X", "X_Y: 1", "Host: odd", "Expect: odd"},
			"date: x|Content-Length: 3|Set-Cookie: a|set-cookie: b|Trailer: X|X_Y: 1|Host: odd|Expect: odd|Via: 1.1 drover|"},
		"hop-by-hop": {false, []string{"Connection: X-Own, Set-Cookie, Content-Length, Date", "Connection: x-more", "x-own: 1", "X-More: 2", "Keep-Alive: 5", "Proxy-Connection: x",
			"Transfer-Encoding: chunked", "TE: x", "Upgrade: h2c", "Proxy-Authenticate: Basic", "Proxy-Authentication-Info: x", "Set-Cookie: a", "Content-Length: 3", "Date: x", "A: 1"},
			"Set-Cookie: a|Content-Length: 3|Date: x|A: 1|Via: 1.1 drover|"},
		"upgrade": {true, []string{"Upgrade: WebSocket", "Connection: upgrade", "Sec-WebSocket-Accept: x"},
			"Upgrade: WebSocket|Sec-WebSocket-Accept: x|Connection: Upgrade|Via: 1.1 drover|"},
	} {
		if got := headerText(ResponseHeader(nil, headerOf(tc.lines...), tc.upgrade, HeaderOptions{Via: true})); got != tc.want {
			t.Errorf("%s:\ngot  %s\nwant %s", name, got, tc.want)
		}
	}
	if got := headerText(ResponseHeader(headerOf("Kept: 1"), headerOf("A: 1"), false, HeaderOptions{})); got != "Kept: 1|A: 1|" {
		t.Errorf("appended: got %s", got)
	}
}

func TestFieldKindsFitTheLookup(t *testing.T) {
	for name, kind := range fieldKinds {
		if len(name) > maxKnownName || name != strings.ToLower(name) {
			t.Errorf("%q cannot be found", name)
		}
		if got := fieldKindOf([]byte(strings.ToUpper(name))); got != kind {
			t.Errorf("%s: got %d, want %d", name, got, kind)
		}
		if under := strings.ReplaceAll(name, "-", "_"); under != name && fieldKindOf([]byte(under)) != fieldDisguised {
			t.Errorf("%s: not seen through", under)
		}
		if got := fieldKindOf([]byte(name + "x")); got != fieldOther && !strings.HasPrefix(name, forwardedPrefix) {
			t.Errorf("%sx: got %d", name, got)
		}
	}
	if got := fieldKindOf([]byte(strings.Repeat("x", 1000))); got != fieldOther {
		t.Errorf("a long name: got %d", got)
	}
	if got := fieldKindOf([]byte("X-Forwarded-" + strings.Repeat("x", 100))); got != fieldForwarding {
		t.Errorf("a long X-Forwarded- name: got %d", got)
	}
}
