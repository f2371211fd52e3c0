package regress

import (
	"strings"
	"testing"
)

// TestHeaderInjection: no value that drover builds of a request ends its line: redirect,
// rewrite, templates, the access log.
func TestHeaderInjection(t *testing.T) {
	o := startOrigin(t, nil)
	d := start(t, toOrigin(o.address, `
  - { path_prefix: /to, redirect: { to: "http://b{path}{query}" } }
  - { path_prefix: /re, upstream: u, rewrite: { regexp: "^/re(.*)$", replacement: "/x$1" } }
  - { upstream: u, request_headers: { set: [{ name: X-In, value: "{path}{query}" }] }, response_headers: { set: [{ name: X-Out, value: "{path}{query}{host}" }] } }
`), "")
	for _, path := range []string{"/to", "/re", "/t"} {
		for _, evil := range []string{"%0d%0aInjected:%20yes", "%0D%0A%0D%0AInjected: yes", "%00", "%0a", "?q=%0d%0aInjected:yes", "?q=%E5%98%8A%E5%98%8DInjected:yes"} {
			got := exchange(t, d.web, "GET "+path+"/"+strings.ReplaceAll(evil, " ", "%20")+" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
			for line := range strings.SplitSeq(got, "\n") {
				if strings.HasPrefix(line, "Injected") || strings.Contains(line, "\x00") {
					t.Errorf("%s/%s: got %q", path, evil, got)
				}
			}
		}
		for _, raw := range []string{"\r\nInjected: yes", "\x00", "\n", "\r", "\t"} {
			refuses(t, d, o, "GET "+path+"/"+raw[:1]+"a HTTP/1.1\r\nHost: a\r\n\r\n")
		}
	}
	for i, h := range o.headers {
		if h.Get("Injected") != "" || strings.ContainsAny(h.Get("X-In"), "\r\n\x00") {
			t.Errorf("the server got %v of %q", h, o.requests()[i])
		}
	}
	for line := range strings.Lines(d.log.String()) {
		if strings.HasPrefix(line, "Injected") {
			t.Errorf("the log has the line %q", line)
		}
	}
}
