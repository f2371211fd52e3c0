package access

import (
	"context"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"
	"go.uber.org/zap"
)

// KeySet holds the public keys of a JWK set's address and keeps them fresh while Run
// runs. The request path only reads what is there.
type KeySet struct {
	// immutable
	cfg    KeySetConfig
	client *http.Client
	logger *zap.Logger
	wanted chan struct{} // somebody waits for a fetch

	// atomic
	keys atomic.Pointer[[]jose.JSONWebKey] // nil until the first were fetched

	// under mu
	mu    sync.Mutex
	asked time.Time     // of the last fetch that somebody asked for
	next  chan struct{} // closed when the fetch that is asked for has ended; nil without one
}

const (
	// minRefetch is the least time between fetches that tokens with unknown keys cause:
	// whoever invents key ids must not use drover against the issuer.
	minRefetch = 10 * time.Second
	// refetchWait is how long a request waits for such a fetch.
	refetchWait = 2 * time.Second
	// firstRetry and maxRetry are the waits after fetches that failed.
	firstRetry, maxRetry = time.Second, time.Minute
	// maxKeySetSize and maxKeys bound what an issuer can make drover hold.
	maxKeySetSize, maxKeys = 1 << 20, 100
	// minRSABits is the shortest RSA key that is taken (NIST SP 800-131A).
	minRSABits = 2048
)

// NewKeySet makes a KeySet without keys. It reads the authorities' file, and fetches
// nothing before Run.
func NewKeySet(cfg KeySetConfig, logger *zap.Logger) (*KeySet, error) {
	transport := &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}, DisableKeepAlives: true}
	if cfg.CAFile != "" {
		pem, err := os.ReadFile(cfg.CAFile)
		if err != nil {
			return nil, fmt.Errorf("cannot read authorities: %w", err)
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("cannot read authorities %q: got no certificate; want certificates in PEM", cfg.CAFile)
		}
		transport.TLSClientConfig.RootCAs = roots
	}
	client := &http.Client{Transport: transport, Timeout: cfg.Timeout, CheckRedirect: func(r *http.Request, via []*http.Request) error {
		if len(via) > 3 || via[0].URL.Scheme == "https" && r.URL.Scheme != "https" {
			return errors.New("got redirected too often, or away from https")
		}
		return nil
	}}
	return &KeySet{cfg: cfg, client: client, logger: logger, wanted: make(chan struct{}, 1)}, nil
}

// Run fetches the keys, until ctx ends.
func (s *KeySet) Run(ctx context.Context) error {
	retry := firstRetry
	for {
		wait := s.cfg.Refresh
		err := s.fetch(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			s.logger.Warn("cannot fetch keys; the last good ones stay", zap.String("url", s.cfg.URL), zap.Error(err))
			wait = min(retry, wait)
			retry = min(2*retry, maxRetry)
		default:
			retry = firstRetry
		}
		s.answerAsked()
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		case <-s.wanted:
			timer.Stop()
		}
	}
}

func (s *KeySet) fetch(ctx context.Context) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.cfg.URL, nil)
	if err != nil {
		return err
	}
	r.Header.Set("Accept", "application/jwk-set+json, application/json")
	resp, err := s.client.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }() // it was read, or is of no use.
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("got status %d; want 200", resp.StatusCode)
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxKeySetSize+1))
	if err != nil {
		return err
	}
	if len(text) > maxKeySetSize {
		return fmt.Errorf("got more than %d bytes; want fewer", maxKeySetSize)
	}
	keys, err := parseKeys(text)
	if err != nil {
		return err
	}
	s.keys.Store(&keys)
	return nil
}

// ask asks for a fetch. It gives a channel that closes when it has ended, nil when the
// last that was asked for is not long ago.
func (s *KeySet) ask() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next != nil {
		return s.next
	}
	if time.Since(s.asked) < minRefetch {
		return nil
	}
	s.asked, s.next = time.Now(), make(chan struct{})
	select {
	case s.wanted <- struct{}{}:
	default:
	}
	return s.next
}

func (s *KeySet) answerAsked() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next != nil {
		close(s.next)
		s.next = nil
	}
}

// candidates gives the keys that may have signed a token. Where none fits they are
// fetched anew, which the request waits for, but not for long. It gives ErrBusy when
// no keys are known at all.
func (s *KeySet) candidates(id, algorithm string) ([]jose.JSONWebKey, error) {
	keys := s.keys.Load()
	if keys == nil || len(fitting(*keys, id, algorithm)) == 0 {
		if done := s.ask(); done != nil {
			timer := time.NewTimer(refetchWait)
			defer timer.Stop()
			select {
			case <-done:
			case <-timer.C:
			}
			keys = s.keys.Load()
		}
	}
	if keys == nil {
		return nil, ErrBusy
	}
	return fitting(*keys, id, algorithm), nil
}

// fitting picks the keys of an id, all for a token that names none, that are for an
// algorithm.
func fitting(keys []jose.JSONWebKey, id, algorithm string) []jose.JSONWebKey {
	var fit []jose.JSONWebKey
	for _, k := range keys {
		if (id == "" || k.KeyID == id) && (k.Algorithm == "" || k.Algorithm == algorithm) {
			fit = append(fit, k)
		}
	}
	return fit
}

// readKeys reads a file with keys.
func readKeys(path string) ([]jose.JSONWebKey, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read: %w", err)
	}
	return parseKeys(text)
}

// parseKeys reads a JWK set. Keys that cannot check a signature, and those of kinds
// that are not known, are passed over (RFC 7517, section 5), but one must be left.
func parseKeys(text []byte) ([]jose.JSONWebKey, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(text, &set); err != nil {
		return nil, fmt.Errorf("got no JWK set: %w", err)
	}
	var keys []jose.JSONWebKey
	for _, raw := range set.Keys {
		var k jose.JSONWebKey
		if k.UnmarshalJSON(raw) == nil && usable(&k) && len(keys) < maxKeys {
			keys = append(keys, k)
		}
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("got no public key for signatures among %d keys; want one at least", len(set.Keys))
	}
	return keys, nil
}

// usable takes public keys only: a shared secret in a public place is none, and a
// public key must never be taken for one.
func usable(k *jose.JSONWebKey) bool {
	if r, ok := k.Key.(*rsa.PublicKey); ok && r.N.BitLen() < minRSABits {
		return false
	}
	return k.Valid() && k.IsPublic() && (k.Use == "" || k.Use == "sig")
}
