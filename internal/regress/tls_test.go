package regress

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// certificate writes a self-signed pair for a name.
func certificate(t *testing.T, name string) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{name}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
	for path, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile
}

// TestTLS: no old version, no weak cipher, no session of one name for another.
func TestTLS(t *testing.T) {
	o := startOrigin(t, nil)
	certA, keyA := certificate(t, "a.test")
	certB, keyB := certificate(t, "b.test")
	yaml := strings.Replace(toOrigin(o.address, ""), "address: WEB", "address: WEB, tls: { certificates: [{ cert_file: "+certA+", key_file: "+keyA+" }, { cert_file: "+certB+", key_file: "+keyB+" }] }", 1)
	d := start(t, yaml, "")
	weak := []*tls.Config{{MaxVersion: tls.VersionTLS10, MinVersion: tls.VersionTLS10}, {MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}}
	for _, suite := range tls.InsecureCipherSuites() {
		weak = append(weak, &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{suite.ID}})
	}
	for _, cfg := range weak {
		cfg.ServerName, cfg.InsecureSkipVerify = "a.test", true
		c := tls.Client(dial(t, d.web), cfg)
		if c.Handshake() == nil {
			t.Errorf("%v %v was agreed on", tls.VersionName(c.ConnectionState().Version), c.ConnectionState().CipherSuite)
		}
	}
	cache := tls.NewLRUClientSessionCache(10)
	for i, name := range []string{"a.test", "a.test", "b.test"} {
		// One cache key for all names, as a client has that offers a session anywhere.
		c := tls.Client(dial(t, d.web), &tls.Config{ServerName: name, InsecureSkipVerify: true, ClientSessionCache: oneKey{cache}, MaxVersion: tls.VersionTLS12})
		if err := c.Handshake(); err != nil {
			t.Fatal(err)
		}
		state := c.ConnectionState()
		if want := i == 1; state.DidResume != want {
			t.Errorf("connection %d, %s: resumed %v; want %v", i, name, state.DidResume, want)
		}
		if !state.DidResume && state.PeerCertificates[0].DNSNames[0] != name {
			t.Errorf("%s: got the certificate of %v", name, state.PeerCertificates[0].DNSNames)
		}
	}
}

type oneKey struct{ cache tls.ClientSessionCache }

func (o oneKey) Get(string) (*tls.ClientSessionState, bool) { return o.cache.Get("") }

func (o oneKey) Put(_ string, s *tls.ClientSessionState) { o.cache.Put("", s) }
