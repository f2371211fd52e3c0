// Package acme obtains the certificates of listeners from an authority (RFC 8555), by
// HTTP-01 and TLS-ALPN-01 (RFC 8737), keeps them in a folder and renews them in time.
// The protocol is autocert's. What autocert does within a client's handshake, to wait
// for the authority, is done here in the background.
package acme

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"drover/invalid"

	"go.uber.org/zap"
	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"
)

// Config is where certificates come from and where they are kept. Listeners with the
// same settings share account and certificates.
type Config struct {
	// Directory is the authority's directory. Default that of Let's Encrypt.
	Directory string `yaml:"directory"`
	// CAFile holds the authorities, in PEM, that vouch for the directory's server.
	// Default those of the system.
	CAFile string `yaml:"ca_file"`
	// Email is where the authority writes when something is wrong. Default none.
	Email string `yaml:"email"`
	// StorageDir keeps account, keys and certificates, for its owner alone to read. It is
	// made where it is missing. Required.
	StorageDir string `yaml:"storage_dir"`
	// AgreeToTerms says that you agree to the authority's terms of service. Required.
	AgreeToTerms bool `yaml:"agree_to_terms"`
}

// SetDefaults implements the decoder's contract.
func (c *Config) SetDefaults() { c.Directory = autocert.DefaultACMEDirectory }

// Validate implements the decoder's contract. It reads the file.
func (c *Config) Validate() error {
	var faults []error
	if u, err := url.Parse(c.Directory); err != nil || u.Scheme != "https" || u.Host == "" {
		faults = append(faults, invalid.Fieldf("directory", `got %q; want an address such as %q`, c.Directory, autocert.DefaultACMEDirectory))
	}
	if c.StorageDir == "" {
		faults = append(faults, invalid.Fieldf("storage_dir", "got nothing; want a folder to keep certificates in"))
	}
	if !c.AgreeToTerms {
		faults = append(faults, invalid.Fieldf("agree_to_terms", "got false; want true, which says that you agree to the authority's terms"))
	}
	if _, err := c.roots(); err != nil {
		faults = append(faults, invalid.In("ca_file", err))
	}
	return errors.Join(faults...)
}

func (c *Config) roots() (*x509.CertPool, error) {
	if c.CAFile == "" {
		return nil, nil //nolint:nilnil // the system's.
	}
	text, err := os.ReadFile(c.CAFile)
	if err != nil {
		return nil, fmt.Errorf("cannot read: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("got no PEM certificate in %q", c.CAFile)
	}
	return pool, nil
}

const (
	// lookEvery is how often the certificates are looked after. What failed is tried again
	// after retryFirst, then twice as long, up to this. Autocert gives the same failure for
	// a minute.
	lookEvery  = time.Hour
	retryFirst = 65 * time.Second
)

// Manager has the certificates of the domains that it was told.
type Manager struct {
	// immutable
	logger    *zap.Logger
	source    *autocert.Manager
	challenge http.Handler
	transport *http.Transport
	changed   chan struct{}

	// atomic
	ended   atomic.Bool // Run was told to end
	domains atomic.Pointer[map[string]bool]

	// under mu
	mu    sync.RWMutex
	known map[string]*tls.Certificate
}

// New makes a Manager of a valid configuration. It asks nobody anything.
func New(cfg Config, logger *zap.Logger) (*Manager, error) {
	roots, err := cfg.roots()
	if err != nil {
		return nil, fmt.Errorf("cannot use ca_file: %w", err)
	}
	m := &Manager{
		logger: logger, changed: make(chan struct{}, 1), known: map[string]*tls.Certificate{},
		transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout: 10 * time.Second, ForceAttemptHTTP2: true,
		},
	}
	m.domains.Store(&map[string]bool{})
	m.source = &autocert.Manager{
		Prompt: autocert.AcceptTOS, Cache: autocert.DirCache(cfg.StorageDir), HostPolicy: m.allowed,
		Email: cfg.Email,
		Client: &acme.Client{
			DirectoryURL: cfg.Directory, UserAgent: "drover",
			HTTPClient: &http.Client{Transport: m, Timeout: 30 * time.Second},
		},
	}
	m.challenge = m.source.HTTPHandler(http.NotFoundHandler())
	return m, nil
}

// allowed implements autocert.HostPolicy.
func (m *Manager) allowed(_ context.Context, host string) error {
	if (*m.domains.Load())[host] {
		return nil
	}
	return fmt.Errorf("got domain %q; want one of the configuration", host)
}

// SetDomains says whose certificates are wanted from now on. Names are in lower case.
func (m *Manager) SetDomains(domains []string) {
	wanted := map[string]bool{}
	for _, d := range domains {
		wanted[d] = true
	}
	if maps.Equal(wanted, *m.domains.Load()) {
		return
	}
	m.domains.Store(&wanted)
	select {
	case m.changed <- struct{}{}:
	default:
	}
}

// Certificate gives the certificate for a client's hello: that of a challenge to the
// authority, or else the domain's.
func (m *Manager) Certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if slices.Contains(hello.SupportedProtos, acme.ALPNProto) {
		return m.source.GetCertificate(hello)
	}
	name := strings.ToLower(strings.TrimSuffix(hello.ServerName, "."))
	m.mu.RLock()
	cert := m.known[name]
	m.mu.RUnlock()
	if cert == nil {
		return nil, fmt.Errorf("there is no certificate for %q yet", name)
	}
	return cert, nil
}

// challengePath is where the authority looks for the answer to a challenge.
const challengePath = "/.well-known/acme-challenge/"

// Answer gives the answer to a challenge of the authority's. It is not ok for what is
// none of ours.
func (m *Manager) Answer(host, path string) (answer []byte, ok bool) {
	if !strings.HasPrefix(path, challengePath) || !(*m.domains.Load())[host] {
		return nil, false
	}
	w := &recorder{status: http.StatusOK, header: http.Header{}}
	m.challenge.ServeHTTP(w, &http.Request{Method: http.MethodGet, Host: host, URL: &url.URL{Path: path}})
	return w.body, w.status == http.StatusOK
}

// recorder keeps what a http.Handler answers.
type recorder struct {
	status int
	header http.Header
	body   []byte
}

func (r *recorder) Header() http.Header    { return r.header }
func (r *recorder) WriteHeader(status int) { r.status = status }

func (r *recorder) Write(p []byte) (int, error) {
	r.body = append(r.body, p...)
	return len(p), nil
}

// RoundTrip implements http.RoundTripper. Autocert cannot be broken off but by its
// requests.
func (m *Manager) RoundTrip(r *http.Request) (*http.Response, error) {
	if m.ended.Load() {
		return nil, context.Canceled
	}
	return m.transport.RoundTrip(r)
}

// Run obtains certificates, and looks after them, until ctx ends.
func (m *Manager) Run(ctx context.Context) error {
	defer m.transport.CloseIdleConnections()
	stop := context.AfterFunc(ctx, func() { m.ended.Store(true) })
	defer stop()
	wait := retryFirst
	for {
		select {
		case <-m.changed: // the look that comes takes it up.
		default:
		}
		next := lookEvery
		if !m.look(ctx) {
			next, wait = wait, min(2*wait, lookEvery)
		} else {
			wait = retryFirst
		}
		timer := time.NewTimer(next)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-m.changed:
			wait = retryFirst
		case <-timer.C:
		}
		timer.Stop()
	}
}

// look takes over every certificate that is there or can be had, and reports whether
// that is all.
func (m *Manager) look(ctx context.Context) (all bool) {
	all = true
	wanted := *m.domains.Load()
	for _, domain := range slices.Sorted(maps.Keys(wanted)) {
		if ctx.Err() != nil {
			return false
		}
		cert, err := m.obtain(domain)
		if err != nil {
			all = false
			if ctx.Err() == nil {
				m.logger.Error("cannot obtain a certificate", zap.String("domain", domain), zap.Error(err))
			}
			continue
		}
		m.put(domain, cert)
	}
	m.mu.Lock()
	maps.DeleteFunc(m.known, func(domain string, _ *tls.Certificate) bool { return !wanted[domain] })
	m.mu.Unlock()
	return all
}

func (m *Manager) put(domain string, cert *tls.Certificate) {
	m.mu.Lock()
	old := m.known[domain]
	m.known[domain] = cert
	m.mu.Unlock()
	if old == nil || !slices.Equal(old.Certificate[0], cert.Certificate[0]) {
		m.logger.Info("certificate in force", zap.String("domain", domain), zap.Time("until", cert.Leaf.NotAfter))
	}
}

// obtain gives the domain's certificate: one that is kept, one that autocert has renewed
// meanwhile, or a new one.
func (m *Manager) obtain(domain string) (*tls.Certificate, error) {
	return m.source.GetCertificate(&tls.ClientHelloInfo{
		ServerName:       domain,
		CipherSuites:     []uint16{tls.TLS_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256},
		SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256},
		SupportedCurves:  []tls.CurveID{tls.CurveP256},
	})
}
