package h2

import (
	"errors"
	"testing"
	"time"

	"drover/exchange"

	"go.uber.org/zap"
)

// idleOptions are those of a connection that has no front.
func idleOptions() Options {
	return Options{
		Logger:  zap.NewNop(),
		Handler: func(*exchange.Exchange) {},
		Check:   func(*exchange.Request) (int, exchange.Reason) { return 0, exchange.ReasonNone },
		Reject:  func(*exchange.Exchange) {},
		Address: func(*exchange.Exchange) {},
		Limits: func() Limits {
			return Limits{
				HeaderTimeout: time.Second, BodyIdle: time.Second, WriteIdle: time.Second, KeepAlive: time.Second,
				MaxStreams: 8, MaxHeader: 4 << 10, MaxFields: 32,
			}
		},
		Hasten: func() {},
		Gone:   func() bool { return false },
		Broke:  func() exchange.Reason { return exchange.ReasonNone },
	}
}

// TestQueueIsFullUnderLock: what a client that does not read has made too much of ends
// the connection whatever locks are held just then.
func TestQueueIsFullUnderLock(t *testing.T) {
	c := New(&memory{}, idleOptions())
	c.queue = make([]byte, maxControl)
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.wmu.Lock()
		defer c.wmu.Unlock()
		c.mu.Lock()
		defer c.mu.Unlock()
		c.flushing = true // nobody writes
		c.credit(connWindow)
	}()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("a full queue waits for a lock that its caller holds")
	}
	if got := c.broken.Load(); got == nil || !errors.Is(*got, errNotReading) {
		t.Errorf("got %v; want %v", got, errNotReading)
	}
}
