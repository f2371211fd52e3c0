package transport

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
)

// tlsSource is all that settings of crypto/tls are made from: those of equal sources are
// equal, and connections made by the one are good for the other.
type tlsSource struct {
	serverName string
	skipVerify bool
	// of what the files hold; zero for no file
	ca, pair digest
}

type digest [sha256.Size]byte

func digestOf(parts ...[]byte) (d digest) {
	h := sha256.New()
	for _, part := range parts {
		sum := sha256.Sum256(part)
		h.Write(sum[:])
	}
	h.Sum(d[:0])
	return d
}

func loadCA(path string) (*x509.CertPool, digest, error) {
	pem, err := os.ReadFile(path) //nolint:gosec // the operator names it.
	if err != nil {
		return nil, digest{}, fmt.Errorf("cannot read authorities: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, digest{}, fmt.Errorf("cannot use authorities %q: got no PEM certificate in it", path)
	}
	return pool, digestOf(pem), nil
}

func loadPair(certFile, keyFile string) (tls.Certificate, digest, error) {
	var pair tls.Certificate
	cert, err := os.ReadFile(certFile) //nolint:gosec // the operator names it.
	if err != nil {
		return pair, digest{}, fmt.Errorf("cannot load certificate: %w", err)
	}
	key, err := os.ReadFile(keyFile) //nolint:gosec // see above.
	if err != nil {
		return pair, digest{}, fmt.Errorf("cannot load certificate: %w", err)
	}
	if pair, err = tls.X509KeyPair(cert, key); err != nil {
		return pair, digest{}, fmt.Errorf("cannot load certificate: %w", err)
	}
	return pair, digestOf(cert, key), nil
}

// build makes the settings of crypto/tls for a server.
func (c *TLSConfig) build(host string) (*tls.Config, tlsSource, error) {
	source := tlsSource{serverName: c.ServerName, skipVerify: c.InsecureSkipVerify}
	if source.serverName == "" {
		source.serverName = host
	}
	built := &tls.Config{
		ServerName:         source.serverName,
		InsecureSkipVerify: source.skipVerify, //nolint:gosec // the operator asks for it.
		MinVersion:         tls.VersionTLS12,
		ClientSessionCache: tls.NewLRUClientSessionCache(8),
		NextProtos:         []string{"http/1.1"},
	}
	var err error
	if c.CAFile != "" {
		if built.RootCAs, source.ca, err = loadCA(c.CAFile); err != nil {
			return nil, source, err
		}
	}
	if c.CertFile != "" {
		var pair tls.Certificate
		if pair, source.pair, err = loadPair(c.CertFile, c.KeyFile); err != nil {
			return nil, source, err
		}
		built.Certificates = []tls.Certificate{pair}
	}
	return built, source, nil
}

// secure gives settings their TLS: that of old, nil for none, where nothing of it has
// changed, since connections are known by it.
func (s *settings) secure(host string, old *settings) (err error) {
	if s.tlsH1, s.source, err = s.TLS.build(host); err != nil {
		return err
	}
	if old != nil && old.tls != nil && old.source == s.source {
		s.tlsH1 = old.tlsH1
		if old.Protocol == s.Protocol {
			s.tls = old.tls
			return nil
		}
	}
	s.tls = s.tlsH1.Clone()
	s.tls.NextProtos = s.Protocol.alpn()
	return nil
}
