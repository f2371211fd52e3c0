package zookeeper

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"drover/internal/zktest"
)

// What changes while the session expires is found by the next one.
func TestSessionExpiry(t *testing.T) {
	t.Parallel()
	server := shared.Server(t)
	writer := writerOf(t, server, "/expiry")
	zktest.Make(t, writer, "/expiry/a", nerve("10.0.0.1", 80, 1))
	zktest.Make(t, writer, "/expiry/b", nerve("10.0.0.2", 80, 1))
	link := zktest.NewLink(t, server.Addr())
	cfg := testConfig(link.Addr())
	cfg.SessionTimeout = zktest.MinSessionTimeout
	s := startSession(t, cfg)
	f := follow(t, s, "/expiry", "nerve")
	f.wantNext(t, "10.0.0.1:80=1 10.0.0.2:80=1")
	for round := range 2 {
		old := fmt.Sprintf("0x%x", s.State().SessionID)
		link.Cut()
		eventually(t, "the server gave the session up", func() bool {
			dump, err := server.FourLetters("dump")
			return err == nil && !strings.Contains(dump, old)
		})
		if got := s.State(); got.Connected || got.LastError == "" {
			t.Fatalf("state %+v", got)
		}
		if got := f.Status(); got.Connected || !got.Stale || got.Servers != 2 {
			t.Fatalf("status %+v", got)
		}
		f.quiet(t) // whatever was known stays
		set(t, writer, "/expiry/a", nerve("10.0.0.1", 80, round+2))
		link.Mend()
		f.wantNext(t, fmt.Sprintf("10.0.0.1:80=%d 10.0.0.2:80=1", round+2))
		if got := s.State(); got.Expiries != uint64(round+1) || got.Corrections != 0 || fmt.Sprintf("0x%x", got.SessionID) == old {
			t.Fatalf("state %+v, before %s", got, old)
		}
	}
	set(t, writer, "/expiry/b", nerve("10.0.0.2", 80, 7)) // the watches live
	f.wantNext(t, "10.0.0.1:80=3 10.0.0.2:80=7")
	armedOnce(t, s)
}

// A broken connection keeps the session and its watches.
func TestBrokenConnection(t *testing.T) {
	t.Parallel()
	server := shared.Server(t)
	writer := writerOf(t, server, "/broken")
	zktest.Make(t, writer, "/broken/a", nerve("10.0.0.1", 80, 0))
	link := zktest.NewLink(t, server.Addr())
	s := startSession(t, testConfig(link.Addr()))
	f := follow(t, s, "/broken", "nerve")
	f.wantNext(t, "10.0.0.1:80=0")
	id := s.State().SessionID
	for i := range 3 {
		link.Break()
		set(t, writer, "/broken/a", nerve("10.0.0.1", 80, i+1))
		f.wantNext(t, fmt.Sprintf("10.0.0.1:80=%d", i+1))
		eventually(t, "connected again", func() bool { return s.State().Reconnects == uint64(i+1) })
	}
	if got := s.State(); got.SessionID != id || got.Expiries != 0 {
		t.Fatalf("state %+v; want session %x", got, id)
	}
	armedOnce(t, s)
}

// The ensemble stops, is killed, and stands still: the set stays and changes are
// seen afterwards.
func TestServerGoesAndComesBack(t *testing.T) {
	t.Parallel()
	server := zktest.Start(t)
	zktest.Make(t, server.Client(t), "/back/a", nerve("10.0.0.1", 80, 0))
	cfg := testConfig(server.Addr())
	cfg.SessionTimeout = 2 * time.Second
	s := startSession(t, cfg)
	f := follow(t, s, "/back", "nerve")
	f.wantNext(t, "10.0.0.1:80=0")
	for i, outage := range []struct{ begin, end func() }{
		{server.Stop, func() { server.Restart(t) }},
		{server.Kill, func() { server.Restart(t) }},
		{server.Pause, server.Resume},
	} {
		outage.begin()
		eventually(t, "stale", func() bool { return f.Status().Stale })
		f.quiet(t)
		outage.end()
		set(t, server.Client(t), "/back/a", nerve("10.0.0.1", 80, i+1))
		f.wantNext(t, fmt.Sprintf("10.0.0.1:80=%d", i+1))
		eventually(t, "fresh", func() bool { return !f.Status().Stale })
	}
	if got := s.State(); got.Reconnects < 3 {
		t.Fatalf("state %+v", got)
	}
}

// Without ZooKeeper a start serves the last set on disk, says so, and changes over
// when ZooKeeper comes.
func TestColdStart(t *testing.T) {
	t.Parallel()
	server := zktest.Start(t)
	writer := server.Client(t)
	zktest.Make(t, writer, "/cold/a", nerve("10.0.0.1", 80, 3))
	cfg := testConfig(server.Addr())
	cfg.ConnectTimeout = 200 * time.Millisecond
	cfg.SnapshotDir = filepath.Join(t.TempDir(), "made", "here")

	run := func() (*followed, func()) {
		s, err := NewSession(cfg, testLogger())
		if err != nil {
			t.Fatal(err)
		}
		stopSession := runSession(t, s)
		f := follow(t, s, "/cold", "nerve")
		return f, func() { f.stop(); stopSession() }
	}
	f, stop := run()
	f.wantNext(t, "10.0.0.1:80=3")
	drop(t, writer, "/cold/a")
	f.wantNext(t, "") // and an empty set is not put over one with servers
	stop()
	server.Stop()

	before := time.Now()
	f, stop = run()
	f.wantNext(t, "10.0.0.1:80=3")
	if got := f.Status(); !got.Stale || got.Connected || got.LastSync.IsZero() || got.LastSync.After(before) || got.Servers != 1 || !f.Ready() {
		t.Fatalf("status %+v", got)
	}
	server.Restart(t)
	f.wantNext(t, "") // what ZooKeeper says counts
	eventually(t, "fresh", func() bool { return !f.Status().Stale })
	stop()
	server.Stop()

	// A set on disk that is still right is given once.
	server.Restart(t)
	quick := cfg.ConnectTimeout
	cfg.ConnectTimeout = patience // a slow machine must not serve the old set from disk first
	f, stop = run()
	f.wantNext(t, "")
	zktest.Make(t, server.Client(t), "/cold/b", nerve("10.0.0.2", 80, 1))
	f.wantNext(t, "10.0.0.2:80=1")
	stop()
	server.Stop()
	cfg.ConnectTimeout = quick
	f, stop = run()
	f.wantNext(t, "10.0.0.2:80=1")
	server.Restart(t)
	eventually(t, "fresh", func() bool { return !f.Status().Stale })
	f.quiet(t)
	stop()
	server.Stop()

	files, err := filepath.Glob(filepath.Join(cfg.SnapshotDir, "*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("files %q, %v", files, err)
	}
	data, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)-20] ^= 1
	if err := os.WriteFile(files[0], data, 0o600); err != nil {
		t.Fatal(err)
	}
	f, stop = run()
	eventually(t, "a failed dial", func() bool { return f.session.Stats().DialFailures > 2 })
	if f.Ready() {
		t.Fatal("served from a broken snapshot")
	}
	server.Restart(t)
	f.wantNext(t, "10.0.0.2:80=1")
	stop()
}

// Digest authentication, from a file that may come late.
func TestDigest(t *testing.T) {
	t.Parallel()
	server := shared.Server(t)
	writer := writerOf(t, server, "/digest")
	if err := writer.AddAuth("digest", []byte("drover:secret")); err != nil {
		t.Fatal(err)
	}
	zktest.Make(t, writer, "/digest", "")
	for i, acl := range [][]zk.ACL{zk.DigestACL(zk.PermAll, "drover", "secret"), zk.WorldACL(zk.PermAll)} {
		_, err := writer.Create(fmt.Sprintf("/digest/n%d", i), []byte(nerve(fmt.Sprintf("10.0.0.%d", i), 80, 1)), 0, acl)
		if err != nil {
			t.Fatal(err)
		}
	}
	// One child that may not be read harms no other.
	nobody := follow(t, startSession(t, testConfig(server.Addr())), "/digest", "nerve")
	nobody.wantNext(t, "10.0.0.1:80=1")
	if got := nobody.Status().Rejected; len(got) != 1 || got[0].Path != "/digest/n0" {
		t.Fatalf("rejected %+v", got)
	}

	cfg := testConfig(server.Addr())
	cfg.Auth = &AuthConfig{Scheme: "digest", CredentialsFile: filepath.Join(t.TempDir(), "credentials")}
	link := zktest.NewLink(t, server.Addr())
	cfg.Servers = []string{link.Addr()}
	s := startSession(t, cfg)
	somebody := follow(t, s, "/digest", "nerve")
	eventually(t, "the missing file is an error", func() bool { return strings.Contains(s.State().LastError, "credentials") })
	if err := os.WriteFile(cfg.Auth.CredentialsFile, []byte("drover:secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	somebody.wantNext(t, "10.0.0.0:80=1 10.0.0.1:80=1")
	link.Break() // and again after a reconnect
	set(t, writer, "/digest/n0", nerve("10.0.0.0", 80, 2))
	somebody.wantNext(t, "10.0.0.0:80=2 10.0.0.1:80=1")
	s.mu.Lock()
	kept := reflect.ValueOf(s.lib.conn).Elem().FieldByName("creds").Len()
	s.mu.Unlock()
	if kept != 1 {
		t.Errorf("the library keeps %d credentials; want 1, however often it connects", kept)
	}

	// A directory that may not be read is not known to be empty.
	if _, err := writer.SetACL("/digest", zk.DigestACL(zk.PermAll, "drover", "secret"), -1); err != nil {
		t.Fatal(err)
	}
	late := follow(t, nobody.session, "/digest", "nerve")
	eventually(t, "a refused read", func() bool { return nobody.session.Stats().Failures > 1 })
	if late.Ready() || !late.Status().Stale {
		t.Fatalf("status %+v", late.Status())
	}
	if _, err := writer.SetACL("/digest", zk.WorldACL(zk.PermAll), -1); err != nil {
		t.Fatal(err)
	}
	late.wantNext(t, "10.0.0.1:80=1")
}

// A chroot is put before every path and taken off again.
func TestChroot(t *testing.T) {
	t.Parallel()
	server := shared.Server(t)
	writer := writerOf(t, server, "/jail")
	cfg := testConfig(server.Addr())
	cfg.Chroot = "/jail/deep"
	s := startSession(t, cfg)
	f, root := follow(t, s, "/svc", "nerve"), follow(t, s, "/", "nerve")
	f.wantNext(t, "")
	root.wantNext(t, "")
	zktest.Make(t, writer, "/jail/deep/svc/a", nerve("10.0.0.1", 80, 1))
	f.until(t, "10.0.0.1:80=1")
	put(t, writer, "/jail/deep/b", nerve("10.0.0.2", 80, 1))
	root.until(t, "10.0.0.2:80=1")
	set(t, writer, "/jail/deep/svc/a", nerve("10.0.0.1", 80, 2))
	f.wantNext(t, "10.0.0.1:80=2")
	if got := root.Status().Rejected; len(got) != 1 || got[0].Path != "/svc" {
		t.Fatalf("rejected %+v", got)
	}
}

// A session that closes while nobody answers does not hang, and takes no source down.
func TestCloseWhileWedged(t *testing.T) {
	t.Parallel()
	cfg := testConfig(silentServer(t))
	s, err := NewSession(cfg, testLogger())
	if err != nil {
		t.Fatal(err)
	}
	stop := runSession(t, s)
	f := follow(t, s, "/any", "nerve")
	eventually(t, "a connection", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.lib.socket != nil
	})
	stop()
	f.stop()
	if f.Ready() {
		t.Fatal("a set from nowhere")
	}
}
