package peers

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"

	"drover/backend"
	"drover/discovery/zookeeper"
	"drover/internal/zktest"
)

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

const patience = 60 * time.Second

// Each registrant's servers are found, re-weighted and let go, in its own format and
// by recognition.
func TestWriters(t *testing.T) {
	for name, writer := range map[string]struct {
		format, path string
		start        func(t testing.TB, address, path string) *Writer
	}{
		"kazoo nerve": {"nerve", "/nerve/services/web", func(t testing.TB, address, path string) *Writer {
			return Kazoo(t, address, path, "nerve")
		}},
		"kazoo serverset": {"serverset", "/aurora/www/prod/web", func(t testing.TB, address, path string) *Writer {
			return Kazoo(t, address, path, "serverset")
		}},
		"kazoo plain": {"plain", "/plain/web", func(t testing.TB, address, path string) *Writer {
			return Kazoo(t, address, path, "plain")
		}},
		"curator": {"curator", "/services/orders", Curator},
		"dubbo":   {"dubbo", "/dubbo/org.example.HelloService", Dubbo},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address := shared.Server(t).Addr()
			sets := map[string]<-chan string{
				writer.format: follow(t, address, writer.path, writer.format),
				"auto":        follow(t, address, writer.path, "auto"),
			}
			want := func(set string) {
				t.Helper()
				for format, sets := range sets {
					waitFor(t, format, sets, set)
				}
			}
			want("") // a service that nobody has registered yet
			w := writer.start(t, address, writer.path)
			w.Register(t, "one", "10.0.0.1", 8080, 3)
			want("10.0.0.1:8080=3")
			w.Register(t, "two", "10.0.0.2", 8081, 1)
			want("10.0.0.1:8080=3 10.0.0.2:8081=1")
			w.Reweight(t, "one", 7)
			want("10.0.0.1:8080=7 10.0.0.2:8081=1")
			w.Reweight(t, "two", 0)
			want("10.0.0.1:8080=7 10.0.0.2:8081=0")
			w.Drop(t, "one")
			want("10.0.0.2:8081=0")
			w.Kill()
			want("") // when its session expires
		})
	}
}

// follow runs a source and gives its sets.
func follow(t *testing.T, address, path, format string) <-chan string {
	t.Helper()
	var cfg zookeeper.Config
	cfg.SetDefaults()
	cfg.Servers = []string{address}
	session, err := zookeeper.NewSession(cfg, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	source := zookeeper.NewSource(session, zookeeper.SourceConfig{Path: path, Format: format}, zap.NewNop())
	sets := make(chan string, 1000)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 2)
	go func() { done <- session.Run(ctx) }()
	go func() { done <- source.Run(ctx, func(set []backend.Server) { sets <- text(set) }) }()
	t.Cleanup(func() {
		cancel()
		for range 2 {
			if err := <-done; err != nil {
				t.Errorf("%s: %v", format, err)
			}
		}
		if rejected := source.Status().Rejected; len(rejected) != 0 {
			t.Errorf("%s: rejected %+v", format, rejected)
		}
	})
	return sets
}

func text(set []backend.Server) string {
	words := make([]string, len(set))
	for i, s := range set {
		words[i] = fmt.Sprintf("%s=%d", s.Address(), s.Weight)
	}
	return strings.Join(words, " ")
}

func waitFor(t *testing.T, format string, sets <-chan string, want string) {
	t.Helper()
	timeout := time.After(patience)
	for last := "none"; last != want; {
		select {
		case last = <-sets:
		case <-timeout:
			t.Fatalf("format %s: no set %q within %v, last %q", format, want, patience, last)
		}
	}
}
