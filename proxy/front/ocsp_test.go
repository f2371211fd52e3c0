package front

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"golang.org/x/crypto/ocsp"
)

// signedSite writes a certificate with its authority's behind it.
func signedSite(t *testing.T, ca *authority, serial int64) Certificate {
	t.Helper()
	cert := ca.sign(t, &x509.Certificate{SerialNumber: big.NewInt(serial), DNSNames: []string{"a.test"}})
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	files := Certificate{CertFile: dir + "/c.pem", KeyFile: dir + "/k.pem", OCSPFile: dir + "/c.ocsp"}
	writeFile(t, files.CertFile, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]}))+
		string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.cert.Raw})))
	writeFile(t, files.KeyFile, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})))
	return files
}

func (a *authority) says(t *testing.T, serial int64, status int, valid time.Duration) string {
	t.Helper()
	der, err := ocsp.CreateResponse(a.cert, a.cert, ocsp.Response{
		Status: status, SerialNumber: big.NewInt(serial), RevokedAt: time.Now(),
		ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: time.Now().Add(valid),
	}, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return string(der)
}

func (tf *testFront) staple(t *testing.T) string {
	t.Helper()
	return string(tf.mustDialTLS(t).Conn.(*tls.Conn).OCSPResponse())
}

func TestOCSPStaple(t *testing.T) {
	ca := newAuthority(t, "ours")
	site := signedSite(t, ca, 5)
	first := ca.says(t, 5, ocsp.Good, time.Hour)
	writeFile(t, site.OCSPFile, first)
	core, logs := observer.New(zap.WarnLevel)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tf := serveOn(t, ln, withTLS("1.2", site), reply("ok"), zap.New(core))
	if got := tf.staple(t); got != first {
		t.Errorf("got a staple of %d bytes; want that of the file", len(got))
	}
	if openssl, err := exec.LookPath("openssl"); err == nil {
		cmd := exec.Command(openssl, "s_client", "-connect", tf.addr, "-status", "-servername", "a.test", "-CAfile", ca.file)
		out, err := cmd.CombinedOutput()
		if !strings.Contains(string(out), "OCSP Response Status: successful") || !strings.Contains(string(out), "Cert Status: good") {
			t.Errorf("openssl: %v: %s", err, out)
		}
	}
	reload := func() error {
		next, err := LoadTLS(tf.cfg.TLS)
		if err == nil {
			tf.SetTLS(next)
		}
		return err
	}
	second := ca.says(t, 5, ocsp.Good, 2*time.Hour)
	writeFile(t, site.OCSPFile, second)
	if err := reload(); err != nil || tf.staple(t) != second {
		t.Errorf("got an old staple after a reload: %v", err)
	}

	stranger := newAuthority(t, "another")
	for name, c := range map[string]struct{ content, want string }{
		"no answer":         {"rubbish", "want one in DER"},
		"another's":         {ca.says(t, 6, ocsp.Good, time.Hour), "serial number 6; want 5"},
		"another authority": {stranger.says(t, 5, ocsp.Good, time.Hour), "of the certificate's authority"},
		"revoked":           {ca.says(t, 5, ocsp.Revoked, time.Hour), `says "revoked"`},
	} {
		writeFile(t, site.OCSPFile, c.content)
		if err := reload(); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), site.OCSPFile) {
			t.Errorf("%s: got %v; want %q", name, err, c.want)
		}
		if err := CheckStaple([]byte(readFile(t, site.CertFile)), []byte(c.content)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v; want %q", name, err, c.want)
		}
	}

	writeFile(t, site.OCSPFile, ca.says(t, 5, ocsp.Good, -time.Minute))
	if err := reload(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if got := tf.staple(t); got != "" {
			t.Errorf("got an expired staple")
		}
	}
	if logs.Len() != 1 || !strings.Contains(logs.All()[0].Message, "OCSP answer has expired") {
		t.Errorf("logged %v; want the expired answer once", logs.All())
	}
}
