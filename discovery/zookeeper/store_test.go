package zookeeper

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"drover/internal/zktest"
)

// storeOn makes a store on a session that runs, as a user or, for "", as nobody.
func storeOn(t *testing.T, cfg Config, user string) *Store {
	t.Helper()
	if user != "" {
		cfg.Auth = &AuthConfig{Scheme: "digest", CredentialsFile: filepath.Join(t.TempDir(), "secret")}
		if err := os.WriteFile(cfg.Auth.CredentialsFile, []byte(user+":secret\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := startSession(t, cfg)
	connected(t, s)
	return NewStore(func() *Session { return s })
}

// as gives a client with a user's rights.
func as(t *testing.T, server *zktest.Server, user string) *zk.Conn {
	t.Helper()
	conn := server.Client(t)
	if err := conn.AddAuth("digest", []byte(user+":secret")); err != nil {
		t.Fatal(err)
	}
	return conn
}

func mustPut(t *testing.T, s *Store, path, data string) {
	t.Helper()
	if err := s.Put(t.Context(), path, []byte(data)); err != nil {
		t.Fatal(err)
	}
}

func wantValue(t *testing.T, s *Store, path, data string, version int32) {
	t.Helper()
	v, err := s.Get(t.Context(), path)
	if err != nil || string(v.Data) != data || v.Version != version {
		t.Errorf("%s: got %q, version %d, %v; want %q, version %d", path, v.Data, v.Version, err, data, version)
	}
}

func TestStore(t *testing.T) {
	t.Parallel()
	server := shared.Server(t)
	owner := as(t, server, "drover")
	t.Cleanup(func() { zktest.Remove(t, owner, "/store") })
	a, b := storeOn(t, testConfig(server.Addr()), "drover"), storeOn(t, testConfig(server.Addr()), "drover")
	wantValue(t, a, "/store/deep/x", "", Missing)
	mustPut(t, a, "/store/deep/x", "one")
	wantValue(t, b, "/store/deep/x", "one", 0)
	mustPut(t, b, "/store/deep/x", "two")
	wantValue(t, a, "/store/deep/x", "two", 1)
	if v, err := a.Get(t.Context(), "/store/deep/x"); err != nil || time.Since(v.Modified).Abs() > time.Minute {
		t.Errorf("modified at %v, %v; want just now", v.Modified, err)
	}
	for _, path := range []string{"/store", "/store/deep", "/store/deep/x"} {
		got, _, err := owner.GetACL(path)
		want := zk.DigestACL(zk.PermAll, "drover", "secret")
		if err != nil || len(got) != 1 || got[0] != want[0] {
			t.Errorf("%s has ACL %+v, %v; want %+v", path, got, err, want)
		}
	}
	for range 2 { // what is gone already is no error
		if err := a.Delete(t.Context(), "/store/deep/x"); err != nil {
			t.Error(err)
		}
	}
	wantValue(t, b, "/store/deep/x", "", Missing)
	if err := a.Delete(t.Context(), "/store"); err == nil || !strings.Contains(err.Error(), `"/store"`) {
		t.Errorf("deleting what has children: got %v", err)
	}
}

// Of many that replace one version, one succeeds.
func TestStoreSwap(t *testing.T) {
	t.Parallel()
	server := shared.Server(t)
	owner := as(t, server, "drover")
	t.Cleanup(func() { zktest.Remove(t, owner, "/swap") })
	stores := []*Store{storeOn(t, testConfig(server.Addr()), "drover"), storeOn(t, testConfig(server.Addr()), "drover")}
	for version := int32(Missing); version < 5; version++ {
		var running sync.WaitGroup
		swapped := make([]bool, 2*len(stores))
		for i := range swapped {
			running.Go(func() {
				var err error
				if swapped[i], err = stores[i%len(stores)].Swap(t.Context(), "/swap/x", fmt.Append(nil, version, i), version); err != nil {
					t.Error(err)
				}
			})
		}
		running.Wait()
		won := -1
		for i, ok := range swapped {
			if ok && won >= 0 {
				t.Errorf("version %d was replaced by %d and %d", version, won, i)
			}
			if ok {
				won = i
			}
		}
		wantValue(t, stores[0], "/swap/x", fmt.Sprint(version, won), version+1)
	}
	if swapped, err := stores[0].Swap(t.Context(), "/swap/gone", nil, 3); swapped || err != nil {
		t.Errorf("a version of what is gone: got %v, %v; want false", swapped, err)
	}
}

// Secrets are neither read from where others may have put them, nor written to where
// they may read them.
func TestStoreRefusesOpenZnodes(t *testing.T) {
	t.Parallel()
	server := shared.Server(t)
	writer := as(t, server, "drover")
	t.Cleanup(func() { zktest.Remove(t, writer, "/open") })
	for i, acl := range [][]zk.ACL{zk.WorldACL(zk.PermRead), append(zk.WorldACL(zk.PermWrite), zk.DigestACL(zk.PermAll, "drover", "secret")...)} {
		path := fmt.Sprintf("/open/n%d", i)
		zktest.Make(t, writer, "/open", "")
		if _, err := writer.Create(path, []byte("theirs"), 0, acl); err != nil {
			t.Fatal(err)
		}
		s := storeOn(t, testConfig(server.Addr()), "drover")
		if v, err := s.Get(t.Context(), path); err == nil || !strings.Contains(err.Error(), "open to everybody") || v.Data != nil {
			t.Errorf("got %q, %v; want that it is open", v.Data, err)
		}
		if err := s.Put(t.Context(), path, []byte("ours")); err == nil || !strings.Contains(err.Error(), "open to everybody") {
			t.Errorf("got %v; want that it is open", err)
		}
		zktest.Remove(t, writer, "/open")
	}
	if data, err := storeOn(t, testConfig(server.Addr()), "somebody").Get(t.Context(), "/zookeeper"); err == nil {
		t.Errorf("got %q of a znode that is open", data.Data)
	}

	// Nobody in particular has nothing to hide, and gets nothing that is hidden.
	nobody, drover := storeOn(t, testConfig(server.Addr()), ""), storeOn(t, testConfig(server.Addr()), "drover")
	mustPut(t, nobody, "/open/all", "x")
	wantValue(t, nobody, "/open/all", "x", 0)
	if acl, _, err := writer.GetACL("/open/all"); err != nil || len(acl) != 1 || acl[0] != zk.WorldACL(zk.PermAll)[0] {
		t.Errorf("got ACL %+v, %v", acl, err)
	}
	mustPut(t, drover, "/open/hidden", "x")
	for name, s := range map[string]*Store{"nobody": nobody, "somebody": storeOn(t, testConfig(server.Addr()), "somebody")} {
		_, err := s.Get(t.Context(), "/open/hidden")
		if put := s.Put(t.Context(), "/open/hidden", nil); !errors.Is(err, zk.ErrNoAuth) || !errors.Is(put, zk.ErrNoAuth) {
			t.Errorf("%s: got %v and %v; want a refusal", name, err, put)
		}
	}
}

func TestStoreBelowChroot(t *testing.T) {
	t.Parallel()
	server := shared.Server(t)
	writer := writerOf(t, server, "/root")
	cfg := testConfig(server.Addr())
	cfg.Chroot = "/root"
	s := storeOn(t, cfg, "")
	if err := s.Put(t.Context(), "/a/b", nil); !errors.Is(err, zk.ErrNoNode) {
		t.Errorf("without the chroot: got %v; want that there is none", err)
	}
	zktest.Make(t, writer, "/root", "")
	mustPut(t, s, "/a/b", "x")
	if data, _, err := writer.Get("/root/a/b"); err != nil || string(data) != "x" {
		t.Errorf("got %q, %v", data, err)
	}
}

// While there is no connection nothing waits for one.
func TestStoreWithoutZooKeeper(t *testing.T) {
	t.Parallel()
	server := shared.Server(t)
	link := zktest.NewLink(t, server.Addr())
	s := storeOn(t, testConfig(link.Addr()), "")
	link.Cut()
	eventually(t, "the connection is lost", func() bool { return !s.session().State().Connected })
	begin := time.Now()
	_, err := s.Get(t.Context(), "/a")
	_, swap := s.Swap(t.Context(), "/a", nil, 0)
	held, try := s.Lock("/a").Try(t.Context())
	for _, err := range []error{err, swap, try, s.Put(t.Context(), "/a", nil), s.Delete(t.Context(), "/a"), s.Lock("/a").Release(t.Context())} {
		if !errors.Is(err, errNotConnected) {
			t.Errorf("got %v; want %v", err, errNotConnected)
		}
	}
	if took := time.Since(begin); held || took > testConfig().ConnectTimeout {
		t.Errorf("took %v, held %v", took, held)
	}
	if _, err := NewStore(func() *Session { return nil }).Get(t.Context(), "/a"); !errors.Is(err, errNotConnected) {
		t.Errorf("without a session: got %v", err)
	}
}

func TestLock(t *testing.T) {
	t.Parallel()
	server := shared.Server(t)
	owner := as(t, server, "drover")
	t.Cleanup(func() { zktest.Remove(t, owner, "/lock") })
	link := zktest.NewLink(t, server.Addr())
	mortal := testConfig(link.Addr())
	mortal.SessionTimeout = zktest.MinSessionTimeout
	first := storeOn(t, mortal, "drover")
	a, twin := first.Lock("/lock/order"), first.Lock("/lock/order")
	b := storeOn(t, testConfig(server.Addr()), "drover").Lock("/lock/order")
	try := func(l *Lock, want bool) {
		t.Helper()
		if held, err := l.Try(t.Context()); err != nil || held != want {
			t.Errorf("took it: %v, %v; want %v", held, err, want)
		}
	}
	release := func(l *Lock) {
		t.Helper()
		if err := l.Release(context.Background()); err != nil {
			t.Error(err)
		}
	}
	try(a, true)
	try(b, false)
	try(twin, false) // of the same session
	try(a, true)     // whose first answer may have been lost
	release(b)       // is not b's to give back
	release(twin)
	try(b, false)
	release(a)
	release(a)
	try(b, true)
	try(a, false)
	release(b)
	try(a, true)
	link.Cut()
	eventually(t, "the lock goes with the session", func() bool {
		held, err := b.Try(t.Context())
		return err == nil && held
	})
	link.Mend()
	connected(t, first.session())
	try(a, false)
	release(a)
	try(b, true)
}
