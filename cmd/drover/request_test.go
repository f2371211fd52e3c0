package main

import (
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
)

const requestYAML = `
listeners: [{ name: web, address: 127.0.0.1:0, %s }]
routes:
  - { path: /to, redirect: { to: "{scheme}://{host}/there" } }
  - { upstream: s }
upstreams: [{ name: s, servers: [{ address: "%s" }] }]
`

// settled reloads with other settings of the listener, and gives a function that says
// what status, field X-Request-ID of the answer and body a request gets.
func settled(t *testing.T, n *node, server *peer) func(settings, path string, header ...string) (int, string, string) {
	c := client(t, true)
	last := ""
	return func(settings, path string, header ...string) (int, string, string) {
		t.Helper()
		if settings != last {
			n.write(t, fmt.Sprintf(requestYAML, settings, server.address))
			n.mustReload(t)
			last = settings
		}
		resp, body := fetch(t, c, "GET", n.url("web")+path, "", header...)
		return resp.StatusCode, resp.Header.Get("X-Request-ID"), body
	}
}

// showing makes a peer answer with a request's target and names.
func showing(t *testing.T) *peer {
	p := startPeer(t, "a")
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprint(w, r.RequestURI, " ", strings.Join(r.Header["X-Request-Id"], ","), strings.Join(r.Header["X_request_id"], ","))
	})
	p.handler.Store(&h)
	return p
}

// TestRequestID has reloads decide who names requests, on a connection that stays.
func TestRequestID(t *testing.T) {
	p := showing(t)
	n := startNode(t, fmt.Sprintf(requestYAML, "via: false", p.address))
	get := settled(t, n, p)
	made := regexp.MustCompile(`^[0-9a-f]{32}$`)
	const trusting = "trusted_proxies: [127.0.0.1], "
	for _, step := range []struct {
		settings, sent string
		want           string // "" for a new one
	}{
		{"request_id: {}", "", ""},
		{"request_id: {}", "client-1", ""},
		{trusting + "request_id: {}", "client-2", "client-2"},
		{trusting + "request_id: { keep: never }", "client-3", ""},
		{"request_id: { keep: always }", "client-4", "client-4"},
		{"request_id: { keep: always }", "with blank", ""},
		{"request_id: { keep: always }", strings.Repeat("x", 128), strings.Repeat("x", 128)},
		{"request_id: { keep: always }", strings.Repeat("x", 129), ""},
	} {
		header := []string{"X_Request_ID", "shadow"}
		if step.sent != "" {
			header = append(header, "X-Request-ID", step.sent)
		}
		_, answered, body := get(step.settings, "/x", header...)
		id := strings.TrimPrefix(body, "/x ")
		if id != step.want && (step.want != "" || !made.MatchString(id)) || answered != "" {
			t.Errorf("%s, sent %q: the server got %q, the client %q; want %q", step.settings, step.sent, id, answered, step.want)
		}
	}
	_, first, body := get("request_id: { answer: true }", "/x")
	_, second, _ := get("request_id: { answer: true }", "/x")
	if !made.MatchString(first) || body != "/x "+first || second == first {
		t.Errorf("the client got %q and %q, the server %q", first, second, body)
	}
	if _, id, _ := get("request_id: { answer: true }", "/%2e%2e/none"); !made.MatchString(id) {
		t.Errorf("drover's own answer has the name %q", id)
	}
	if _, id, body := get("request_id: { header: X-Trace, answer: true }", "/x", "X-Request-ID", "mine"); id != "" || body != "/x mine" {
		t.Errorf("under another name: the client got %q, the server %q", id, body)
	}
}

// TestPathRules looks at what is routed and what is sent together.
func TestPathRules(t *testing.T) {
	p := showing(t)
	n := startNode(t, fmt.Sprintf(requestYAML, "via: false", p.address))
	get := settled(t, n, p)
	for _, step := range []struct {
		settings, path string
		status         int
		want           string
	}{
		{"path: {}", "//a//b%2Fc?d//e", 200, "//a//b%2Fc?d//e "},
		{"path: { merge_slashes: true }", "//a///b%2Fc//?d//e", 200, "/a/b%2Fc/?d//e "},
		{"path: { merge_slashes: true }", "//evil.test//x", 200, "/evil.test/x "},
		{"path: { reject_encoded_slash: true }", "/a%2Fb", 400, ""},
		{"path: { reject_encoded_slash: true }", "/a%5cb", 400, ""},
		{"path: { reject_encoded_slash: true }", "/a%252Fb?c%2F", 200, "/a%252Fb?c%2F "},
		{"path: { dot_segments: reject }", "/a/../b", 400, ""},
		{"path: { dot_segments: reject }", "/a/%2E./b", 400, ""},
		{"path: { dot_segments: reject }", "/a/..;x/b", 400, ""},
		{"path: { dot_segments: reject }", "/a/..", 400, ""},
		{"path: { dot_segments: reject }", "/a/...b/.well-known/x.?y=/../", 200, "/a/...b/.well-known/x.?y=/../ "},
	} {
		status, _, body := get(step.settings, step.path)
		if status != step.status || status == 200 && body != step.want {
			t.Errorf("%s, %s: got %d %q; want %d %q", step.settings, step.path, status, body, step.status, step.want)
		}
	}
}

// TestTrustedScheme: a redirect goes where the client came from.
func TestTrustedScheme(t *testing.T) {
	p := showing(t)
	n := startNode(t, fmt.Sprintf(requestYAML, "via: false", p.address))
	c := client(t, true)
	for _, step := range []struct{ settings, proto, want string }{
		{"via: false", "https", "http://www.test/there"},
		{"trusted_proxies: [127.0.0.1]", "https", "https://www.test/there"},
		{"trusted_proxies: [127.0.0.1]", "HTTP", "http://www.test/there"},
		{"trusted_proxies: [127.0.0.1]", "javascript", "http://www.test/there"},
	} {
		n.write(t, fmt.Sprintf(requestYAML, step.settings, p.address))
		n.mustReload(t)
		req, err := http.NewRequestWithContext(t.Context(), "GET", n.url("web")+"/to", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = "www.test"
		req.Header.Set("X-Forwarded-Proto", step.proto)
		resp, err := c.Transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if got := resp.Header.Get("Location"); got != step.want {
			t.Errorf("%s, %s: redirected to %q; want %q", step.settings, step.proto, got, step.want)
		}
	}
}
