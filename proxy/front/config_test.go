package front

import (
	"strings"
	"testing"
	"time"

	"drover/units"
)

func TestConfigValidate(t *testing.T) {
	f := func(change func(*Config), want string) {
		t.Helper()
		cfg := testConfig()
		change(&cfg)
		err := cfg.Validate()
		switch {
		case want == "" && err != nil:
			t.Errorf("got %v; want it valid", err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("got %v; want %q", err, want)
		}
	}
	f(func(*Config) {}, "")
	f(func(c *Config) { c.Address = ":0" }, "")
	f(func(c *Config) { c.Address = "[::1]:8080" }, "")
	f(func(c *Config) { c.Name = "" }, "name: got nothing")
	f(func(c *Config) { c.Address = "8080" }, `address: got "8080"`)
	f(func(c *Config) { c.Address = "a:http" }, `address: got port "http"`)
	f(func(c *Config) { c.HeaderTimeout = 0 }, "header_timeout: got 0s")
	f(func(c *Config) { c.BodyIdleTimeout = -1 }, "body_idle_timeout: got")
	f(func(c *Config) { c.WriteIdleTimeout = 0 }, "write_idle_timeout: got")
	f(func(c *Config) { c.KeepAliveTimeout = 0 }, "keep_alive_timeout: got")
	f(func(c *Config) { c.MaxHeaderSize = 100 }, "max_header_size: got 100B; want 1KiB to 1MiB")
	f(func(c *Config) { c.MaxHeaderSize = 2 * units.MiB }, "max_header_size: got 2MiB")
	f(func(c *Config) { c.MaxHeaderFields = 0 }, "max_header_fields: got 0")
	f(func(c *Config) { c.MaxBodySize = -1 }, "max_body_size: got")
	f(func(c *Config) { c.MaxConnections = -1 }, "max_connections: got -1")
	f(func(c *Config) { c.MaxConnectionsPerClient = -1 }, "max_connections_per_client: got -1")
	f(func(c *Config) { c.MinBodyRate = -1 }, "min_body_rate: got -1")
	f(func(c *Config) { c.TrustedProxies = []string{"10.0.0.1/8"} }, `trusted_proxies: got "10.0.0.1/8"`)
}

func TestTLSConfigValidate(t *testing.T) {
	var c TLSConfig
	c.SetDefaults()
	if err := c.Validate(); err == nil || !strings.Contains(err.Error(), "certificates: got none") {
		t.Errorf("got %v", err)
	}
	c = TLSConfig{Certificates: []Certificate{{}}, MinVersion: "1.1"}
	if err := c.Validate(); err == nil || !strings.Contains(err.Error(), `min_version: got "1.1"; want one of 1.2, 1.3`) {
		t.Errorf("got %v", err)
	}
	if err := c.Certificates[0].Validate(); err == nil || !strings.Contains(err.Error(), "key_file") {
		t.Errorf("got %v", err)
	}
}

func TestTLSBlocksValidate(t *testing.T) {
	f := func(block interface{ Validate() error }, want string) {
		t.Helper()
		err := block.Validate()
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("got %v; want %q", err, want)
		}
	}
	var auth ClientAuthConfig
	auth.SetDefaults()
	if !auth.Required {
		t.Error("a client's certificate is not required by default")
	}
	f(&auth, "ca_file: got nothing")
	f(&ClientAuthConfig{CAFile: "x", AllowedNames: []string{"a", "*.b.test", "spiffe://td/a"}}, "")
	for _, name := range []string{"", "*", "*.", "*.*.b", "a.*"} {
		f(&ClientAuthConfig{CAFile: "x", AllowedNames: []string{"a", name}}, "allowed_names[1]: got")
	}
	var tickets TicketsConfig
	tickets.SetDefaults()
	if tickets.RotateEvery != 12*time.Hour {
		t.Errorf("rotates every %v by default", tickets.RotateEvery)
	}
	f(&tickets, "")
	f(&TicketsConfig{File: "x", RotateEvery: 0}, "")
	f(&TicketsConfig{RotateEvery: time.Second}, "rotate_every: got 1s")
	f(&TicketsConfig{RotateEvery: -1}, "rotate_every: got")
	f(&TicketsConfig{File: "x", Disabled: true}, `file: got "x" beside disabled: true`)
	var hsts HSTSConfig
	hsts.SetDefaults()
	f(&hsts, "")
	if got := string(hsts.value()); got != "max-age=31536000" {
		t.Errorf("got %q by default", got)
	}
	f(&HSTSConfig{}, "")
	f(&HSTSConfig{MaxAge: -time.Second}, "max_age: got -1s")
	f(&HSTSConfig{MaxAge: time.Millisecond}, "max_age: got 1ms")
	f(&HSTSConfig{MaxAge: year, Preload: true}, "preload: got true")
	f(&HSTSConfig{MaxAge: year - time.Second, IncludeSubdomains: true, Preload: true}, "preload: got true")
}

func TestSameSocket(t *testing.T) {
	base := testConfig()
	base.TLS = &TLSConfig{Certificates: []Certificate{{CertFile: "c", KeyFile: "k"}}, MinVersion: "1.2"}
	f := func(change func(*Config), want bool) {
		t.Helper()
		other := base
		tlsBlock := *base.TLS
		other.TLS = &tlsBlock
		change(&other)
		if got := base.SameSocket(other); got != want {
			t.Errorf("got %v; want %v", got, want)
		}
	}
	f(func(*Config) {}, true)
	f(func(c *Config) {
		c.HeaderTimeout, c.MaxHeaderSize, c.MaxBodySize, c.MaxConnections, c.Via = time.Hour, units.MiB, 5, 7, true
	}, true)
	f(func(c *Config) { c.Name = "x" }, false)
	f(func(c *Config) { c.Address = "x" }, false)
	f(func(c *Config) { c.TLS = nil }, false)
	f(func(c *Config) { c.TLS.MinVersion = "1.3" }, true)
}
