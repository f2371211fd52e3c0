package front

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"drover/exchange"
	"drover/proxy/front/acme"

	"go.uber.org/zap"
)

// TLS is what a listener speaks TLS by: one generation of its settings.
type TLS struct {
	// immutable once SetTLS has it
	config *tls.Config
	names  *certificates
	// tickets are the keys of session tickets, nil where there are none.
	tickets *tickets
	clients *clientAuth // nil where clients show no certificate
	hsts    []byte      // value of Strict-Transport-Security, nil for none
}

// LoadTLS makes the TLS settings of a listener. It reads the files that they name, and
// makes the file of session tickets' keys where that is missing.
func LoadTLS(cfg *TLSConfig) (*TLS, error) {
	names := &certificates{byName: map[string][]*certificate{}}
	for _, files := range cfg.Certificates {
		cert, err := loadCertificate(files)
		if err != nil {
			return nil, err
		}
		names.add(cert)
	}
	if cfg.ACME != nil {
		names.domains, names.account = cfg.ACME.Domains, cfg.ACME.Account
	} else if len(names.all) == 0 {
		return nil, errors.New("cannot serve TLS without a certificate")
	}
	t := &TLS{names: names, hsts: cfg.HSTS.value(), config: &tls.Config{
		GetCertificate:         names.choose,
		MinVersion:             tlsVersions[cfg.MinVersion],
		NextProtos:             []string{"h2", "http/1.1"},
		SessionTicketsDisabled: cfg.SessionTickets.Disabled,
	}}
	if cfg.ACME != nil {
		t.config.NextProtos = append(t.config.NextProtos, alpnACME)
	}
	if cfg.ClientAuth != nil {
		var err error
		if t.clients, err = loadClientAuth(cfg.ClientAuth); err != nil {
			return nil, err
		}
		t.clients.apply(t.config)
	}
	if cfg.SessionTickets.Disabled {
		return t, nil
	}
	bindSessions(t.config)
	t.tickets = &tickets{context: t.clients.context(), source: &ownSecrets{}}
	switch shared := cfg.SessionTickets; {
	case shared.File != "":
		t.tickets.source = &fileSecrets{path: shared.File, every: shared.RotateEvery}
	case shared.ZooKeeper != "":
		t.tickets.source = &sharedSecrets{cfg: shared}
	}
	if err := t.tickets.refresh(t.config, time.Now()); err != nil && len(t.tickets.inForce) == 0 {
		return nil, err
	}
	return t, nil // a failure that leaves keys to work with is logged when they do.
}

func loadCertificate(files Certificate) (*certificate, error) {
	pair, err := tls.LoadX509KeyPair(files.CertFile, files.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("cannot load certificate %q: %w", files.CertFile, err)
	}
	cert := &certificate{Certificate: pair, file: files.OCSPFile}
	if files.OCSPFile != "" {
		if err := cert.loadStaple(); err != nil {
			return nil, fmt.Errorf("cannot use OCSP answer %q: %w", files.OCSPFile, err)
		}
	}
	return cert, nil
}

// SetTLS puts other TLS settings in force, for connections that begin from now on. A
// Front begins and ends with TLS or without it. Sessions of clients go on where the
// settings have the same terms for clients, and share the same keys or none.
func (f *Front) SetTLS(next *TLS) {
	next.names.logger = f.opts.Logger
	next.names.issued = f.opts.Issued
	if next.tickets != nil {
		if shared, ok := next.tickets.source.(*sharedSecrets); ok {
			shared.ask = f.opts.Tickets
		}
	}
	if old := f.tls.Load(); old != nil && old.tickets != nil && next.tickets != nil {
		next.tickets.inherit(old.tickets, next.config)
	}
	f.tls.Store(next)
}

// handshake begins TLS on a connection.
func (f *Front) handshake(c *conn, settings *TLS) (*tls.Conn, error) {
	f.refreshTickets(settings)
	secure := tls.Server(c.wire, f.alpn(settings.config))
	c.stream, c.hsts = secure, settings.hsts
	err := secure.Handshake()
	switch {
	case err == nil && settings.clients != nil:
		c.named = settings.names.covered(secure.ConnectionState().ServerName)
	case err != nil:
		f.opts.Logger.Debug("TLS handshake failed", zap.Stringer("remote", c.remote), zap.Error(err))
		if settings.clients != nil && isClientRefused(err) {
			f.reject(c, &exchange.Exchange{Request: exchange.Request{ProtoMinor: -1}}, exchange.ReasonClientCertificate, statusClientCertificate)
		}
	}
	return secure, err
}

// refreshTickets puts new keys of session tickets in force, if there are any.
func (f *Front) refreshTickets(settings *TLS) {
	if settings.tickets == nil {
		return
	}
	if err := settings.tickets.refresh(settings.config, time.Now()); err != nil && settings.tickets.failed.CompareAndSwap(false, true) {
		f.opts.Logger.Warn("cannot renew the keys of session tickets; those in force stay", zap.Error(err))
	}
}

// alpn gives the settings for a connection: without HTTP/2 where it is not wanted.
func (f *Front) alpn(settings *tls.Config) *tls.Config {
	s := f.settings.Load()
	if s.maxStreams > 0 && !s.onlyH2 {
		return settings
	}
	unwanted := "h2"
	if s.onlyH2 {
		unwanted = "http/1.1"
	}
	settings = settings.Clone()
	settings.NextProtos = slices.DeleteFunc(slices.Clone(settings.NextProtos), func(p string) bool { return p == unwanted })
	return settings
}

// certificates finds the certificate for a name. It is immutable once SetTLS has it.
type certificates struct {
	all    []*certificate
	byName map[string][]*certificate // lower case; wildcards with their "*."
	logger *zap.Logger
	// domains are those whose certificates issued gives.
	domains []string
	account acme.Config
	issued  func(acme.Config, *tls.ClientHelloInfo) (*tls.Certificate, error)
}

func (cs *certificates) add(cert *certificate) {
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
	if cs.issuedFor(hello) {
		return cs.issued(cs.account, hello)
	}
	candidates := cs.candidates(hello.ServerName)
	if len(candidates) == 0 {
		return nil, fmt.Errorf("there is no certificate for %q", hello.ServerName)
	}
	for _, cert := range candidates {
		if hello.SupportsCertificate(&cert.Certificate) == nil {
			return cert.stapled(time.Now(), cs.logger), nil
		}
	}
	return candidates[0].stapled(time.Now(), cs.logger), nil
}

// candidates are the certificates for a name, none only where files have none at all.
func (cs *certificates) candidates(name string) []*certificate {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	candidates := cs.byName[name]
	if len(candidates) == 0 {
		if _, parent, ok := strings.Cut(name, "."); ok {
			candidates = cs.byName["*."+parent]
		}
	}
	if len(candidates) == 0 {
		candidates = cs.all
	}
	return candidates
}

// covered gives what tells whether a connection whose client asked for a name may carry
// requests for a host: the same name, or one of the certificate that it was shown
// (RFC 9113, section 9.1.1). It gives nil, for any host, when the client asked for none.
func (cs *certificates) covered(name string) func(host []byte) bool {
	if name == "" {
		return nil
	}
	candidates := cs.candidates(name)
	return func(authority []byte) bool {
		host := string(authority)
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
		host = strings.TrimSuffix(host, ".")
		return strings.EqualFold(host, strings.TrimSuffix(name, ".")) ||
			slices.ContainsFunc(candidates, func(c *certificate) bool { return c.Leaf.VerifyHostname(host) == nil })
	}
}
