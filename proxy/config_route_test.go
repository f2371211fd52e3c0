package proxy

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"drover/invalid"
)

func TestRouteDefaults(t *testing.T) {
	c := routeTo("", nil)
	want := RouteConfig{
		HostHeader: "preserve",
		Retry: RetryConfig{
			Attempts: 2, On: []string{"connect", "stale"}, MaxBufferedBody: 1 << 20,
			Methods: []string{"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"},
		},
		Tunnel: TunnelConfig{IdleTimeout: time.Hour, WriteIdleTimeout: time.Minute},
	}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got %+v, want %+v", c, want)
	}
	c.Upstream = "u"
	if err := c.Validate(); err != nil {
		t.Errorf("with an upstream: got %v", err)
	}
}

func TestRouteConfigsThatAreRight(t *testing.T) {
	for name, change := range map[string]func(c *RouteConfig){
		"every match": func(c *RouteConfig) {
			c.Name, c.Hosts = "a-Z_0.9", []string{"a.test", "*.a.test", "xn--bcher-kva.test", "10.0.0.1", "[::1]", "::1", "A_b.test."}
			c.PathPrefix, c.Methods, c.Listeners = "/é/%20x", []string{"GET", "M-SEARCH"}, []string{"web"}
			c.Headers = []MatchField{{Name: "X", Value: "a b"}, {Name: "y", Regexp: "^$"}, {Name: "z", Present: true}}
			c.Query = []MatchField{{Name: "a b[]", Value: "é"}}
		},
		"split":   func(c *RouteConfig) { c.Upstream = ""; c.Split = []SplitConfig{{"a", 0}, {"b", 5}} },
		"respond": func(c *RouteConfig) { c.Upstream = ""; c.Respond = &RespondConfig{Status: 204} },
		"redirect": func(c *RouteConfig) {
			c.Upstream = ""
			c.Redirect = &RedirectConfig{To: "{scheme}://www.{host}:8443/x{path}{query}#top", Status: 301}
		},
		"options": func(c *RouteConfig) {
			c.StripPrefix, c.Rewrite = "/api/", &RewriteConfig{Regexp: "^/(?P<who>[^/]+)/(.*)$", Replacement: "/${who}x/$2$$"}
			c.HostHeader, c.Timeout, c.MaxBodySize = "a.test:80", time.Second, 1
			c.RequestHeaders = HeaderOps{Set: []HeaderValue{{"X-A", "{client_ip}\t{{}}"}}, Remove: []string{"Cookie", "Forwarded"}}
			c.ResponseHeaders = HeaderOps{Add: []HeaderValue{{"Set-Cookie", "a=é"}, {"X", ""}}}
			c.Retry = RetryConfig{Attempts: 16, On: []string{"502", "503", "504", "reset", "timeout"}, PerTryTimeout: time.Second}
		},
		"no retry, written in code": func(c *RouteConfig) { c.Retry, c.HostHeader = RetryConfig{}, "" },
	} {
		c := routeTo("u", change)
		if err := c.Validate(); err != nil {
			t.Errorf("%s: got %v", name, err)
		}
		if _, err := Compile([]RouteConfig{c}); err != nil {
			t.Errorf("%s: compile: got %v", name, err)
		}
	}
}

func TestRouteConfigFaults(t *testing.T) {
	for _, tc := range []struct {
		change func(c *RouteConfig)
		want   string // "path: a part of the message"
	}{
		{func(c *RouteConfig) { c.Name = "a b" }, `name: got "a b"; want letters`},
		{func(c *RouteConfig) { c.Host, c.Hosts = "a.test", []string{"b.test"} }, "hosts: got host and hosts; want one of them"},
		{func(c *RouteConfig) { c.Host = "a.test:80" }, `host: got "a.test:80"; want a host without port`},
		{func(c *RouteConfig) { c.Host = "http://a.test" }, `host: got "http://a.test"; want a host name without scheme`},
		{func(c *RouteConfig) { c.Host = "a.*.test" }, `host: got "a.*.test"; want "*." in front`},
		{func(c *RouteConfig) { c.Host = "*" }, `host: got "*"; want no host for any`},
		{func(c *RouteConfig) { c.Host = "*." }, `host: got "*."`},
		{func(c *RouteConfig) { c.Host = "bücher.test" }, `host: got "bücher.test"; want letters, digits, dots, - and _ (names in other scripts in their xn-- form)`},
		{func(c *RouteConfig) { c.Host = "a..b" }, `host: got "a..b"`},
		{func(c *RouteConfig) { c.Host = "a\r\nb" }, `host: got "a\r\nb"`},
		{func(c *RouteConfig) { c.Hosts = []string{"a.test", ""} }, "hosts[1]: got an empty host"},
		{func(c *RouteConfig) { c.Path, c.PathPrefix = "/a", "/b" }, "path_prefix: got path and path_prefix; want at most one"},
		{func(c *RouteConfig) { c.Path, c.PathRegexp = "/a", "/b" }, "path_regexp: got path and path_regexp; want at most one"},
		{func(c *RouteConfig) { c.Path = "a" }, `path: got "a"; want it to begin with "/"`},
		{func(c *RouteConfig) { c.Path = "/a?b" }, `path: got "/a?b"; want a path without "?"`},
		{func(c *RouteConfig) { c.PathPrefix = "/a//b" }, `path_prefix: got "/a//b"; want single slashes`},
		{func(c *RouteConfig) { c.PathPrefix = "/a/../b" }, `path_prefix: got "/a/../b"; want a path without "." and ".."`},
		{func(c *RouteConfig) { c.PathPrefix = "/%2e/b" }, `path_prefix: got "/%2e/b"; want a path without "." and ".."`},
		{func(c *RouteConfig) { c.PathPrefix = "/a%2fb" }, `path_prefix: got "/a%2fb"; want a path without ";"`},
		{func(c *RouteConfig) { c.PathPrefix = "/a;b" }, `path_prefix: got "/a;b"; want a path without ";"`},
		{func(c *RouteConfig) { c.PathPrefix = `/a\b` }, `path_prefix: got "/a\\b"; want a path without ";"`},
		{func(c *RouteConfig) { c.PathPrefix = "/a%00" }, `path_prefix: got "/a%00"; want a path without ";"`},
		{func(c *RouteConfig) { c.Path = "/100%" }, `path: got "/100%"; want two hexadecimal digits after "%"`},
		{func(c *RouteConfig) { c.Path = "/a\nb" }, `path: got the control character '\n' at byte 3`},
		{func(c *RouteConfig) { c.PathRegexp = "^/a(b" }, `path_regexp: got "^/a(b"; want an RE2 regular expression: missing closing )`},
		{func(c *RouteConfig) { c.PathRegexp = "^/[z-a]" }, "invalid character class range at byte 4, \"z-a\""},
		{func(c *RouteConfig) { c.Listeners = []string{""} }, "listeners[0]: got an empty name"},
		{func(c *RouteConfig) { c.Methods = []string{"GET", "post"} }, `methods[1]: got "post"; want "POST"`},
		{func(c *RouteConfig) { c.Methods = []string{"GE T"} }, `methods[0]: got "GE T"; want a request method`},
		{func(c *RouteConfig) { c.Headers = []MatchField{{Name: "a b", Present: true}} }, `headers[0].name: got "a b"`},
		{func(c *RouteConfig) { c.Headers = []MatchField{{Value: "x"}} }, "headers[0].name: got nothing"},
		{func(c *RouteConfig) { c.Headers = []MatchField{{Name: "X"}} }, "headers[0]: got no condition; want one of value, regexp and present"},
		{func(c *RouteConfig) { c.Query = []MatchField{{Name: "X", Value: "a", Regexp: "b"}} }, "query[0].regexp: got value and regexp; want exactly one"},
		{func(c *RouteConfig) { c.Query = []MatchField{{Name: "X", Regexp: "*"}} }, `query[0].regexp: got "*"; want an RE2 regular expression: missing argument`},
		{func(c *RouteConfig) { c.Upstream = "" }, ": got no action; want one of upstream, split, redirect and respond"},
		{func(c *RouteConfig) { c.Split = []SplitConfig{{"a", 1}} }, "split: got upstream and split; want exactly one"},
		{func(c *RouteConfig) { c.Upstream, c.Split = "", []SplitConfig{{"a", 0}, {"b", 0}} }, "split: got weight 0 everywhere"},
		{func(c *RouteConfig) { c.Upstream, c.Split = "", []SplitConfig{{"a", 1}, {"", -1}} }, "split[1].upstream: got nothing"},
		{func(c *RouteConfig) { c.Upstream, c.Split = "", []SplitConfig{{"a", 1}, {"b", -1}} }, "split[1].weight: got -1; want 0 to 65535"},
		{func(c *RouteConfig) { c.Upstream, c.Redirect = "", &RedirectConfig{To: "/x", Status: 200} }, "redirect.status: got 200; want 301"},
		{func(c *RouteConfig) { c.Upstream, c.Redirect = "", &RedirectConfig{To: "", Status: 308} }, "redirect.to: got nothing"},
		{func(c *RouteConfig) { c.Upstream, c.Respond = "", &RespondConfig{Status: 99} }, "respond.status: got 99; want 200 to 599"},
		{func(c *RouteConfig) { c.Upstream, c.Respond = "", &RespondConfig{Status: 204, Body: "x"} }, "respond.body: got 1 bytes for status 204"},
		{func(c *RouteConfig) { c.Upstream, c.Respond = "", &RespondConfig{Status: 205, Body: "x"} }, "respond.body: got 1 bytes for status 205"},
		{func(c *RouteConfig) { c.Upstream, c.Respond = "", &RespondConfig{Status: 200, ContentType: "a\r\nb"} }, `respond.content_type: got the control character '\r' at byte 2`},
		{func(c *RouteConfig) { c.StripPrefix = "api" }, `strip_prefix: got "api"; want it to begin with "/"`},
		{func(c *RouteConfig) { c.Rewrite = &RewriteConfig{} }, "rewrite.regexp: got nothing"},
		{func(c *RouteConfig) { c.Rewrite = &RewriteConfig{Regexp: "(", Replacement: "/"} }, "rewrite.regexp: got"},
		{func(c *RouteConfig) { c.Rewrite = &RewriteConfig{Regexp: "^/(a)", Replacement: "/$1b"} }, "rewrite.replacement: got $1b; want a group of the regexp, which has 1 (${1}x is group 1"},
		{func(c *RouteConfig) { c.Rewrite = &RewriteConfig{Regexp: "^/(a)", Replacement: "/${2}"} }, "rewrite.replacement: got ${2}; want a group of the regexp, which has 1"},
		{func(c *RouteConfig) { c.Rewrite = &RewriteConfig{Regexp: "^/(a)", Replacement: "/$"} }, `rewrite.replacement: got a "$" without a group`},
		{func(c *RouteConfig) { c.Rewrite = &RewriteConfig{Regexp: "^/(a)", Replacement: "/x?$1"} }, "rewrite.replacement: got '?' at byte 3"},
		{func(c *RouteConfig) { c.Rewrite = &RewriteConfig{Regexp: "^/(a)", Replacement: "/x\r\n"} }, `rewrite.replacement: got '\r' at byte 3`},
		{func(c *RouteConfig) { c.HostHeader = "a b" }, `host_header: got "a b"; want preserve, upstream, or a host`},
		{func(c *RouteConfig) { c.HostHeader = "a.test:" }, `host_header: got "a.test:"`},
		{func(c *RouteConfig) { c.HostHeader = "a:b@c" }, `host_header: got "a:b@c"`},
		{func(c *RouteConfig) { c.RequestHeaders.Set = []HeaderValue{{"X-A", "a\r\nB: c"}} }, `request_headers.set[0].value: got the control character '\r' at byte 2`},
		{func(c *RouteConfig) { c.RequestHeaders.Add = []HeaderValue{{"X-A", "a\x00"}} }, `request_headers.add[0].value: got the control character '\x00'`},
		{func(c *RouteConfig) { c.RequestHeaders.Set = []HeaderValue{{"X A", "a"}} }, `request_headers.set[0].name: got "X A"`},
		{func(c *RouteConfig) { c.RequestHeaders.Set = []HeaderValue{{"", "a"}} }, `request_headers.set[0].name: got ""`},
		{func(c *RouteConfig) { c.RequestHeaders.Set = []HeaderValue{{"host", "a"}} }, `request_headers.set[0].name: got "host"; want it in host_header`},
		{func(c *RouteConfig) { c.RequestHeaders.Add = []HeaderValue{{"expect", "100-continue"}} }, `request_headers.add[0].name: got "expect"; want no such field`},
		{func(c *RouteConfig) { c.RequestHeaders.Remove = []string{"content-length"} }, `request_headers.remove[0]: got "content-length"; want a field that is not drover's own`},
		{func(c *RouteConfig) { c.ResponseHeaders.Add = []HeaderValue{{"Connection", "x"}} }, `response_headers.add[0].name: got "Connection"`},
		{func(c *RouteConfig) { c.ResponseHeaders.Set = []HeaderValue{{"X", "{hst}"}} }, `response_headers.set[0].value: got the unknown variable {hst} at byte 1 of "{hst}"; want one of {client_ip}, {host}, {method}`},
		{func(c *RouteConfig) { c.Timeout = -1 }, "timeout: got -1ns; want 0s (none) or more"},
		{func(c *RouteConfig) { c.MaxBodySize = -1 }, "max_body_size: got -1 bytes"},
		{func(c *RouteConfig) { c.Retry.Attempts = 17 }, "retry.attempts: got 17; want 1 (no retry) to 16"},
		{func(c *RouteConfig) { c.Retry.On = []string{"connect", "500"} }, `retry.on[1]: got "500"; want one of 502, 503, 504, connect, reset, stale, timeout`},
		{func(c *RouteConfig) { c.Retry.On = []string{"body"} }, `retry.on[0]: got "body"; want one of 502, 503, 504, connect, reset, stale, timeout: a response whose body has begun is never retried`},
		{func(c *RouteConfig) { c.Retry.Methods = []string{"get"} }, `retry.methods[0]: got "get"; want "GET"`},
		{func(c *RouteConfig) { c.Retry.PerTryTimeout = -1 }, "retry.per_try_timeout: got -1ns"},
		{func(c *RouteConfig) { c.Retry.MaxBufferedBody = -1 }, "retry.max_buffered_body: got -1 bytes"},
	} {
		c := routeTo("u", tc.change)
		_, err := Compile([]RouteConfig{routeTo("fine", nil), c})
		faults := invalid.Fields(err)
		if len(faults) == 0 {
			t.Errorf("got no fault, want %s", tc.want)
			continue
		}
		wantPath, wantText, _ := strings.Cut(tc.want, ": ")
		found := false
		for _, f := range faults {
			found = found || strings.Contains(f.Path+": "+f.Err.Error(), wantText) &&
				(strings.Contains(wantPath, " ") || f.Path == "[1]."+wantPath || wantPath == "" && f.Path == "[1]" || "[1]"+wantPath == f.Path)
		}
		if !found || len(faults) > 2 {
			t.Errorf("got %v\nwant %s", err, tc.want)
		}
	}
}
