package proxy

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"drover/exchange"
	"drover/proxy/access"
	"drover/transport"

	"github.com/go-jose/go-jose/v4"
	"golang.org/x/crypto/bcrypt"
)

// recording is a server that tells each request it gets, and answers by path: a raw
// answer of answers, or ok200. The answer "" is the end of the connection.
func recording(answers map[string]string, seen chan<- *http.Request) script {
	return func(c net.Conn, r *bufio.Reader) {
		for {
			req, _, err := readRequest(r)
			if err != nil {
				return
			}
			seen <- req
			answer, ok := answers[req.URL.Path]
			if !ok {
				answer = ok200
			}
			if _, err := io.WriteString(c, answer); err != nil || answer == "" || strings.Contains(answer, "Connection: close") {
				return
			}
		}
	}
}

func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestBasicAuthOfRoute(t *testing.T) {
	hash, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	users := file(t, "ann:"+string(hash)+"\n")
	for _, forward := range []bool{false, true} {
		seen := make(chan *http.Request, 10)
		b := startBed(t, setup{servers: []string{startServer(t, recording(nil, seen))}, route: func(r *RouteConfig) {
			r.Access.BasicAuth = &access.BasicConfig{UsersFile: users, Realm: "here", Forward: forward}
			r.RequestHeaders.Set = []HeaderValue{{Name: "X-Who", Value: "<{user}>"}}
		}})
		for _, lines := range [][]string{nil, {"Authorization: Basic YW5uOndyb25n"}} {
			got, result := b.fetch(t, with(lines...))
			if got.status != 401 || result.Reason != exchange.ReasonUnauthorized || result.Attempts != 0 || result.User != "" ||
				got.get("Www-Authenticate") != `Basic realm="here", charset="UTF-8"` {
				t.Errorf("%q: got %+v, %+v; want 401", lines, got, result)
			}
		}
		got, result := b.fetch(t, with("Authorization: Basic YW5uOnNlY3JldA==", "X-Forwarded-User: root", "X_Forwarded-User: root"))
		if got.status != 200 || result.User != "ann" {
			t.Fatalf("got %+v, %+v; want 200 for ann", got, result)
		}
		req := receive(t, seen, "the request")
		if got := req.Header["X-Forwarded-User"]; fmt.Sprint(got) != "[ann]" || req.Header.Get("X-Who") != "<ann>" || req.Header.Get("X_Forwarded-User") != "" {
			t.Errorf("the server got user %q in %v", got, req.Header)
		}
		if got := req.Header.Get("Authorization") != ""; got != forward {
			t.Errorf("forward %v: the server sees the password: %v", forward, got)
		}
	}
}

// signedBy makes a token and the file with its key.
func signedBy(t *testing.T, claims map[string]any) (token, keys string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, nil)
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
	if token, err = signed.CompactSerialize(); err != nil {
		t.Fatal(err)
	}
	set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public()}}})
	if err != nil {
		t.Fatal(err)
	}
	return token, file(t, string(set))
}

func TestJWTOfRoute(t *testing.T) {
	token, keys := signedBy(t, map[string]any{"iss": "i", "sub": "ann", "exp": time.Now().Add(time.Hour).Unix(), "role": "admin"})
	for _, forward := range []bool{false, true} {
		seen := make(chan *http.Request, 10)
		b := startBed(t, setup{servers: []string{startServer(t, recording(nil, seen))}, route: func(r *RouteConfig) {
			cfg := &access.JWTConfig{}
			cfg.SetDefaults()
			cfg.Keys.SetDefaults()
			cfg.JWKSFile, cfg.Issuer, cfg.Forward = keys, "i", forward
			cfg.ClaimHeaders = []access.ClaimHeader{{Claim: "role", Header: "X-Role"}, {Claim: "team", Header: "X-Team"}}
			r.Access.JWT = cfg
		}})
		got, result := b.fetch(t, with("Authorization: Bearer "+token[:len(token)-2]))
		if got.status != 401 || got.get("Www-Authenticate") != `Bearer realm="restricted", error="invalid_token"` || result.Attempts != 0 {
			t.Errorf("bad token: got %+v, %+v", got, result)
		}
		got, result = b.fetch(t, with("Authorization: Bearer "+token, "X-Role: root", "x_role: root", "X-Team: all", "X-Forwarded-User: root"))
		if got.status != 200 || result.User != "ann" {
			t.Fatalf("got %+v, %+v; want 200 for ann", got, result)
		}
		h := receive(t, seen, "the request").Header
		if fmt.Sprint(h["X-Role"], h["X_role"], h["X-Team"], h["X-Forwarded-User"]) != "[admin] [] [] [ann]" {
			t.Errorf("the server got %v", h)
		}
		if got := h.Get("Authorization") != ""; got != forward {
			t.Errorf("forward %v: the server sees the token: %v", forward, got)
		}
	}
}

func TestForwardAuth(t *testing.T) {
	for _, c := range []struct {
		name, answer string
		want         int
		reason       exchange.Reason
		body         string
	}{
		{"yes", "HTTP/1.1 200 OK\r\nX-Auth-User: ann\r\nx-forwarded-user: ann@login\r\nContent-Length: 3\r\n\r\nyes", 200, "", "ok"},
		{"yes without body", "HTTP/1.1 204 No Content\r\nX-Auth-User: ann\r\n\r\n", 200, "", "ok"},
		{"yes, chunked", "HTTP/1.1 200 OK\r\nX-Auth-User: ann\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nyes\r\n0\r\n\r\n", 200, "", "ok"},
		{"no", "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno", 403, exchange.ReasonAuthAnswer, "no"},
		{"who", "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic\r\nConnection: close\r\n\r\nwho?", 401, exchange.ReasonAuthAnswer, "who?"},
		{"login", "HTTP/1.1 302 Found\r\nLocation: /login\r\nSet-Cookie: a=b\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 302, exchange.ReasonAuthAnswer, ""},
		{"early hints", "HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\nHTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno", 403, exchange.ReasonAuthAnswer, "no"},
		{"broken", "HTTP/1.1 500 Oops\r\nContent-Length: 6\r\n\r\nsecret", 503, exchange.ReasonAuthFailed, "503 Service Unavailable\n"},
		{"nonsense", "no HTTP at all\r\n\r\n", 503, exchange.ReasonAuthFailed, "503 Service Unavailable\n"},
		{"nothing", "", 503, exchange.ReasonAuthFailed, "503 Service Unavailable\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			seen := make(chan *http.Request, 10)
			b := startBed(t, setup{
				servers: []string{startServer(t, recording(map[string]string{"/auth": c.answer}, seen))},
				route: func(r *RouteConfig) {
					auth := &ForwardAuthConfig{}
					auth.SetDefaults()
					auth.Upstream, auth.Path, auth.ResponseHeaders = "app", "/auth?x=1", []string{"X-Auth-User", "X-Forwarded-User"}
					r.Access.ForwardAuth = auth
				}})
			got, result := b.fetch(t, "POST /a/b?c=d HTTP/1.1\r\nHost: site.example\r\nCookie: s=1\r\nX-Auth-User: root\r\nx_auth_user: root\r\n"+
				"X-Secret: 1\r\nX-Forwarded-User: root\r\nX-Forwarded-Uri: /lie\r\nContent-Length: 4\r\n\r\nbody")
			if got.status != c.want || got.body != c.body || result.Reason != c.reason {
				t.Fatalf("got %+v, reason %q; want %d %q, reason %q", got, result.Reason, c.want, c.body, c.reason)
			}
			if c.want == 302 && (got.get("Location") != "/login" || got.get("Set-Cookie") != "a=b") {
				t.Errorf("got %v; want the service's fields", got.header)
			}
			asked := receive(t, seen, "the question")
			h := asked.Header
			if asked.Method != "GET" || asked.URL.String() != "/auth?x=1" || asked.ContentLength != 0 ||
				fmt.Sprint(h["X-Forwarded-Method"], h["X-Forwarded-Uri"], h["X-Forwarded-Host"], h["X-Forwarded-For"], h["X-Forwarded-Proto"], h["Cookie"], h["X-Secret"]) !=
					"[POST] [/a/b?c=d] [site.example] [127.0.0.1] [http] [s=1] []" {
				t.Errorf("the service was asked %s %s %v", asked.Method, asked.URL, h)
			}
			if c.want != 200 {
				return
			}
			req := receive(t, seen, "the request")
			if req.Method != "POST" || req.URL.Path != "/a/b" || fmt.Sprint(req.Header["X-Auth-User"], req.Header["X_auth_user"]) != "[ann] []" {
				t.Errorf("the server got %s %s %v", req.Method, req.URL, req.Header)
			}
			want := ""
			if c.name == "yes" {
				want = "ann@login"
			}
			if got := strings.Join(req.Header["X-Forwarded-User"], ","); got != want || result.User != want {
				t.Errorf("got user %q for the server and %q in the log; want %q", got, result.User, want)
			}
			if stats := pool(b.members[0]).Stats(); stats.Dials != 1 {
				t.Errorf("got %d connections; want one for both", stats.Dials)
			}
		})
	}
}

// TestForwardAuthFails has services that do not answer: nobody is let in.
func TestForwardAuthFails(t *testing.T) {
	stuck := func(c net.Conn, r *bufio.Reader) { _, _ = io.Copy(io.Discard, r) }
	for name, server := range map[string]string{"refusing": refusing(t), "stuck": startServer(t, stuck)} {
		b := startBed(t, setup{servers: []string{server}, route: func(r *RouteConfig) {
			auth := &ForwardAuthConfig{}
			auth.SetDefaults()
			auth.Upstream, auth.Timeout = "app", 50*time.Millisecond
			r.Access.ForwardAuth = auth
		}, transport: func(c *transport.Config) { c.ConnectTimeout = time.Second }})
		got, result := b.fetch(t, get("/"))
		if got.status != 503 || result.Reason != exchange.ReasonAuthFailed || result.Attempts != 0 {
			t.Errorf("%s: got %+v, %+v; want 503", name, got, result)
		}
		if n := b.members[0].InFlight(); n != 0 {
			t.Errorf("%s: %d requests are still counted", name, n)
		}
	}
}

func TestAccessValidate(t *testing.T) {
	auth := func(change func(*ForwardAuthConfig)) *ForwardAuthConfig {
		cfg := &ForwardAuthConfig{}
		cfg.SetDefaults()
		cfg.Upstream = "a"
		change(cfg)
		return cfg
	}
	for want, c := range map[string]AccessConfig{
		"allow[1]: ":                          {Allow: []string{"::1", "x"}},
		"deny[0]: ":                           {Deny: []string{"10.0.0.1/8"}},
		"cors.origins: ":                      {CORS: &access.CORSConfig{}},
		"basic_auth.users_file: ":             {BasicAuth: &access.BasicConfig{}},
		"jwt: got it beside":                  {BasicAuth: &access.BasicConfig{}, JWT: &access.JWTConfig{}},
		"jwt.claim_headers[0].header: ":       {JWT: &access.JWTConfig{ClaimHeaders: []access.ClaimHeader{{Claim: "a", Header: "X-Forwarded-For"}}}},
		"forward_auth.upstream: ":             {ForwardAuth: auth(func(c *ForwardAuthConfig) { c.Upstream = "" })},
		"forward_auth.path: ":                 {ForwardAuth: auth(func(c *ForwardAuthConfig) { c.Path = "a b" })},
		"forward_auth.timeout: ":              {ForwardAuth: auth(func(c *ForwardAuthConfig) { c.Timeout = 0 })},
		"forward_auth.request_headers[0]: ":   {ForwardAuth: auth(func(c *ForwardAuthConfig) { c.RequestHeaders = []string{"Connection"} })},
		"forward_auth.response_headers[0]: ":  {ForwardAuth: auth(func(c *ForwardAuthConfig) { c.ResponseHeaders = []string{"X-Forwarded-For"} })},
		"forward_auth.request_headers[1]: ":   {ForwardAuth: auth(func(c *ForwardAuthConfig) { c.RequestHeaders = []string{"Cookie", "X-Forwarded-For"} })},
		"forward_auth.response_headers[1]: g": {ForwardAuth: auth(func(c *ForwardAuthConfig) { c.ResponseHeaders = []string{"X-A", "a b"} })},
	} {
		err := c.Validate()
		if err == nil || !strings.Contains("\n"+err.Error(), "\n"+want) {
			t.Errorf("got %v; want a fault that begins with %q", err, want)
		}
	}
}
