package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// writePair writes a certificate of its own with a serial number, and its key.
func writePair(t *testing.T, dir string, serial int64) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), DNSNames: []string{"drover.test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{
		"site.pem": {Type: "CERTIFICATE", Bytes: der}, "site.key": {Type: "PRIVATE KEY", Bytes: private},
	} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// serialOf is the serial number of the certificate that a listener shows.
func serialOf(t *testing.T, address string) int64 {
	t.Helper()
	conn, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
}

// TestCertificateChanges: a certificate is renewed, a secret replaced, while WebSockets
// are open on every listener. New connections see the new one; the old go on, however
// short the drain. One that cannot be used leaves everything as it is.
func TestCertificateChanges(t *testing.T) {
	p := startPeer(t, "a")
	dir := t.TempDir()
	writePair(t, dir, 1)
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte(strings.Repeat("a", 32)), 0o600); err != nil {
		t.Fatal(err)
	}
	second := freeAddress(t)
	n := startNode(t, fmt.Sprintf(`drain_timeout: 1ms
listeners:
  - { name: web, address: "LISTEN" }
  - { name: secure, address: %q, tls: { certificates: [ { cert_file: %q, key_file: %q } ] } }
upstreams: [ { name: app, servers: [ { address: %q } ], sticky: { cookie: s, secret_file: %q } } ]
routes: [ { upstream: app } ]
`, second, filepath.Join(dir, "site.pem"), filepath.Join(dir, "site.key"), p.address, secret))

	plain, secure := openWebSockets(t, n.listen, nil), openWebSockets(t, second, &tls.Config{InsecureSkipVerify: true})
	echoes := func() { t.Helper(); plain(); secure() }
	echoes()

	writePair(t, dir, 2)
	n.mustReload(t)
	n.drains.Wait() // whatever was retired has ended
	if got := serialOf(t, second); got != 2 {
		t.Errorf("new connections see certificate %d; want 2", got)
	}
	echoes()

	if err := os.WriteFile(secret, []byte(strings.Repeat("b", 32)), 0o600); err != nil {
		t.Fatal(err)
	}
	n.mustReload(t)
	n.drains.Wait()
	echoes()

	if err := os.WriteFile(filepath.Join(dir, "site.pem"), []byte("rubbish"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := n.reloadFile(t.Context()); err == nil || !strings.Contains(err.Error(), "cert_file") || !strings.Contains(err.Error(), "drover.yaml:") {
		t.Errorf("a certificate that is none: %v; want where and what", err)
	}
	n.drains.Wait()
	if got := serialOf(t, second); got != 2 {
		t.Errorf("after a refused reload: certificate %d; want 2", got)
	}
	echoes()
}
