//go:build !race

package proxy

import (
	"testing"

	"drover/backend"
	"drover/exchange"
)

func noAllocations(t *testing.T, what string, f func()) {
	t.Helper()
	f() // fills pools and buffers
	if n := testing.AllocsPerRun(200, f); n > 0 {
		t.Errorf("%s: got %v allocations, want 0", what, n)
	}
}

func TestHeaderListsDoNotAllocate(t *testing.T) {
	ex := requestFor("POST", "a.test", "/", "Connection: X-Own, close", "X-Own: 1", "X-Forwarded-For: 198.51.100.1", "TE: trailers", "Forwarded: for=x", "Cookie: x")
	ex.Request.ContentLength, ex.Request.Upgrade = 17, "websocket"
	var list exchange.Header
	var scratch []byte
	opts := HeaderOptions{Forwarded: true, Via: true, Scratch: &scratch}
	noAllocations(t, "OutgoingHeader", func() {
		scratch = scratch[:0]
		list = OutgoingHeader(list[:0], ex, opts)
	})
	noAllocations(t, "ResponseHeader", func() { list = ResponseHeader(list[:0], ex.Request.Header, true, opts) })

	route := mustCompile(t, routeTo("r", func(c *RouteConfig) {
		c.RequestHeaders = HeaderOps{
			Remove: []string{"Cookie"}, Add: []HeaderValue{{"X-A", "b"}},
			Set: []HeaderValue{{"X-Request-ID", "{request_id}"}, {"X", "{host} {path}{query} {client_ip} {route}"}},
		}
		c.StripPrefix = "/api"
	})).Routes()[0]
	v := Vars{Exchange: ex, Route: "r", Scratch: &scratch}
	noAllocations(t, "Apply", func() {
		scratch = scratch[:0]
		list = append(list[:0], ex.Request.Header...)
		route.RequestOps.Apply(&list, v)
	})
	id := backend.ID{Scheme: "http", Host: "10.0.0.1", Port: 80}
	noAllocations(t, "UpstreamHost", func() { route.UpstreamHost(ex.Request.Host, id) })
	var target []byte
	from := []byte("/api/users?x=y")
	noAllocations(t, "RewriteTarget", func() { target = route.RewriteTarget(target[:0], from) })
}

func BenchmarkOutgoingHeader(b *testing.B) {
	ex := requestFor("GET", "a.test", "/", "User-Agent: Mozilla/5.0", "Accept: */*", "Accept-Encoding: gzip", "Accept-Language: en",
		"Cookie: a=b", "Connection: keep-alive", "Referer: https://a.test/", "Cache-Control: no-cache")
	var list exchange.Header
	var scratch []byte
	b.ReportAllocs()
	for b.Loop() {
		scratch = scratch[:0]
		list = OutgoingHeader(list[:0], ex, HeaderOptions{Scratch: &scratch})
	}
}

func TestKeysAndCookiesDoNotAllocate(t *testing.T) {
	s := mustSticky(t, "users", nil)
	ex := requestFor("GET", "A.test:80", "/p?q=%41+b", "X-User: 7", "Cookie: a=1; "+cookieFor(s, stickyID))
	for _, spec := range []string{"header:X-User", "cookie:a", "query:q", "path", "host", "client", "header:None", "host+path+query:q+client+cookie:a"} {
		k := mustKey(t, spec)
		noAllocations(t, spec, func() { k.Hash(ex) })
	}
	noAllocations(t, "Sticky.Read", func() {
		if _, ok := s.Read(ex); !ok {
			t.Error("got no server")
		}
	})
}
