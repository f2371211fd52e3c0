package front

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"drover/exchange"
)

// writeCert makes a self-signed certificate for the names, in files.
func writeCert(t testing.TB, names ...string) Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: names[0]}, DNSNames: names,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	files := Certificate{CertFile: dir + "/c.pem", KeyFile: dir + "/k.pem"}
	writeFile(t, files.CertFile, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	writeFile(t, files.KeyFile, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})))
	return files
}

func withTLS(minVersion string, certs ...Certificate) func(*Config) {
	return func(c *Config) { c.TLS = &TLSConfig{Certificates: certs, MinVersion: minVersion} }
}

// dialTLS connects as a client that trusts everybody.
func (tf *testFront) dialTLS(t *testing.T, cfg *tls.Config) (*testConn, error) {
	t.Helper()
	cfg.InsecureSkipVerify = true
	nc, err := tls.Dial("tcp", tf.addr, cfg)
	if err != nil {
		return nil, err
	}
	return wrapConn(t, nc), nil
}

func (tf *testFront) mustDialTLS(t *testing.T) *testConn {
	t.Helper()
	c, err := tf.dialTLS(t, &tls.Config{ServerName: "a.test"})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestCertificateByName(t *testing.T) {
	tf := serveTest(t, withTLS("1.2",
		writeCert(t, "first.test"), writeCert(t, "*.Wild.test"), writeCert(t, "exact.wild.test", "other.test")), reply("ok"))
	for name, want := range map[string]string{
		"first.test":      "first.test",
		"FIRST.test":      "first.test",
		"other.test":      "exact.wild.test",
		"exact.wild.test": "exact.wild.test",
		"x.wild.test":     "*.Wild.test",
		"x.y.wild.test":   "first.test",
		"wild.test":       "first.test",
		"unknown.test":    "first.test",
		"":                "first.test",
	} {
		c, err := tf.dialTLS(t, &tls.Config{ServerName: name})
		if err != nil {
			t.Fatal(err)
		}
		if got := c.Conn.(*tls.Conn).ConnectionState().PeerCertificates[0].Subject.CommonName; got != want {
			t.Errorf("%q got the certificate of %s; want %s", name, got, want)
		}
	}
}

func TestTLSVersionsAndProtocols(t *testing.T) {
	cert := writeCert(t, "a.test")
	old := serveTest(t, withTLS("1.2", cert), reply("ok"))
	strict := serveTest(t, withTLS("1.3", cert), reply("ok"))
	f := func(tf *testFront, cfg *tls.Config, ok bool) {
		t.Helper()
		c, err := tf.dialTLS(t, cfg)
		if (err == nil) != ok {
			t.Errorf("got %v; want success %v", err, ok)
		}
		if err == nil {
			if p := c.Conn.(*tls.Conn).ConnectionState().NegotiatedProtocol; p != "" && p != "http/1.1" {
				t.Errorf("negotiated %q", p)
			}
			if got := c.send(get11).head(); !strings.HasPrefix(got, "HTTP/1.1 200 ") {
				t.Errorf("got %q", got)
			}
		}
	}
	f(old, &tls.Config{MaxVersion: tls.VersionTLS11}, false)
	f(old, &tls.Config{MaxVersion: tls.VersionTLS12}, true)
	f(strict, &tls.Config{MaxVersion: tls.VersionTLS12}, false)
	f(strict, &tls.Config{NextProtos: []string{"spdy/3", "http/1.1"}}, true)
	f(strict, &tls.Config{NextProtos: []string{"spdy/3"}}, false)
}

func TestTLSExchange(t *testing.T) {
	tf := serveTest(t, withTLS("1.2", writeCert(t, "a.test")), func(ex *exchange.Exchange) {
		if !ex.Secure || !ex.Remote.IsValid() || ex.Local.String() == "" || ex.Listener != "web" {
			t.Errorf("got %v from %v on %v at %q", ex.Secure, ex.Remote, ex.Local, ex.Listener)
		}
		mirror(ex)
	})
	c := tf.mustDialTLS(t)
	large := strings.Repeat("0123456789", 20000) // under unreadBody, see client.mustClose
	for range 2 {
		go func() {
			_, _ = io.WriteString(c.Conn, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n"+large)
		}()
		c.head()
		var got strings.Builder
		for {
			size := 0
			for _, digit := range c.line() {
				size = size<<4 | strings.IndexRune("0123456789abcdef", digit)
			}
			got.WriteString(c.exactly(size))
			if c.line(); size == 0 {
				break
			}
		}
		if got.String() != large {
			t.Errorf("got %d bytes, or wrong ones", got.Len())
		}
	}
	_ = c.Conn.(*tls.Conn).CloseWrite()
	if got := c.rest(); got != "" {
		t.Errorf("got %q", got)
	}
}

func TestTLSHandshakeTimeout(t *testing.T) {
	tf := serveTest(t, func(c *Config) {
		withTLS("1.2", writeCert(t, "a.test"))(c)
		c.HeaderTimeout = short
	}, reply("ok"))
	if got := tf.dial(t).rest(); got != "" {
		t.Errorf("got %q", got)
	}
	if _, err := tf.dial(t).send("\x16\x03\x01\x02").r.ReadByte(); err == nil {
		t.Error("a handshake that stops was answered")
	}
	// A time-out of the head is answered, and inside TLS.
	c := tf.mustDialTLS(t)
	if got := c.send("GET /").head(); !strings.HasPrefix(got, "HTTP/1.1 408 ") {
		t.Errorf("got %q", got)
	}
}

// Slow clients make deadlines fire that are not due yet; TLS must not notice.
func TestTLSOutlivesEarlyDeadlines(t *testing.T) {
	tf := serveTest(t, func(c *Config) {
		withTLS("1.2", writeCert(t, "a.test"))(c)
		c.HeaderTimeout = 4 * short
	}, echo)
	c := tf.mustDialTLS(t)
	c.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
	<-time.After(6 * short) // the head's deadline fires in the middle of the body
	c.send("1\r\ny\r\n0\r\n\r\n")
	if got := c.exactly(contentLength(t, c.head())); !strings.HasSuffix(got, `body="xy"`) {
		t.Errorf("got %q", got)
	}
}

func TestTLSCutResponse(t *testing.T) {
	tf := serveTest(t, withTLS("1.2", writeCert(t, "a.test")), func(ex *exchange.Exchange) {
		_ = ex.Client.Start(&exchange.Response{Status: 200, ContentLength: exchange.LengthUnknown})
		_, _ = io.WriteString(ex.Client, "abc")
		_ = ex.Client.Flush()
		ex.Result.Aborted = true
	})
	if b, err := io.ReadAll(tf.mustDialTLS(t).send(get10).r); err == nil {
		t.Errorf("%q ended cleanly, and so looks complete", b)
	}
	if b, _ := io.ReadAll(tf.mustDialTLS(t).send(get11).r); strings.Contains(string(b), "\r\n0\r\n") {
		t.Errorf("%q looks complete", b)
	}
}

func TestTLSUpgradeAndGone(t *testing.T) {
	gone := make(chan bool, 1)
	tf := serveTest(t, withTLS("1.2", writeCert(t, "a.test")), func(ex *exchange.Exchange) {
		if ex.Request.Upgrade != "" {
			tunnelEcho(t)(ex)
			return
		}
		late := time.Now().Add(patience)
		for !ex.Client.Gone() && time.Now().Before(late) {
			<-time.After(time.Millisecond)
		}
		gone <- ex.Client.Gone()
		ex.Result.Aborted = true
	})
	c := tf.mustDialTLS(t).send(upgrade + "ahead")
	c.head()
	c.send(" and more")
	if got := c.exactly(14); got != "ahead and more" {
		t.Errorf("got %q", got)
	}
	_ = c.Conn.(*tls.Conn).CloseWrite()
	if got := c.rest(); got != "" {
		t.Errorf("got %q", got)
	}
	c = tf.mustDialTLS(t).send(get11)
	_ = c.Close()
	if !<-gone {
		t.Error("the client left and nobody noticed")
	}
}

func TestTLSMaxConnections(t *testing.T) {
	tf := serveTest(t, func(c *Config) {
		withTLS("1.2", writeCert(t, "a.test"))(c)
		c.MaxConnections = 1
	}, reply("ok"))
	tf.mustDialTLS(t)
	if _, err := tf.dialTLS(t, &tls.Config{}); err == nil {
		t.Error("one connection too many was served")
	}
	if got := tf.rejected(); got != "503 OL" {
		t.Errorf("reported %q", got)
	}
}

func TestPlainHTTPOnTLS(t *testing.T) {
	tf := serveTest(t, withTLS("1.2", writeCert(t, "a.test")), reply("ok"))
	c := tf.dial(t).send(get11)
	if b, err := io.ReadAll(c.r); strings.Contains(string(b), "HTTP/") || err != nil && !errors.Is(err, net.ErrClosed) && !strings.Contains(err.Error(), "reset") {
		t.Errorf("got %q, %v", b, err)
	}
}

func TestNewReadsCertificates(t *testing.T) {
	cfg := testConfig()
	withTLS("1.2", Certificate{CertFile: "/none/c.pem", KeyFile: "/none/k.pem"})(&cfg)
	if _, err := New(cfg, reply("ok"), Options{Logger: quietLogger()}); err == nil || !strings.Contains(err.Error(), "/none/c.pem") {
		t.Errorf("got %v", err)
	}
}
