// Package acme obtains the certificates of listeners from an authority (RFC 8555), by
// HTTP-01 and TLS-ALPN-01 (RFC 8737), keeps them, for itself or in a group, and renews
// them in time. The protocol is autocert's. What autocert does within a client's
// handshake, to wait for the authority, is done here in the background.
package acme

import (
	"context"
	"crypto/ecdsa"
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
	// made where it is missing. Exactly one of storage_dir and storage_zookeeper.
	StorageDir string `yaml:"storage_dir"`
	// StorageZooKeeper keeps them below a path in the ensemble of `zookeeper`, such as
	// /drover/acme, for a group of drovers: one at a time orders certificates, and each
	// that has the domain answers the authority. Drover makes it, and what is missing of
	// its path, for its own zookeeper.auth alone, which the group must have in common.
	// While ZooKeeper is away nothing is ordered, and certificates in force stay. Neither
	// the connection nor the disks of the ensemble are encrypted.
	StorageZooKeeper string `yaml:"storage_zookeeper"`
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
	switch {
	case c.StorageDir == "" && c.StorageZooKeeper == "":
		faults = append(faults, invalid.Fieldf("storage_dir", "got nothing; want a folder to keep certificates in, or storage_zookeeper"))
	case c.StorageDir != "" && c.StorageZooKeeper != "":
		faults = append(faults, invalid.Fieldf("storage_zookeeper", "got %q beside storage_dir; want one of the two", c.StorageZooKeeper))
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
	// lookEvery is how often the certificates are looked after, more often where they are
	// short-lived. What failed is tried again after retryFirst, then twice as long, up to
	// this. Autocert gives the same failure for a minute.
	lookEvery  = time.Hour
	retryFirst = 65 * time.Second
)

// Manager has the certificates of the domains that it was told.
type Manager struct {
	// immutable
	logger    *zap.Logger
	source    *autocert.Manager
	stored    autocert.Cache
	group     *group // nil with a folder of its own
	challenge http.Handler
	transport *http.Transport
	changed   chan struct{}
	life      context.Context // ended by end once Run is told to end
	end       context.CancelFunc

	// atomic
	domains atomic.Pointer[map[string]bool]

	// under mu
	mu    sync.RWMutex
	known map[string]*tls.Certificate
}

// New makes a Manager of a valid configuration, with a group's storage or, for nil, a
// folder of its own. It asks nobody anything.
func New(cfg Config, shared *Storage, logger *zap.Logger) (*Manager, error) {
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
	m.life, m.end = context.WithCancel(context.Background())
	m.stored = autocert.DirCache(cfg.StorageDir)
	cache := m.stored
	if shared != nil {
		m.stored = shared.Cache
		m.group = newGroup(m.life, *shared, logger)
		cache = m.group
	}
	m.source = &autocert.Manager{
		Prompt: autocert.AcceptTOS, Cache: cache, HostPolicy: m.allowed,
		Email: cfg.Email,
		Client: &acme.Client{
			DirectoryURL: cfg.Directory, UserAgent: "drover",
			HTTPClient: &http.Client{Transport: m, Timeout: 30 * time.Second},
		},
	}
	m.challenge = m.source.HTTPHandler(http.NotFoundHandler())
	return m, nil
}

// Inherit begins with the certificates that another Manager has. It comes before Run.
func (m *Manager) Inherit(from *Manager) {
	from.mu.RLock()
	defer from.mu.RUnlock()
	maps.Copy(m.known, from.known)
}

// Load takes up what is stored for domains. Run does so too, and listeners may begin
// before that.
func (m *Manager) Load(ctx context.Context, domains []string) {
	for _, domain := range domains {
		m.takeUp(ctx, domain)
	}
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
	name := strings.ToLower(strings.TrimSuffix(hello.ServerName, "."))
	if slices.Equal(hello.SupportedProtos, []string{acme.ALPNProto}) { // with another one autocert would wait for the authority.
		if !(*m.domains.Load())[name] {
			return nil, fmt.Errorf("there is no challenge for %q", name)
		}
		return m.source.GetCertificate(hello)
	}
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
	if err := m.life.Err(); err != nil {
		return nil, err
	}
	return m.transport.RoundTrip(r)
}

// Run obtains certificates, and looks after them, until ctx ends.
func (m *Manager) Run(ctx context.Context) error {
	defer m.transport.CloseIdleConnections()
	defer context.AfterFunc(ctx, m.end)()
	if m.group != nil {
		running, stop := context.WithCancel(ctx)
		var following sync.WaitGroup
		defer following.Wait()
		defer stop()
		following.Go(func() { m.follow(running) })
	}
	wait := retryFirst
	for {
		select {
		case <-m.changed: // the look that comes takes it up.
		default:
		}
		all, next := m.look(ctx)
		if !all {
			next, wait = wait, min(2*wait, lookEvery)
		} else {
			wait = retryFirst
		}
		timer := time.NewTimer(next)
		select {
		case <-ctx.Done():
			timer.Stop()
			if m.group != nil {
				m.group.close()
			}
			return nil
		case <-m.changed:
			wait = retryFirst
		case <-timer.C:
		}
		timer.Stop()
	}
}

// look takes over every certificate that is there or can be had, and reports whether
// that is all, and when to look again.
func (m *Manager) look(ctx context.Context) (all bool, next time.Duration) {
	all, next = true, lookEvery
	domains := *m.domains.Load()
	wanted := slices.Sorted(maps.Keys(domains))
	m.Load(ctx, wanted)
	for _, domain := range wanted {
		if ctx.Err() != nil {
			return false, next
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
		next = min(next, max(cert.Leaf.NotAfter.Sub(cert.Leaf.NotBefore)/20, time.Second))
	}
	m.mu.Lock()
	maps.DeleteFunc(m.known, func(domain string, _ *tls.Certificate) bool { return !domains[domain] })
	m.mu.Unlock()
	return all, next
}

// takeUp puts in force what is stored: by an earlier run, or by another drover, whose
// newer certificate autocert would see when its own is due.
func (m *Manager) takeUp(ctx context.Context, domain string) {
	data, err := m.stored.Get(ctx, domain)
	if err != nil {
		return // there is none, or obtain has the same failure.
	}
	if cert := parse(data, domain); cert != nil && !time.Now().Before(cert.Leaf.NotBefore) {
		m.put(domain, cert)
	}
}

// follow takes up what others of the group obtain while this one has nothing: its own
// next try may be an hour away.
func (m *Manager) follow(ctx context.Context) {
	for pause(ctx, followEvery) {
		for domain := range *m.domains.Load() {
			m.mu.RLock()
			missing := m.known[domain] == nil
			m.mu.RUnlock()
			if missing {
				m.takeUp(ctx, domain)
			}
		}
	}
}

// parse gives what autocert has stored for a domain, nil where it does not take that for
// a certificate of the domain's, or no longer.
func parse(data []byte, domain string) *tls.Certificate {
	cert, err := tls.X509KeyPair(data, data)
	if err != nil || cert.Leaf.VerifyHostname(domain) != nil || time.Now().After(cert.Leaf.NotAfter) {
		return nil
	}
	if _, ok := cert.PrivateKey.(*ecdsa.PrivateKey); !ok {
		return nil
	}
	return &cert
}

// put puts a certificate in force, unless a newer one is.
func (m *Manager) put(domain string, cert *tls.Certificate) {
	m.mu.Lock()
	old := m.known[domain]
	newer := old == nil || cert.Leaf.NotAfter.After(old.Leaf.NotAfter)
	if newer {
		m.known[domain] = cert
	}
	m.mu.Unlock()
	if newer {
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
