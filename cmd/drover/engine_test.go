package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"drover/transport"
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

// TestRenamedUpstream: requests of the earlier configuration that wait for a place, or
// have yet to try another server, do so although their upstream is gone from the new one.
func TestRenamedUpstream(t *testing.T) {
	const text = `listeners: [ { name: web, address: "LISTEN" } ]
upstreams:
  - name: %[1]s
    servers: [ { address: %[2]q, weight: 10000 }, { address: %[3]q } ] # the first gets all first tries
    limits: { %[4]s }
routes: [ { upstream: %[1]s, retry: { attempts: 2, on: [ reset ] } } ]
`
	t.Run("waiting", func(t *testing.T) {
		p := startPeer(t, "a")
		arrived, release := make(chan struct{}, 2), make(chan struct{})
		hold := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { arrived <- struct{}{}; <-release })
		p.handler.Store(&hold)
		limit := "max_requests: 1, queue: { size: 1, timeout: 20s }"
		other := freeAddress(t)
		n := startNode(t, fmt.Sprintf(text, "before", p.address, other, limit))
		answers := inBackground(t, n.url("web"), 2)
		<-arrived
		waits := n.upstreams["before"].proxied
		eventually(t, "the second waits", func() bool { return waits.Queued() == 1 })
		n.write(t, fmt.Sprintf(text, "after", p.address, other, limit))
		n.mustReload(t)
		close(release)
		for range 2 {
			if got := <-answers; got != 200 {
				t.Errorf("status %d; want 200", got)
			}
		}
	})
	t.Run("trying another", func(t *testing.T) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		good := startPeer(t, "good")
		n := startNode(t, fmt.Sprintf(text, "before", ln.Addr(), good.address, ""))
		answers := inBackground(t, n.url("web"), 1)
		c, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		n.write(t, fmt.Sprintf(text, "after", ln.Addr(), good.address, ""))
		n.mustReload(t)
		_ = c.(*net.TCPConn).SetLinger(0)
		_ = c.Close()
		if got := <-answers; got != 200 {
			t.Errorf("status %d; want the second server's 200", got)
		}
	})
}

// inBackground sends requests at once and gives their statuses, 0 for none.
func inBackground(t *testing.T, url string, n int) <-chan int {
	answers := make(chan int, n)
	c := client(t, false)
	for range n {
		go func() {
			resp, err := c.Get(url + "/")
			if err != nil {
				answers <- 0
				return
			}
			_ = resp.Body.Close()
			answers <- resp.StatusCode
		}()
	}
	return answers
}

// TestReadiness: not before the first servers are known; and once ready, a reload with
// an upstream whose source says nothing takes nobody out.
func TestReadiness(t *testing.T) {
	t.Parallel()
	p := startPeer(t, "a")
	text := func(more string) string {
		return fmt.Sprintf(`listeners: [ { name: web, address: "LISTEN" } ]
upstreams: [ { name: app, servers: [ { address: %q } ] } %s ]
routes: [ { upstream: app } ]
`, p.address, more)
	}
	mute := fmt.Sprintf(`, { name: later, discover: { dns: { name: app.example, port: 80, resolver: %q } } }`, freeAddress(t))
	n := startNode(t, text(mute))
	if err := n.ready(); err == nil {
		t.Error("ready before the first servers are known")
	}
	n.write(t, text(""))
	n.mustReload(t)
	if err := n.ready(); err != nil {
		t.Errorf("not ready: %v", err)
	}
	n.write(t, text(mute))
	n.mustReload(t)
	if err := n.ready(); err != nil {
		t.Errorf("a reload took readiness away: %v", err)
	}
	if _, body := fetch(t, client(t, false), "GET", n.url("web")+"/", ""); body != "GET a 0" {
		t.Errorf("got %q", body)
	}
	n.shutdown(t.Context())
	if err := n.ready(); err == nil {
		t.Error("ready while draining")
	}
}

// TestTransportOfServerThatWasAway: a server that comes back has its live state, and
// the settings of now.
func TestTransportOfServerThatWasAway(t *testing.T) {
	a, b, c := startPeer(t, "a"), startPeer(t, "b"), startPeer(t, "c")
	dir := t.TempDir()
	for _, p := range []*peer{a, b, c} {
		if err := os.WriteFile(filepath.Join(dir, p.name), []byte(p.address), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const text = `listeners: [ { name: web, address: "LISTEN" } ]
upstreams: [ { name: app, discover: { file: { path: %q } }, transport: { response_header_timeout: %s } } ]
routes: [ { upstream: app } ]
`
	n := startNode(t, fmt.Sprintf(text, dir, "300ms"))
	u := n.upstreams["app"]
	known := func(want int) func() bool { return func() bool { return len(u.group.Snapshot().Members) == want } }
	eventually(t, "three servers", known(3))
	away := filepath.Join(dir, ".away")
	if err := os.Rename(filepath.Join(dir, "a"), away); err != nil {
		t.Fatal(err)
	}
	eventually(t, "two servers", known(2))
	n.write(t, fmt.Sprintf(text, dir, "5s"))
	n.mustReload(t)
	if err := os.Rename(away, filepath.Join(dir, "a")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "three servers again", known(3))
	for _, m := range u.group.Snapshot().Members {
		if !m.Conns.(*transport.Pool).Has(u.transport.Load()) {
			t.Errorf("%s has the settings of before", m.ID)
		}
	}
}

// TestBackupWithoutChecks: every primary is dead and nobody checks them; outlier
// detection leaves one of them in, as it must. Second tries go to the backup.
func TestBackupWithoutChecks(t *testing.T) {
	backup := startPeer(t, "backup")
	n := startNode(t, fmt.Sprintf(`listeners: [ { name: web, address: "LISTEN" } ]
upstreams: [ { name: app, servers: [ { address: %q }, { address: %q }, { address: %q, priority: 1 } ], retry_budget: { percent: 1000 } } ]
routes: [ { upstream: app, retry: { attempts: 3 } } ]
`, freeAddress(t), freeAddress(t), backup.address))
	c := client(t, true)
	for range 50 {
		if _, body := fetch(t, c, "POST", n.url("web")+"/", ""); body != "POST backup 0" {
			t.Fatalf("got %q; want the backup's answer", body)
		}
	}
}

// TestOperatorTakesServersOut: the removal brake is for registries that lose their
// entries. A list in the configuration means what it says, and so does another source.
func TestOperatorTakesServersOut(t *testing.T) {
	a, b, c := startPeer(t, "a"), startPeer(t, "b"), startPeer(t, "c")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "only"), []byte(b.address), 0o600); err != nil {
		t.Fatal(err)
	}
	text := func(source string) string {
		return fmt.Sprintf(`listeners: [ { name: web, address: "LISTEN" } ]
upstreams: [ { name: app, %s } ]
routes: [ { upstream: app } ]
`, source)
	}
	listed := func(p *peer) string { return fmt.Sprintf("{ address: %q }", p.address) }
	n := startNode(t, text("servers: [ "+listed(a)+", "+listed(b)+", "+listed(c)+" ]"))
	for _, step := range []struct {
		source string
		only   *peer
	}{
		{"servers: [ " + listed(a) + " ]", a},
		{fmt.Sprintf("discover: { file: { path: %q } }", dir), b},
	} {
		n.write(t, text(step.source))
		n.mustReload(t)
		u := n.upstreams["app"]
		eventually(t, "only "+step.only.name+" is left", func() bool {
			members := u.group.Snapshot().Members
			return len(members) == 1 && members[0].Address() == step.only.address
		})
	}
}
