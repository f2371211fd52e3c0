package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"golang.org/x/crypto/bcrypt"
)

func writeUser(t *testing.T, path, name, password string) {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, fmt.Appendf(nil, "%s:%s\n", name, hash), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestUsersFileChanges has a users file that changes, and one that is no good.
func TestUsersFileChanges(t *testing.T) {
	p := startPeer(t, "a")
	users := filepath.Join(t.TempDir(), "users")
	writeUser(t, users, "ann", "secret")
	n := startNode(t, fmt.Sprintf(`listeners: [ { name: web, address: "LISTEN" } ]
upstreams: [ { name: app, servers: [ { address: %q } ] } ]
routes: [ { upstream: app, basic_auth: { users_file: %q } } ]
`, p.address, users))
	c := client(t, true)
	status := func(name string) int {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+n.listen+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.SetBasicAuth(name, "secret")
		resp, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		return resp.StatusCode
	}
	if a, b := status("ann"), status("bob"); a != 200 || b != 401 {
		t.Errorf("got %d for ann and %d for bob; want 200 and 401", a, b)
	}
	writeUser(t, users, "bob", "secret")
	n.mustReload(t)
	if a, b := status("ann"), status("bob"); a != 401 || b != 200 {
		t.Errorf("after a change: got %d for ann and %d for bob; want 401 and 200", a, b)
	}
	if err := os.WriteFile(users, []byte("bob:secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := n.reloadFile(t.Context())
	if err == nil || !strings.Contains(err.Error(), "basic_auth.users_file") || !strings.Contains(err.Error(), "drover.yaml:") || strings.Contains(err.Error(), "secret") {
		t.Errorf("a password without a hash: %v; want where and what, and not the password", err)
	}
	if b := status("bob"); b != 200 {
		t.Errorf("after a refused reload: got %d for bob; want 200", b)
	}
}

// TestTokenKeys fetches keys from an issuer. A reload that leaves them alone does not
// fetch them again, and keeps letting the tokens in while the issuer is away.
func TestTokenKeys(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	var fetches atomic.Int64
	issuer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fetches.Add(1)
		_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k"}}})
	}))
	defer issuer.Close()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: "k"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := signer.Sign(fmt.Appendf(nil, `{"iss":"me","sub":"ann","exp":%d}`, time.Now().Add(time.Hour).Unix()))
	if err != nil {
		t.Fatal(err)
	}
	token, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	p := startPeer(t, "a")
	yaml := fmt.Sprintf(`listeners: [ { name: web, address: "LISTEN" } ]
upstreams: [ { name: app, servers: [ { address: %q } ] } ]
routes:
  - { path: /a, upstream: app, jwt: { jwks_url: %q, issuer: me } }
  - { path: /b, upstream: app, jwt: { jwks_url: %q, issuer: other } }
`, p.address, issuer.URL, issuer.URL)
	n := startNode(t, yaml)
	c := client(t, true)
	status := func(path, token string) int {
		t.Helper()
		resp, _ := fetch(t, c, "GET", "http://"+n.listen+path, "", "Authorization", "Bearer "+token)
		return resp.StatusCode
	}
	if a, b, x := status("/a", token), status("/b", token), status("/a", token+"x"); a != 200 || b != 401 || x != 401 {
		t.Errorf("got %d, %d and %d; want 200, 401 for another issuer and 401 for a bad token", a, b, x)
	}
	before := fetches.Load()
	issuer.Close()
	n.write(t, yaml+"  - { path: /c, upstream: app }\n")
	n.mustReload(t)
	if a := status("/a", token); a != 200 || fetches.Load() != before {
		t.Errorf("after a reload: got %d and %d more fetches; want 200 and none", a, fetches.Load()-before)
	}
	n.write(t, strings.ReplaceAll(yaml, issuer.URL, "http://127.0.0.1:1/keys"))
	n.mustReload(t)
	if len(n.keySets) != 1 {
		t.Errorf("got %d key sets; want 1", len(n.keySets))
	}
	if a := status("/a", token); a != 503 {
		t.Errorf("without any keys: got %d; want 503", a)
	}
}
