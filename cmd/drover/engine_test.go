package main

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"
)

// TestForcedEndCutsRetiredListeners: a listener that a reload has removed still drains
// when the end comes, and a second signal must not wait for it.
func TestForcedEndCutsRetiredListeners(t *testing.T) {
	p := startPeer(t, "a")
	arrived := make(chan struct{})
	hang := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-r.Context().Done()
	})
	p.handler.Store(&hang)
	const text = `drain_timeout: 1h
listeners: [ { name: %s, address: "LISTEN" } ]
upstreams: [ { name: app, servers: [ { address: %q } ] } ]
routes: [ { upstream: app } ]
`
	n := startNode(t, fmt.Sprintf(text, "old", p.address))
	answered := make(chan error, 1)
	patient := client(t, false)
	patient.Timeout = 0
	go func() {
		resp, err := patient.Get(n.url("old") + "/")
		if err == nil {
			err = resp.Body.Close()
		}
		answered <- err
	}()
	<-arrived
	n.write(t, fmt.Sprintf(text, "new", p.address))
	n.mustReload(t)
	select {
	case err := <-answered:
		t.Fatalf("the reload ended a running request: %v", err)
	default:
	}

	ctx, second := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		n.shutdown(ctx)
	}()
	second()
	select {
	case <-ended:
	case <-time.After(30 * time.Second):
		t.Fatal("the end waits for a listener that is gone")
	}
	<-answered
}
