package main

import (
	"fmt"
	"io"
	"net/http"
	"testing"
)

const trustingYAML = `
listeners: [{ name: web, address: 127.0.0.1:0, trusted_proxies: [%s] }]
routes:
  - name: all
    upstream: s
    request_headers: { set: [{ name: X-Client, value: "{client_ip}" }] }
upstreams: [{ name: s, servers: [{ address: "%s" }] }]
`

// TestTrustedProxies has a reload decide whether the peer is believed, on a connection
// that stays.
func TestTrustedProxies(t *testing.T) {
	p := startPeer(t, "a")
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Header.Get("X-Client")+" "+r.Header.Get("X-Forwarded-For")+" "+r.Header.Get("X-Forwarded-Proto"))
	})
	p.handler.Store(&h)
	n := startNode(t, fmt.Sprintf(trustingYAML, "", p.address))
	c := client(t, true)
	for _, step := range []struct{ trusted, want string }{
		{"", "127.0.0.1 1.1.1.1, 198.51.100.1, 127.0.0.1 http"},
		{"127.0.0.0/8", "198.51.100.1 1.1.1.1, 198.51.100.1, 127.0.0.1 https"},
		{"10.0.0.0/8", "127.0.0.1 1.1.1.1, 198.51.100.1, 127.0.0.1 http"},
	} {
		n.write(t, fmt.Sprintf(trustingYAML, step.trusted, p.address))
		n.mustReload(t)
		_, got := fetch(t, c, "GET", n.url("web")+"/", "", "X-Forwarded-For", "1.1.1.1, 198.51.100.1", "X-Forwarded-Proto", "https")
		if got != step.want {
			t.Errorf("trusted %q: got %q, want %q", step.trusted, got, step.want)
		}
	}
}
