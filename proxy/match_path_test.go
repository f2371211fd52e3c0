package proxy

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path"
	"slices"
	"strings"
	"testing"
)

func TestPathReadings(t *testing.T) {
	for _, tc := range []struct {
		path string
		want string // all readings, the primary one first; "" for none
	}{
		{"/a/b", "/a/b"},
		{"/", "/"},
		{"//", "/"},
		{"/a//b///", "/a/b/"},
		{"/%61/%C3%A9%40%20", "/a/é@ "},
		{"/%zz%", "/%25zz%25"},
		{"/%3f%23%25%0a%0D%7f", "/%3F%23%25%0A%0D%7F"},
		{"/a/./b/.", "/a/b/ /a/./b/."},
		{"/a/../b", "/b /a/../b"},
		{"/a//../b", "/b /a/../b /a/b"},
		{"/..", "/ /.."},
		{"/../../a/..", "/ /../../a/.."},
		{"/.well-known/...", "/.well-known/..."},
		{"/a%2fb", "/a%2Fb /a/b"},
		{`/a\b%5C`, `/a\b%5C /a/b/`},
		{`/a%2F\b`, `/a%2F\b /a/\b /a%2F/b /a/b`},
		{"/a;x/b;y=1", "/a;x/b;y=1 /a/b"},
		{"/a%3bx/b", "/a%3Bx/b /a/b"},
		{"/a;x%2Fb", "/a;x%2Fb /a /a/b /a;x/b"},
		// No honest client sends these.
		{"", ""},
		{"a", ""},
		{"/a#b", ""},
		{"/a b", ""},
		{"/a\r\nb", ""},
		{"/a%00", ""},
		{"/%2e%2e/a", ""},
		{"/%2E/a", ""},
		{"/.%2e", ""},
		{"/%252e%252e/a", ""},
		{"/%25252e/a", ""},
		{"/..%2fa", ""},
		{"/a%2F..", ""},
		{`/..\a`, ""},
		{"/..%5Ca", ""},
		{"/..%255Ca", ""},
		{"/..%252Fa", ""},
		{"/..;/a", ""},
		{"/..;x=y", ""},
		{"/..%3Bx", ""},
		{"/../a%2Fb", ""},
		{"/../a;b", ""},
		{"/../a%3Bb", ""},
	} {
		var readings []string
		route := &Route{}
		var p pathReadings
		p.agree([]byte(tc.path), traitsOf([]byte(tc.path)), func(reading []byte) *Route {
			if !slices.Contains(readings, string(reading)) {
				readings = append(readings, string(reading))
			}
			return route
		})
		if traitsOf([]byte(tc.path)) == pathImpossible {
			readings = nil
		}
		want := strings.Split(tc.want, " /")
		for i := range want[1:] {
			want[i+1] = "/" + want[i+1]
		}
		if tc.want == "" {
			want = nil
		}
		slices.Sort(readings[min(1, len(readings)):])
		slices.Sort(want[min(1, len(want)):])
		if !slices.Equal(readings, want) {
			t.Errorf("%q: got %q, want %q", tc.path, readings, want)
		}
	}
}

func TestPathWithoutTraitsIsItsOwnReading(t *testing.T) {
	for _, tc := range []string{"/", "/a/b.c/d-e_f~g/", "/é", "/a:b@c,d=e&f+g!h$i'(j)*"} {
		if got := traitsOf([]byte(tc)); got != 0 {
			t.Errorf("%q: got traits %b, want none", tc, got)
		}
		if got := slowReadings(tc); slices.ContainsFunc(got, func(r string) bool { return r != tc }) {
			t.Errorf("%q: read as %q", tc, got)
		}
	}
}

// A pathServer says which part of a server a target reaches: /admin, /public or
// anything else ("rest"). Each is how some real program reads paths.
type pathServer func(target string) (area string)

var pathServers = map[string]pathServer{
	"as written":                 func(p string) string { return areaOf(p) },
	"resolves literal dots":      func(p string) string { return areaOf(path.Clean(p)) },
	"resolves, merges afterward": func(p string) string { return areaOf(slowMerge(slowResolve(p))) },
	"decodes, keeps dots":        func(p string) string { return areaOf(slowMerge(unescaped(p))) },
	"decodes, then resolves":     func(p string) string { return areaOf(path.Clean(unescaped(p))) },
	"resolves, then decodes":     func(p string) string { return areaOf(slowMerge(unescaped(path.Clean(p)))) },
	"decodes but slashes": func(p string) string {
		return areaOf(path.Clean(unescaped(strings.NewReplacer("%2f", "%252F", "%2F", "%252F").Replace(p))))
	},
	"cuts parameters, decodes, resolves": func(p string) string {
		return areaOf(path.Clean(unescaped(slowParams.ReplaceAllString(p, ""))))
	},
	"decodes, cuts parameters, resolves": func(p string) string {
		return areaOf(path.Clean(slowParams.ReplaceAllString(unescaped(p), "")))
	},
	"backslashes": func(p string) string { return areaOf(path.Clean(strings.ReplaceAll(p, `\`, "/"))) },
	"decodes backslashes": func(p string) string {
		return areaOf(path.Clean(strings.ReplaceAll(unescaped(p), `\`, "/")))
	},
	"ends at NUL": func(p string) string {
		before, _, _ := strings.Cut(unescaped(p), "\x00")
		return areaOf(path.Clean(before))
	},
	"ends at #":     func(p string) string { before, _, _ := strings.Cut(p, "#"); return areaOf(before) },
	"decodes twice": func(p string) string { return areaOf(path.Clean(unescaped(unescaped(p)))) },
}

func unescaped(p string) string {
	if decoded, err := url.PathUnescape(p); err == nil {
		return decoded
	}
	return p
}

func areaOf(p string) string {
	for _, area := range []string{"admin", "public"} {
		if p == "/"+area || strings.HasPrefix(p, "/"+area+"/") {
			return area
		}
	}
	return "rest"
}

// areaRouter has one route for each part of such a server.
func areaRouter(t testing.TB) *Router {
	return mustCompile(t,
		routeTo("admin", func(c *RouteConfig) { c.PathPrefix = "/admin" }),
		routeTo("public", func(c *RouteConfig) { c.PathPrefix = "/public" }),
		routeTo("rest", nil))
}

// checkArea fails when a server takes a target for another part than the router did.
// A server may always take it for something that it does not know: then the request
// has passed stricter rules than it needed.
func checkArea(t *testing.T, server, target, route, area string) {
	t.Helper()
	if route != "none" && area != route && area != "rest" {
		t.Errorf("%q went by route %s and reached %s at a server that %s", target, route, area, server)
	}
}

var hostileTargets = []string{
	"/public/../admin", "/public/%2e%2e/admin", "/public/..%2fadmin", "/public/..%2Fadmin/x", `/public/..\admin`,
	"/public/..%5cadmin", "/public/..;/admin", "/public/..;x=1/admin", "/public/%252e%252e/admin", "/public/.%2e/admin",
	"/public//../admin", "/public/x/../../admin", "/public/x//../../admin", "/admin/../public/x", "/admin/%2e%2e/public",
	"/x/../admin", "//admin", "///admin/x", "/admin%2fx", "/admin%2Fx", `/admin\x`, "/admin%5Cx", "/admin;x", "/admin;/x", "/;x/admin",
	"/%61dmin", "/%61%64%6d%69%6e/x", "/./admin", "/%2e/admin", "/%2fadmin", "/admin%00", "/admin%00/x", "/admin#", "/admin#/x", "/public#/../admin",
	"/public/..%2fadmin/x\\..\\..\\public", "/public/../admin/x/%2e%2e/%2e%2e/public", "/a%2fadmin/../admin", "/a%2f../admin",
	"/public;x%2f../admin", "/public/;x%2f..%2fadmin", "/public%2f..%2fadmin", "/..%2f..%2fadmin", "/..//admin", "/.//admin", "/admin/..", "/admin/.",
	"/public/x%2f..%2f..%2fadmin", "/public/a;b\\..\\..\\admin", "/%2561dmin", "/admin%3Bx", "/admin%3bx/y",
}

func TestRouteHoldsForEveryReaderOfThePath(t *testing.T) {
	r := areaRouter(t)
	check := func(target string) (found bool) {
		route := matched(r, requestFor("GET", "a.test", target))
		for server, area := range pathServers {
			if server == "decodes twice" && !strings.Contains(target, "..") {
				continue // cannot be known, see Router
			}
			checkArea(t, server, target, route, area(target))
		}
		return route != "none"
	}
	for _, target := range hostileTargets {
		check(target)
	}
	random := rand.New(rand.NewPCG(3, 4))
	pick := func(list ...string) string { return list[random.IntN(len(list))] }
	found := 0
	const rounds = 5_000
	for range rounds {
		target := ""
		for range 1 + random.IntN(5) {
			target += pick("/", "/", "/", "/", "/", "//", "%2f", "%2F", `\`, "%5c") +
				pick("admin", "public", "admin", "public", "x", "", ".", "..", "..", "%2e%2e", ".%2E", "%61dmin", "%252e%252e", "#", "%00") +
				pick("", "", "", "", "", ";", ";x", "%3Bx")
		}
		if check(target) {
			found++
		}
	}
	if found < rounds/20 {
		t.Errorf("only %d of %d targets had a route", found, rounds)
	}
}

// The same with a server of the net/http kind on a real socket: it decodes paths,
// cleans them and redirects.
func TestRouteHoldsForNetHTTP(t *testing.T) {
	mux := http.NewServeMux()
	for _, area := range []string{"admin", "public"} {
		for _, pattern := range []string{"/" + area, "/" + area + "/"} {
			mux.HandleFunc(pattern, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Area", area) })
		}
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Area", "rest") })
	prefixes := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Area", areaOf(r.URL.Path)) }))
	defer prefixes.Close()
	muxed := httptest.NewServer(mux)
	defer muxed.Close()
	r := areaRouter(t)
	for _, server := range []*httptest.Server{prefixes, muxed} {
		conn, err := net.Dial("tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close() //nolint:errcheck // the test is over.
		reader := bufio.NewReader(conn)
		asked := 0
		for _, target := range append([]string{"/admin", "/public/x", "/x"}, hostileTargets...) {
			route := matched(r, requestFor("GET", "a.test", target))
			if route == "none" {
				continue
			}
			asked++
			if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: a.test\r\n\r\n", target); err != nil {
				t.Fatal(err)
			}
			resp, err := http.ReadResponse(reader, nil)
			if err != nil {
				t.Fatalf("%q: %v", target, err)
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			if area := resp.Header.Get("Area"); area != "" { // none in a redirect
				checkArea(t, "is net/http", target, route, area)
			}
		}
		if asked < 6 {
			t.Errorf("only %d targets had a route", asked)
		}
	}
}

func TestDotsInPathsOfOneRouteAreNoObstacle(t *testing.T) {
	r := mustCompile(t,
		routeTo("app", func(c *RouteConfig) { c.PathPrefix = "/app" }),
		routeTo("scoped", func(c *RouteConfig) { c.PathRegexp = `^/pkg/@[a-z]+(/|%2F)[a-z]+$` }))
	for target, want := range map[string]string{
		"/app/css/../img/./x.png":       "app",
		"/app//x":                       "app",
		"/app/group%2Fproject/x%20y?/.": "app",
		"/app/x;jsessionid=1":           "app",
		"/app/DOM%5Cuser":               "app",
		"/pkg/@scope%2fname":            "scoped",
		"/pkg/@scope/name":              "scoped",
	} {
		if got := matched(r, requestFor("GET", "a.test", target)); got != want {
			t.Errorf("%s: got %s, want %s", target, got, want)
		}
	}
}

func FuzzPathReadings(f *testing.F) {
	for _, target := range hostileTargets {
		f.Add([]byte(target))
	}
	router := areaRouter(f)
	f.Fuzz(func(t *testing.T, raw []byte) {
		raw = raw[:min(len(raw), 500)]
		if bytes.IndexByte(raw, '?') >= 0 {
			return
		}
		var readings []string
		route := &Route{}
		var p pathReadings
		if traits := traitsOf(raw); traits == 0 {
			readings = []string{string(raw)}
		} else if traits&pathImpossible == 0 {
			p.agree(raw, traits, func(reading []byte) *Route {
				readings = append(readings, string(reading))
				return route
			})
		}
		slow := slowReadings(string(raw))
		if len(slow) == 0 != (len(readings) == 0) {
			t.Fatalf("%q: got %q, want %q", raw, readings, slow)
		}
		if len(slow) > 0 && slow[0] != readings[0] {
			t.Fatalf("%q: got primary reading %q, want %q", raw, readings[0], slow[0])
		}
		for _, want := range slow {
			if !slices.Contains(readings, want) {
				t.Fatalf("%q: got %q, want %q too", raw, readings, want)
			}
		}
		for _, reading := range readings {
			if reading[0] != '/' || strings.Contains(reading, "//") || strings.ContainsFunc(reading, func(r rune) bool { return r < ' ' || r == 0x7f }) {
				t.Fatalf("%q: got reading %q", raw, reading)
			}
		}
		matched(router, requestFor("GET", "a.test", string(raw)))
	})
}
