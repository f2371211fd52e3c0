package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"
)

// staple writes an OCSP answer for the certificate of writePair, signed by itself.
func staple(t *testing.T, dir string) string {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "site.pem"), filepath.Join(dir, "site.key"))
	if err != nil {
		t.Fatal(err)
	}
	signer, ok := pair.PrivateKey.(crypto.Signer)
	if !ok {
		t.Fatal("no key that signs")
	}
	der, err := ocsp.CreateResponse(pair.Leaf, pair.Leaf, ocsp.Response{
		Status: ocsp.Good, SerialNumber: pair.Leaf.SerialNumber,
		ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: time.Now().Add(time.Hour),
	}, signer)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "site.ocsp"), der, 0o600); err != nil {
		t.Fatal(err)
	}
	return string(der)
}

// writeClient writes an authority's certificate to ca.pem, and gives a client's of it.
func writeClient(t *testing.T, dir string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true, DNSNames: []string{"client.test"},
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := os.WriteFile(filepath.Join(dir, "ca.pem"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// TestTLSFilesChangeAlone: whoever renews a certificate, an OCSP answer or the clients'
// authority touches that file alone, and nobody tells drover.
func TestTLSFilesChangeAlone(t *testing.T) {
	dir, p := t.TempDir(), startPeer(t, "a")
	writePair(t, dir, 1)
	first, old := staple(t, dir), writeClient(t, dir)
	secure := freeAddress(t)
	s := newSetup(t, fmt.Sprintf(`admin: { address: "ADMIN" }
listeners:
  - { name: web, address: "LISTEN" }
  - name: secure
    address: %q
    tls:
      certificates: [ { cert_file: %[2]q, key_file: %[3]q, ocsp_file: %[4]q } ]
      client_auth: { ca_file: %[5]q, required: false }
      session_tickets: { file: tickets }
      hsts: { include_subdomains: true }
upstreams: [ { name: app, servers: [ { address: %[6]q } ] } ]
routes:
  - { listeners: [ web ], redirect: { to: "https://{host}{path}{query}", status: 308 } }
  - { upstream: app }
`, secure, filepath.Join(dir, "site.pem"), filepath.Join(dir, "site.key"), filepath.Join(dir, "site.ocsp"),
		filepath.Join(dir, "ca.pem"), p.address))
	s.run(t)
	dial := func(shows tls.Certificate) (tls.ConnectionState, error) {
		c, err := tls.Dial("tcp", secure, &tls.Config{
			InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12, // a refusal comes with the handshake
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &shows, nil },
		})
		if err != nil {
			return tls.ConnectionState{}, err
		}
		defer c.Close()
		return c.ConnectionState(), nil
	}
	state, err := dial(old)
	if err != nil || string(state.OCSPResponse) != first {
		t.Fatalf("got %d bytes of an OCSP answer, %v; want that of the file", len(state.OCSPResponse), err)
	}
	if _, err := os.Stat(filepath.Join(filepath.Dir(s.path), "tickets")); err != nil {
		t.Errorf("the file of keys is not beside the configuration: %v", err)
	}
	prompt(t, func() { staple(t, dir) }, func() {
		t.Helper()
		eventually(t, "the new OCSP answer is sent", func() bool {
			state, err := dial(old)
			return err == nil && len(state.OCSPResponse) > 0 && string(state.OCSPResponse) != first
		})
	})
	var fresh tls.Certificate
	prompt(t, func() { fresh = writeClient(t, dir) }, func() {
		t.Helper()
		eventually(t, "clients of the new authority come in", func() bool { _, err := dial(fresh); return err == nil })
	})
	if _, err := dial(old); err == nil {
		t.Error("a client of the authority before was let in")
	}
	prompt(t, func() {
		writePair(t, dir, 2)
		staple(t, dir)
	}, func() {
		t.Helper()
		eventually(t, "the new certificate is shown", func() bool { return serialOf(t, secure) == 2 })
	})

	resp, _ := fetch(t, client(t, false), http.MethodGet, "http://"+s.listen+"/a?b=c", "")
	if to := resp.Header.Get("Location"); resp.StatusCode != 308 || to != "https://127.0.0.1/a?b=c" {
		t.Errorf("over plain HTTP: got %d to %q", resp.StatusCode, to)
	}
	if got := resp.Header.Get("Strict-Transport-Security"); got != "" {
		t.Errorf("over plain HTTP: got Strict-Transport-Security %q (RFC 6797, section 7.2)", got)
	}
	browser := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	defer browser.CloseIdleConnections()
	resp, err = browser.Get("https://" + secure + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got := resp.Header.Get("Strict-Transport-Security"); !strings.HasPrefix(got, "max-age=31536000; includeSub") {
		t.Errorf("got Strict-Transport-Security %q", got)
	}
}
