package zookeeper

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"drover/backend"
	"drover/discovery/format"
	"drover/internal/zktest"
)

// shared is the server of the tests that neither stop it nor look at what is not theirs.
var shared zktest.Shared

func TestMain(m *testing.M) {
	code := m.Run()
	shared.Close()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// patience bounds every wait; nothing takes nearly as long unless it never comes.
const patience = 60 * time.Second

func testConfig(servers ...string) Config {
	var cfg Config
	cfg.SetDefaults()
	cfg.Servers = servers
	cfg.SessionTimeout = zktest.MaxSessionTimeout
	return cfg
}

func testLogger() *zap.Logger { return zap.NewNop() }

// startSession runs a session until the test ends.
func startSession(t testing.TB, cfg Config) *Session {
	t.Helper()
	s, err := NewSession(cfg, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	runSession(t, s)
	return s
}

func runSession(t testing.TB, s *Session) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("session: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// followed is a source that runs until the test ends.
type followed struct {
	*Source
	sets chan []backend.Server
	stop func()
}

func follow(t testing.TB, s *Session, path, format string) *followed {
	t.Helper()
	f := &followed{
		Source: NewSource(s, SourceConfig{Path: path, Format: format}, zap.NewNop()),
		sets:   make(chan []backend.Server, 10_000),
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx, func(set []backend.Server) { f.sets <- set }) }()
	f.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("source: %v", err)
		}
	})
	t.Cleanup(f.stop)
	return f
}

// next gives the next set, written down as hosts and weights.
func (f *followed) next(t testing.TB) string {
	t.Helper()
	select {
	case set := <-f.sets:
		return text(set)
	case <-time.After(patience):
		t.Fatalf("no set within %v; %+v, session %+v", patience, f.Status(), f.session.State())
		return ""
	}
}

func (f *followed) wantNext(t testing.TB, want string) {
	t.Helper()
	if got := f.next(t); got != want {
		t.Fatalf("got set %q; want %q", got, want)
	}
}

// until skips sets up to one.
func (f *followed) until(t testing.TB, want string) {
	t.Helper()
	for last := "none"; ; {
		select {
		case set := <-f.sets:
			if last = text(set); last == want {
				return
			}
		case <-time.After(patience):
			t.Fatalf("no set %q within %v, last %q; %+v, session %+v", want, patience, last, f.Status(), f.session.State())
		}
	}
}

// quiet fails if there was another set.
func (f *followed) quiet(t testing.TB) {
	t.Helper()
	select {
	case set := <-f.sets:
		t.Fatalf("got a further set %q", text(set))
	default:
	}
}

func text(set []backend.Server) string {
	words := make([]string, len(set))
	for i, s := range set {
		words[i] = fmt.Sprintf("%s=%d", s.Address(), s.Weight)
	}
	return strings.Join(words, " ")
}

// eventually waits for a condition that nothing announces.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		if <-tick.C; time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

func connected(t testing.TB, s *Session) {
	t.Helper()
	eventually(t, "connected", func() bool { return s.State().Connected })
}

// nerve writes a record.
func nerve(host string, port, weight int) string {
	return fmt.Sprintf(`{"host":%q,"port":%d,"name":"i","weight":%d}`, host, port, weight)
}

// writerOf connects a client that owns a tree and removes it at the end.
func writerOf(t testing.TB, server *zktest.Server, root string) *zk.Conn {
	t.Helper()
	conn := server.Client(t)
	t.Cleanup(func() { zktest.Remove(t, conn, root) })
	return conn
}

func put(t testing.TB, conn *zk.Conn, path, data string) {
	t.Helper()
	if _, err := conn.Create(path, []byte(data), zk.FlagEphemeral, zk.WorldACL(zk.PermAll)); err != nil {
		t.Fatalf("cannot create %q: %v", path, err)
	}
}

func set(t testing.TB, conn *zk.Conn, path, data string) {
	t.Helper()
	if _, err := conn.Set(path, []byte(data), -1); err != nil {
		t.Fatalf("cannot set %q: %v", path, err)
	}
}

func drop(t testing.TB, conn *zk.Conn, path string) {
	t.Helper()
	if err := conn.Delete(path, -1); err != nil {
		t.Fatalf("cannot delete %q: %v", path, err)
	}
}

// watchers counts the sessions that watch a path's data; the server does not list
// child watches.
func watchers(t testing.TB, s *zktest.Server, path string) int {
	t.Helper()
	listing, err := s.FourLetters("wchp")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(listing, "\n")
	at := slices.Index(lines, path)
	if at < 0 {
		return 0
	}
	n := 0
	for _, line := range lines[at+1:] {
		if !strings.HasPrefix(line, "\t") {
			break
		}
		n++
	}
	return n
}

// decodeNerve is the format's decoder.
func decodeNerve(path string, data []byte) ([]backend.Server, error) {
	decode, err := format.Lookup("nerve")
	if err != nil {
		return nil, err
	}
	return decode(path, data)
}
