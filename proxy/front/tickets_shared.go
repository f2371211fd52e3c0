package front

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// TicketStore is where drovers keep the secrets of session tickets that they share
// elsewhere than in a file.
type TicketStore interface {
	// Load gives what is stored.
	Load(ctx context.Context) (StoredTickets, error)
	// Swap stores a text in the place of the version that Load gave, and reports whether
	// that was still there.
	Swap(ctx context.Context, text []byte, version int32) (swapped bool, err error)
}

// StoredTickets are secrets in a TicketStore.
type StoredTickets struct {
	// Data is the text, as in a file.
	Data []byte
	// Version tells it from what is stored later. It is less than 0 where there is none.
	Version int32
	// Modified is when it was stored.
	Modified time.Time
}

const (
	// ticketsEvery is how often a TicketStore is looked at. After a failure it is tried
	// sooner, and then ever later up to this.
	ticketsEvery      = 2 * time.Second
	ticketsRetryFirst = 100 * time.Millisecond
	// ticketsTries bounds how often secrets are made that another drover's overtake.
	ticketsTries = 3
)

// SharedTickets keeps the secrets of a TicketStore in memory, where handshakes find them.
// Until they are known there it gives secrets of its own.
type SharedTickets struct {
	// immutable
	store  TicketStore
	every  time.Duration // 0: others rotate
	logger *zap.Logger

	// one goroutine: whoever calls Refresh, which is Run once that has begun
	version int32     // seen last
	since   time.Time // when it was seen first

	// atomic
	known atomic.Pointer[[]TicketSecret]

	// under mu
	mu  sync.Mutex
	own ownSecrets
}

// NewSharedTickets makes those of a configuration. It asks nobody anything.
func NewSharedTickets(cfg TicketsConfig, store TicketStore, logger *zap.Logger) *SharedTickets {
	return &SharedTickets{store: store, every: cfg.RotateEvery, logger: logger.With(zap.String("path", cfg.ZooKeeper)), version: -1}
}

// Inherit begins with the secrets that another knows. It comes before Run.
func (s *SharedTickets) Inherit(from *SharedTickets) { s.known.Store(from.known.Load()) }

// Secrets implements TicketSource, also for several listeners at a time.
func (s *SharedTickets) Secrets(now time.Time) ([]TicketSecret, error) {
	if known := s.known.Load(); known != nil {
		return *known, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.own.Secrets(now)
}

// Run follows the store until ctx ends. A failure that lasts is logged.
func (s *SharedTickets) Run(ctx context.Context) error {
	retry, told := ticketsRetryFirst, false
	for {
		err := s.Refresh(ctx, time.Now())
		pause := ticketsEvery
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil && told:
			s.logger.Info("the keys of session tickets can be read again")
			fallthrough
		case err == nil:
			retry, told = ticketsRetryFirst, false
		case retry == ticketsEvery && !told:
			s.logger.Warn("cannot share the keys of session tickets; those in force stay", zap.Error(err))
			told = true
		default:
			pause, retry = retry, min(2*retry, ticketsEvery)
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
	}
}

// Refresh takes over what is stored. It stores a first secret where there is none, and a
// new one in front of what is too old at that time.
func (s *SharedTickets) Refresh(ctx context.Context, now time.Time) error {
	for range ticketsTries {
		stored, err := s.store.Load(ctx)
		if err != nil {
			return err
		}
		var secrets []TicketSecret
		if stored.Version >= 0 {
			if secrets, err = parseSecrets(stored.Data); err != nil {
				return fmt.Errorf("cannot use what is stored: %w", err)
			}
			s.known.Store(&secrets)
			if !s.due(stored, now) {
				return nil
			}
		}
		next := withNewSecret(secrets)
		swapped, err := s.store.Swap(ctx, formatSecrets(next), stored.Version)
		if err != nil {
			return err // whether it is stored or not shows when it is loaded next.
		}
		if swapped {
			s.known.Store(&next)
			return nil
		}
	}
	return nil
}

// due reports whether a new secret is wanted. With a clock far ahead of the store's all
// that is stored looks old: it is rotated once a minute at most, and not at each look.
func (s *SharedTickets) due(stored StoredTickets, now time.Time) bool {
	if stored.Version != s.version {
		s.version, s.since = stored.Version, now
	}
	return s.every > 0 && now.Sub(stored.Modified) >= s.every && now.Sub(s.since) >= min(s.every, minRotation)
}

// sharedSecrets asks for the secrets of Options.Tickets.
type sharedSecrets struct {
	cfg TicketsConfig
	ask func(TicketsConfig, time.Time) ([]TicketSecret, error) // nil before SetTLS
}

// Secrets implements TicketSource.
func (s *sharedSecrets) Secrets(now time.Time) ([]TicketSecret, error) {
	if s.ask == nil {
		return nil, nil
	}
	return s.ask(s.cfg, now)
}
