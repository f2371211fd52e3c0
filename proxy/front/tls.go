package front

import (
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
)

// LoadTLS makes the TLS settings of a listener. It reads the certificates.
func LoadTLS(cfg *TLSConfig) (*tls.Config, error) {
	names := &certificates{byName: map[string][]*tls.Certificate{}}
	for _, files := range cfg.Certificates {
		cert, err := tls.LoadX509KeyPair(files.CertFile, files.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("cannot load certificate %q: %w", files.CertFile, err)
		}
		names.add(&cert)
	}
	if len(names.all) == 0 {
		return nil, errors.New("cannot serve TLS without a certificate")
	}
	return &tls.Config{
		GetCertificate: names.choose,
		MinVersion:     tlsVersions[cfg.MinVersion],
		NextProtos:     []string{"h2", "http/1.1"},
	}, nil
}

// alpn gives the settings for a connection: without HTTP/2 where it is not wanted.
func (f *Front) alpn(settings *tls.Config) *tls.Config {
	s := f.settings.Load()
	if s.maxStreams > 0 && !s.onlyH2 {
		return settings
	}
	settings = settings.Clone()
	settings.NextProtos = []string{"http/1.1"}
	if s.onlyH2 {
		settings.NextProtos = []string{"h2"}
	}
	return settings
}

// certificates finds the certificate for a name. It is immutable once filled.
type certificates struct {
	all    []*tls.Certificate
	byName map[string][]*tls.Certificate // lower case; wildcards with their "*."
}

func (cs *certificates) add(cert *tls.Certificate) {
	cs.all = append(cs.all, cert)
	for _, name := range cert.Leaf.DNSNames {
		name = strings.ToLower(name)
		cs.byName[name] = append(cs.byName[name], cert)
	}
	for _, ip := range cert.Leaf.IPAddresses {
		cs.byName[ip.String()] = append(cs.byName[ip.String()], cert)
	}
}

// choose implements tls.Config.GetCertificate: of the certificates for the exact
// name, then of those for the wildcard above it, the first that the client's
// algorithms can do; for any other name the first of all.
func (cs *certificates) choose(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	name := strings.ToLower(strings.TrimSuffix(hello.ServerName, "."))
	candidates := cs.byName[name]
	if len(candidates) == 0 {
		if _, parent, ok := strings.Cut(name, "."); ok {
			candidates = cs.byName["*."+parent]
		}
	}
	if len(candidates) == 0 {
		candidates = cs.all
	}
	for _, cert := range candidates {
		if hello.SupportsCertificate(cert) == nil {
			return cert, nil
		}
	}
	return candidates[0], nil
}
