package front

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// ticketStore is a TicketStore in memory, with a clock of its own and outages.
type ticketStore struct {
	mu     sync.Mutex
	ahead  time.Duration // of the drovers' clocks
	away   bool
	loads  int
	held   StoredTickets
	before func() // comes first in Swap
}

var errAway = errors.New("nobody is there")

func newTicketStore() *ticketStore { return &ticketStore{held: StoredTickets{Version: -1}} }

func (s *ticketStore) Load(context.Context) (StoredTickets, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loads++
	if s.away {
		return StoredTickets{}, errAway
	}
	return s.held, nil
}

func (s *ticketStore) Swap(_ context.Context, text []byte, version int32) (bool, error) {
	if s.before != nil {
		s.before()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away {
		return false, errAway
	}
	if version != s.held.Version {
		return false, nil
	}
	s.held = StoredTickets{Data: bytes.Clone(text), Version: version + 1, Modified: time.Now().Add(s.ahead)}
	return true, nil
}

// with runs do while nobody is at the store.
func (s *ticketStore) with(do func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	do()
}

// shared is a drover that shares the store's secrets, and what it logs.
func (s *ticketStore) shared() (*SharedTickets, *observer.ObservedLogs) {
	core, logs := observer.New(zap.InfoLevel)
	return NewSharedTickets(TicketsConfig{RotateEvery: time.Hour}, s, zap.New(core)), logs
}

func secretsOf(t *testing.T, source TicketSource) []TicketSecret {
	t.Helper()
	secrets, err := source.Secrets(time.Now())
	if err != nil || len(secrets) == 0 {
		t.Fatalf("got %d secrets, %v", len(secrets), err)
	}
	return secrets
}

// follow runs s until the test, in a bubble of synctest, ends it.
func (s *SharedTickets) follow(t *testing.T) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- s.Run(ctx) }()
	synctest.Wait()
	return func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

func TestSharedTickets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newTicketStore()
		store.away = true
		a, logs := store.shared()
		b, _ := store.shared()
		defer a.follow(t)()
		defer b.follow(t)()
		own := secretsOf(t, a)
		if same := secretsOf(t, a); !slices.Equal(own, same) || own[0] == secretsOf(t, b)[0] {
			t.Error("without the store the secrets change, or are those of the other")
		}
		if logs.Len() != 0 {
			t.Errorf("logged %v of what may be over at once", logs.All())
		}
		time.Sleep(time.Minute)
		if logs.Len() != 1 || logs.FilterMessageSnippet("those in force stay").Len() != 1 {
			t.Errorf("logged %v; want it once", logs.All())
		}
		store.with(func() { store.away = false })
		time.Sleep(ticketsEvery)
		synctest.Wait()
		first := secretsOf(t, a)
		if len(first) != 1 || first[0] == own[0] || !slices.Equal(first, secretsOf(t, b)) {
			t.Error("with the store the two do not have one secret of theirs")
		}
		if logs.Len() != 2 {
			t.Errorf("logged %v; want that it is over, too", logs.All())
		}

		var loads int
		store.with(func() { loads = -store.loads })
		for range 1000 {
			secretsOf(t, a)
		}
		store.with(func() { loads += store.loads })
		if loads != 0 {
			t.Errorf("handshakes asked the store %d times", loads)
		}

		all := slices.Clone(first)
		for range 4 { // the newest three stay
			time.Sleep(time.Hour)
			synctest.Wait()
			got := secretsOf(t, a)
			all = append([]TicketSecret{got[0]}, all...)
			if !slices.Equal(got, all[:min(len(all), ticketSecrets)]) {
				t.Errorf("after %d rotations: lost a secret, or rotated twice", len(all)-1)
			}
			time.Sleep(ticketsEvery)
			synctest.Wait()
			if !slices.Equal(got, secretsOf(t, b)) || !slices.Equal(got, secretsOf(t, a)) {
				t.Errorf("after %d rotations the two differ", len(all)-1)
			}
		}
		for _, outage := range []func(){
			func() { store.away = true },
			func() { store.away, store.held.Data, store.held.Version = false, []byte("rubbish"), 99 },
		} {
			store.with(outage)
			time.Sleep(2 * time.Hour)
			synctest.Wait()
			if !slices.Equal(secretsOf(t, a), all[:ticketSecrets]) {
				t.Error("the secrets in force did not stay")
			}
		}
		store.with(func() {
			if string(store.held.Data) != "rubbish" {
				t.Error("something that drover does not understand was overwritten")
			}
		})
	})
}

// However many rotate at once, one new secret comes of it and no old one goes.
func TestSharedTicketsRotateAtOnce(t *testing.T) {
	store := newTicketStore()
	var drovers []*SharedTickets
	for range 8 {
		s, _ := store.shared()
		drovers = append(drovers, s)
	}
	refresh := func(now time.Time) {
		var running sync.WaitGroup
		for _, s := range drovers {
			running.Go(func() {
				if err := s.Refresh(t.Context(), now); err != nil {
					t.Error(err)
				}
			})
		}
		running.Wait()
	}
	now := time.Now()
	var before []TicketSecret
	for round := range 3 {
		var loaded sync.WaitGroup
		loaded.Add(len(drovers))
		store.ahead = time.Until(now)
		store.before = func() { loaded.Done(); loaded.Wait() } // all have seen the same
		refresh(now)
		store.before = nil
		got, err := parseSecrets(store.held.Data)
		if err != nil || len(got) != round+1 || !slices.Equal(got[1:], before) || store.held.Version != int32(round) {
			t.Fatalf("round %d: version %d with %d secrets, or others, %v", round, store.held.Version, len(got), err)
		}
		for i, s := range drovers {
			if !slices.Equal(secretsOf(t, s), got) {
				t.Errorf("round %d: drover %d has others", round, i)
			}
		}
		before = got
		refresh(now) // which sees it for the first time, and leaves it alone
		now = now.Add(2 * time.Hour)
	}
}

// A drover whose clock is days ahead does not rotate at every look.
func TestSharedTicketsWithAWrongClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newTicketStore()
		store.ahead = -48 * time.Hour
		s, _ := store.shared()
		defer s.follow(t)()
		time.Sleep(10*time.Minute - time.Second)
		store.with(func() {
			if got := store.held.Version; got > 10 {
				t.Errorf("rotated %d times in ten minutes", got)
			}
		})
	})
}

// A front asks for the secrets of its settings, and goes on with those it has where there
// are none.
func TestFrontAsksForTickets(t *testing.T) {
	site := writeCert(t, "a.test")
	settings := TicketsConfig{ZooKeeper: "/drover/tickets"}
	secrets := []TicketSecret{{1}}
	var mu sync.Mutex
	ask := func(cfg TicketsConfig, _ time.Time) ([]TicketSecret, error) {
		mu.Lock()
		defer mu.Unlock()
		if cfg != settings {
			t.Errorf("asked for %+v", cfg)
		}
		return secrets, nil
	}
	var fronts []*testFront
	for range 2 {
		tf := serveTest(t, withTickets(site, settings), reply("ok"))
		tf.opts.Tickets = ask
		next, err := LoadTLS(tf.cfg.TLS)
		if err != nil {
			t.Fatal(err)
		}
		tf.SetTLS(next)
		fronts = append(fronts, tf)
	}
	cfg := &tls.Config{}
	visit := func(set []TicketSecret, want string) {
		t.Helper()
		mu.Lock()
		secrets = set
		mu.Unlock()
		got := ""
		for _, tf := range fronts {
			resumed, err := tf.visit(t, cfg, nil)
			if err != nil {
				t.Fatal(err)
			}
			got += map[bool]string{true: "r", false: "-"}[resumed]
		}
		if got != want {
			t.Errorf("resumed %s; want %s", got, want)
		}
	}
	cfg.ClientSessionCache = tls.NewLRUClientSessionCache(8)
	visit([]TicketSecret{{1}}, "-r")
	visit([]TicketSecret{{2}, {1}}, "rr")
	visit(nil, "rr")
	visit([]TicketSecret{{3}, {2}}, "rr")
	visit([]TicketSecret{{4}}, "-r")
}
