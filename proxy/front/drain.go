package front

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// Drain ends the Front: it takes no new connections, lets requests and tunnels
// finish until ctx ends, closes connections as their answers are through, and then
// closes what is left. Connections without a request get a moment to send the one
// that may be on its way. It gives an error when ctx ended first. A drained Front
// cannot serve again.
func (f *Front) Drain(ctx context.Context) error { return f.Retire(ctx, ctx) }

// Retire is a Drain with two ends: tunnels run on when the requests' time is up, and with
// them the requests that share their connections.
func (f *Front) Retire(requests, tunnels context.Context) error {
	for _, ended := range f.stopAccepting() {
		select {
		case <-ended:
		case <-requests.Done():
		}
	}
	f.tellAll(requests)
	f.checkEmpty()
	var cut int
	var quic sync.WaitGroup
	quic.Go(func() { cut = f.h3.Drain(requests, tunnels) })
	left := f.cutLate(requests, tunnels)
	quic.Wait()
	return f.unfinished(requests, left+cut)
}

// tunnelLook is how often it is looked whether connections still have a tunnel.
const tunnelLook = time.Second

// cutLate closes what is left when its time is up, and counts it.
func (f *Front) cutLate(requests, tunnels context.Context) (cut int) {
	select {
	case <-f.empty:
		return 0
	case <-requests.Done():
	}
	look := time.NewTicker(tunnelLook)
	defer look.Stop()
	for {
		late := tunnels.Err() != nil
		for _, c := range f.open() {
			if (late || !f.hasTunnel(c)) && c.kill() {
				cut++
			}
		}
		if late {
			return cut
		}
		select {
		case <-f.empty:
			return cut
		case <-tunnels.Done():
		case <-look.C:
		}
	}
}

func (f *Front) hasTunnel(c *conn) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return c.tunnelled.Load() || c.tunnels != nil && c.tunnels()
}

// unfinished is the error of a drain that had to cut connections.
func (f *Front) unfinished(ctx context.Context, cut int) error {
	if cut == 0 {
		return nil
	}
	return fmt.Errorf("cannot finish every connection of listener %q, %d are left: %w", f.name, cut, context.Cause(ctx))
}

// tellAll lets the connections know that the Front drains. One that does not let itself
// be told holds nobody up beyond ctx.
func (f *Front) tellAll(ctx context.Context) {
	told := make(chan struct{})
	go func() {
		defer close(told)
		for _, c := range f.open() {
			f.tell(c)
		}
	}()
	select {
	case <-told:
	case <-ctx.Done():
	}
}

// tell lets a connection know that the Front drains.
func (f *Front) tell(c *conn) {
	f.mu.Lock()
	shutdown := c.shutdown
	f.mu.Unlock()
	if shutdown != nil {
		shutdown()
		return
	}
	c.wire.hasten()
}

// stopAccepting starts draining. It gives what to wait for.
func (f *Front) stopAccepting() []chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	if f.drainSince.CompareAndSwap(nil, &now) {
		close(f.stopped)
	}
	var waits []chan struct{}
	for ln, ended := range f.listeners {
		waits = append(waits, ended)
		if bounded, ok := ln.(interface{ SetDeadline(time.Time) error }); ok && bounded.SetDeadline(now) == nil {
			continue // its accept loop notices.
		}
		_ = ln.Close() // its accept loop ends by that.
	}
	return waits
}

// checkEmpty tells Drain when nothing is left.
func (f *Front) checkEmpty() {
	if f.drainSince.Load() == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.conns) > 0 || len(f.listeners) > 0 {
		return
	}
	select {
	case <-f.empty:
	default:
		close(f.empty)
	}
}

// draining reports whether connections should end with their next answer.
func (f *Front) draining() bool { return f.drainSince.Load() != nil }
