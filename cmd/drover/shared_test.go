package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"drover/internal/zktest"
	"drover/proxy/front"

	"github.com/go-zookeeper/zk"
	"go.uber.org/zap"
)

// ensemble is a ZooKeeper that drovers share secrets through, and the user that they are.
type ensemble struct {
	*zktest.Server
	owner       *zk.Conn
	credentials string
}

func startEnsemble(t *testing.T) *ensemble {
	t.Helper()
	e := &ensemble{Server: zktest.Start(t), credentials: filepath.Join(t.TempDir(), "zookeeper.secret")}
	put(t, e.credentials, "drover:secret\n")
	e.owner = e.Client(t)
	if err := e.owner.AddAuth("digest", []byte("drover:secret")); err != nil {
		t.Fatal(err)
	}
	return e
}

// yaml is the block for a configuration, with a session time-out.
func (e *ensemble) yaml(timeout string) string {
	return fmt.Sprintf("zookeeper: { servers: [ %q ], session_timeout: %s, auth: { credentials_file: %q } }\n", e.Addr(), timeout, e.credentials)
}

// wantPrivate wants a znode, and all below it, to be for the drovers alone. It gives how
// many there are.
func (e *ensemble) wantPrivate(t *testing.T, path string) (n int) {
	t.Helper()
	acl, _, err := e.owner.GetACL(path)
	if errors.Is(err, zk.ErrNoNode) {
		return 0 // the answer to a challenge, which is gone by now.
	}
	if want := zk.DigestACL(zk.PermAll, "drover", "secret"); err != nil || !slices.Equal(acl, want) {
		t.Errorf("%s has ACL %+v, %v; want %+v", path, acl, err, want)
	}
	names, _, err := e.owner.Children(path)
	if err != nil && !errors.Is(err, zk.ErrNoNode) {
		t.Fatal(err)
	}
	for _, name := range names {
		n += e.wantPrivate(t, path+"/"+name)
	}
	return n + 1
}

// visitor is a client that resumes its sessions with one name, wherever it is sent.
type visitor struct{ *http.Client }

func newVisitor() *visitor {
	return &visitor{&http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{
		InsecureSkipVerify: true, ServerName: "drover.test", ClientSessionCache: tls.NewLRUClientSessionCache(1),
	}}}}
}

// resumes reports whether a session is resumed at an address.
func (v *visitor) resumes(t *testing.T, address string) bool {
	t.Helper()
	resp, _ := fetch(t, v.Client, "GET", "https://"+address+"/", "")
	return resp.TLS.DidResume
}

// shareSessions reports whether a new session at one address is resumed at another.
func shareSessions(t *testing.T, one, another string) bool {
	t.Helper()
	v := newVisitor()
	v.resumes(t, one)
	return v.resumes(t, another)
}

// TestTicketsInZooKeeper: drovers resume each other's sessions, over rotations, outages
// of ZooKeeper and reloads.
func TestTicketsInZooKeeper(t *testing.T) {
	t.Parallel()
	ensemble, dir := startEnsemble(t), t.TempDir()
	writePair(t, dir, 1)
	yaml := func(tickets, timeout string) string {
		return fmt.Sprintf(`listeners:
  - name: web
    address: "LISTEN"
    tls: { certificates: [ { cert_file: %q, key_file: %q } ], session_tickets: { %s } }
routes: [ { respond: { body: ok } } ]
`, filepath.Join(dir, "site.pem"), filepath.Join(dir, "site.key"), tickets) + ensemble.yaml(timeout)
	}
	const path = "/drover/tickets"
	shared := yaml("zookeeper: "+path, "10s")
	a, b := startNode(t, shared), startNode(t, shared)
	together := func(why string, nodes ...*node) {
		t.Helper()
		eventually(t, "sessions are resumed by each other "+why, func() bool {
			for _, n := range nodes {
				if !shareSessions(t, nodes[0].listen, n.listen) || !shareSessions(t, n.listen, nodes[0].listen) {
					return false
				}
			}
			return true
		})
	}
	together("from the beginning", a, b)
	if got := ensemble.wantPrivate(t, "/drover"); got != 2 {
		t.Errorf("there are %d znodes; want /drover and %s", got, path)
	}

	client := newVisitor()
	client.resumes(t, a.listen)
	read := func() []string {
		t.Helper()
		text, _, err := ensemble.owner.Get(path)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Fields(string(text))
	}
	first := read()
	rotate(t, path, a, b)
	if got := read(); len(first) != 1 || len(got) != 2 || got[1] != first[0] {
		t.Errorf("after a rotation by two at once there are %d keys, %d before; want a new one and the old", len(got), len(first))
	}
	for _, n := range []*node{a, b} {
		if !client.resumes(t, n.listen) {
			t.Error("a session of before is not resumed after a rotation")
		}
	}
	together("after a rotation", a, b)

	ensemble.Stop()
	eventually(t, "ZooKeeper is away", func() bool {
		return !a.session.session.State().Connected && !b.session.session.State().Connected
	})
	together("without ZooKeeper", a, b)
	c := startNode(t, shared)
	if !shareSessions(t, c.listen, c.listen) || shareSessions(t, a.listen, c.listen) {
		t.Error("a drover that has never seen ZooKeeper does not resume its own sessions alone")
	}
	ensemble.Restart(t)
	together("with one more when ZooKeeper is back", a, b, c)

	client = newVisitor()
	client.resumes(t, a.listen)
	b.write(t, yaml("rotate_every: 1h, zookeeper: "+path, "9s")) // which is another session, too
	b.mustReload(t)
	if !client.resumes(t, b.listen) {
		t.Error("a reload that leaves the path as it is lost the keys")
	}
	together("on a new session with ZooKeeper", a, b)
	b.write(t, yaml("zookeeper: /elsewhere/tickets", "9s"))
	b.mustReload(t)
	eventually(t, "the other path is made", func() bool {
		there, _, err := ensemble.owner.Exists("/elsewhere/tickets")
		return err == nil && there
	})
	eventually(t, "the two have nothing in common any more", func() bool {
		return !shareSessions(t, a.listen, b.listen) && shareSessions(t, b.listen, b.listen)
	})
	b.write(t, yaml("", "9s"))
	b.mustReload(t)
	if !shareSessions(t, b.listen, b.listen) {
		t.Error("with keys of its own a drover does not resume its sessions")
	}
	b.write(t, shared)
	b.mustReload(t)
	together("after all", a, b)
}

// rotate has the drovers rotate at once: those that run leave it to the clock.
func rotate(t *testing.T, path string, nodes ...*node) {
	t.Helper()
	now := time.Now()
	cfg := front.TicketsConfig{ZooKeeper: path, RotateEvery: time.Hour}
	var keys []*front.SharedTickets
	for _, n := range nodes {
		keys = append(keys, front.NewSharedTickets(cfg, storedTickets{n.store(), path}, zap.NewNop()))
	}
	for _, at := range []time.Time{now, now.Add(2 * time.Hour)} {
		var running sync.WaitGroup
		for _, k := range keys {
			running.Go(func() {
				if err := k.Refresh(t.Context(), at); err != nil {
					t.Error(err)
				}
			})
		}
		running.Wait()
	}
}
