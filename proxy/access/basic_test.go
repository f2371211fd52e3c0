package access

import (
	"bytes"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"drover/exchange"

	"github.com/go-jose/go-jose/v4"
	"golang.org/x/crypto/bcrypt"
)

func hash(t testing.TB, password string) string {
	t.Helper()
	h, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	return string(h)
}

func usersFile(t testing.TB, lines ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func basic(pair string) exchange.Request {
	return exchange.Request{Header: fields("Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(pair)))}
}

func newBasic(t testing.TB, lines ...string) *Basic {
	t.Helper()
	b, err := NewBasic(&BasicConfig{UsersFile: usersFile(t, lines...), Realm: "r"}, NewSlots())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestBasicCheck(t *testing.T) {
	b := newBasic(t, "# people", "", "ann:"+hash(t, "se:cret"), "bob:"+strings.Replace(hash(t, ""), "$2a$", "$2y$", 1))
	good := basic("ann:se:cret")
	twice := basic("ann:se:cret")
	twice.Header = append(twice.Header, twice.Header...)
	lower := exchange.Request{Header: fields("authorization: bASIC  " + base64.StdEncoding.EncodeToString([]byte("ann:se:cret")))}
	for _, c := range []struct {
		name string
		r    exchange.Request
		want string // "" for denied
	}{
		{"right", good, "ann"}, {"right again", good, "ann"}, {"other spelling", lower, "ann"}, {"empty password", basic("bob:"), "bob"},
		{"wrong", basic("ann:se:cre"), ""}, {"another's", basic("bob:se:cret"), ""}, {"nobody", basic("eve:se:cret"), ""},
		{"no colon", basic("ann"), ""}, {"no name", basic(":x"), ""}, {"none", exchange.Request{}, ""}, {"twice", twice, ""},
		{"no base64", exchange.Request{Header: fields("Authorization: Basic ann:secret")}, ""},
		{"bearer", exchange.Request{Header: fields("Authorization: Bearer YW5uOnNlOmNyZXQ=")}, ""},
	} {
		user, err := b.Check(&c.r)
		if user != c.want && err == nil || (err == nil) != (c.want != "") || err != nil && !errors.Is(err, ErrDenied) {
			t.Errorf("%s: got %q, %v; want %q", c.name, user, err, c.want)
		}
	}
}

// TestBasicRemembers takes all slots away: what was right once is known without them,
// and nothing else is.
func TestBasicRemembers(t *testing.T) {
	b := newBasic(t, "ann:"+hash(t, "secret"))
	r := basic("ann:secret")
	if _, err := b.Check(&r); err != nil {
		t.Fatal(err)
	}
	if n, want := cap(b.slots), max(1, runtime.GOMAXPROCS(0)/2); n != want {
		t.Errorf("got %d slots; want %d", n, want)
	}
	for range cap(b.slots) {
		b.slots <- struct{}{}
	}
	if user, err := b.Check(&r); user != "ann" || err != nil {
		t.Errorf("got %q, %v; want ann", user, err)
	}
	for range cap(b.slots) {
		<-b.slots
	}
	for range 2 * maxVerified {
		b.remember([32]byte{byte(len(b.verified)), byte(len(b.verified) >> 8), 1})
	}
	if len(b.verified) > maxVerified {
		t.Errorf("got %d pairs remembered; want at most %d", len(b.verified), maxVerified)
	}
}

func TestUsersFileRefused(t *testing.T) {
	good := hash(t, "x")
	for name, lines := range map[string][]string{
		"empty":      {"# nobody"},
		"no name":    {":" + good},
		"no hash":    {"ann"},
		"plain text": {"ann:secret"},
		"md5":        {"ann:$apr1$mVL7h1WG$QyXzAYcCv0cHU0hZR0XnL/"},
		"sha":        {"ann:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g="},
		"twice":      {"ann:" + good, "ann:" + good},
		"cost":       {"ann:" + strings.Replace(good, "$04$", "$20$", 1)},
	} {
		cfg := BasicConfig{UsersFile: usersFile(t, lines...)}
		cfg.SetDefaults()
		err := cfg.Validate()
		if err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: got %v; want a fault that tells no secret", name, err)
		}
	}
	for _, realm := range []string{`a"b`, `a\b`, "a\nb", "ä"} {
		cfg := BasicConfig{UsersFile: usersFile(t, "ann:"+good), Realm: realm}
		if cfg.Validate() == nil {
			t.Errorf("realm %q is taken", realm)
		}
	}
}

// TestBasicBusy floods: whoever waits too long for a turn is told so, and a right
// password is not called wrong.
func TestBasicBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBasic(t, "ann:"+hash(t, "secret"))
		for range cap(b.slots) {
			b.slots <- struct{}{}
		}
		begin := time.Now()
		r := basic("ann:secret")
		if _, err := b.Check(&r); !errors.Is(err, ErrBusy) || time.Since(begin) != slotWait {
			t.Errorf("got %v after %v; want ErrBusy after %v", err, time.Since(begin), slotWait)
		}
		go func() {
			time.Sleep(slotWait / 2)
			<-b.slots
		}()
		if user, err := b.Check(&r); user != "ann" || err != nil {
			t.Errorf("with a turn in time: got %q, %v; want ann", user, err)
		}
	})
}

// FuzzRequest has foreign bytes wherever access reads them.
func FuzzRequest(f *testing.F) {
	f.Add([]byte("Basic YW5uOnNlY3JldA=="), []byte("https://a.example"))
	f.Add([]byte("Bearer eyJhbGciOiJub25lIn0.e30."), []byte("https://x.b.example"))
	f.Add([]byte("Bearer ..."), []byte("null"))
	b := newBasic(f, "ann:"+hash(f, "secret"))
	j := newJWT(f, keysFile(f, newIssuer(f, "k", jose.ES256).public()), nil)
	c, err := NewCORS(&CORSConfig{Origins: []string{"https://a.example", "https://*.b.example"}, Headers: []string{"*"}, Methods: []string{"*"}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, authorization, origin []byte) {
		r := exchange.Request{Method: []byte("OPTIONS"), Header: exchange.Header{
			{Name: []byte("Authorization"), Value: authorization}, {Name: []byte("Origin"), Value: origin},
			{Name: []byte("Access-Control-Request-Method"), Value: origin}, {Name: []byte("Access-Control-Request-Headers"), Value: authorization},
		}}
		if user, err := b.Check(&r); err == nil && user != "ann" {
			t.Errorf("%q is user %q", authorization, user)
		}
		if _, err := j.Check(&r, now); err == nil {
			t.Errorf("%q is a token", authorization)
		}
		answer := c.Preflight(&r)
		var h exchange.Header
		c.Apply(&h, &r)
		for _, f := range append(h, answer.Header...) {
			if bytes.ContainsAny(f.Value, "\r\n\x00") {
				t.Errorf("got %q: %q", f.Name, f.Value)
			}
		}
		if got := h.Get("Access-Control-Allow-Origin"); got != nil && string(got) != "https://a.example" && !bytes.HasSuffix(got, []byte(".b.example")) {
			t.Errorf("origin %q is allowed", got)
		}
	})
}
