package proxy

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"
)

func expanded(t *testing.T, text string, v Vars) string {
	t.Helper()
	parsed, err := parseTemplate(text)
	if err != nil {
		t.Fatal(err)
	}
	return string(parsed.appendField(nil, v))
}

func TestTemplateVariables(t *testing.T) {
	ex := requestFor("POST", "Shop.Test.:8080", "/a%20b//c?x={y}&z", "X: y")
	v := Vars{Exchange: ex, Route: "r", Upstream: "u"}
	for text, want := range map[string]string{
		"":                         "",
		"plain":                    "plain",
		"{{}} {{host}}":            "{} {host}",
		"{host}":                   "Shop.Test",
		"{path}":                   "/a%20b//c",
		"{query}":                  "?x={y}&z",
		"<{method} {scheme}>":      "<POST http>",
		"{client_ip},{route}":      "192.0.2.7,r",
		"{upstream}{{{upstream}}}": "u{u}",
	} {
		if got := expanded(t, text, v); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
	ex.Secure, ex.Remote = true, netip.MustParseAddrPort("[::ffff:198.51.100.1]:1")
	ex.Request.Target, ex.Request.Host = []byte("/"), []byte("[::1]:80")
	if got := expanded(t, "{scheme} {client_ip} {query} {host}", v); got != "https 198.51.100.1  [::1]" {
		t.Errorf("got %q", got)
	}
	ex.Remote = netip.AddrPortFrom(netip.MustParseAddr("fe80::1%eth0"), 1)
	if got := expanded(t, "{client_ip}", v); got != "fe80::1" {
		t.Errorf("got %q, want no zone, which is drover's own affair", got)
	}
	ex.Remote = netip.AddrPort{}
	if got := expanded(t, "{client_ip}", v); got != "unknown" {
		t.Errorf("got %q", got)
	}
}

func TestRequestIDNamesOneRequest(t *testing.T) {
	ex := requestFor("GET", "a.test", "/")
	id := expanded(t, "{request_id}", Vars{Exchange: ex})
	if len(id) != 32 || strings.Trim(id, "0123456789abcdef") != "" || id[:16] == id[16:] {
		t.Errorf("got %q, want 32 hexadecimal digits", id)
	}
	if again := expanded(t, "{request_id}", Vars{Exchange: ex}); again != id {
		t.Errorf("got %q and then %q for one request", id, again)
	}
	if other := expanded(t, "{request_id}", Vars{Exchange: requestFor("GET", "a.test", "/")}); other == id {
		t.Errorf("got %q for two requests", id)
	}
	ex.RequestID = []byte("given")
	if got := expanded(t, "{request_id}", Vars{Exchange: ex}); got != "given" {
		t.Errorf("got %q, want the one given", got)
	}
}

func TestTemplateFaults(t *testing.T) {
	for text, want := range map[string]string{
		"a{b":        `got a { without its } at byte 2 of "a{b"; want {{ for the brace itself`,
		"a}":         `got a } without its { at byte 2 of "a}"; want }} for the brace itself`,
		"{}":         `got the unknown variable {} at byte 1 of "{}"`,
		"x{ host}":   `got the unknown variable { host} at byte 2 of "x{ host}"; want one of {client_ip}, {host}, {method}, {path}, {query}, {request_id}, {route}, {scheme}, {upstream}, {user}, or {{`,
		`{"a": "b"}`: `got the unknown variable {"a": "b"} at byte 1`,
	} {
		if _, err := parseTemplate(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", text, err, want)
		}
	}
}

func TestTemplatesCannotInjectFields(t *testing.T) {
	evil := "x\r\nSet-Cookie: a=b\x00\n\x7f\x1b\t"
	ex := requestFor("G\r\nET", evil, "/"+evil+"?"+evil)
	ex.RequestID = []byte(evil)
	v := Vars{Exchange: ex, Route: evil, Upstream: evil}
	for name := range templateVariables {
		got := expanded(t, "{"+name+"}", v)
		if strings.IndexFunc(got, func(r rune) bool { return isControl(byte(r)) }) >= 0 {
			t.Errorf("%s: got %q, want no control character", name, got)
		}
	}
}

func FuzzTemplate(f *testing.F) {
	for _, text := range []string{"", "{{", "}}", "{host}", "{path}{query}", "{{{host}}}", "{", "}{", "{request_id}", "\r\n"} {
		f.Add(text, "/a?b", "a.test")
	}
	f.Add("https://{host}{path}", "/\r\nX: y", "a\r\nb")
	f.Fuzz(func(t *testing.T, text, target, host string) {
		parsed, err := parseTemplate(text)
		if err != nil {
			return
		}
		v := Vars{Exchange: requestFor("GET", host, target), Route: target, Upstream: host}
		got := parsed.appendField([]byte("before"), v)
		rest, ok := bytes.CutPrefix(got, []byte("before"))
		if !ok {
			t.Fatalf("got %q, want it appended", got)
		}
		if literal, constant := parsed.constant(); constant && literal != string(rest) {
			t.Fatalf("%q: got %q, want %q", text, rest, literal)
		}
		if checkFieldValue(text) == nil && checkFieldValue(string(rest)) != nil {
			t.Fatalf("%q with %q: got %q", text, target, rest)
		}
	})
}
