package healthcheck

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"drover/backend"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// authority is a certificate authority with one server certificate for 127.0.0.1.
type authority struct {
	file   string // its certificate, PEM
	server tls.Certificate
	pool   *x509.CertPool
}

func newAuthority(t *testing.T, names ...string) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "drover test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		IsCA:        true, BasicConstraintsValid: true, DNSNames: names,
	}
	if len(names) == 0 {
		template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{file: filepath.Join(t.TempDir(), "ca.pem"), pool: x509.NewCertPool()}
	a.pool.AddCert(leaf)
	a.server = tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
	if err := os.WriteFile(a.file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return a
}

// keyFile writes the certificate's key.
func (a *authority) keyFile(t *testing.T) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(a.server.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func serverID(t *testing.T, scheme, address string) backend.ID {
	t.Helper()
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		t.Fatal(err)
	}
	return backend.ID{Scheme: scheme, Host: at.Addr().String(), Port: at.Port()}
}

// listen serves each connection on a goroutine that is joined at the end.
func listen(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	conns := make(chan struct{}, 100)
	running := 0
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				for ; running > 0; running-- {
					<-conns
				}
				return
			}
			running++
			go func() {
				defer func() { conns <- struct{}{} }()
				defer c.Close()
				serve(c)
			}()
		}
	}()
	t.Cleanup(func() {
		ln.Close()
		<-done
	})
	return ln.Addr().String()
}

// closedPort is an address where nothing listens.
func closedPort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// withDefaults is a configuration with a few settings changed, which must be valid.
func withDefaults(t *testing.T, change func(*CheckConfig)) *CheckConfig {
	t.Helper()
	c := &CheckConfig{}
	c.SetDefaults()
	change(c)
	if err := c.Validate(); err != nil {
		t.Fatalf("got an invalid configuration: %v", err)
	}
	return c
}

// probe runs one check and gives its error's text, "" when it passed.
func probe(t *testing.T, cfg *CheckConfig, id backend.ID) string {
	t.Helper()
	c, err := newChecker(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), cfg.Timeout)
	defer cancel()
	if err := c.check(ctx, id); err != nil {
		return err.Error()
	}
	return ""
}

// wantText wants a text that contains another; "" wants "".
func wantText(t *testing.T, got, want string) {
	t.Helper()
	if want == "" && got != "" || !strings.Contains(got, want) {
		t.Errorf("got %q; want %q", got, want)
	}
}
