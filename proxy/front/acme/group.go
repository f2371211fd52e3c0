package acme

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/crypto/acme/autocert"
)

// Storage is where a group of drovers keeps account, certificates and the answers to
// challenges, in place of a folder of each one's own.
type Storage struct {
	autocert.Cache
	// Order is taken by the one of the group that orders a certificate.
	Order Lock
}

// Lock is had by one of a group at a time, and lost by one that dies.
type Lock interface {
	// Try takes it, and reports whether it has.
	Try(ctx context.Context) (bool, error)
	// Release gives it back. Where it is not had, that is no error.
	Release(ctx context.Context) error
}

const (
	// Whoever waits for the storage, or for what another of the group has ordered, asks
	// again after groupFirst, then after twice as long, up to groupEvery.
	groupFirst = 50 * time.Millisecond
	groupEvery = time.Second
	// followEvery is how often what is missing is looked for.
	followEvery = 5 * time.Second
	// groupTimeout bounds what does not wait in the background: the answer to a
	// challenge, which anybody may ask for, and giving the lock back.
	groupTimeout = 3 * time.Second
)

// group is the storage of a group, for autocert, which knows of its own process alone.
// Autocert asks for a certificate before it orders one, orders where there is none or
// where it is due, and ends the context of all that when it is done with it. So the
// question is answered, where it leads to an order, once this process has the lock, and
// the end of the context gives that back. While the storage is away there is no answer.
type group struct {
	// immutable
	Storage
	logger  *zap.Logger
	life    context.Context // the Manager's
	turn    chan struct{}   // a token for whoever of this process has the lock, or had it and gives it back
	lookups chan struct{}   // a token for the one look-up under way

	// whoever has the turn
	unlock func()
}

func newGroup(life context.Context, storage Storage, logger *zap.Logger) *group {
	return &group{Storage: storage, logger: logger, life: life, turn: make(chan struct{}, 1), lookups: make(chan struct{}, 1)}
}

// accountKey is what autocert's keys of the account begin with.
const accountKey = "acme_account"

// isCertificate tells autocert's keys of certificates from its others.
func isCertificate(key string) bool {
	return !strings.Contains(key, "+") && !strings.HasPrefix(key, accountKey)
}

// Get implements autocert.Cache.
func (g *group) Get(ctx context.Context, key string) ([]byte, error) {
	switch {
	case isCertificate(key):
		return g.certificate(ctx, key)
	case strings.HasPrefix(key, accountKey):
		return g.Cache.Get(ctx, key)
	}
	ctx, cancel := context.WithTimeout(ctx, groupTimeout)
	defer cancel()
	select {
	case g.lookups <- struct{}{}: // one at a time: whoever asks for what is not there must not keep the storage busy.
		defer func() { <-g.lookups }()
		return g.Cache.Get(ctx, key)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// certificate gives what is stored for a domain, once it is good for a while yet, or this
// process is to order.
func (g *group) certificate(ctx context.Context, domain string) ([]byte, error) {
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(g.life, cancel)()
	log := g.logger.With(zap.String("domain", domain))
	warned, told := false, false
	for wait := groupFirst; ; wait = min(2*wait, groupEvery) {
		data, state, err := g.stored(waiting, domain)
		if state == stateDue {
			var unlock func()
			if unlock, err = g.lock(waiting); unlock != nil {
				data, state, err = g.stored(waiting, domain) // somebody may have been quicker.
				if state == stateDue {
					context.AfterFunc(ctx, unlock)
					return data, nil
				}
				unlock()
			}
		}
		switch {
		case state == stateGood:
			return data, nil
		case wait < groupEvery: // it may be over at once.
		case err != nil && !warned:
			warned = true
			log.Warn("cannot use the storage of certificates; none is ordered until it is back", zap.Error(err))
		case err == nil && !told:
			told = true
			log.Info("another order is under way, or what is stored is not valid yet; waiting for it")
		}
		if !pause(waiting, wait) {
			return nil, errors.Join(waiting.Err(), err)
		}
	}
}

type state uint8

const (
	stateAway  state = iota // the storage tells nothing
	stateEarly              // to be used later; a clock is wrong here or with the authority
	stateDue                // to be ordered: there is none, or one to be renewed
	stateGood
)

// stored gives what is stored for a domain, and what autocert will make of it.
func (g *group) stored(ctx context.Context, domain string) ([]byte, state, error) {
	data, err := g.Cache.Get(ctx, domain)
	if errors.Is(err, autocert.ErrCacheMiss) {
		return nil, stateDue, nil
	}
	if err != nil {
		return nil, stateAway, err
	}
	cert := parse(data, domain)
	if cert == nil {
		return data, stateDue, nil
	}
	now, begin, end := time.Now(), cert.Leaf.NotBefore, cert.Leaf.NotAfter
	switch {
	case now.Before(begin):
		return data, stateEarly, nil
	case now.After(end.Add(-min(end.Sub(begin)/3, 30*24*time.Hour))): // autocert waits up to an hour longer.
		return data, stateDue, nil
	}
	return data, stateGood, nil
}

// lock takes the lock, and gives what gives it back: nil where another has it.
func (g *group) lock(ctx context.Context) (unlock func(), err error) {
	select {
	case g.turn <- struct{}{}:
	default:
		return nil, nil //nolint:nilnil // another of this process has it.
	}
	unlock = sync.OnceFunc(func() { go g.giveBack() })
	held, err := g.Order.Try(ctx)
	switch {
	case err != nil:
		unlock() // it may be ours all the same.
		return nil, err
	case !held:
		<-g.turn
		return nil, nil //nolint:nilnil // another process has it.
	}
	g.unlock = unlock
	return unlock, nil
}

// giveBack gives the lock back, and tries until it can or the Manager ends.
func (g *group) giveBack() {
	for {
		ctx, cancel := context.WithTimeout(context.Background(), groupTimeout)
		err := g.Order.Release(ctx)
		cancel()
		if err == nil || !pause(g.life, groupEvery) {
			break
		}
	}
	<-g.turn
}

// Put implements autocert.Cache. A certificate is there for once: while the storage is
// away it is kept until that is back, or autocert gives up.
func (g *group) Put(ctx context.Context, key string, data []byte) error {
	for {
		err := g.Cache.Put(ctx, key, data)
		switch {
		case !isCertificate(key):
			return err
		case err == nil:
			g.unlock() // and not when autocert is done: it may wait for one that waits for the lock.
			return nil
		case !pause(ctx, groupEvery) || g.life.Err() != nil:
			g.logger.Error("cannot store a certificate; others will order one of their own", zap.String("domain", key), zap.Error(err))
			return err
		}
	}
}

// close waits a bounded time until nobody of this process has the lock, and keeps it from
// being taken again.
func (g *group) close() {
	ctx, cancel := context.WithTimeout(context.Background(), groupTimeout)
	defer cancel()
	select {
	case g.turn <- struct{}{}:
	case <-ctx.Done():
	}
}

// pause waits, and reports whether ctx goes on.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
