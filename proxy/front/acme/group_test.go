package acme

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"golang.org/x/crypto/acme/autocert"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// storage is what a group shares, in memory, with outages.
type storage struct {
	mu      sync.Mutex
	away    bool
	deaf    bool // carries out what the lock is asked, and does not answer
	stuck   chan struct{}
	after   func() // comes once, before the first answer of Get gets through
	held    map[string][]byte
	holder  *lock
	order   int // drovers that order at this moment
	ordered int
}

var errAway = errors.New("nobody is there")

func (s *storage) with(do func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	do()
}

func (s *storage) Get(_ context.Context, key string) (data []byte, err error) {
	if s.stuck != nil {
		<-s.stuck
	}
	s.with(func() {
		data = s.held[key]
		switch {
		case s.away:
			data, err = nil, errAway
		case data == nil:
			err = autocert.ErrCacheMiss
		}
	})
	if after := s.after; after != nil {
		s.after = nil
		after()
	}
	return data, err
}

func (s *storage) Put(_ context.Context, key string, data []byte) (err error) {
	s.with(func() {
		if s.away {
			err = errAway
			return
		}
		s.held[key] = bytes.Clone(data)
	})
	return err
}

func (s *storage) Delete(context.Context, string) error { return nil }

// lock is one drover's handle of the storage's.
type lock struct{ *storage }

func (l *lock) Try(context.Context) (held bool, err error) {
	l.with(func() {
		if !l.away && (l.holder == nil || l.holder == l) {
			l.holder, held = l, true
		}
		if l.away || l.deaf {
			held, err = false, errAway
		}
	})
	return held, err
}

func (l *lock) Release(context.Context) (err error) {
	l.with(func() {
		if l.away || l.deaf {
			err = errAway
		} else if l.holder == l {
			l.holder = nil
		}
	})
	return err
}

// drover is one of a group, up to autocert.
type drover struct {
	*group
	end  func()
	logs *observer.ObservedLogs
}

func (s *storage) drover(t *testing.T) *drover {
	life, end := context.WithCancel(t.Context())
	core, logs := observer.New(zap.InfoLevel)
	d := &drover{newGroup(life, Storage{s, &lock{s}}, zap.New(core)), end, logs}
	t.Cleanup(end)
	return d
}

func newStorage() *storage { return &storage{held: map[string][]byte{}} }

// obtain does what autocert does: it asks, orders what is missing or due for as long as
// an order takes, and stores it. Nil is an order that fails.
func (d *drover) obtain(t *testing.T, s *storage, fresh []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	data, err := d.Get(ctx, "a.test")
	if err != nil && !errors.Is(err, autocert.ErrCacheMiss) {
		return nil, err
	}
	if cert := parse(data, "a.test"); cert != nil && time.Until(cert.Leaf.NotAfter) > 31*24*time.Hour {
		return data, nil
	}
	s.with(func() {
		s.order++
		s.ordered++
		if s.order > 1 {
			t.Error("two order at once")
		}
	})
	time.Sleep(10 * time.Second)
	s.with(func() { s.order-- })
	if fresh == nil {
		return nil, errors.New("the authority refuses")
	}
	if err := d.Put(ctx, "a.test", fresh); err != nil {
		return nil, err
	}
	return fresh, nil
}

// newCert makes a certificate for a.test, stored as autocert does.
func newCert(t *testing.T, begin, end time.Time) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"a.test"}, NotBefore: begin, NotAfter: end}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return slices.Concat(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: private}),
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func freshCert(t *testing.T) []byte {
	t.Helper()
	return newCert(t, time.Now().Add(-time.Hour), time.Now().Add(90*24*time.Hour))
}

// free wants nobody to have the lock.
func (s *storage) free(t *testing.T) {
	t.Helper()
	synctest.Wait()
	s.with(func() {
		if s.holder != nil {
			t.Error("the lock is not given back")
		}
	})
}

// TestOneOrders: of several that want a certificate one orders it, and all get that.
func TestOneOrders(t *testing.T) {
	for name, stored := range map[string]func(t *testing.T) []byte{
		"none": func(*testing.T) []byte { return nil },
		"one due": func(t *testing.T) []byte {
			return newCert(t, time.Now().Add(-70*24*time.Hour), time.Now().Add(20*24*time.Hour))
		},
		"expired": func(t *testing.T) []byte {
			return newCert(t, time.Now().Add(-70*24*time.Hour), time.Now().Add(-time.Hour))
		},
		"no usable": func(*testing.T) []byte { return []byte("rubbish") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStorage()
				if data := stored(t); data != nil {
					s.held["a.test"] = data
				}
				var running sync.WaitGroup
				fresh := freshCert(t)
				for range 4 {
					d := s.drover(t)
					running.Go(func() {
						if got, err := d.obtain(t, s, fresh); err != nil || !bytes.Equal(got, fresh) {
							t.Errorf("got %d bytes, %v; want the new one", len(got), err)
						}
					})
				}
				running.Wait()
				if s.ordered != 1 {
					t.Errorf("%d ordered; want one", s.ordered)
				}
				s.free(t)
			})
		})
	}
}

// TestAnotherIsQuicker: what is stored just before the lock is had is not ordered again.
func TestAnotherIsQuicker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, fresh := newStorage(), freshCert(t)
		s.after = func() { s.with(func() { s.held["a.test"] = fresh }) }
		if got, err := s.drover(t).obtain(t, s, nil); err != nil || !bytes.Equal(got, fresh) {
			t.Errorf("got %d bytes, %v", len(got), err)
		}
		s.free(t)
	})
}

// TestOrdersOfOneProcess: what autocert orders at once, by its timers, comes in turn. It
// may be at work on one while it waits for another, so the lock is free as soon as a
// certificate is stored.
func TestOrdersOfOneProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStorage()
		d := s.drover(t)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		if _, err := d.Get(ctx, "b.test"); err != nil {
			t.Fatal(err)
		}
		ordered := make(chan error)
		go func() {
			_, err := d.obtain(t, s, freshCert(t))
			ordered <- err
		}()
		time.Sleep(time.Minute)
		if s.ordered != 0 {
			t.Error("two orders at once")
		}
		if err := d.Put(ctx, "b.test", []byte("b")); err != nil {
			t.Fatal(err)
		}
		if err := <-ordered; err != nil {
			t.Error(err)
		}
		s.free(t)
	})
}

// TestOrderFails: another one tries, and whoever was about to order is not in the way.
func TestOrderFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStorage()
		if _, err := s.drover(t).obtain(t, s, nil); err == nil {
			t.Error("got no error")
		}
		s.free(t)

		s.with(func() { s.deaf = true })
		short, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		if _, err := s.drover(t).Get(short, "a.test"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		s.with(func() { s.deaf = false })
		time.Sleep(2 * groupEvery)
		s.free(t)

		s.with(func() { s.deaf = true })
		d, fresh := s.drover(t), freshCert(t)
		var running sync.WaitGroup
		running.Go(func() {
			if _, err := d.obtain(t, s, fresh); err != nil {
				t.Error(err)
			}
		})
		time.Sleep(10 * time.Second)
		s.with(func() {
			if s.holder == nil || s.ordered != 1 {
				t.Errorf("%d ordered without being told that they may", s.ordered-1)
			}
			s.deaf = false
		})
		running.Wait()
		s.free(t)
	})
}

// TestStorageIsAway: nothing is ordered meanwhile, and what was ordered waits for it.
func TestStorageIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStorage()
		s.away = true
		d, fresh := s.drover(t), freshCert(t)
		if _, err := d.obtain(t, s, fresh); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, errAway) || s.ordered != 0 {
			t.Errorf("got %v, %d orders; want none", err, s.ordered)
		}
		if d.logs.Len() != 1 || d.logs.FilterMessageSnippet("none is ordered until it is back").Len() != 1 {
			t.Errorf("logged %v; want it once", d.logs.All())
		}
		s.with(func() { s.away, s.holder = false, &lock{s} })
		go func() {
			time.Sleep(time.Minute) // and it has been told of the other's order.
			s.with(func() { s.away = true })
		}()
		if _, err := d.obtain(t, s, fresh); !errors.Is(err, errAway) || d.logs.FilterMessageSnippet("none is ordered until it is back").Len() != 2 {
			t.Errorf("got %v, logged %v; want it told that the storage went away while it waited for another", err, d.logs.All())
		}
		s.with(func() { s.holder = nil })
		if _, err := d.Get(t.Context(), "acme_account+key"); !errors.Is(err, errAway) {
			t.Errorf("of the account: got %v; want the failure, and no new account", err)
		}
		done := make(chan error)
		go func() {
			_, err := d.obtain(t, s, fresh)
			done <- err
		}()
		s.with(func() { s.away = false })
		time.Sleep(5 * time.Second) // it orders
		s.with(func() { s.away = true })
		time.Sleep(time.Minute)
		s.with(func() {
			if s.ordered != 1 || s.held["a.test"] != nil {
				t.Error("it did not order, or has stored")
			}
			s.away = false
		})
		if err := <-done; err != nil || !bytes.Equal(s.held["a.test"], fresh) {
			t.Errorf("got %v; want it stored", err)
		}
		time.Sleep(groupEvery)
		s.free(t)

		s.with(func() { s.away, s.held = true, map[string][]byte{} })
		go func() {
			_, err := d.obtain(t, s, fresh)
			done <- err
		}()
		begin := time.Now()
		d.end()
		if err := <-done; !errors.Is(err, context.Canceled) || time.Since(begin) > time.Second {
			t.Errorf("got %v after %v; want an end with the Manager's", err, time.Since(begin))
		}
		d.close()
	})
}

// TestCertificateIsEarly: one from the future is waited for, and not ordered again.
func TestCertificateIsEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStorage()
		s.held["a.test"] = newCert(t, time.Now().Add(20*time.Second), time.Now().Add(90*24*time.Hour))
		begin := time.Now()
		if _, err := s.drover(t).obtain(t, s, freshCert(t)); err != nil || s.ordered != 0 || time.Since(begin) < 20*time.Second {
			t.Errorf("got %v and %d orders after %v", err, s.ordered, time.Since(begin))
		}
	})
}

// TestLookUpsAreBounded: whoever asks for the answers to challenges has one call of the
// storage's, and does not wait long.
func TestLookUpsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStorage()
		s.stuck = make(chan struct{})
		d := s.drover(t)
		var running sync.WaitGroup
		running.Go(func() {
			if _, err := d.Get(t.Context(), "first+http-01"); !errors.Is(err, autocert.ErrCacheMiss) {
				t.Errorf("the first: got %v", err)
			}
		})
		synctest.Wait()
		begin := time.Now()
		if _, err := d.Get(t.Context(), "second+http-01"); !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) > groupTimeout {
			t.Errorf("the second: got %v after %v", err, time.Since(begin))
		}
		close(s.stuck)
		running.Wait()
		if _, err := d.Get(t.Context(), "third+http-01"); !errors.Is(err, autocert.ErrCacheMiss) {
			t.Errorf("the third: got %v", err)
		}
	})
}

// TestManagerTakesUp: what another has obtained is in force soon, also after an order of
// one's own has failed.
func TestManagerTakesUp(t *testing.T) {
	s := newStorage()
	core, logs := observer.New(zap.InfoLevel)
	cfg := Config{Directory: "https://127.0.0.1:1/dir", StorageZooKeeper: "/x"} // which nobody serves
	m, err := New(cfg, &Storage{s, &lock{s}}, zap.New(core))
	if err != nil {
		t.Fatal(err)
	}
	m.SetDomains([]string{"a.test"})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- m.Run(ctx) }()
	wait := func(text string) {
		t.Helper()
		for begin := time.Now(); logs.FilterMessageSnippet(text).Len() == 0; {
			if !pause(ctx, 5*time.Millisecond) || time.Since(begin) > time.Minute {
				t.Fatalf("never logged %q", text)
			}
		}
	}
	wait("cannot obtain a certificate")
	fresh := freshCert(t)
	if err := s.Put(ctx, "a.test", fresh); err != nil {
		t.Fatal(err)
	}
	wait("certificate in force")
	next, err := New(cfg, nil, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	next.Inherit(m)
	for _, m := range []*Manager{m, next} {
		if m.known["a.test"] == nil || !bytes.Contains(fresh, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: m.known["a.test"].Certificate[0]})) {
			t.Error("another certificate, or none, is in force")
		}
	}
	older := parse(newCert(t, time.Now().Add(-time.Hour), time.Now().Add(time.Hour)), "a.test")
	if next.put("a.test", older); next.known["a.test"] == older {
		t.Error("an older certificate came after a newer one")
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if text := logs.FilterMessageSnippet("cannot obtain").All()[0].ContextMap()["error"]; !strings.Contains(text.(string), "127.0.0.1:1") {
		t.Errorf("said %v", text)
	}
}
