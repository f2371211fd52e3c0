package transport

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"drover/backend"
)

// authority is a certificate authority of the test's own.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string // PEM
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{}
	a.cert, a.key = sign(t, nil, &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	a.file = filepath.Join(t.TempDir(), "ca.pem")
	writePEM(t, a.file, "CERTIFICATE", a.cert.Raw)
	return a
}

func sign(t *testing.T, by *authority, template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.Subject = pkix.Name{CommonName: "drover test"}
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := template, key
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

func (a *authority) pair(t *testing.T, names ...string) tls.Certificate {
	t.Helper()
	template := &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	cert, key := sign(t, a, template)
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}
}

func writePEM(t *testing.T, path, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// writePair makes files of a pair, for the settings to name.
func writePair(t *testing.T, cfg *TLSConfig, dir string, pair tls.Certificate) {
	t.Helper()
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	cfg.CertFile, cfg.KeyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writePEM(t, cfg.CertFile, "CERTIFICATE", pair.Certificate[0])
	writePEM(t, cfg.KeyFile, "PRIVATE KEY", key)
}

// corked holds a server's bytes back until they are let go.
type corked struct {
	net.Conn
	mu   sync.Mutex
	on   bool
	held []byte
}

func (c *corked) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.on {
		c.held = append(c.held, p...)
		return len(p), nil
	}
	return c.Conn.Write(p)
}

func (c *corked) cork() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.on = true
}

// letGo sends n of the bytes that are held in one piece, all of them for n < 0.
func (c *corked) letGo(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n < 0 {
		n = len(c.held)
	}
	_, _ = c.Conn.Write(c.held[:n])
	c.held = c.held[n:]
}

// scriptTLS is script over TLS, for pools that are sure of it.
func scriptTLS(t *testing.T, play func(n int, p *peer, wire *corked)) backend.ID {
	t.Helper()
	pair := newAuthority(t).pair(t, "127.0.0.1")
	id := script(t, func(n int, p *peer) {
		wire := &corked{Conn: p.Conn}
		secured := tls.Server(wire, &tls.Config{Certificates: []tls.Certificate{pair}})
		if secured.Handshake() == nil {
			play(n, &peer{secured, bufio.NewReader(secured)}, wire)
		}
	})
	id.Scheme = "https"
	return id
}

func sure(c *Config) { c.TLS.InsecureSkipVerify = true }

// secure starts an https server that tells the name that it was asked for and whether
// it was shown a certificate.
func secure(t *testing.T, pair tls.Certificate, change func(*tls.Config)) backend.ID {
	t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte(r.TLS.ServerName + strings.Repeat(" with certificate", len(r.TLS.PeerCertificates))))
	}))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	if change != nil {
		change(server.TLS)
	}
	server.Config.ErrorLog = nil
	server.StartTLS()
	t.Cleanup(server.Close)
	id := idOf(t, server.Listener.Addr().String())
	id.Scheme = "https"
	return id
}

// TestTLS: a server's certificate is verified unless the operator says otherwise.
func TestTLS(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	byAddress := secure(t, ours.pair(t, "127.0.0.1"), nil)
	byName := secure(t, ours.pair(t, "app.example"), nil)
	with := func(change func(*TLSConfig)) func(*Config) { return func(c *Config) { change(&c.TLS) } }
	for _, c := range []struct {
		name string
		id   backend.ID
		tls  func(*TLSConfig)
		body string
		err  string
	}{
		{"our authority", byAddress, func(c *TLSConfig) { c.CAFile = ours.file }, "", ""},
		{"the system's", byAddress, func(*TLSConfig) {}, "", "unknown authority"},
		{"another", byAddress, func(c *TLSConfig) { c.CAFile = theirs.file }, "", "unknown authority"},
		{"another name", byName, func(c *TLSConfig) { c.CAFile = ours.file }, "", "127.0.0.1"},
		{"the name that is given", byName, func(c *TLSConfig) { c.CAFile, c.ServerName = ours.file, "app.example" }, "app.example", ""},
		{"not verified", byName, func(c *TLSConfig) { c.InsecureSkipVerify = true }, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			pool := newPool(t, c.id, with(c.tls))
			r := run(pool, get("GET"))
			if c.err != "" {
				wantFailure(t, r.err, backend.FailureConnect, false)
				if !strings.Contains(r.err.Error(), c.err) {
					t.Errorf("error %v; want %q in it", r.err, c.err)
				}
				return
			}
			if r.err != nil || r.body != c.body {
				t.Fatalf("got %+v; want %q", r, c.body)
			}
			if r = run(pool, get("GET")); r.err != nil || pool.Stats().Reused != 1 {
				t.Errorf("again: %+v, %+v; want the same connection", r, pool.Stats())
			}
		})
	}
}

// TestTLSClientCertificate: a server that asks for one gets ours.
func TestTLSClientCertificate(t *testing.T) {
	ca := newAuthority(t)
	id := secure(t, ca.pair(t, "127.0.0.1"), func(c *tls.Config) {
		c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
		c.ClientCAs.AddCert(ca.cert)
	})
	pair := ca.pair(t, "drover")
	cfg := TLSConfig{CAFile: ca.file}
	writePair(t, &cfg, t.TempDir(), pair)
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	if r := run(newPool(t, id, func(c *Config) { c.TLS = cfg }), get("GET")); r.err != nil || r.body != " with certificate" {
		t.Errorf("got %+v; want our certificate seen", r)
	}
	if r := run(newPool(t, id, func(c *Config) { c.TLS.CAFile = ca.file }), get("GET")); r.err == nil {
		t.Errorf("without a certificate: %+v; want it refused", r)
	}
}

// TestTLSFiles: files that cannot be used are told by their key.
func TestTLSFiles(t *testing.T) {
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		cfg  TLSConfig
		want string
	}{
		"no such file":     {TLSConfig{CAFile: filepath.Join(dir, "none")}, "ca_file: cannot read"},
		"no certificate":   {TLSConfig{CAFile: empty}, "ca_file: cannot use"},
		"half a pair":      {TLSConfig{CertFile: empty}, "cert_file: got only one"},
		"not a pair":       {TLSConfig{CertFile: empty, KeyFile: empty}, "cert_file: cannot load"},
		"the other's half": {TLSConfig{KeyFile: empty}, "cert_file: got only one"},
	} {
		if err := c.cfg.Validate(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %q in it", name, err, c.want)
		}
	}
	var cfg Config
	cfg.SetDefaults()
	cfg.TLS.CAFile = filepath.Join(dir, "none")
	if _, err := NewPool(backend.ID{Scheme: "https", Host: "h", Port: 1}, &cfg); err == nil {
		t.Error("a pool is made without the authorities that it was given")
	}
}

// TestSetConfigTLS: connections outlive every change but one of what TLS is made from.
func TestSetConfigTLS(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	pair := ours.pair(t, "127.0.0.1", "app.example")
	servers := map[Protocol]backend.ID{
		ProtocolH1: secure(t, pair, nil),
		ProtocolH2: secure(t, pair, func(c *tls.Config) { c.NextProtos = []string{"h2"} }),
	}
	read := func(path string) []byte {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	write := func(path string, parts ...[]byte) {
		if err := os.WriteFile(path, bytes.Join(parts, nil), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f := func(name string, kept bool, change func(c *Config, dir string)) {
		for protocol, id := range servers {
			t.Run(string(protocol)+" "+name, func(t *testing.T) {
				dir := t.TempDir()
				var cfg Config
				cfg.SetDefaults()
				cfg.Protocol, cfg.TLS.CAFile = protocol, filepath.Join(dir, "ca.pem")
				write(cfg.TLS.CAFile, read(ours.file))
				writePair(t, &cfg.TLS, dir, ours.pair(t, "drover"))
				pool := newPool(t, id, func(c *Config) { *c = cfg })
				if r := run(pool, get("GET")); r.err != nil {
					t.Fatal(r.err)
				}
				change(&cfg, dir)
				if err := pool.SetConfig(&cfg); err != nil {
					t.Fatal(err)
				}
				if r := run(pool, get("GET")); r.err != nil {
					t.Fatal(r.err)
				}
				if dials := pool.Stats().Dials; (dials == 1) != kept {
					t.Errorf("%d connections; want the first kept: %v", dials, kept)
				}
			})
		}
	}
	f("nothing", true, func(*Config, string) {})
	f("a time-out", true, func(c *Config, _ string) { c.ResponseHeaderTimeout++ })
	f("a file's place", true, func(c *Config, dir string) {
		c.TLS.CAFile = filepath.Join(dir, "other.pem")
		write(c.TLS.CAFile, read(ours.file))
	})
	f("a name that was meant", true, func(c *Config, _ string) { c.TLS.ServerName = "127.0.0.1" })
	f("the name", false, func(c *Config, _ string) { c.TLS.ServerName = "app.example" })
	f("verification", false, func(c *Config, _ string) { c.TLS.InsecureSkipVerify = true })
	f("the authorities", false, func(c *Config, _ string) { write(c.TLS.CAFile, read(ours.file), read(theirs.file)) })
	f("no authorities", false, func(c *Config, _ string) { c.TLS.CAFile, c.TLS.InsecureSkipVerify = "", true })
	f("the certificate", false, func(c *Config, dir string) { writePair(t, &c.TLS, dir, ours.pair(t, "drover")) })
	f("no certificate", false, func(c *Config, _ string) { c.TLS.CertFile, c.TLS.KeyFile = "", "" })
}
