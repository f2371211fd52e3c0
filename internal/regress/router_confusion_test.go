package regress

import (
	"slices"
	"strings"
	"testing"
)

// TestRouterConfusion: no spelling of a guarded path gets around its route, and what is
// passed on is what came.
func TestRouterConfusion(t *testing.T) {
	o := startOrigin(t, nil)
	d := start(t, toOrigin(o.address, `[{ path_prefix: /admin, respond: { status: 403 } }, { upstream: u }]`), "")
	for _, target := range []string{"/admin", "//admin/x", "/./admin/x", "/x/../admin/x", "/%61dmin/x", "/x/%2e%2e/admin/x", "/admin%2fx", "/x/..%2fadmin/x", "http://a/admin/x"} {
		before := len(o.requests())
		got := exchange(t, d.web, "GET "+target+" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
		if len(o.requests()) != before || !strings.HasPrefix(got, "HTTP/1.1 4") {
			t.Errorf("%s: got %q, and the server %q; want it refused", target, got, o.requests()[before:])
		}
	}
	// fasthttp takes the host from such a target: GET //evil?u=http://x.
	for _, target := range []string{"//evil?u=http://x", "//evil/p?u=http://z", "/a?", "/%2F", "/a/./b", "/a//b"} {
		exchange(t, d.web, "GET "+target+" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
		if seen := o.requests(); !slices.Contains(seen, "GET "+target+" a ") {
			t.Errorf("%s: the server got %q; want the target and the Host as they came", target, seen)
		}
	}
	refuses(t, d, o, "GET /a#f HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "GET a HTTP/1.1\r\nHost: a\r\n\r\n", "GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n")
}

// TestHostSNI: hosts that disagree are refused; so is userinfo, which fasthttp makes
// into credentials.
func TestHostSNI(t *testing.T) {
	o := startOrigin(t, nil)
	d := start(t, toOrigin(o.address, ""), "")
	refuses(t, d, o, "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "GET / HTTP/1.1\r\n\r\n", "GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a:b@h\r\n\r\n", "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n")
	serves(t, d)
}
