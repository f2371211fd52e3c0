package access

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"drover/exchange"
	"drover/invalid"
)

func fields(lines ...string) exchange.Header {
	var h exchange.Header
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		h.Add(name, value)
	}
	return h
}

func lines(h exchange.Header) []string {
	list := []string{}
	for _, f := range h {
		list = append(list, string(f.Name)+": "+string(f.Value))
	}
	return list
}

func newCORS(t *testing.T, change func(*CORSConfig)) *CORS {
	t.Helper()
	var cfg CORSConfig
	cfg.SetDefaults()
	change(&cfg)
	c, err := NewCORS(&cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestCORSOrigins(t *testing.T) {
	for _, c := range []struct {
		configured, origin string
		want               bool
	}{
		{"https://a.example", "https://a.example", true},
		{"https://A.example", "https://a.example", true},
		{"https://a.example", "http://a.example", false},
		{"https://a.example", "https://a.example:8443", false},
		{"https://a.example", "https://b.a.example", false},
		{"https://a.example:8443", "https://a.example:8443", true},
		{"http://[::1]:8080", "http://[::1]:8080", true},
		{"https://*.example", "https://a.example", true},
		{"https://*.example", "https://b.a.example", true},
		{"https://*.example", "https://example", false},
		{"https://*.example", "https://.example", false},
		{"https://*.example", "https://evil/.example", false},
		{"https://*.example", "https://evil:1.example", false},
		{"https://*.example", "https://a.example:8443", false},
		{"https://*.example:8443", "https://a.example:8443", true},
		{"https://*.example", "http://a.example", false},
		{"https://*.example", "null", false},
		{"*", "https://anywhere", true},
		{"*", "null", true},
	} {
		cors := newCORS(t, func(cfg *CORSConfig) { cfg.Origins = []string{c.configured} })
		var h exchange.Header
		r := exchange.Request{Header: fields("Origin: " + c.origin)}
		cors.Apply(&h, &r)
		if got := h.Has("Access-Control-Allow-Origin"); got != c.want {
			t.Errorf("%s for %s: got %q; want allowed %v", c.configured, c.origin, lines(h), c.want)
		}
	}
}

func TestCORSApply(t *testing.T) {
	server := []string{"X-A: 1", "access-control-allow-origin: *", "Access-Control-Allow-Credentials: true", "Access-Control-Expose-Headers: X-A"}
	named := newCORS(t, func(cfg *CORSConfig) {
		cfg.Origins, cfg.Credentials, cfg.Expose = []string{"https://a.example"}, true, []string{"X-B", "X-C"}
	})
	every := newCORS(t, func(cfg *CORSConfig) { cfg.Origins = []string{"*"} })
	for _, c := range []struct {
		name          string
		cors          *CORS
		request, want []string
	}{
		{"allowed", named, []string{"Origin: https://a.example"}, []string{"X-A: 1",
			"Access-Control-Allow-Origin: https://a.example", "Access-Control-Allow-Credentials: true",
			"Access-Control-Expose-Headers: X-B, X-C", "Vary: Origin"}},
		{"refused", named, []string{"Origin: https://b.example"}, []string{"X-A: 1", "Vary: Origin"}},
		{"two origins", named, []string{"Origin: https://a.example", "Origin: https://a.example"}, []string{"X-A: 1", "Vary: Origin"}},
		{"no origin", named, nil, []string{"X-A: 1", "Vary: Origin"}},
		{"everyone", every, []string{"Origin: https://b.example"}, []string{"X-A: 1", "Access-Control-Allow-Origin: *"}},
	} {
		h := fields(server...)
		r := exchange.Request{Header: fields(c.request...)}
		c.cors.Apply(&h, &r)
		if got := lines(h); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %q; want %q", c.name, got, c.want)
		}
	}
	h := fields("Vary: Accept, origin")
	named.Apply(&h, &exchange.Request{})
	if h.Count("Vary") != 1 {
		t.Errorf("got %q; want Origin in Vary once", lines(h))
	}
}

func TestPreflight(t *testing.T) {
	some := newCORS(t, func(cfg *CORSConfig) {
		cfg.Origins, cfg.Methods, cfg.Headers, cfg.MaxAge = []string{"https://a.example"}, []string{"PUT", "DELETE"}, []string{"X-A", "X-B"}, time.Minute
	})
	whatever := newCORS(t, func(cfg *CORSConfig) {
		cfg.Origins, cfg.Methods, cfg.Headers = []string{"*"}, []string{"*"}, []string{"*"}
	})
	vary := "Vary: Origin, Access-Control-Request-Method, Access-Control-Request-Headers"
	for _, c := range []struct {
		name          string
		cors          *CORS
		request, want []string
	}{
		{"allowed", some, []string{"Origin: https://a.example", "Access-Control-Request-Method: POST"}, []string{
			"Access-Control-Allow-Origin: https://a.example", "Access-Control-Allow-Methods: PUT, DELETE",
			"Access-Control-Allow-Headers: X-A, X-B", "Access-Control-Max-Age: 60", vary}},
		{"refused", some, []string{"Origin: https://b.example", "Access-Control-Request-Method: PUT"}, []string{vary}},
		{"as asked", whatever, []string{"Origin: https://b.example", "Access-Control-Request-Method: PATCH", "Access-Control-Request-Headers: x-a,x-b"}, []string{
			"Access-Control-Allow-Origin: *", "Access-Control-Allow-Methods: PATCH", "Access-Control-Allow-Headers: x-a,x-b", vary}},
		{"no names", whatever, []string{"Origin: https://b.example", "Access-Control-Request-Method: A B", "Access-Control-Request-Headers: x a"}, []string{
			"Access-Control-Allow-Origin: *", vary}},
	} {
		r := exchange.Request{Method: []byte("OPTIONS"), Header: fields(c.request...)}
		if !IsPreflight(&r) {
			t.Errorf("%s: not taken for a preflight", c.name)
		}
		answer := c.cors.Preflight(&r)
		if got := lines(answer.Header); answer.Status != 204 || !slices.Equal(got, c.want) {
			t.Errorf("%s: got %d %q; want %q", c.name, answer.Status, got, c.want)
		}
	}
	for _, r := range []exchange.Request{
		{Method: []byte("OPTIONS"), Header: fields("Origin: https://a.example")},
		{Method: []byte("OPTIONS"), Header: fields("Access-Control-Request-Method: PUT")},
		{Method: []byte("GET"), Header: fields("Origin: https://a.example", "Access-Control-Request-Method: PUT")},
	} {
		if IsPreflight(&r) {
			t.Errorf("%s %q is taken for a preflight", r.Method, lines(r.Header))
		}
	}
}

func TestCORSValidate(t *testing.T) {
	for _, c := range []struct {
		change func(*CORSConfig)
		path   string
	}{
		{func(c *CORSConfig) { c.Origins = nil }, "origins"},
		{func(c *CORSConfig) { c.Origins = []string{"*"}; c.Credentials = true }, "origins[0]"},
		{func(c *CORSConfig) { c.Origins = []string{"https://a", "*"} }, "origins[1]"},
		{func(c *CORSConfig) { c.Origins = []string{"a.example"} }, "origins[0]"},
		{func(c *CORSConfig) { c.Origins = []string{"null"} }, "origins[0]"},
		{func(c *CORSConfig) { c.Origins = []string{"https://a/"} }, "origins[0]"},
		{func(c *CORSConfig) { c.Origins = []string{"https://a:443"} }, "origins[0]"},
		{func(c *CORSConfig) { c.Origins = []string{"https://a.*.b"} }, "origins[0]"},
		{func(c *CORSConfig) { c.Methods = []string{"get"} }, "methods[0]"},
		{func(c *CORSConfig) { c.Methods = []string{"GET", "*"} }, "methods[1]"},
		{func(c *CORSConfig) { c.Headers = []string{"a b"} }, "headers[0]"},
		{func(c *CORSConfig) { c.Expose = []string{"*"}; c.Credentials = true }, "expose"},
		{func(c *CORSConfig) { c.MaxAge = time.Second / 2 }, "max_age"},
		{func(c *CORSConfig) { c.MaxAge = -time.Second }, "max_age"},
	} {
		cfg := CORSConfig{Origins: []string{"https://a.example"}}
		cfg.SetDefaults()
		if err := cfg.Validate(); err != nil {
			t.Fatal(err)
		}
		c.change(&cfg)
		err := cfg.Validate()
		var field *invalid.Field
		if !errors.As(err, &field) || field.Path != c.path {
			t.Errorf("%+v: got %v; want a fault of %s", cfg, err, c.path)
		}
		if _, err := NewCORS(&cfg); err == nil {
			t.Errorf("%+v is compiled", cfg)
		}
	}
}
