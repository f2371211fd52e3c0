package proxy

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"drover/backend"
	"drover/exchange"

	"github.com/cespare/xxhash/v2"
)

var stickyID = backend.ID{Scheme: "http", Host: "10.0.0.1", Port: 8080}

func stickyConfig(change func(c *StickyConfig)) *StickyConfig {
	c := &StickyConfig{}
	c.SetDefaults()
	c.Secret = "0123456789abcdef"
	if change != nil {
		change(c)
	}
	return c
}

func mustSticky(t testing.TB, upstream string, change func(c *StickyConfig)) *Sticky {
	t.Helper()
	s, err := NewSticky(stickyConfig(change), upstream)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// cookieFor gives the "name=value" that a client would send back.
func cookieFor(s *Sticky, id backend.ID) string {
	var h exchange.Header
	s.Append(&h, id)
	pair, _, _ := strings.Cut(string(h.Get("Set-Cookie")), ";")
	return pair
}

func TestStickyRoundTrip(t *testing.T) {
	s := mustSticky(t, "users", nil)
	ex := requestFor("GET", "a.test", "/", "Cookie: x=y; "+cookieFor(s, stickyID))
	hash, ok := s.Read(ex)
	if want := xxhash.Sum64String("http://10.0.0.1:8080"); !ok || hash != want {
		t.Errorf("got %x, %v, want %x", hash, ok, want)
	}
	if other := mustSticky(t, "users", nil); cookieFor(other, stickyID) != cookieFor(s, stickyID) {
		t.Error("two drovers of one secret write different cookies")
	}
}

func TestStickyIgnoresWhatItDidNotSign(t *testing.T) {
	s := mustSticky(t, "users", nil)
	good := strings.TrimPrefix(cookieFor(s, stickyID), "drover=")
	for what, value := range map[string]string{
		"nothing":           "",
		"text":              "http://10.0.0.1:8080",
		"short":             good[:len(good)-1],
		"long":              good + "A",
		"padded":            good + "=",
		"quoted":            `"` + good + `"`,
		"bad base64":        "!" + good[1:],
		"other upstream":    strings.TrimPrefix(cookieFor(mustSticky(t, "orders", nil), stickyID), "drover="),
		"other secret":      strings.TrimPrefix(cookieFor(mustSticky(t, "users", func(c *StickyConfig) { c.Secret = "another secret 99" }), stickyID), "drover="),
		"other server's ID": strings.TrimPrefix(cookieFor(s, backend.ID{Scheme: "http", Host: "10.0.0.2", Port: 8080}), "drover=")[:11] + good[11:],
	} {
		if hash, ok := s.Read(requestFor("GET", "a.test", "/", "Cookie: drover="+value)); ok {
			t.Errorf("%s: got %x", what, hash)
		}
	}
	for i := range len(good) {
		for _, c := range "A_9" {
			forged := good[:i] + string(c) + good[i+1:]
			if _, ok := s.Read(requestFor("GET", "a.test", "/", "Cookie: drover="+forged)); ok && forged != good {
				t.Errorf("%q: taken for %q", forged, good)
			}
		}
	}
	if _, ok := s.Read(requestFor("GET", "a.test", "/", "Cookie: Drover="+good)); ok {
		t.Error("a cookie of another name was taken")
	}
	if _, ok := s.Read(requestFor("GET", "a.test", "/")); ok {
		t.Error("no cookie: got a server")
	}
	bad := strings.Repeat("A", len(good))
	if _, ok := s.Read(requestFor("GET", "a.test", "/", "Cookie: drover="+bad+"; drover=x", "Cookie: drover="+good)); !ok {
		t.Error("behind two bad cookies: got no server")
	}
	many := strings.Repeat("drover="+bad+"; ", maxStickyCookies)
	if _, ok := s.Read(requestFor("GET", "a.test", "/", "Cookie: "+many+"drover="+good)); ok {
		t.Error("more cookies are tried than the bound says")
	}
}

func TestStickyUpdate(t *testing.T) {
	other := backend.ID{Scheme: "http", Host: "10.0.0.2", Port: 8080}
	for _, tc := range []struct {
		what   string
		maxAge time.Duration
		cookie backend.ID
		want   int
	}{
		{"no cookie", 0, backend.ID{}, 1}, {"that server", 0, stickyID, 0}, {"another server", 0, other, 1}, {"that server, with max_age", time.Hour, stickyID, 1},
	} {
		s := mustSticky(t, "users", func(c *StickyConfig) { c.MaxAge = tc.maxAge })
		var h exchange.Header
		s.Update(requestFor("GET", "a.test", "/", "Cookie: "+cookieFor(s, tc.cookie)), &h, stickyID)
		if len(h) != tc.want {
			t.Errorf("%s: got %s, want %d fields", tc.what, headerText(h), tc.want)
		}
	}
}

func TestStickySetCookie(t *testing.T) {
	for _, tc := range []struct {
		change func(c *StickyConfig)
		want   string
	}{
		{nil, "; Path=/; HttpOnly; SameSite=Lax"},
		{func(c *StickyConfig) { *c = StickyConfig{Cookie: "a", Secret: c.Secret} }, ""},
		{func(c *StickyConfig) {
			c.Cookie, c.Path, c.Domain, c.MaxAge, c.Secure, c.SameSite = "__Secure-x", "/app", "a.test", time.Hour, true, "none"
		}, "; Path=/app; Domain=a.test; Max-Age=3600; Secure; HttpOnly; SameSite=None"},
	} {
		s := mustSticky(t, "u", tc.change)
		var h exchange.Header
		s.Append(&h, stickyID)
		parsed, err := http.ParseSetCookie(string(h.Get("Set-Cookie")))
		if err != nil || len(parsed.Value) != stickyTextSize || parsed.Name != s.cookie || len(parsed.Unparsed) > 0 {
			t.Errorf("got %s (%v)", headerText(h), err)
		}
		if got := strings.TrimPrefix(string(h.Get("Set-Cookie")), cookieFor(s, stickyID)); got != tc.want {
			t.Errorf("got %q, want %q", got, tc.want)
		}
	}
}

func TestStickySecretFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	fromFile := func(content string) (*Sticky, error) {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return NewSticky(stickyConfig(func(c *StickyConfig) { c.Secret, c.SecretFile = "", path }), "users")
	}
	s, err := fromFile(" 0123456789abcdef\r\n")
	if err != nil || cookieFor(s, stickyID) != cookieFor(mustSticky(t, "users", nil), stickyID) {
		t.Errorf("got %v and another cookie than with the same secret in the configuration", err)
	}
	for content, want := range map[string]string{
		"0123456789abcde\n":       "got 15 bytes; want 16 or more",
		"":                        "got 0 bytes",
		strings.Repeat("x", 4097): "got more than 4096 bytes",
	} {
		if _, err := fromFile(content); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "0123") {
			t.Errorf("%d bytes: got %v, want %s", len(content), err, want)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	_, err = NewSticky(stickyConfig(func(c *StickyConfig) { c.Secret, c.SecretFile = "", path }), "users")
	if err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("no file: got %v", err)
	}
}

func TestStickyConfigFaults(t *testing.T) {
	for _, tc := range []struct {
		change func(c *StickyConfig)
		want   string
	}{
		{func(c *StickyConfig) { c.Cookie = "a b" }, `cookie: got "a b"`},
		{func(c *StickyConfig) { c.Cookie = "" }, `cookie: got ""`},
		{func(c *StickyConfig) { c.Secret = "" }, "secret_file: got no secret; want secret_file or secret, the same in all drovers, 16 bytes or more"},
		{func(c *StickyConfig) { c.SecretFile = "x" }, "secret: got secret and secret_file; want one of them"},
		{func(c *StickyConfig) { c.Secret = "hunter2" }, "secret: got 7 bytes; want 16 or more"},
		{func(c *StickyConfig) { c.MaxAge = -time.Second }, "max_age: got -1s; want whole seconds"},
		{func(c *StickyConfig) { c.MaxAge = time.Millisecond }, "max_age: got 1ms"},
		{func(c *StickyConfig) { c.Path = "a" }, `path: got "a"`},
		{func(c *StickyConfig) { c.Path = "/;x" }, `path: got "/;x"`},
		{func(c *StickyConfig) { c.Path = "/\r\nX: y" }, "path: got"},
		{func(c *StickyConfig) { c.Domain = "a;b" }, `domain: got "a;b"`},
		{func(c *StickyConfig) { c.SameSite = "Lax" }, `same_site: got "Lax"; want lax, none, strict or ""`},
		{func(c *StickyConfig) { c.SameSite = "none" }, "secure: got false with same_site none; want true"},
		{func(c *StickyConfig) { c.Cookie = "__Host-a" }, `secure: got false with the cookie "__Host-a"`},
		{func(c *StickyConfig) { c.Cookie, c.Secure, c.Domain = "__Host-a", true, "a.test" }, `cookie: got "__Host-a"; want path "/" and no domain`},
	} {
		_, err := NewSticky(stickyConfig(tc.change), "u")
		if err == nil || !strings.HasPrefix(err.Error(), tc.want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("got %v, want %s", err, tc.want)
		}
	}
}

func TestStickyIsSafeForConcurrentUse(t *testing.T) {
	s := mustSticky(t, "users", nil)
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			id := stickyID
			id.Port = uint16(1000 + i)
			for range 200 {
				ex := requestFor("GET", "a.test", "/", "Cookie: "+cookieFor(s, id))
				if hash, ok := s.Read(ex); !ok || hash != xxhash.Sum64String(id.String()) {
					t.Errorf("got %x, %v for %s", hash, ok, id)
				}
			}
		})
	}
	group.Wait()
}

func FuzzSticky(f *testing.F) {
	s := mustSticky(f, "users", nil)
	good := cookieFor(s, stickyID)
	f.Add(good)
	f.Add("drover=" + strings.Repeat("A", stickyTextSize))
	f.Add("drover=; drover==;;")
	f.Fuzz(func(t *testing.T, cookies string) {
		if hash, ok := s.Read(requestFor("GET", "a.test", "/", "Cookie: "+cookies)); ok && !strings.Contains(cookies, good) {
			t.Fatalf("%q: got %x", cookies, hash)
		}
	})
}
