package zookeeper

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"drover/backend"
	"drover/internal/zktest"
)

// A path is followed through its whole life: before it exists, as servers come,
// change their weight and go, and when it is deleted and made again.
func TestFollowAPath(t *testing.T) {
	t.Parallel()
	server := shared.Server(t)
	writer := writerOf(t, server, "/life")
	session := startSession(t, testConfig(server.Addr()))
	f := follow(t, session, "/life/users", "nerve")
	f.wantNext(t, "")
	if !f.Ready() || f.Status().Stale {
		t.Fatalf("an empty set is a set: %+v", f.Status())
	}

	zktest.Make(t, writer, "/life/users", "")
	put(t, writer, "/life/users/a", nerve("10.0.0.1", 80, 1))
	f.wantNext(t, "10.0.0.1:80=1")
	put(t, writer, "/life/users/b", nerve("10.0.0.2", 80, 2))
	f.wantNext(t, "10.0.0.1:80=1 10.0.0.2:80=2")
	set(t, writer, "/life/users/a", nerve("10.0.0.1", 80, 9))
	f.wantNext(t, "10.0.0.1:80=9 10.0.0.2:80=2")
	put(t, writer, "/life/users/c", "no record")
	eventually(t, "rejected", func() bool { return len(f.Status().Rejected) == 1 })
	drop(t, writer, "/life/users/b")
	f.wantNext(t, "10.0.0.1:80=9")
	if got := f.Status(); got.Servers != 1 || !got.Connected || got.Stale || got.LastSync.IsZero() || got.Rejected[0].Path != "/life/users/c" {
		t.Fatalf("status %+v", got)
	}

	zktest.Remove(t, writer, "/life")
	f.until(t, "")
	eventually(t, "nothing is rejected", func() bool { return len(f.Status().Rejected) == 0 })
	zktest.Make(t, writer, "/life/users/d", nerve("10.0.0.4", 80, 1))
	f.until(t, "10.0.0.4:80=1")
	if got := f.Stats().Corrections; got != 0 {
		t.Fatalf("%d corrections", got)
	}
}

// A server that is written again, in place or under another name, never leaves.
func TestRewrittenServerStays(t *testing.T) {
	t.Parallel()
	server := shared.Server(t)
	writer := writerOf(t, server, "/again")
	zktest.Make(t, writer, "/again/a", nerve("10.0.0.1", 80, 1))
	f := follow(t, startSession(t, testConfig(server.Addr())), "/again", "nerve")
	f.wantNext(t, "10.0.0.1:80=1")
	create := func(path string) *zk.CreateRequest {
		return &zk.CreateRequest{Path: path, Data: []byte(nerve("10.0.0.1", 80, 1)), Acl: zk.WorldACL(zk.PermAll)}
	}
	for i := range 5 {
		if _, err := writer.Multi(&zk.DeleteRequest{Path: "/again/a", Version: -1}, create("/again/a")); err != nil {
			t.Fatal(err)
		}
		old, moved := fmt.Sprintf("/again/m%d", i), fmt.Sprintf("/again/m%d", i+1)
		if i == 0 {
			_, err := writer.Multi(create(moved))
			if err != nil {
				t.Fatal(err)
			}
		} else if _, err := writer.Multi(&zk.DeleteRequest{Path: old, Version: -1}, create(moved)); err != nil {
			t.Fatal(err)
		}
		rounds := f.Stats().Rounds
		eventually(t, "another reading", func() bool { return f.Stats().Rounds > rounds })
	}
	set(t, writer, "/again/m5", nerve("10.0.0.1", 80, 2))
	f.wantNext(t, "10.0.0.1:80=2") // the younger znode's word, and the first set since
}

// The container that Curator makes goes some time after its last child.
func TestContainerGoesAndComesBack(t *testing.T) {
	t.Parallel()
	server := shared.Server(t)
	writer := writerOf(t, server, "/container")
	f := follow(t, startSession(t, testConfig(server.Addr())), "/container", "nerve")
	f.wantNext(t, "")
	for range 2 {
		if _, err := writer.CreateContainer("/container", nil, zk.FlagContainer, zk.WorldACL(zk.PermAll)); err != nil {
			t.Fatal(err)
		}
		put(t, writer, "/container/a", nerve("10.0.0.1", 80, 1))
		f.wantNext(t, "10.0.0.1:80=1")
		drop(t, writer, "/container/a")
		f.wantNext(t, "")
		eventually(t, "the container is gone", func() bool {
			there, _, err := writer.Exists("/container")
			return err == nil && !there
		})
	}
}

// Both levels of Dubbo's registry can be named.
func TestInterfaceStandsForItsProviders(t *testing.T) {
	t.Parallel()
	server := shared.Server(t)
	writer := writerOf(t, server, "/dubbo")
	zktest.Make(t, writer, "/dubbo/demo/consumers/x", "")
	f := follow(t, startSession(t, testConfig(server.Addr())), "/dubbo/demo", "auto")
	f.wantNext(t, "")
	zktest.Make(t, writer, "/dubbo/demo/providers/a", "10.0.0.1:80")
	f.until(t, "10.0.0.1:80=1")
	direct := follow(t, f.session, "/dubbo/demo/providers", "auto")
	direct.wantNext(t, "10.0.0.1:80=1")
}

// Whatever is written at whatever pace, the last set is what is there, no watch is
// lost, and none is armed twice.
func TestChurn(t *testing.T) {
	t.Parallel()
	server := shared.Server(t)
	cfg := testConfig(server.Addr())
	cfg.Debounce = time.Millisecond // to meet as many changes as can be in mid-reading
	session := startSession(t, cfg)
	f := follow(t, session, "/churn", "nerve")
	zktest.Make(t, writerOf(t, server, "/churn"), "/churn", "")
	done := make(chan struct{})
	for w := range 4 {
		writer := server.Client(t)
		go func() {
			defer func() { done <- struct{}{} }()
			random := rand.New(rand.NewPCG(uint64(w), 3))
			for range 250 {
				path := fmt.Sprintf("/churn/n%d", random.IntN(20))
				data := []byte(nerve(fmt.Sprintf("10.0.0.%d", random.IntN(15)), 80, random.IntN(9)))
				switch random.IntN(3) { // what does not succeed is not meant to
				case 0:
					_, _ = writer.Create(path, data, 0, zk.WorldACL(zk.PermAll))
				case 1:
					_, _ = writer.Set(path, data, -1)
				case 2:
					_ = writer.Delete(path, -1)
				}
			}
		}()
	}
	for range 4 {
		<-done
	}
	want := held(t, server.Client(t), "/churn")
	f.until(t, want)
	if got := f.Stats().Corrections; got != 0 {
		t.Errorf("%d corrections", got)
	}
	armedOnce(t, session)
}

// held reads a directory of nerve records the simple way.
func held(t *testing.T, conn *zk.Conn, dir string) string {
	t.Helper()
	type entry struct {
		servers []backend.Server
		created int64
	}
	names, _, err := conn.Children(dir)
	if err != nil {
		t.Fatal(err)
	}
	var entries []entry
	for _, name := range names {
		data, stat, err := conn.Get(dir + "/" + name)
		if err != nil {
			t.Fatal(err)
		}
		servers, err := decodeNerve(dir+"/"+name, data)
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, entry{servers, stat.Czxid})
	}
	slices.SortFunc(entries, func(a, b entry) int { return int(a.created - b.created) })
	var all []backend.Server
	for _, e := range entries {
		all = append(all, e.servers...)
	}
	return text(backend.Merge(all))
}

// armedOnce looks into the client library, which keeps a channel for each arming.
func armedOnce(t *testing.T, s *Session) {
	t.Helper()
	s.mu.Lock()
	conn := s.lib.conn
	s.mu.Unlock()
	armed := reflect.ValueOf(conn).Elem().FieldByName("watchers").MapRange()
	n := 0
	for armed.Next() {
		n++
		if channels := armed.Value().Len(); channels != 1 {
			t.Errorf("%v: %d channels; want 1", armed.Key(), channels)
		}
	}
	if got := s.Stats().Watches; got != n {
		t.Errorf("%d watches are believed armed; the library has %d", got, n)
	}
}

// A large directory: one listing, a read for each child, one watch on each, and
// a change of one child reads one child.
func TestLargeDirectory(t *testing.T) {
	t.Parallel()
	const size = 2000
	server := shared.Server(t)
	writer := writerOf(t, server, "/large")
	zktest.Make(t, writer, "/large", "")
	for from := 0; from < size; from += 500 {
		var batch []any
		for i := from; i < from+500; i++ {
			batch = append(batch, &zk.CreateRequest{Path: fmt.Sprintf("/large/n%04d", i),
				Data: []byte(nerve(fmt.Sprintf("10.0.%d.%d", i/250, i%250), 80, 1)), Acl: zk.WorldACL(zk.PermAll)})
		}
		if _, err := writer.Multi(batch...); err != nil {
			t.Fatal(err)
		}
	}
	session := startSession(t, testConfig(server.Addr()))
	f := follow(t, session, "/large", "nerve")
	begin := time.Now()
	if got := strings.Fields(f.next(t)); len(got) != size {
		t.Fatalf("%d servers; want %d", len(got), size)
	}
	t.Logf("%d children read in %v", size, time.Since(begin))
	if got := session.Stats().Reads; got != size+1 {
		t.Errorf("%d reads; want %d", got, size+1)
	}
	for i := range 10 {
		set(t, writer, "/large/n0000", nerve("10.0.0.0", 80, i+2))
		f.until(t, strings.Replace(f.wholeText(), "10.0.0.0:80=1", fmt.Sprintf("10.0.0.0:80=%d", i+2), 1))
	}
	if got := session.Stats().Reads; got != size+11 {
		t.Errorf("%d reads after 10 changes; want %d", got, size+11)
	}
	armedOnce(t, session)
	if got := session.Stats().Watches; got != size+1 {
		t.Errorf("%d watches; want %d", got, size+1)
	}
	zktest.Remove(t, writer, "/large")
}

// wholeText is the set of TestLargeDirectory as it was at first.
func (f *followed) wholeText() string {
	var all []backend.Server
	for i := range 2000 {
		all = append(all, backend.Server{ID: backend.ID{Scheme: "http", Host: fmt.Sprintf("10.0.%d.%d", i/250, i%250), Port: 80}, Weight: 1})
	}
	return text(backend.Merge(all))
}

// Two sources of one path share its watches, and so do those that come later, as on
// a reload.
func TestSourcesShareWatches(t *testing.T) {
	t.Parallel()
	server := shared.Server(t)
	writer := writerOf(t, server, "/both")
	zktest.Make(t, writer, "/both/a", nerve("10.0.0.1", 80, 1))
	session := startSession(t, testConfig(server.Addr()))
	one, two := follow(t, session, "/both", "nerve"), follow(t, session, "/both", "nerve")
	one.wantNext(t, "10.0.0.1:80=1")
	two.wantNext(t, "10.0.0.1:80=1")
	for i := range 20 {
		one.stop()
		one = follow(t, session, "/both", "nerve")
		one.wantNext(t, fmt.Sprintf("10.0.0.1:80=%d", i+1))
		set(t, writer, "/both/a", nerve("10.0.0.1", 80, i+2))
		one.wantNext(t, fmt.Sprintf("10.0.0.1:80=%d", i+2))
		two.wantNext(t, fmt.Sprintf("10.0.0.1:80=%d", i+2))
	}
	if got := watchers(t, server, "/both/a"); got != 1 {
		t.Errorf("%d watches on the server; want 1", got)
	}
	armedOnce(t, session)
}

// The time from a change to the set, over 200 changes of every kind. The bound is
// generous; the numbers are for people.
func TestLatency(t *testing.T) {
	server := shared.Server(t)
	writer := writerOf(t, server, "/latency")
	zktest.Make(t, writer, "/latency/a", nerve("10.0.0.1", 80, 0))
	f := follow(t, startSession(t, testConfig(server.Addr())), "/latency", "nerve")
	f.wantNext(t, "10.0.0.1:80=0")
	var took []time.Duration
	for i := range 200 {
		before := time.Now()
		switch i % 4 {
		case 0:
			put(t, writer, "/latency/b", nerve("10.0.0.2", 80, 1))
		case 2:
			drop(t, writer, "/latency/b")
		default:
			set(t, writer, "/latency/a", nerve("10.0.0.1", 80, i))
		}
		f.next(t)
		took = append(took, time.Since(before))
	}
	slices.Sort(took)
	t.Logf("median %v, p99 %v, most %v", took[100], took[198], took[199])
	if took[100] > 2*time.Second {
		t.Errorf("median %v", took[100])
	}
}
