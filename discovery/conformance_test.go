package discovery

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"drover/discovery/zookeeper"
	"drover/internal/zktest"

	"github.com/go-zookeeper/zk"
	"github.com/miekg/dns"
	"go.uber.org/zap"
)

// registry is the other end of a source: what an operator or a client does to it.
type registry struct {
	source sourceWithStatus
	// write makes these its entries: addresses, and one that cannot be used as "bad".
	write func(entries ...string)
	// fail makes it unreadable, mend ends that.
	fail, mend func()
	logged     func(text string) int
}

// registries has one of each source in the table `sources`.
var registries = map[string]func(*testing.T) *registry{
	"file":       directoryRegistry,
	"file/lines": linesRegistry,
	"dns":        dnsRegistry,
	"zookeeper":  zookeeperRegistry,
}

// TestConformance holds every source against the contract in README.md.
func TestConformance(t *testing.T) {
	for name := range sources {
		if registries[name] == nil {
			t.Errorf("source %q has no registry here; want one, so that the contract is tested", name)
		}
	}
	for name, start := range registries {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conform(t, start(t))
		})
	}
}

func conform(t *testing.T, r *registry) {
	r.write("10.0.0.2:80", "10.0.0.1:80")
	f := follow(t, r.source)
	f.next(t, "10.0.0.1:80 10.0.0.2:80")
	if s := f.source.Status(); s.Servers != 2 || !s.Connected || s.Stale || s.Fault != "" || s.LastSync.IsZero() {
		t.Errorf("status %+v; want 2 servers, connected, fresh", s)
	}

	// The same in another order is no change; the next set is that of the next change.
	r.write("10.0.0.1:80", "10.0.0.2:80")
	r.write("10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80")
	f.next(t, "10.0.0.1:80 10.0.0.2:80 10.0.0.3:80")

	// A bad entry costs itself, and one line of log.
	r.write("10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80", "bad", "10.0.0.4:80")
	f.next(t, "10.0.0.1:80 10.0.0.2:80 10.0.0.3:80 10.0.0.4:80")
	s := f.status(t, "one reject", func(s Status) bool { return len(s.Rejected) == 1 })
	if reject := s.Rejected[0]; reject.Path == "" || !strings.Contains(reject.Reason, "want") {
		t.Errorf("reject %+v; want where, what was found, what was wanted", reject)
	}
	r.write("10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80", "bad", "10.0.0.4:80", "10.0.0.5:80")
	f.next(t, "10.0.0.1:80 10.0.0.2:80 10.0.0.3:80 10.0.0.4:80 10.0.0.5:80")
	if n := r.logged("cannot be used"); n != 1 {
		t.Errorf("the bad entry is logged %d times; want once", n)
	}

	// A registry that fails says nothing about the servers.
	r.fail()
	f.status(t, "stale", func(s Status) bool { return s.Stale && s.Fault != "" })
	if n := f.source.Status().Servers; n != 5 {
		t.Errorf("%d servers in the status; want the last 5", n)
	}
	r.mend()
	r.write("10.0.0.1:80", "10.0.0.3:80", "10.0.0.6:80")
	f.next(t, "10.0.0.1:80 10.0.0.3:80 10.0.0.6:80")
	f.status(t, "fresh, nothing rejected", func(s Status) bool { return !s.Stale && s.Fault == "" && len(s.Rejected) == 0 })

	f.stop()
	select {
	case set := <-f.sets:
		t.Errorf("emitted %q unasked", setText(set))
	default:
	}
}

// TestStatic: the one source that has no registry.
func TestStatic(t *testing.T) {
	source, err := NewStatic([]StaticServer{{Address: "10.0.0.2:80", Weight: 3}, {Address: "https://[2001:DB8::1]:443", Weight: 1, Priority: 1}})
	if err != nil {
		t.Fatal(err)
	}
	f := follow(t, source.(sourceWithStatus))
	f.next(t, "10.0.0.2:80*3 [2001:db8::1]:443/1")
	if s := f.source.Status(); s.Servers != 2 || !s.Connected || s.Stale {
		t.Errorf("status %+v", s)
	}
	if _, err := NewStatic([]StaticServer{{Address: "10.0.0.2"}}); err == nil || !strings.Contains(err.Error(), "want host:port") {
		t.Errorf("an address without port: %v", err)
	}
}

func observedRegistry() (*registry, *zap.Logger) {
	logger, logs := observed()
	r := &registry{logged: func(text string) int {
		n := 0
		for _, line := range logs.All() {
			if strings.Contains(line.Message, text) {
				n++
			}
		}
		return n
	}}
	return r, logger
}

// directoryRegistry replaces the whole directory at once, as Kubernetes does with a
// ConfigMap: a set that nobody wrote must not be seen.
func directoryRegistry(t *testing.T) *registry {
	r, logger := observedRegistry()
	base := t.TempDir()
	path := filepath.Join(base, "servers")
	r.source = NewFile(FileConfig{Path: path, Format: "auto"}, logger)
	n := 0
	r.write = func(entries ...string) {
		n++
		dir := filepath.Join(base, fmt.Sprintf("data.%d", n))
		must(t, os.Mkdir(dir, 0o700))
		for _, e := range entries {
			must(t, os.WriteFile(filepath.Join(dir, e), []byte(entryText(e)), 0o600))
		}
		must(t, os.Symlink(dir, path+".new"))
		must(t, os.Rename(path+".new", path))
	}
	r.fail = func() { must(t, os.Rename(path, path+".away")) }
	r.mend = func() { must(t, os.Rename(path+".away", path)) }
	return r
}

func entryText(e string) string {
	if e == "bad" {
		return "h:80 colour=red"
	}
	return e
}

func linesRegistry(t *testing.T) *registry {
	r, logger := observedRegistry()
	path := filepath.Join(t.TempDir(), "servers")
	r.source = NewFile(FileConfig{Path: path, Format: "auto"}, logger)
	r.write = func(entries ...string) {
		text := "# servers\n\n"
		for _, e := range entries {
			text += "  " + entryText(e) + "\r\n"
		}
		replaceFile(t, path, text)
	}
	r.fail = func() { must(t, os.Rename(path, path+".away")) }
	r.mend = func() { must(t, os.Rename(path+".away", path)) }
	return r
}

// replaceFile writes as most programs that take care do: beside, then renamed.
func replaceFile(t *testing.T, path, text string) {
	t.Helper()
	beside := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".new")
	must(t, os.WriteFile(beside, []byte(text), 0o600))
	must(t, os.Rename(beside, path))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func dnsRegistry(t *testing.T) *registry {
	r, logger := observedRegistry()
	server := startNameServer(t)
	cfg := testDNS(server.addr, "SRV")
	source, err := NewDNS(cfg, logger)
	must(t, err)
	r.source = source
	r.write = func(entries ...string) {
		var records []string
		for _, e := range entries {
			if e == "bad" {
				e = "10.0.0.99:0"
			}
			host, port, err := net.SplitHostPort(e)
			must(t, err)
			records = append(records, fmt.Sprintf("web.example. 0 IN SRV 0 1 %s %s.", port, host))
		}
		server.answer(dns.TypeSRV, records...)
	}
	r.fail = func() { server.code(dns.RcodeServerFailure) }
	r.mend = func() { server.code(dns.RcodeSuccess) }
	return r
}

func zookeeperRegistry(t *testing.T) *registry {
	r, logger := observedRegistry()
	server := ensemble.Server(t)
	link := zktest.NewLink(t, server.Addr())
	client := server.Client(t)
	var cfg zookeeper.Config
	cfg.SetDefaults()
	cfg.Servers = []string{link.Addr()}
	cfg.SessionTimeout = zktest.MaxSessionTimeout
	session, err := zookeeper.NewSession(cfg, logger)
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- session.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	path := fmt.Sprint("/conformance-", time.Now().UnixNano())
	source, err := New(Config{ZooKeeper: &zookeeper.SourceConfig{Path: path, Format: "auto"}}, Deps{ZooKeeper: session, Logger: logger, Upstream: "web"})
	must(t, err)
	r.source = source.(sourceWithStatus)
	zktest.Make(t, client, path, "")
	r.write = func(entries ...string) {
		children, _, err := client.Children(path)
		must(t, err)
		var ops []any // one transaction: a set that nobody wrote must not be seen
		for _, name := range children {
			ops = append(ops, &zk.DeleteRequest{Path: path + "/" + name, Version: -1})
		}
		for _, e := range entries {
			ops = append(ops, &zk.CreateRequest{Path: path + "/" + e, Data: []byte(entryText(e)), Acl: zk.WorldACL(zk.PermAll)})
		}
		_, err = client.Multi(ops...)
		must(t, err)
	}
	r.fail, r.mend = link.Cut, link.Mend
	return r
}
