package proxy

import (
	"bytes"
	"math"
	"net/url"
	"slices"
	"strings"
	"testing"

	"drover/backend"
)

func TestPickTargetFollowsTheWeights(t *testing.T) {
	for _, weights := range [][]int{{1}, {0, 1}, {1, 0}, {95, 5}, {1, 0, 2, 0}, {0, 0, 7}, {65535, 65535, 1}, {1, 1, 1}} {
		cfg := routeTo("r", func(c *RouteConfig) {
			c.Upstream = ""
			for _, w := range weights {
				c.Split = append(c.Split, SplitConfig{"u", w})
			}
		})
		route, sum := mustCompile(t, cfg).Routes()[0], 0
		for _, w := range weights {
			sum += w
		}
		const picks = 1 << 16
		counts := make([]int, len(weights))
		for i := range uint64(picks) {
			counts[route.PickTarget(uint32(i*(math.MaxUint32/picks)))]++
		}
		for i, w := range weights {
			want := float64(picks) * float64(w) / float64(sum)
			if got := float64(counts[i]); math.Abs(got-want) > 2 || w == 0 && got > 0 {
				t.Errorf("weights %v: got %v of %d picks for target %d, want %v", weights, got, picks, i, want)
			}
		}
		if last := route.PickTarget(math.MaxUint32); weights[last] == 0 {
			t.Errorf("weights %v: the largest number gives target %d, of weight 0", weights, last)
		}
	}
	plain := mustCompile(t, routeTo("r", nil)).Routes()[0]
	if len(plain.Targets) != 1 || plain.Targets[0].Upstream != "r" || plain.PickTarget(7) != 0 {
		t.Errorf("one upstream: got %+v", plain.Targets)
	}
}

func TestUpstreamHost(t *testing.T) {
	id := backend.ID{Scheme: "http", Host: "2001:db8::1", Port: 8080}
	for _, tc := range []struct{ setting, client, want string }{
		{"preserve", "a.test:80", "a.test:80"},
		{"", "a.test", "a.test"},
		{"preserve", "", "[2001:db8::1]:8080"},
		{"upstream", "a.test", "[2001:db8::1]:8080"},
		{"b.test:81", "a.test", "b.test:81"},
		{"b.test", "", "b.test"},
	} {
		route := mustCompile(t, routeTo("r", func(c *RouteConfig) { c.HostHeader = tc.setting })).Routes()[0]
		if got := string(route.UpstreamHost([]byte(tc.client), id)); got != tc.want {
			t.Errorf("%q for %q: got %s, want %s", tc.setting, tc.client, got, tc.want)
		}
	}
}

func TestRetryRule(t *testing.T) {
	route := mustCompile(t, routeTo("r", func(c *RouteConfig) { c.Retry.On = []string{"connect", "503"} })).Routes()[0]
	all := []RetryCondition{RetryConnect, RetryStale, RetryReset, RetryTimeout, Retry502, Retry503, Retry504}
	for i, reason := range all {
		if got, want := route.Retry.On(reason), reason == RetryConnect || reason == Retry503; got != want {
			t.Errorf("condition %d: got %v, want %v", i, got, want)
		}
	}
	if len(all) != len(retryConditions) {
		t.Errorf("got %d conditions in the table, want %d", len(retryConditions), len(all))
	}
	for method, want := range map[string]bool{"GET": true, "PUT": true, "POST": false, "PATCH": false, "get": false, "": false} {
		if got := route.Retry.Method([]byte(method)); got != want {
			t.Errorf("%q: got %v, want %v", method, got, want)
		}
	}
	if got := mustCompile(t, routeTo("r", func(c *RouteConfig) { c.Retry = RetryConfig{} })).Routes()[0].Retry.Attempts; got != 1 {
		t.Errorf("no attempts configured: got %d, want 1", got)
	}
}

func rewriting(t testing.TB, strip, re, replacement string) *Route {
	t.Helper()
	return mustCompile(t, routeTo("r", func(c *RouteConfig) {
		if c.StripPrefix = strip; re != "" {
			c.Rewrite = &RewriteConfig{Regexp: re, Replacement: replacement}
		}
	})).Routes()[0]
}

func TestRewriteTarget(t *testing.T) {
	for _, tc := range []struct{ strip, re, replacement, target, want string }{
		{"", "", "", "/a/../b//c?x", "/a/../b//c?x"}, // untouched
		{"/api", "", "", "/api/x?q=/api", "/x?q=/api"},
		{"/api/", "", "", "/api/x", "/x"},
		{"/api", "", "", "/api", "/"},
		{"/api", "", "", "/api?x", "/?x"},
		{"/api", "", "", "/api/", "/"},
		{"/api", "", "", "/apix", "/apix"},
		{"/api", "", "", "/other/api", "/other/api"},
		{"/api", "", "", "*", "*"},
		{"/api", "", "", "", ""},
		{"/api/v1", "", "", "/api/v1/x", "/x"},
		{"/api/v1", "", "", "/api/x", "/api/x"},
		{"/api", "", "", "/%61pi/x%2Fy%20z", "/x%2Fy%20z"}, // spelled otherwise
		{"/é a", "", "", "/%C3%A9%20a/x", "/x"},
		{"/%C3%A9", "", "", "/é/x", "/x"},
		{"/api", "", "", "//api//x", "/x"},
		{"/api", "", "", "/api//evil.test/x", "/evil.test/x"},
		{"/api", "", "", "/api%2Fx", "/api%2Fx"}, // one segment
		{"/api", "", "", "/API/x", "/API/x"},
		{"/api", "", "", "/api/../x", "/x"}, // resolved first
		{"/api", "", "", "/x/../api/y/./z?../", "/y/z?../"},
		{"", "^/old/(.*)$", "/new/$1", "/old/a%2Fb?c=/old/", "/new/a%2Fb?c=/old/"},
		{"", "^/old/(.*)$", "/new/$1", "/young/a", "/young/a"},
		{"", "^/(?P<a>[^/]+)/(.*)", "/${2}x/${a}$$", "/1/2", "/2x/1$"},
		{"", "a", "bb", "/a/a", "/bb/bb"},
		{"", "^.*$", "", "/x?y", "/?y"},
		{"", "^/x", "", "/xevil.test", "/evil.test"},
		{"", "^/x", "", "/x//evil.test", "/evil.test"},
		{"", "^/old", "//é", "/old?q", "/é?q"},
		{"/api", "^/(.*)$", "/v2/$1", "/api/x", "/v2/x"}, // strip, then rewrite
		{"/api", "^/$", "/index.html", "/api?x", "/index.html?x"},
	} {
		route := rewriting(t, tc.strip, tc.re, tc.replacement)
		if got := string(route.RewriteTarget([]byte("kept"), []byte(tc.target))); got != "kept"+tc.want {
			t.Errorf("strip %q, rewrite %q to %q: %q gives %q, want %q", tc.strip, tc.re, tc.replacement, tc.target, got[4:], tc.want)
		}
		if got, want := route.RewritesTarget(), tc.strip+tc.re != ""; got != want {
			t.Errorf("strip %q, rewrite %q: RewritesTarget got %v, want %v", tc.strip, tc.re, got, want)
		}
	}
}

func FuzzRewriteTarget(f *testing.F) {
	for _, target := range append([]string{"*", "/api?", "/api/?#", "/api/\r\n", "//api/x", "/a/api"}, hostileTargets...) {
		f.Add([]byte(target))
		f.Add([]byte("/api" + target + "?q=//x/../y"))
	}
	routes := []*Route{
		rewriting(f, "/api", "", ""), rewriting(f, "/api/v1", "^/", "/v/"), rewriting(f, "", "[^/]", ""), rewriting(f, "", "^/(.*)/(.*)$", "//$2/../$1"),
	}
	f.Fuzz(func(t *testing.T, target []byte) {
		before := bytes.Clone(target)
		for i, route := range routes {
			got := route.RewriteTarget(nil, target)
			if !bytes.Equal(target, before) {
				t.Fatalf("route %d changed its input to %q", i, target)
			}
			path, query := splitTarget(got)
			oldPath, oldQuery := splitTarget(target)
			if !bytes.Equal(query, oldQuery) {
				t.Fatalf("route %d: %q: got query %q", i, target, query)
			}
			if len(oldPath) == 0 || oldPath[0] != '/' {
				if !bytes.Equal(got, target) {
					t.Fatalf("route %d: %q: got %q, want it as it was", i, target, got)
				}
				continue
			}
			if len(path) == 0 || path[0] != '/' || len(path) > 1 && path[1] == '/' || slices.ContainsFunc(path, func(c byte) bool { return c <= ' ' || c == 0x7f || c == '#' }) {
				t.Fatalf("route %d: %q: got path %q", i, target, path)
			}
		}
		// What a server is told of the path below the prefix is what the client said.
		want, err := url.PathUnescape(slowResolve(slowMerge(string(target))))
		if err == nil && !strings.ContainsAny(string(target), "?#%;\\ ") && strings.HasPrefix(want, "/api/") && !strings.ContainsFunc(want, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			if got := slowMerge(string(routes[0].RewriteTarget(nil, target))); got != strings.TrimPrefix(want, "/api") {
				t.Fatalf("%q: got %q, want %q", target, got, strings.TrimPrefix(want, "/api"))
			}
		}
	})
}
