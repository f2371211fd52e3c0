//go:build !race

package proxy

import (
	"fmt"
	"testing"

	"drover/exchange"
)

func TestMatchDoesNotAllocate(t *testing.T) {
	r := mustCompile(t,
		routeTo("any", nil),
		routeTo("app", func(c *RouteConfig) { c.Host, c.PathPrefix = "*.example.com", "/app" }),
		routeTo("beta", func(c *RouteConfig) {
			c.Host, c.PathPrefix, c.Methods = "www.example.com", "/app/", []string{"GET"}
			c.Headers = []MatchField{{Name: "X-Beta", Value: "1"}}
			c.Query = []MatchField{{Name: "q", Value: "a b"}}
		}))
	for _, target := range []string{"/app/x?q=a+b&c", "/app/x", "/nothing/of/that", "/app//x/../y", "/app/%61%2Fb;x", "*", "/app/..%2f"} {
		for _, host := range []string{"www.example.com", "WWW.Example.com:80", "other"} {
			ex := requestFor("GET", host, target, "X-Beta: 1")
			r.Match(ex) // fills the pool
			if n := testing.AllocsPerRun(100, func() { r.Match(ex) }); n > 0 {
				t.Errorf("%s%s: got %v allocations, want 0", host, target, n)
			}
		}
	}
}

// With many routes the requests go to many of them, so that the tables do not sit in
// the processor's cache by one entry.
func BenchmarkMatch(b *testing.B) {
	bench := func(name string, count int, change func(c *RouteConfig, i int), request func(i int) (host, target string)) {
		b.Run(fmt.Sprintf("%s/%d", name, count), func(b *testing.B) {
			routes := make([]RouteConfig, count)
			for i := range routes {
				routes[i] = routeTo(fmt.Sprintf("r%d", i), func(c *RouteConfig) { change(c, i) })
			}
			r := mustCompile(b, routes...)
			exchanges := make([]*exchange.Exchange, min(count, 256))
			for i := range exchanges {
				host, target := request(i * 39 % count)
				exchanges[i] = requestFor("GET", host, target)
				if r.Match(exchanges[i]) == nil {
					b.Fatal("got no route")
				}
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				r.Match(exchanges[i%len(exchanges)])
			}
		})
	}
	for _, count := range []int{1, 10_000} {
		bench("hosts", count,
			func(c *RouteConfig, i int) { c.Host, c.PathPrefix = fmt.Sprintf("h%d.example.com", i), "/users/" },
			func(i int) (string, string) { return fmt.Sprintf("h%d.example.com", i), "/users/17/orders?page=2" })
		bench("wildcards", count,
			func(c *RouteConfig, i int) { c.Host = fmt.Sprintf("*.h%d.example.com", i) },
			func(i int) (string, string) { return fmt.Sprintf("www.h%d.example.com", i), "/users/17/orders?page=2" })
		bench("prefixes", count,
			func(c *RouteConfig, i int) { c.Host, c.PathPrefix = "www.example.com", fmt.Sprintf("/s%d/users/", i) },
			func(i int) (string, string) { return "www.example.com", fmt.Sprintf("/s%d/users/17/orders?page=2", i) })
		bench("exact", count,
			func(c *RouteConfig, i int) { c.Path = fmt.Sprintf("/s/%d", i) },
			func(i int) (string, string) { return "www.example.com", fmt.Sprintf("/s/%d", i) })
		bench("odd paths", count,
			func(c *RouteConfig, i int) { c.PathPrefix = fmt.Sprintf("/s%d", i) },
			func(i int) (string, string) { return "www.example.com", fmt.Sprintf("/s%d/a%%2Fb//c%%20d", i) })
	}
}
