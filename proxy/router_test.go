package proxy

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"drover/exchange"
)

// routeTo is a route with defaults, named as its upstream.
func routeTo(name string, change func(c *RouteConfig)) RouteConfig {
	c := RouteConfig{Name: name, Upstream: name}
	c.SetDefaults()
	if change != nil {
		change(&c)
	}
	return c
}

func mustCompile(t testing.TB, routes ...RouteConfig) *Router {
	t.Helper()
	r, err := Compile(routes)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// requestFor is an exchange for a request line and header lines such as "Name: value".
func requestFor(method, host, target string, lines ...string) *exchange.Exchange {
	ex := &exchange.Exchange{
		Request: exchange.Request{
			Method: []byte(method), Target: []byte(target), Host: []byte(host),
			ProtoMinor: 1, ContentLength: exchange.NoBody,
		},
		Remote:   netip.MustParseAddrPort("192.0.2.7:40000"),
		Local:    netip.MustParseAddrPort("192.0.2.1:80"),
		Listener: "web",
		Start:    time.Unix(1700000000, 12345),
	}
	ex.Request.Header.Add("Host", host)
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ":")
		ex.Request.Header.Add(name, strings.TrimPrefix(value, " "))
	}
	return ex
}

func matched(r *Router, ex *exchange.Exchange) string {
	if route := r.Match(ex); route != nil {
		return route.Name
	}
	return "none"
}

func TestRouterRanksByHostThenPathThenPlace(t *testing.T) {
	r := mustCompile(t,
		routeTo("any", nil),
		routeTo("any-root", func(c *RouteConfig) { c.PathPrefix = "/" }),
		routeTo("any-regexp", func(c *RouteConfig) { c.PathRegexp = `^\*$|^/only-here$` }),
		routeTo("wide", func(c *RouteConfig) { c.Host = "*.example.com" }),
		routeTo("wider", func(c *RouteConfig) { c.Host = "*.com"; c.PathPrefix = "/deep/er" }),
		routeTo("narrow", func(c *RouteConfig) { c.Host = "*.eu.example.com"; c.PathPrefix = "/eu" }),
		routeTo("api-prefix", func(c *RouteConfig) { c.Host = "api.example.com"; c.PathPrefix = "/users" }),
		routeTo("api-below", func(c *RouteConfig) { c.Host = "API.Example.com."; c.PathPrefix = "/users/" }),
		routeTo("api-long", func(c *RouteConfig) { c.Host = "api.example.com"; c.PathPrefix = "/users/active" }),
		routeTo("api-exact", func(c *RouteConfig) { c.Host = "api.example.com"; c.Path = "/users/active/now" }),
		routeTo("api-exact-slash", func(c *RouteConfig) { c.Host = "api.example.com"; c.Path = "/users/active/now/" }),
		routeTo("api-regexp", func(c *RouteConfig) { c.Host = "api.example.com"; c.PathRegexp = `^/(users|u)/[0-9]+$` }),
		routeTo("api-regexp-2", func(c *RouteConfig) { c.Host = "api.example.com"; c.PathRegexp = `^/u/` }),
		routeTo("api-twice", func(c *RouteConfig) { c.Host = "api.example.com"; c.PathPrefix = "/users" }),
		routeTo("v6", func(c *RouteConfig) { c.Host = "2001:db8::1" }),
	)
	for _, tc := range []struct{ host, target, want string }{
		{"api.example.com", "/users", "api-prefix"},
		{"API.EXAMPLE.COM:8443", "/users", "api-prefix"},
		{"api.example.com.:80", "/users/", "api-below"},
		{"api.example.com", "/users/x?y", "api-below"},
		{"api.example.com", "/users/active", "api-long"},
		{"api.example.com", "/users/active/later", "api-long"},
		{"api.example.com", "/users/activex", "api-below"},
		{"api.example.com", "/users/active/now", "api-exact"},
		{"api.example.com", "/users/active/now?a=b", "api-exact"},
		{"api.example.com", "/users/active/now/", "api-exact-slash"},
		{"api.example.com", "/users/active/now/x", "api-long"},
		{"api.example.com", "/users/12", "api-below"}, // a prefix goes before a regexp
		{"api.example.com", "/u/12", "api-regexp"},    // regexps in order of the file
		{"api.example.com", "/u/x", "api-regexp-2"},   //
		{"api.example.com", "/usersx", "wide"},        // whole segments only
		{"api.example.com", "/other", "wide"},         // no path of this host: on to the next
		{"a.b.eu.example.com", "/eu/x", "narrow"},     // any depth
		{"a.eu.example.com", "/x", "wide"},            // on to the shorter wildcard
		{"eu.example.com", "/eu", "wide"},             // not the name itself
		{"example.com", "/", "any-root"},              //
		{"example.com", "/deep/er/x", "wider"},        //
		{"x.com", "/deep/x", "any-root"},              //
		{"xexample.com", "/", "any-root"},             // a label, not a suffix of bytes
		{".example.com", "/", "any-root"},             // there must be a name in front
		{"", "/", "any-root"},                         //
		{"[2001:DB8::1]:80", "/x", "v6"},              //
		{"example.org", "/only-here", "any-root"},     // even "/" goes before a regexp
		{"example.org", "*", "any"},                   // no path at all
		{strings.Repeat("a", 300) + ".com", "/deep/er", "any-root"},
	} {
		if got := matched(r, requestFor("GET", tc.host, tc.target)); got != tc.want {
			t.Errorf("%s %s: got %s, want %s", tc.host, tc.target, got, tc.want)
		}
	}
}

func TestRouterFallsBackWhenConditionsFail(t *testing.T) {
	r := mustCompile(t,
		routeTo("default", nil),
		routeTo("prefix", func(c *RouteConfig) { c.Host = "a.test"; c.PathPrefix = "/a" }),
		routeTo("post", func(c *RouteConfig) { c.Host = "a.test"; c.Path = "/a/b"; c.Methods = []string{"POST", "PUT"} }),
		routeTo("admin", func(c *RouteConfig) { c.Host = "b.test"; c.Listeners = []string{"admin"} }),
		routeTo("beta", func(c *RouteConfig) {
			c.Host, c.PathPrefix = "a.test", "/a/"
			c.Headers = []MatchField{{Name: "X-Beta", Value: "yes"}, {Name: "Accept", Regexp: `^text/`}, {Name: "Cookie", Present: true}}
		}),
		routeTo("query", func(c *RouteConfig) {
			c.Host, c.PathPrefix = "a.test", "/a/"
			c.Query = []MatchField{{Name: "v", Value: "a b"}, {Name: "n", Regexp: `^[0-9]*$`}, {Name: "flag", Present: true}}
		}),
	)
	for _, tc := range []struct{ method, host, target, lines, want string }{
		{"POST", "a.test", "/a/b", "", "post"},
		{"PUT", "a.test", "/a/b", "", "post"},
		{"post", "a.test", "/a/b", "", "prefix"}, // methods have case
		{"GET", "a.test", "/a/b", "", "prefix"},
		{"GET", "b.test", "/", "", "default"},
		{"GET", "a.test", "/a/c", "x-beta: yes|ACCEPT: text/html|Cookie: ", "beta"},
		{"GET", "a.test", "/a/c", "X-Beta: no|X-Beta: yes|Accept: text/html|Cookie: a=b", "beta"},
		{"GET", "a.test", "/a/c", "X-Beta: yes|Accept: text/html", "prefix"},
		{"GET", "a.test", "/a/c", "X-Beta: yes|Accept: application/text/|Cookie: a", "prefix"},
		{"GET", "a.test", "/a/c?v=a+b&n=&flag", "", "query"},
		{"GET", "a.test", "/a/c?flag=&n=17&%76=a%20b", "", "query"},
		{"GET", "a.test", "/a/c?v=no&n=1&flag&v=a%20b", "", "query"},
		{"GET", "a.test", "/a/c?v=a+b&n=x&flag", "", "prefix"},
		{"GET", "a.test", "/a/c?v=a+b&flag", "", "prefix"},
		{"GET", "a.test", "/a/c", "", "prefix"},
	} {
		var lines []string
		if tc.lines != "" {
			lines = strings.Split(tc.lines, "|")
		}
		if got := matched(r, requestFor(tc.method, tc.host, tc.target, lines...)); got != tc.want {
			t.Errorf("%s %s%s [%s]: got %s, want %s", tc.method, tc.host, tc.target, tc.lines, got, tc.want)
		}
	}
	ex := requestFor("GET", "b.test", "/")
	ex.Listener = "admin"
	if got := matched(r, ex); got != "admin" {
		t.Errorf("on listener admin: got %s, want admin", got)
	}
}

func TestRouterWithoutRouteForRequest(t *testing.T) {
	r := mustCompile(t, routeTo("a", func(c *RouteConfig) { c.Host = "a.test"; c.PathPrefix = "/" }))
	for _, tc := range []struct{ host, target string }{
		{"b.test", "/"}, {"a.test", "*"}, {"a.test", ""}, {"a.test", "x"}, {"a.test", "?q"}, {"a.test", "http://a.test/"},
	} {
		if got := matched(r, requestFor("GET", tc.host, tc.target)); got != "none" {
			t.Errorf("%s %q: got %s, want none", tc.host, tc.target, got)
		}
	}
	if got := matched(mustCompile(t), requestFor("GET", "a.test", "/")); got != "none" {
		t.Errorf("no routes: got %s", got)
	}
}

func TestCompileNamesRoutes(t *testing.T) {
	r := mustCompile(t, routeTo("", func(c *RouteConfig) { c.Upstream = "u" }), routeTo("x", nil),
		routeTo("", func(c *RouteConfig) { c.Upstream = "u"; c.Hosts = []string{"a.test", "A.test.", "*.a.test"} }))
	var names []string
	for _, route := range r.Routes() {
		names = append(names, route.Name)
	}
	if got := strings.Join(names, " "); got != "route-1 x route-3" {
		t.Errorf("got %s", got)
	}
	if got := r.Routes()[2].hosts; len(got) != 2 {
		t.Errorf("hosts: got %q, want each once", got)
	}
	for _, host := range []string{"a.test", "x.a.test"} {
		if got := matched(r, requestFor("GET", host, "/")); got != "route-3" {
			t.Errorf("%s: got %s", host, got)
		}
	}
	_, err := Compile([]RouteConfig{routeTo("x", nil), routeTo("y", nil), routeTo("x", nil)})
	if err == nil || !strings.Contains(err.Error(), `[2].name: got "x", which is the name of route 1 too`) {
		t.Errorf("two of a name: got %v", err)
	}
}
