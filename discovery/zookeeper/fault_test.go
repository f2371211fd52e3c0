package zookeeper

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
)

// quickConfig has short waits, for faults that end by them.
func quickConfig(servers ...string) Config {
	cfg := testConfig(servers...)
	cfg.SessionTimeout = minSessionTimeout
	cfg.ConnectTimeout = 300 * time.Millisecond
	cfg.Debounce = time.Millisecond
	return cfg
}

// startAt runs a session that tries a chosen member first.
func startAt(t *testing.T, cfg Config, first string) *Session {
	t.Helper()
	s, err := NewSession(cfg, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	members := s.dialer.members
	members.random = func() float64 { // asked by Init first; the client library shuffles what it passes
		return float64(max(0, slices.Index(members.servers, first))) / float64(len(members.servers))
	}
	s.dialer.resolve = func(_ context.Context, host string) ([]string, error) {
		if host == "unresolvable.test" {
			return nil, errors.New("no such host")
		}
		return []string{host}, nil
	}
	runSession(t, s)
	return s
}

// silentServer accepts and never answers.
func silentServer(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var conns []net.Conn
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			conns = append(conns, conn)
		}
	}()
	t.Cleanup(func() {
		_ = listener.Close()
		<-done
		for _, conn := range conns {
			_ = conn.Close()
		}
	})
	return listener.Addr().String()
}

// A bad member beside a good one costs its turn: it neither holds up the connection
// for multiples of the session time-out, nor costs memory, nor fails the start.
func TestBadMember(t *testing.T) { // not parallel: it measures the memory of all
	server := shared.Server(t)
	web := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(web.Close)
	halfHello := newFake(t)
	halfHello.faulty(func(f *fake) { f.greeting = []byte{0, 0, 0, 36, 0, 0, 0} })
	for name, bad := range map[string]string{
		"wedged":       silentServer(t),
		"half a hello": halfHello.addr(),
		"http":         strings.TrimPrefix(web.URL, "http://"),
		"unresolvable": "unresolvable.test:2181",
		"refusing":     "127.0.0.1:1",
	} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			cfg := testConfig(bad, server.Addr())
			cfg.ConnectTimeout = 300 * time.Millisecond
			begin := time.Now()
			s := startAt(t, cfg, bad)
			connected(t, s)
			runtime.ReadMemStats(&after)
			if took := time.Since(begin); took > 20*time.Second {
				t.Errorf("connected after %v", took)
			}
			if used := after.TotalAlloc - before.TotalAlloc; used > 200<<20 {
				t.Errorf("%d MB allocated", used>>20)
			}
			if first := s.Stats().DialFailures; (name == "unresolvable" || name == "refusing") && first == 0 {
				t.Error("the bad member was not tried")
			}
			if got := s.State().Server; got != server.Addr() {
				t.Errorf("connected to %q", got)
			}
		})
	}
}

// The address behind a name may change, at any time.
func TestNamesAreResolvedAnew(t *testing.T) {
	t.Parallel()
	good := newFake(t)
	_, port, err := net.SplitHostPort(good.addr())
	if err != nil {
		t.Fatal(err)
	}
	cfg := quickConfig("zk.test:" + port)
	s, err := NewSession(cfg, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	var asked atomic.Int32
	s.dialer.resolve = func(context.Context, string) ([]string, error) {
		if asked.Add(1) == 1 {
			return []string{"127.0.0.99"}, nil // nobody listens there
		}
		return []string{"127.0.0.98", "127.0.0.1"}, nil
	}
	runSession(t, s)
	connected(t, s)
	if got := asked.Load(); got < 2 {
		t.Fatalf("resolved %d times", got)
	}
}

// An answer that never comes, while pings are answered, costs the connection and
// nothing else.
func TestLostReply(t *testing.T) {
	t.Parallel()
	server := newFake(t)
	server.change(func(m *model) { m.create("/a", ""); m.create("/a/x", nerve("10.0.0.1", 80, 1)) })
	lost := false
	server.faulty(func(f *fake) {
		f.loseReply = func(op op, _ string) bool {
			first := op == opData && !lost
			lost = lost || first
			return first
		}
	})
	s := startSession(t, quickConfig(server.addr()))
	f := follow(t, s, "/a", "nerve")
	f.wantNext(t, "10.0.0.1:80=1")
	if got := s.Stats().Timeouts; got != 1 { // the connection is good again, so no error is left
		t.Fatalf("%d calls timed out; want 1", got)
	}
}

// An error that says nothing changes nothing, however long it lasts.
func TestUnknownErrorKeepsTheSet(t *testing.T) {
	t.Parallel()
	server := newFake(t)
	server.change(func(m *model) { m.create("/a", ""); m.create("/a/x", nerve("10.0.0.1", 80, 1)) })
	f := follow(t, startSession(t, quickConfig(server.addr())), "/a", "nerve")
	f.wantNext(t, "10.0.0.1:80=1")
	server.faulty(func(f *fake) { f.failReply = func(op op, _ string) bool { return op == opList } })
	server.change(func(m *model) { m.remove("/a/x") })
	eventually(t, "stale", func() bool { return f.Status().Stale })
	if status := f.Status(); status.Servers != 1 || !status.Connected {
		t.Fatalf("status %+v", status)
	}
	f.quiet(t)
	server.faulty(func(f *fake) { f.failReply = nil })
	f.wantNext(t, "")
	eventually(t, "fresh", func() bool { return !f.Status().Stale })
}

// Watches that the server lost on a reconnect are found out.
func TestLostWatches(t *testing.T) {
	t.Parallel()
	server := newFake(t)
	server.change(func(m *model) { m.create("/a", ""); m.create("/a/x", nerve("10.0.0.1", 80, 1)) })
	s := startSession(t, quickConfig(server.addr()))
	f := follow(t, s, "/a", "nerve")
	f.wantNext(t, "10.0.0.1:80=1")
	server.faulty(func(f *fake) {
		f.loseWatches = true
		clear(f.m.watches)
	})
	server.change(func(m *model) { m.create("/a/y", nerve("10.0.0.2", 80, 1)); m.set("/a/x", nerve("10.0.0.1", 80, 5)) })
	server.breakConn()
	f.until(t, "10.0.0.1:80=5 10.0.0.2:80=1")
	eventually(t, "corrections", func() bool { return s.State().Corrections >= 1 })
	server.change(func(m *model) { m.set("/a/x", nerve("10.0.0.1", 80, 6)) })
	f.until(t, "10.0.0.1:80=6 10.0.0.2:80=1")
	corrections := s.State().Corrections
	server.change(func(m *model) { m.set("/a/x", nerve("10.0.0.1", 80, 7)); m.remove("/a/y") })
	f.until(t, "10.0.0.1:80=7")
	if got := s.State().Corrections; got != corrections {
		t.Errorf("%d more corrections: the watches were not armed anew", got-corrections)
	}
	if got := s.State(); got.Expiries != 0 || got.Reconnects != 1 {
		t.Fatalf("state %+v", got)
	}
}

// Some servers hand out a new session on reconnect and never say that the old one
// expired; its watches are gone.
func TestSilentlyRenewedSession(t *testing.T) {
	t.Parallel()
	server := newFake(t)
	server.change(func(m *model) { m.create("/a", ""); m.create("/a/x", nerve("10.0.0.1", 80, 1)) })
	s := startSession(t, quickConfig(server.addr()))
	f := follow(t, s, "/a", "nerve")
	f.wantNext(t, "10.0.0.1:80=1")
	old := s.State().SessionID
	server.faulty(func(f *fake) { f.silentRenew = true })
	server.breakConn()
	eventually(t, "another session", func() bool { return s.State().SessionID != old })
	server.change(func(m *model) { m.set("/a/x", nerve("10.0.0.1", 80, 5)) })
	f.wantNext(t, "10.0.0.1:80=5")
	if got := s.State().Corrections; got != 0 {
		t.Fatalf("%d corrections: the tree was not read again", got)
	}
}

// A packet too short to hold a header makes the client library panic.
func TestShortPacket(t *testing.T) {
	t.Parallel()
	server := newFake(t)
	server.change(func(m *model) { m.create("/a", ""); m.create("/a/x", nerve("10.0.0.1", 80, 1)) })
	server.faulty(func(f *fake) { f.afterGreeted = []byte{0, 0, 0, 4, 1, 2, 3, 4} })
	f := follow(t, startSession(t, quickConfig(server.addr())), "/a", "nerve")
	eventually(t, "connections are given up", func() bool { return server.connections() >= 2 })
	server.faulty(func(f *fake) { f.afterGreeted = nil })
	f.wantNext(t, "10.0.0.1:80=1")
}
