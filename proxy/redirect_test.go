package proxy

import (
	"net/url"
	"strings"
	"testing"

	"drover/exchange"
)

func mustRedirect(t testing.TB, to string) *Redirect {
	t.Helper()
	r, err := compileRedirect(&RedirectConfig{To: to, Status: 308})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRedirectLocation(t *testing.T) {
	for _, tc := range []struct{ to, host, target, want string }{
		{"https://{host}{path}{query}", "a.test:8080", "/a%2Fb//c?x=%0d&y", "https://a.test/a%2Fb//c?x=%0d&y"},
		{"https://{host}{path}{query}", "[2001:db8::1]:80", "/", "https://[2001:db8::1]/"},
		{"{scheme}://www.{host}:8443{path}", "a.test", "/x?y", "http://www.a.test:8443/x"},
		{"/new{path}", "a.test", "/x", "/new/x"},
		{"{path}/", "a.test", "/x?y", "/x/"},
		{"https://a.test/é#top", "", "/", "https://a.test/%C3%A9#top"},
		{"https://b.test{path}", "", "*", "https://b.test/"},
		{"/go?to={path}", "", "/a#b", "/go?to=/a%23b"},
		// Nothing a client sends chooses another host.
		{"{path}", "a.test", "//evil.test/x", "/evil.test/x"},
		{"{path}", "a.test", "///evil.test", "/evil.test"},
		{"{path}", "a.test", `/\evil.test`, "/%5Cevil.test"},
		{"{path}", "a.test", `\\evil.test`, "/%5C%5Cevil.test"},
		{"/{path}", "a.test", "/evil.test", "/evil.test"},
		{"https://b.test{path}", "a.test", "@evil.test", "https://b.test/@evil.test"},
		{"https://b.test{path}", "a.test", ".evil.test", "https://b.test/.evil.test"},
		{"https://b.test{path}", "a.test", "//evil.test", "https://b.test//evil.test"},
		// Nor ends the field.
		{"https://b.test{path}{query}", "a.test", "/\r\nX: y\x00?\r\n\t", "https://b.test/%0D%0AX:%20y%00?%0D%0A%09"},
		{"https://b.test{path}", "a.test", "/\xff\"<>^`{|}", "https://b.test/%FF%22%3C%3E%5E%60%7B%7C%7D"},
	} {
		got, ok := mustRedirect(t, tc.to).Location(Vars{Exchange: requestFor("GET", tc.host, tc.target)})
		if !ok || got != tc.want {
			t.Errorf("%s for %s%s: got %q, %v, want %q", tc.to, tc.host, tc.target, got, ok, tc.want)
		}
	}
}

func TestRedirectNeedsAHostName(t *testing.T) {
	for _, host := range []string{"", ":80", "a/b", "a@b", `a\b`, "a b", "a\r\nb", "a?b", "a#b", "[::1", "[a/b]", "é"} {
		r := mustRedirect(t, "https://{host}{path}")
		if got, ok := r.Location(Vars{Exchange: requestFor("GET", host, "/")}); ok {
			t.Errorf("host %q: got %q, want none", host, got)
		}
		if _, ok := mustRedirect(t, "/x").Location(Vars{Exchange: requestFor("GET", host, "/")}); !ok {
			t.Errorf("host %q: got none for a target without {host}", host)
		}
	}
}

func TestRedirectTargetsThatAreRefused(t *testing.T) {
	for to, want := range map[string]string{
		"example.com":               `want it to begin with "/"`,
		"//example.com":             `want it to begin with "/"`,
		"ftp://example.com":         `want it to begin with "/"`,
		"javascript:alert(1)":       `want it to begin with "/"`,
		"{query}":                   `want it to begin with "/"`,
		"{host}/x":                  `want it to begin with "/"`,
		"{scheme}":                  `want it to begin with "/"`,
		"{scheme}:{path}":           `want it to begin with "/"`,
		"{{scheme}}://a":            `want it to begin with "/"`,
		"https://":                  "got no host",
		"https:///x":                "got no host",
		"https://{path}":            "got no host",
		"{scheme}://{query}":        "got no host",
		"https://?x":                "got no host",
		"https://a{method}.test/":   "got {method} in the host",
		"https://{client_ip}{path}": "got {client_ip} in the host",
		"/a b":                      "want an address without blanks",
		"/a\r\nb":                   "want an address without blanks",
		"/{nothing}":                "got the unknown variable {nothing} at byte 2",
	} {
		if _, err := parseLocation(to); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", to, err, want)
		}
	}
}

func FuzzRedirect(f *testing.F) {
	for _, target := range append([]string{"//evil.test/..", "/\\evil", "?//evil", "\t//evil", "/%0d%0a"}, hostileTargets...) {
		f.Add(target, "a.test")
	}
	f.Add("/", "evil.test@a.test")
	f.Fuzz(func(t *testing.T, target, host string) {
		ex := requestFor("GET", host, target)
		for to, wantHost := range map[string]string{
			"{path}{query}": "", "/{path}": "", "/x{query}": "", "https://fixed.test{path}{query}": "fixed.test",
			"https://{host}{path}{query}": string(hostOnly([]byte(host))),
		} {
			got, ok := mustRedirect(t, to).Location(Vars{Exchange: ex})
			if !ok {
				continue
			}
			if strings.ContainsFunc(got, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '\\' }) {
				t.Fatalf("%s: got %q", to, got)
			}
			if wantHost == "" && (!strings.HasPrefix(got, "/") || strings.HasPrefix(got, "//")) {
				t.Fatalf("%s: got %q, want a path", to, got)
			}
			if parsed, err := url.Parse(got); err == nil && parsed.Host != wantHost && !strings.HasPrefix(wantHost, "[") {
				t.Fatalf("%s: got %q, which is for host %q", to, got, parsed.Host)
			}
		}
	})
}

func TestRespondIsWhole(t *testing.T) {
	for _, tc := range []struct {
		cfg  RespondConfig
		want string
	}{
		{RespondConfig{Status: 200, Body: "ok", ContentType: "text/plain"}, "Content-Type: text/plain|Content-Length: 2|"},
		{RespondConfig{Status: 404, ContentType: "text/plain"}, "Content-Length: 0|"},
		{RespondConfig{Status: 200, Body: "ok"}, "Content-Length: 2|"},
		{RespondConfig{Status: 204, ContentType: "text/plain"}, ""},
		{RespondConfig{Status: 304}, ""},
	} {
		r := mustCompile(t, routeTo("", func(c *RouteConfig) { c.Respond = &tc.cfg })).Routes()[0]
		if got := headerText(r.Respond.Header); got != tc.want || string(r.Respond.Body) != tc.cfg.Body || len(r.Targets) != 0 {
			t.Errorf("%+v: got %s %q", tc.cfg, got, r.Respond.Body)
		}
	}
}

// headerText writes a list as "Name: value|Name: value|".
func headerText(h exchange.Header) string {
	text := ""
	for _, f := range h {
		text += string(f.Name) + ": " + string(f.Value) + "|"
	}
	return text
}
