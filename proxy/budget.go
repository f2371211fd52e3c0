package proxy

import (
	"math"
	"sync/atomic"
	"time"
)

// budget is a retry budget after Finagle's RetryBudget: each request deposits a
// fraction of a retry, each retry withdraws one, and a small allowance refills with
// time. Deposits do not pile up past ten seconds' worth, so that a quiet hour does
// not pay for a storm. It is lock-free.
type budget struct {
	// immutable
	perRequest int64 // millionths of a retry
	perSecond  float64
	ceiling    int64

	// atomic
	balance  atomic.Int64 // millionths
	refilled atomic.Int64 // Unix nanoseconds of the last refill
}

const (
	retryUnit         = 1_000_000
	budgetWindow      = 10 * time.Second
	budgetMinCeiling  = 10 * retryUnit
	budgetRefillEvery = 10 * time.Millisecond
)

func newBudget(cfg BudgetConfig, now time.Time) *budget {
	b := &budget{perRequest: int64(math.Round(cfg.Percent / 100 * retryUnit)), perSecond: cfg.MinPerSecond}
	b.ceiling = int64(cfg.MinPerSecond * budgetWindow.Seconds() * retryUnit)
	if cfg.MinPerSecond > 0 {
		b.ceiling = max(b.ceiling, retryUnit) // less would never make a retry
	}
	if b.perRequest > 0 {
		// What is saved from requests must be enough for the burst of failures that
		// one server's death makes of what was in flight on it.
		b.ceiling = max(b.ceiling, budgetMinCeiling) + 100*b.perRequest
	}
	b.balance.Store(int64(cfg.MinPerSecond * retryUnit))
	b.refilled.Store(now.UnixNano())
	return b
}

// deposit accounts for one request.
func (b *budget) deposit() {
	if b.perRequest > 0 && b.balance.Load() < b.ceiling {
		b.balance.Add(b.perRequest)
	}
}

// withdraw takes one retry and reports whether there was one.
func (b *budget) withdraw(now time.Time) bool {
	b.refill(now)
	for {
		have := b.balance.Load()
		if have < retryUnit {
			return false
		}
		if b.balance.CompareAndSwap(have, have-retryUnit) {
			return true
		}
	}
}

func (b *budget) refill(now time.Time) {
	last := b.refilled.Load()
	elapsed := time.Duration(now.UnixNano() - last)
	if elapsed < budgetRefillEvery || !b.refilled.CompareAndSwap(last, now.UnixNano()) {
		return
	}
	gain := int64(min(elapsed.Seconds()*b.perSecond*retryUnit, float64(b.ceiling)))
	b.balance.Add(max(0, min(gain, b.ceiling-b.balance.Load())))
}
