package regress

import (
	"strings"
	"testing"

	"drover/admin"
)

// TestAdmin: a page that rebinds its name to the loopback reads nothing, and no method
// changes anything.
func TestAdmin(t *testing.T) {
	o := startOrigin(t, nil)
	d := start(t, toOrigin(o.address, ""), "")
	for _, path := range []string{"/status", "/metrics", "/livez", "/readyz", "/", "/debug/pprof/"} {
		for _, host := range []string{"evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost.evil.example"} {
			if got := exchange(t, d.admin, "GET "+path+" HTTP/1.1\r\nHost: "+host+"\r\nConnection: close\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 421") {
				t.Errorf("%s of %s: got %.200q; want 421", path, host, got)
			}
		}
		for _, method := range []string{"POST", "PUT", "DELETE", "PATCH", "OPTIONS"} {
			got := exchange(t, d.admin, method+" "+path+" HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
			if strings.HasPrefix(got, "HTTP/1.1 2") || strings.Contains(got, "Access-Control-Allow") {
				t.Errorf("%s %s: got %.200q; want a refusal", method, path, got)
			}
		}
	}
	if got := exchange(t, d.admin, "GET /debug/pprof/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 404") {
		t.Errorf("profiles: got %.200q; want 404 unless asked for", got)
	}
	var c admin.Config
	if c.SetDefaults(); !strings.HasPrefix(c.Address, "127.0.0.1:") || c.PProf {
		t.Errorf("defaults %+v; want the loopback, without profiles", c)
	}
}
