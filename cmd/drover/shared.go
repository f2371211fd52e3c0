package main

import (
	"context"
	"maps"
	"time"

	"drover/config"
	"drover/discovery/zookeeper"
	"drover/proxy/front"
	"drover/proxy/front/acme"

	"golang.org/x/crypto/acme/autocert"
)

// secrets are what the TLS of listeners has from elsewhere than their files.
type secrets struct {
	issuers map[acme.Config]*issuer
	tickets map[front.TicketsConfig]*ticketKeys
	before  *secrets // in the middle of a change, those of before
}

// ticketKeys are the secrets of session tickets that are shared through ZooKeeper.
type ticketKeys struct {
	keys *front.SharedTickets
	task *task
}

// planSecrets makes what a configuration wants. What runs stays where its settings are
// the same.
func (e *engine) planSecrets(cfg *config.Config) (*secrets, error) {
	issuers, err := e.planIssuers(cfg)
	if err != nil {
		return nil, err
	}
	next := &secrets{issuers: issuers, tickets: map[front.TicketsConfig]*ticketKeys{}}
	running := e.secrets.Load().tickets
	for _, l := range cfg.Listeners {
		if l.TLS == nil || l.TLS.SessionTickets.ZooKeeper == "" || next.tickets[l.TLS.SessionTickets] != nil {
			continue
		}
		settings := l.TLS.SessionTickets
		if running[settings] != nil {
			next.tickets[settings] = running[settings]
			continue
		}
		keys := front.NewSharedTickets(settings, storedTickets{e.store(), settings.ZooKeeper}, e.logger.Named("tickets"))
		for old, r := range running {
			if old.ZooKeeper == settings.ZooKeeper {
				keys.Inherit(r.keys)
			}
		}
		next.tickets[settings] = &ticketKeys{keys: keys}
	}
	return next, nil
}

// beginSecrets has them take up what is stored, and makes them known beside those in
// force, so that listeners can change over. Until waiting ends it waits for ZooKeeper.
func (e *engine) beginSecrets(ctx, waiting context.Context, next *secrets) {
	old := e.secrets.Load()
	both := &secrets{issuers: map[acme.Config]*issuer{}, tickets: map[front.TicketsConfig]*ticketKeys{}, before: old}
	maps.Copy(both.issuers, old.issuers)
	maps.Copy(both.issuers, next.issuers)
	maps.Copy(both.tickets, old.tickets)
	maps.Copy(both.tickets, next.tickets)
	for account, i := range next.issuers {
		if i.task == nil {
			e.awaitEnsemble(waiting, account.StorageZooKeeper)
			i.manager.Load(ctx, i.domains)
		}
	}
	for settings, t := range next.tickets {
		if t.task == nil {
			e.awaitEnsemble(waiting, settings.ZooKeeper)
			_ = t.keys.Refresh(ctx, time.Now()) // Run has the same failure, and says so.
		}
	}
	e.secrets.Store(both)
}

// awaitEnsemble waits for what a path needs, nothing for none.
func (e *engine) awaitEnsemble(ctx context.Context, path string) {
	if path == "" {
		return
	}
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for !e.ensemble.Load().State().Connected {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
	}
}

// commitSecrets puts them in force, once the listeners run that an authority asks, and
// stops what is not wanted any more.
func (e *engine) commitSecrets(next *secrets) {
	old := e.secrets.Swap(next)
	if old.before != nil {
		old = old.before
	}
	e.commitIssuers(next.issuers, old.issuers)
	for _, t := range next.tickets {
		if t.task == nil {
			t.task = startTask("keys of session tickets", e.logger, t.keys.Run)
		}
	}
	for settings, t := range old.tickets {
		if next.tickets[settings] != t {
			t.task.stop()
		}
	}
}

// ticketSecrets gives the secrets that a listener's settings share.
func (e *engine) ticketSecrets(settings front.TicketsConfig, now time.Time) ([]front.TicketSecret, error) {
	if t := e.secrets.Load().tickets[settings]; t != nil {
		return t.keys.Secrets(now)
	}
	return nil, nil
}

// store keeps secrets in whatever ensemble is in force.
func (e *engine) store() *zookeeper.Store { return zookeeper.NewStore(e.ensemble.Load) }

// storedTickets are the secrets of session tickets in a znode.
type storedTickets struct {
	store *zookeeper.Store
	path  string
}

// Load implements front.TicketStore.
func (s storedTickets) Load(ctx context.Context) (front.StoredTickets, error) {
	v, err := s.store.Get(ctx, s.path)
	return front.StoredTickets(v), err
}

// Swap implements front.TicketStore.
func (s storedTickets) Swap(ctx context.Context, text []byte, version int32) (bool, error) {
	return s.store.Swap(ctx, s.path, text, version)
}

// acmeStorage gives the storage of an account that a group shares, nil for a folder.
func (e *engine) acmeStorage(account acme.Config) *acme.Storage {
	if account.StorageZooKeeper == "" {
		return nil
	}
	store := e.store()
	return &acme.Storage{
		Cache: znodes{store, account.StorageZooKeeper},
		Order: store.Lock(account.StorageZooKeeper + "/order+lock"),
	}
}

// znodes are the children of a znode, as autocert's storage.
type znodes struct {
	store *zookeeper.Store
	path  string
}

// Get implements autocert.Cache.
func (z znodes) Get(ctx context.Context, key string) ([]byte, error) {
	v, err := z.store.Get(ctx, z.path+"/"+key)
	if err == nil && v.Version == zookeeper.Missing {
		err = autocert.ErrCacheMiss
	}
	return v.Data, err
}

// Put implements autocert.Cache.
func (z znodes) Put(ctx context.Context, key string, data []byte) error {
	return z.store.Put(ctx, z.path+"/"+key, data)
}

// Delete implements autocert.Cache.
func (z znodes) Delete(ctx context.Context, key string) error {
	return z.store.Delete(ctx, z.path+"/"+key)
}
