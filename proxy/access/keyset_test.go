package access

import (
	"context"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"go.uber.org/goleak"
	"go.uber.org/zap"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// publisher serves a JWK set over TLS.
type publisher struct {
	*httptest.Server
	text  atomic.Pointer[[]byte] // nil for a failure
	asked atomic.Int64
}

func startPublisher(t *testing.T) *publisher {
	t.Helper()
	p := &publisher{}
	p.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		p.asked.Add(1)
		text := p.text.Load()
		if text == nil {
			http.Error(w, "out of order", http.StatusInternalServerError)
			return
		}
		_, _ = w.Write(*text)
	}))
	p.Config.ErrorLog = nil
	t.Cleanup(p.Close)
	return p
}

func (p *publisher) publish(t *testing.T, keys ...jose.JSONWebKey) {
	t.Helper()
	text := keySet(t, keys...)
	p.text.Store(&text)
}

func (p *publisher) config(t *testing.T) KeySetConfig {
	t.Helper()
	var cfg KeySetConfig
	cfg.SetDefaults()
	cfg.URL, cfg.CAFile = p.URL, filepath.Join(t.TempDir(), "ca.pem")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Certificate().Raw})
	if err := os.WriteFile(cfg.CAFile, block, 0o600); err != nil {
		t.Fatal(err)
	}
	return cfg
}

// running makes a JWT whose keys are fetched until the test ends.
func running(t *testing.T, cfg KeySetConfig) *JWT {
	t.Helper()
	set, err := NewKeySet(cfg, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- set.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	jc := &JWTConfig{}
	jc.SetDefaults()
	jc.Keys, jc.Issuer = cfg, "https://login.example"
	j, err := NewJWT(jc, set)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// TestKeySetRotates lets the issuer change its key: the token of the new key makes
// drover fetch it, and the first request with it is let in. Tokens of keys that do not
// exist cause no further fetch.
func TestKeySetRotates(t *testing.T) {
	first, second := newIssuer(t, "k1", jose.ES256), newIssuer(t, "k2", jose.ES256)
	p := startPublisher(t)
	p.publish(t, first.public())
	j := running(t, p.config(t))
	for j.set.keys.Load() == nil {
		runtime.Gosched()
	}
	if _, err := j.Check(bearer(first.sign(t, claimsWith(nil))), now); err != nil {
		t.Fatalf("first key: %v", err)
	}
	p.publish(t, second.public())
	if _, err := j.Check(bearer(second.sign(t, claimsWith(nil))), now); err != nil {
		t.Errorf("second key: %v", err)
	}
	j.set.mu.Lock()
	if j.set.next != nil {
		t.Error("the fetch that was waited for is not over: the request waited in vain")
	}
	j.set.mu.Unlock()
	asked := p.asked.Load()
	for _, id := range []string{"k3", "k4", "k5"} {
		invented := newIssuer(t, id, jose.ES256)
		if _, err := j.Check(bearer(invented.sign(t, claimsWith(nil))), now); !errors.Is(err, ErrDenied) {
			t.Errorf("invented key: got %v; want it denied", err)
		}
	}
	if got := p.asked.Load() - asked; got > 0 {
		t.Errorf("invented keys caused %d fetches; want none so soon", got)
	}
	p.text.Store(nil)
	if err := j.set.fetch(context.Background()); err == nil {
		t.Error("a failed fetch is none")
	}
	if _, err := j.Check(bearer(second.sign(t, claimsWith(nil))), now); err != nil {
		t.Errorf("while the issuer is out of order: %v", err)
	}
}

// TestKeySetUnknown has no keys at all: that is not the client's fault.
func TestKeySetUnknown(t *testing.T) {
	p := startPublisher(t)
	j := running(t, p.config(t))
	signer := newIssuer(t, "k1", jose.ES256)
	if _, err := j.Check(bearer(signer.sign(t, claimsWith(nil))), now); !errors.Is(err, ErrBusy) {
		t.Errorf("got %v; want ErrBusy", err)
	}
	if _, err := j.Check(bearer("x"), now); !errors.Is(err, ErrDenied) {
		t.Errorf("no token: got %v; want it denied", err)
	}
}

func TestKeySetNeedsAuthority(t *testing.T) {
	p := startPublisher(t)
	p.publish(t, newIssuer(t, "k1", jose.ES256).public())
	cfg := p.config(t)
	known, err := NewKeySet(cfg, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	if err := known.fetch(context.Background()); err != nil {
		t.Errorf("with its authority: %v", err)
	}
	cfg.CAFile = ""
	unknown, err := NewKeySet(cfg, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	if err := unknown.fetch(context.Background()); err == nil {
		t.Error("a server that nobody vouches for is believed")
	}
	text := make([]byte, maxKeySetSize+1)
	p.text.Store(&text)
	if err := known.fetch(context.Background()); err == nil {
		t.Error("an endless set is read")
	}
}
