package access

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"drover/exchange"

	"github.com/go-jose/go-jose/v4"
)

// issuer signs tokens.
type issuer struct {
	id        string
	algorithm jose.SignatureAlgorithm
	key       crypto.Signer
}

func newIssuer(t testing.TB, id string, algorithm jose.SignatureAlgorithm) *issuer {
	t.Helper()
	var key crypto.Signer
	var err error
	switch algorithm {
	case jose.EdDSA:
		_, key, err = ed25519.GenerateKey(rand.Reader)
	case jose.ES256:
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	default:
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	}
	if err != nil {
		t.Fatal(err)
	}
	return &issuer{id, algorithm, key}
}

func (i *issuer) public() jose.JSONWebKey {
	return jose.JSONWebKey{Key: i.key.Public(), KeyID: i.id, Algorithm: string(i.algorithm), Use: "sig"}
}

func (i *issuer) sign(t testing.TB, claims map[string]any) string {
	t.Helper()
	return signWith(t, jose.SigningKey{Algorithm: i.algorithm, Key: jose.JSONWebKey{Key: i.key, KeyID: i.id}}, claims)
}

func signWith(t testing.TB, key jose.SigningKey, claims map[string]any) string {
	t.Helper()
	signer, err := jose.NewSigner(key, nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := signer.Sign(text)
	if err != nil {
		t.Fatal(err)
	}
	token, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func keySet(t testing.TB, keys ...jose.JSONWebKey) []byte {
	t.Helper()
	text, err := json.Marshal(jose.JSONWebKeySet{Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func keysFile(t testing.TB, keys ...jose.JSONWebKey) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "jwks.json")
	if err := os.WriteFile(path, keySet(t, keys...), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func newJWT(t testing.TB, file string, change func(*JWTConfig)) *JWT {
	t.Helper()
	var cfg JWTConfig
	cfg.Keys.SetDefaults()
	cfg.SetDefaults()
	cfg.Issuer, cfg.JWKSFile = "https://login.example", file
	if change != nil {
		change(&cfg)
	}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	j, err := NewJWT(&cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func bearer(token string) *exchange.Request {
	return &exchange.Request{Header: fields("Authorization: Bearer " + token)}
}

var now = time.Unix(1_700_000_000, 0)

// claimsWith gives claims that are valid but for a change.
func claimsWith(change func(map[string]any)) map[string]any {
	c := map[string]any{"iss": "https://login.example", "sub": "ann", "exp": now.Unix() + 60, "aud": []string{"shop", "mail"}}
	if change != nil {
		change(c)
	}
	return c
}

func TestJWTClaims(t *testing.T) {
	signer := newIssuer(t, "k1", jose.ES256)
	j := newJWT(t, keysFile(t, signer.public()), func(c *JWTConfig) {
		c.Audiences, c.RequiredClaims = []string{"news", "mail"}, []string{"exp", "sub"}
	})
	set := func(name string, value any) func(map[string]any) {
		return func(c map[string]any) { c[name] = value }
	}
	without := func(name string) func(map[string]any) { return func(c map[string]any) { delete(c, name) } }
	for _, c := range []struct {
		name   string
		change func(map[string]any)
		want   bool
	}{
		{"valid", nil, true},
		{"one audience", set("aud", "mail"), true},
		{"no audience", without("aud"), false},
		{"other audience", set("aud", []string{"shop"}), false},
		{"other issuer", set("iss", "https://login.example/"), false},
		{"no issuer", without("iss"), false},
		{"no exp", without("exp"), false},
		{"no sub", without("sub"), false},
		{"empty sub", set("sub", ""), false},
		{"null sub", set("sub", nil), false},
		{"expired within leeway", set("exp", now.Unix()-29), true},
		{"expired", set("exp", now.Unix()-31), false},
		{"exp is text", set("exp", "never"), false},
		{"not yet within leeway", set("nbf", now.Unix()+29), true},
		{"not yet", set("nbf", now.Unix()+31), false},
	} {
		_, err := j.Check(bearer(signer.sign(t, claimsWith(c.change))), now)
		if (err == nil) != c.want || err != nil && !errors.Is(err, ErrDenied) {
			t.Errorf("%s: got %v; want it taken: %v", c.name, err, c.want)
		}
	}
}

// TestJWTForged has what attackers try.
func TestJWTForged(t *testing.T) {
	ours, other := newIssuer(t, "k1", jose.RS256), newIssuer(t, "k1", jose.RS256)
	file := keysFile(t, ours.public())
	j := newJWT(t, file, func(c *JWTConfig) { c.Algorithms = []string{"RS256"} })
	good := ours.sign(t, claimsWith(nil))
	if _, err := j.Check(bearer(good), now); err != nil {
		t.Fatal(err)
	}
	b64 := func(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }
	payload, err := json.Marshal(claimsWith(nil))
	if err != nil {
		t.Fatal(err)
	}
	pub, err := x509.MarshalPKIXPublicKey(ours.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	withKey, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: other.key}, &jose.SignerOptions{EmbedJWK: true})
	if err != nil {
		t.Fatal(err)
	}
	embedded, err := withKey.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	embeddedToken, err := embedded.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	parts := slices.Clone([]byte(good))
	parts[len(parts)-10] ^= 1
	for name, token := range map[string]string{
		"none":             b64(`{"alg":"none"}`) + "." + b64(string(payload)) + ".",
		"none, signed":     b64(`{"alg":"none"}`) + good[len(b64(`{"alg":"RS256","kid":"k1"}`)):],
		"public as secret": signWith(t, jose.SigningKey{Algorithm: jose.HS256, Key: jose.JSONWebKey{Key: pub, KeyID: "k1"}}, claimsWith(nil)),
		"another's key":    other.sign(t, claimsWith(nil)),
		"brought along":    embeddedToken,
		"changed":          string(parts),
		"other algorithm":  signWith(t, jose.SigningKey{Algorithm: jose.RS512, Key: jose.JSONWebKey{Key: ours.key, KeyID: "k1"}}, claimsWith(nil)),
		"other id":         signWith(t, jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: ours.key, KeyID: "k2"}}, claimsWith(nil)),
		"no token":         "x",
		"empty":            "",
	} {
		if _, err := j.Check(bearer(token), now); !errors.Is(err, ErrDenied) {
			t.Errorf("%s: got %v; want it denied", name, err)
		}
	}
	noID := signWith(t, jose.SigningKey{Algorithm: jose.RS256, Key: ours.key}, claimsWith(nil))
	if _, err := j.Check(bearer(noID), now); err != nil {
		t.Errorf("without a key id: got %v; want it taken", err)
	}
	if got := string(j.Challenge(bearer("x"))); got != `Bearer realm="restricted", error="invalid_token"` {
		t.Errorf("got challenge %q", got)
	}
	if got := string(j.Challenge(&exchange.Request{})); got != `Bearer realm="restricted"` {
		t.Errorf("got challenge %q without a token", got)
	}
}

func TestJWTClaimHeaders(t *testing.T) {
	signer := newIssuer(t, "k1", jose.EdDSA)
	j := newJWT(t, keysFile(t, signer.public()), func(c *JWTConfig) {
		c.UserClaim = "email"
		c.ClaimHeaders = []ClaimHeader{{"roles", "X-Roles"}, {"n", "X-N"}, {"gone", "X-Gone"}, {"evil", "X-Evil"}, {"big", "X-Big"}}
	})
	got, err := j.Check(bearer(signer.sign(t, claimsWith(func(c map[string]any) {
		c["email"], c["roles"], c["n"], c["evil"] = "ann@example", []any{"a", "b", 3}, true, "x\r\nX-Admin: 1"
		c["big"] = json.RawMessage("12345678901234567890")
	}))), now)
	want := []string{"X-Roles: a,b,3", "X-N: true", "X-Evil: xX-Admin: 1", "X-Big: 12345678901234567890"}
	if err != nil || got.User != "ann@example" || !slices.Equal(lines(got.Headers), want) {
		t.Errorf("got %q, %q, %v; want %q", got.User, lines(got.Headers), err, want)
	}
}

func TestParseKeys(t *testing.T) {
	good := newIssuer(t, "k1", jose.ES256)
	private := jose.JSONWebKey{Key: good.key, KeyID: "p"}
	secret := jose.JSONWebKey{Key: []byte("0123456789abcdef0123456789abcdef"), KeyID: "s"}
	forEncryption := good.public()
	forEncryption.Use = "enc"
	text := keySet(t, private, secret, forEncryption, good.public())
	text = append([]byte(`{"keys":[{"kty":"new","x":"y"},`), text[len(`{"keys":[`):]...)
	keys, err := parseKeys(text)
	if err != nil || len(keys) != 1 || keys[0].KeyID != "k1" {
		t.Errorf("got %d keys, %v; want k1 alone", len(keys), err)
	}
	for _, text := range []string{"", "[]", "{}", `{"keys":[]}`, string(keySet(t, secret, private, forEncryption))} {
		if _, err := parseKeys([]byte(text)); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}

func TestJWTValidate(t *testing.T) {
	file := keysFile(t, newIssuer(t, "k1", jose.EdDSA).public())
	for name, change := range map[string]func(*JWTConfig){
		"none":         func(c *JWTConfig) { c.Algorithms = []string{"none"} },
		"HS256":        func(c *JWTConfig) { c.Algorithms = []string{"HS256"} },
		"no algorithm": func(c *JWTConfig) { c.Algorithms = nil },
		"no issuer":    func(c *JWTConfig) { c.Issuer = "" },
		"both":         func(c *JWTConfig) { c.Keys.URL = "https://a/b" },
		"neither":      func(c *JWTConfig) { c.JWKSFile = "" },
		"url":          func(c *JWTConfig) { c.JWKSFile, c.Keys.URL = "", "ftp://a" },
		"leeway":       func(c *JWTConfig) { c.Leeway = time.Hour },
		"refresh":      func(c *JWTConfig) { c.Keys.Refresh = 0 },
		"timeout":      func(c *JWTConfig) { c.Keys.Timeout = 0 },
		"header":       func(c *JWTConfig) { c.ClaimHeaders = []ClaimHeader{{"a", "b c"}} },
		"claim":        func(c *JWTConfig) { c.ClaimHeaders = []ClaimHeader{{"", "X-A"}} },
		"realm":        func(c *JWTConfig) { c.Realm = `"` },
	} {
		var cfg JWTConfig
		cfg.Keys.SetDefaults()
		cfg.SetDefaults()
		cfg.JWKSFile, cfg.Issuer = file, "i"
		if err := cfg.Validate(); err != nil {
			t.Fatal(err)
		}
		change(&cfg)
		if cfg.Validate() == nil {
			t.Errorf("%s: taken", name)
		}
	}
}
