package zookeeper

import (
	"strings"
	"testing"
	"time"

	"drover/backend"
	"drover/invalid"
)

func TestConfigValidate(t *testing.T) {
	f := func(change func(*Config), path, want string) {
		t.Helper()
		cfg := testConfig("zk1:2181", "[::1]:2181")
		change(&cfg)
		err := cfg.Validate()
		if want == "" {
			if err != nil {
				t.Fatalf("got %v", err)
			}
			return
		}
		fields := invalid.Fields(err)
		if len(fields) != 1 || fields[0].Path != path || !strings.Contains(fields[0].Err.Error(), want) {
			t.Fatalf("got %v; want %s: …%s…", err, path, want)
		}
	}
	f(func(*Config) {}, "", "")
	f(func(c *Config) { c.Chroot = "/app/zk" }, "", "")
	f(func(c *Config) { c.Debounce, c.MaxDebounce = 0, 0 }, "", "")
	f(func(c *Config) { c.Servers = nil }, "servers", "at least one")
	f(func(c *Config) { c.Servers[1] = "a:1,b:2" }, "servers[1]", "further list items")
	f(func(c *Config) { c.Servers[0] = "a:1/app" }, "servers[0]", "as chroot")
	f(func(c *Config) { c.Servers[0] = "::1" }, "servers[0]", "[::1]:2181")
	f(func(c *Config) { c.Servers[0] = "a" }, "servers[0]", "host:port")
	f(func(c *Config) { c.Servers[0] = ":2181" }, "servers[0]", "host:port")
	f(func(c *Config) { c.Servers[0] = "a:0" }, "servers[0]", "1 to 65535")
	f(func(c *Config) { c.SessionTimeout = time.Millisecond }, "session_timeout", "want 1s")
	f(func(c *Config) { c.Chroot = "app" }, "chroot", "absolute")
	f(func(c *Config) { c.Chroot = "/app/" }, "chroot", "no slash at the end")
	f(func(c *Config) { c.Chroot = "/a//b" }, "chroot", "no empty name")
	f(func(c *Config) { c.Chroot = "/a/../b" }, "chroot", "no empty name")
	f(func(c *Config) { c.ConnectTimeout = 0 }, "connect_timeout", "more than 0")
	f(func(c *Config) { c.VerifyInterval = -1 }, "verify_interval", "more than 0")
	f(func(c *Config) { c.Debounce = -1 }, "debounce", "0 or more")
	f(func(c *Config) { c.MaxDebounce = 1 }, "max_debounce", "at least debounce")
	f(func(c *Config) { c.Auth = &AuthConfig{Scheme: "sasl", CredentialsFile: "f"} }, "auth.scheme", "digest")
	f(func(c *Config) { c.Auth = &AuthConfig{Scheme: "digest"} }, "auth.credentials_file", "user:password")
}

func TestSourceConfigValidate(t *testing.T) {
	var cfg SourceConfig
	cfg.SetDefaults()
	cfg.Path = "/services/users"
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	cfg.Path, cfg.Format = "services", "nonsense"
	fields := invalid.Fields(cfg.Validate())
	if len(fields) != 2 || fields[0].Path != "path" || fields[1].Path != "format" {
		t.Fatalf("got %v", cfg.Validate())
	}
}

func TestNewSessionRefuses(t *testing.T) {
	if _, err := NewSession(Config{}, testLogger()); err == nil {
		t.Fatal("a session without servers")
	}
}

func TestDecoderPanicIsTheEntrysFault(t *testing.T) {
	decode := contained(func(string, []byte) ([]backend.Server, error) { panic("of a test") })
	if servers, err := decode("/a", nil); servers != nil || err == nil || !strings.Contains(err.Error(), "of a test") {
		t.Fatalf("got %v, %v", servers, err)
	}
}
