package front

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
)

// statusClientCertificate is nginx's code for a client certificate that was refused.
// No client sees it: TLS tells by an alert.
const statusClientCertificate = 495

var (
	errClientName = errors.New("the client's certificate has none of the allowed names")
	errNoClient   = errors.New("the client has shown no certificate")
)

// clientAuth is what clients' certificates are held to. It is immutable.
type clientAuth struct {
	ClientAuthConfig

	pem []byte
	cas *x509.CertPool
}

func loadClientAuth(cfg *ClientAuthConfig) (*clientAuth, error) {
	content, err := os.ReadFile(cfg.CAFile)
	if err != nil {
		return nil, fmt.Errorf("cannot read authorities of clients: %w", err)
	}
	a := &clientAuth{ClientAuthConfig: *cfg, pem: content, cas: x509.NewCertPool()}
	if !a.cas.AppendCertsFromPEM(content) {
		return nil, fmt.Errorf("cannot use %q: got no certificate; want those of clients' authorities in PEM", cfg.CAFile)
	}
	return a, nil
}

// context is what sessions are bound to: a ticket that was given on other terms, or
// on none, must open nothing here (CVE-2025-23419). It is nil without terms.
func (a *clientAuth) context() []byte {
	if a == nil {
		return nil
	}
	names := slices.Clone(a.AllowedNames)
	slices.Sort(names)
	terms, err := json.Marshal(struct {
		CA       []byte
		Required bool
		Names    []string
	}{bytes.TrimSpace(a.pem), a.Required, slices.Compact(names)})
	if err != nil {
		terms = a.pem // cannot be: these are bytes and text.
	}
	sum := sha256.Sum256(terms)
	return sum[:]
}

func (a *clientAuth) apply(cfg *tls.Config) {
	cfg.ClientCAs = a.cas
	cfg.ClientAuth = tls.VerifyClientCertIfGiven
	if a.Required {
		cfg.ClientAuth = tls.RequireAndVerifyClientCert
	}
	// Not VerifyPeerCertificate, which is not called when a session is resumed.
	cfg.VerifyConnection = a.verify
}

// verify implements tls.Config.VerifyConnection.
func (a *clientAuth) verify(state tls.ConnectionState) error {
	switch {
	case len(state.VerifiedChains) == 0 && a.Required:
		return errNoClient
	case len(state.PeerCertificates) == 0, len(a.AllowedNames) == 0:
		return nil
	}
	for _, name := range clientNames(state.PeerCertificates[0]) {
		if slices.ContainsFunc(a.AllowedNames, func(allowed string) bool { return nameMatches(allowed, name) }) {
			return nil
		}
	}
	return errClientName
}

// clientNames are all the names that a certificate gives its owner.
func clientNames(leaf *x509.Certificate) []string {
	names := slices.Concat(leaf.DNSNames, leaf.EmailAddresses)
	for _, uri := range leaf.URIs {
		names = append(names, uri.String())
	}
	if leaf.Subject.CommonName != "" {
		names = append(names, leaf.Subject.CommonName)
	}
	return names
}

func nameMatches(allowed, name string) bool {
	if parent, wildcard := strings.CutPrefix(allowed, "*."); wildcard {
		label, rest, ok := strings.Cut(name, ".")
		return ok && label != "" && !strings.ContainsAny(label, "/:@") && strings.EqualFold(rest, parent)
	}
	if strings.ContainsAny(allowed, "/:@") {
		return allowed == name // paths and mailboxes tell upper from lower case.
	}
	return strings.EqualFold(allowed, name)
}

// isClientRefused tells handshakes that failed for the client's certificate.
func isClientRefused(err error) bool {
	var unverified *tls.CertificateVerificationError
	return errors.Is(err, errClientName) || errors.Is(err, errNoClient) || errors.As(err, &unverified) ||
		strings.Contains(err.Error(), "client didn't provide a certificate") // crypto/tls has no value for it.
}

// misdirects reports whether a request's host is not one that the connection's
// certificate is for. Only listeners with client_auth ask, with 421 (RFC 9110, section
// 15.5.20): there a client was let in by a name, and a route for another host is none
// of what it was let in for. Elsewhere a name opens nothing, and clients that ask for
// one host and mean another, or for none at all, have always been served.
func (c *conn) misdirects(host []byte) bool {
	return c.named != nil && !c.named(host)
}
