package front

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"drover/exchange"
)

// authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	a := &authority{file: t.TempDir() + "/ca.pem"}
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &a.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	writeFile(t, a.file, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	return a
}

// sign makes a certificate for clients and servers.
func (a *authority) sign(t *testing.T, template *x509.Certificate) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	if template.SerialNumber == nil {
		template.SerialNumber = big.NewInt(8)
	}
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func (a *authority) client(t *testing.T, names ...string) *tls.Certificate {
	t.Helper()
	c := a.sign(t, &x509.Certificate{DNSNames: names})
	return &c
}

func withClients(cert Certificate, auth *ClientAuthConfig) func(*Config) {
	return func(c *Config) {
		withTLS("1.2", cert)(c)
		c.TLS.ClientAuth = auth
	}
}

// visit connects, asks once, and reads to the end, so that a ticket is taken. The error
// is TLS's, which in TLS 1.3 comes with the first read.
func (tf *testFront) visit(t *testing.T, cfg *tls.Config, client *tls.Certificate) (resumed bool, err error) {
	t.Helper()
	cfg = cfg.Clone()
	if client != nil {
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return client, nil }
	}
	if cfg.ServerName == "" {
		cfg.ServerName = "a.test"
	}
	c, err := tf.dialTLS(t, cfg)
	if err != nil {
		return false, err
	}
	defer c.Close()
	if _, err = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n"); err != nil {
		return false, err
	}
	b, err := io.ReadAll(c.r)
	if err != nil {
		return false, err
	}
	if !strings.HasPrefix(string(b), "HTTP/1.1 200 ") {
		t.Errorf("got %q", b)
	}
	return c.Conn.(*tls.Conn).ConnectionState().DidResume, nil
}

func TestClientAuth(t *testing.T) {
	ca, other := newAuthority(t, "ours"), newAuthority(t, "another")
	site := writeCert(t, "a.test")
	mail, err := url.Parse("spiffe://td/ns/One")
	if err != nil {
		t.Fatal(err)
	}
	byURI := ca.sign(t, &x509.Certificate{URIs: []*url.URL{mail}})
	byMail := ca.sign(t, &x509.Certificate{EmailAddresses: []string{"joe@example.com"}})
	byCN := ca.sign(t, &x509.Certificate{Subject: pkix.Name{CommonName: "Worker"}})
	f := func(auth ClientAuthConfig, client *tls.Certificate, want string) {
		t.Helper()
		auth.CAFile = ca.file
		tf := serveTest(t, withClients(site, &auth), reply("ok"))
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			_, err := tf.visit(t, &tls.Config{MaxVersion: version}, client)
			if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
				t.Errorf("got %v; want %q", err, want)
			}
		}
		rejects := "495 CF, 495 CF"
		if want == "" {
			rejects = ""
		}
		tf.waitOpen(t, 0) // the alert goes out before the report.
		if got := tf.rejected(); got != rejects {
			t.Errorf("reported %q; want %q", got, rejects)
		}
	}
	must := func(names ...string) ClientAuthConfig {
		return ClientAuthConfig{Required: true, AllowedNames: names}
	}
	f(must(), ca.client(t, "x"), "")
	f(must(), &tls.Certificate{}, "remote error: tls: ")
	f(must(), other.client(t, "x"), "unknown certificate authority")
	f(ClientAuthConfig{}, &tls.Certificate{}, "")
	f(ClientAuthConfig{}, other.client(t, "x"), "unknown certificate authority")
	f(ClientAuthConfig{AllowedNames: []string{"y"}}, &tls.Certificate{}, "")
	f(ClientAuthConfig{AllowedNames: []string{"y"}}, ca.client(t, "x"), "bad certificate")
	f(must("a", "x.test"), ca.client(t, "z.test", "X.test"), "")
	f(must("x.test"), ca.client(t, "y.x.test", "xx.test"), "bad certificate")
	f(must("*.x.test"), ca.client(t, "y.x.test"), "")
	f(must("*.x.test"), ca.client(t, "x.test", "y.z.x.test"), "bad certificate")
	f(must("spiffe://td/ns/One"), &byURI, "")
	f(must("spiffe://td/ns/one", "*.td/ns/One"), &byURI, "bad certificate")
	f(must("joe@example.com"), &byMail, "")
	f(must("*.com"), &byMail, "bad certificate")
	f(must("worker"), &byCN, "")
}

// TestTicketsOpenNothingElse: a session begun on other terms must not get a client in
// (CVE-2025-23419), neither beside client_auth nor after it has changed.
func TestTicketsOpenNothingElse(t *testing.T) {
	ca, other := newAuthority(t, "ours"), newAuthority(t, "another")
	site, keys := writeCert(t, "a.test"), t.TempDir()+"/keys"
	listener := func(auth *ClientAuthConfig) *testFront {
		return serveTest(t, func(c *Config) {
			withClients(site, auth)(c)
			c.TLS.SessionTickets.File = keys
		}, reply("ok"))
	}
	plain := listener(nil)
	strict := listener(&ClientAuthConfig{CAFile: ca.file, Required: true, AllowedNames: []string{"x"}})
	optional := listener(&ClientAuthConfig{CAFile: ca.file})
	twin := listener(&ClientAuthConfig{CAFile: ca.file, Required: true, AllowedNames: []string{"x", "x"}})
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		cfg := &tls.Config{ClientSessionCache: tls.NewLRUClientSessionCache(8), MaxVersion: version}
		f := func(tf *testFront, client *tls.Certificate, resumed bool, refused string) {
			t.Helper()
			got, err := tf.visit(t, cfg, client)
			if refused == "" && err != nil || refused != "" && (err == nil || !strings.Contains(err.Error(), refused)) {
				t.Errorf("got %v; want %q", err, refused)
			}
			if got != resumed {
				t.Errorf("resumed is %v; want %v", got, resumed)
			}
		}
		none, x := &tls.Certificate{}, ca.client(t, "x")
		f(plain, none, false, "")
		f(plain, none, true, "")
		f(strict, none, false, "remote error: tls: ")
		f(optional, none, false, "")
		f(strict, none, false, "remote error: tls: ")
		f(strict, x, false, "")
		f(strict, x, true, "")
		f(twin, x, true, "")
		f(plain, x, false, "")
	}

	reload := func(tf *testFront, change func(*ClientAuthConfig)) {
		t.Helper()
		change(tf.cfg.TLS.ClientAuth)
		next, err := LoadTLS(tf.cfg.TLS)
		if err != nil {
			t.Fatal(err)
		}
		tf.SetTLS(next)
	}
	cfg := &tls.Config{ClientSessionCache: tls.NewLRUClientSessionCache(8)}
	x := ca.client(t, "x")
	for range 2 {
		if _, err := strict.visit(t, cfg, x); err != nil {
			t.Fatal(err)
		}
	}
	reload(strict, func(a *ClientAuthConfig) { a.AllowedNames = []string{"y"} })
	if _, err := strict.visit(t, cfg, x); err == nil {
		t.Error("a name that is allowed no more came in by a session")
	}
	reload(strict, func(a *ClientAuthConfig) { a.AllowedNames, a.CAFile = nil, other.file })
	if _, err := strict.visit(t, cfg, x); err == nil {
		t.Error("a client of an authority that counts no more came in by a session")
	}
}

// TestVerifiedOnResumption: the terms are looked at in each handshake, even if keys of
// tickets were shared.
func TestVerifiedOnResumption(t *testing.T) {
	ca := newAuthority(t, "ours")
	tf := serveTest(t, withClients(writeCert(t, "a.test"), &ClientAuthConfig{CAFile: ca.file, Required: true, AllowedNames: []string{"x"}}), reply("ok"))
	cfg, x := &tls.Config{ClientSessionCache: tls.NewLRUClientSessionCache(8)}, ca.client(t, "x")
	for _, want := range []bool{false, true} {
		if resumed, err := tf.visit(t, cfg, x); err != nil || resumed != want {
			t.Fatalf("resumed is %v, %v; want %v", resumed, err, want)
		}
	}
	tf.cfg.TLS.ClientAuth.AllowedNames = []string{"y"}
	next, err := LoadTLS(tf.cfg.TLS)
	if err != nil {
		t.Fatal(err)
	}
	next.tickets.context = tf.Front.tls.Load().tickets.context
	tf.SetTLS(next)
	if _, err := tf.visit(t, cfg, x); err == nil {
		t.Error("a session resumed without a look at its name")
	}
}

func TestMisdirected(t *testing.T) {
	ca := newAuthority(t, "ours")
	strict := serveTest(t, withClients(writeCert(t, "a.test", "*.b.test"), &ClientAuthConfig{CAFile: ca.file}), reply("ok"))
	open := serveTest(t, withTLS("1.2", writeCert(t, "a.test")), reply("ok"))
	f := func(tf *testFront, sni, host string, want int) {
		t.Helper()
		c, err := tf.dialTLS(t, &tls.Config{ServerName: sni})
		if err != nil {
			t.Fatal(err)
		}
		if got := c.send("GET / HTTP/1.1\r\nHost: " + host + "\r\n\r\n").head(); !strings.HasPrefix(got, fmt.Sprintf("HTTP/1.1 %d ", want)) {
			t.Errorf("%q for %q: got %q; want %d", sni, host, got, want)
		}
		client := h2Client(t, true)
		client.Transport.(*http.Transport).TLSClientConfig.ServerName = sni
		if sni == "" {
			return
		}
		req, err := http.NewRequest(http.MethodGet, "https://"+tf.addr, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != want || resp.ProtoMajor != 2 {
			t.Errorf("%q for %q: got HTTP/%d, %d; want %d", sni, host, resp.ProtoMajor, resp.StatusCode, want)
		}
	}
	f(strict, "a.test", "A.test:8443", 200)
	f(strict, "a.test", "x.b.test", 200)
	f(strict, "unknown.test", "unknown.test.", 200)
	f(strict, "a.test", "c.test", 421)
	f(strict, "unknown.test", "c.test", 421)
	f(strict, "", "c.test", 200)
	f(open, "a.test", "c.test", 200)
}

func TestHSTS(t *testing.T) {
	tf := serveTest(t, func(c *Config) {
		withTLS("1.2", writeCert(t, "a.test"))(c)
		c.TLS.HSTS = &HSTSConfig{MaxAge: year, IncludeSubdomains: true, Preload: true}
	}, func(ex *exchange.Exchange) {
		r := &exchange.Response{Status: 200, ContentLength: 0}
		if string(ex.Request.Target) == "/own" {
			r.Header.Add("strict-Transport-security", "max-age=5")
			r.Header.Add("Strict-Transport-Security", "max-age=6")
		}
		_ = ex.Client.Inform(&exchange.Response{Status: 103})
		_ = ex.Client.Start(r)
	})
	const ours = "max-age=31536000; includeSubDomains; preload"
	f := func(target, version string, want string) {
		t.Helper()
		c := tf.mustDialTLS(t).send("GET " + target + " HTTP/1.1\r\nHost: a\r\n" + version + "\r\n")
		got := c.head()
		if strings.HasPrefix(got, "HTTP/1.1 103") {
			if strings.Contains(got, "max-age") {
				t.Errorf("got %q", got)
			}
			got = c.head()
		}
		if strings.Count(got, "max-age") != 1 || !strings.Contains(got+" |", "ecurity: "+want+" |") {
			t.Errorf("got %q; want %q once", got, want)
		}
	}
	f("/", "", ours)
	f("/own", "", "max-age=5")
	f("/", "Host: b\r\n", ours) // 400, the front's own
	client := h2Client(t, true)
	for target, want := range map[string]string{"/": ours, "/own": "max-age=5"} {
		resp, err := client.Get("https://" + tf.addr + target)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if got := strings.Join(resp.Header.Values("Strict-Transport-Security"), " and "); got != want {
			t.Errorf("got %q; want %q", got, want)
		}
	}
}
