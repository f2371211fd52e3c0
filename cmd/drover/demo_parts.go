package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-zookeeper/zk"
)

// demoServer is a small HTTP service.
type demoServer struct {
	name     string
	address  string
	http     *http.Server
	done     chan struct{}
	sick     atomic.Bool
	requests atomic.Int64
}

func startDemoServer(name string) (*demoServer, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("cannot start demo server %s: %w", name, err)
	}
	s := &demoServer{name: name, address: ln.Addr().String(), done: make(chan struct{})}
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		if s.sick.Load() {
			http.Error(w, "sick", http.StatusServiceUnavailable)
		}
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		s.requests.Add(1)
		if s.sick.Load() {
			http.Error(w, "sick", http.StatusServiceUnavailable)
			return
		}
		_, _ = fmt.Fprintf(w, "hello from %s\n", name) // the client left; nobody to tell.
	})
	s.http = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		defer close(s.done)
		_ = s.http.Serve(ln) // ends with ErrServerClosed.
	}()
	return s, nil
}

func (s *demoServer) stop() {
	_ = s.http.Close() // the demo is over.
	<-s.done
}

// demoRegistry is where the demo's servers are written down.
type demoRegistry interface {
	ensemble() string // the configuration's zookeeper block, "" for none
	discover() string // the upstream's discover block
	put(s *demoServer, weight int) error
	remove(s *demoServer) error
	close()
}

func newDemoRegistry(ctx context.Context, address, dir string) (demoRegistry, error) {
	if address != "" {
		z, err := connectDemoZooKeeper(ctx, address)
		if err != nil {
			return nil, err // not z: a nil pointer in an interface is not nil.
		}
		return z, nil
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the demo's registry: %w", err)
	}
	return demoFolder(dir), nil
}

// entry is a registration as Nerve writes it.
func (s *demoServer) entry(weight int) []byte {
	host, port, _ := strings.Cut(s.address, ":")
	return fmt.Appendf(nil, `{"host":%q,"port":%s,"name":%q,"weight":%d}`, host, port, s.name, weight)
}

// demoFolder registers servers as files.
type demoFolder string

func (demoFolder) ensemble() string   { return "" }
func (f demoFolder) discover() string { return fmt.Sprintf("{ file: { path: %q } }", string(f)) }
func (demoFolder) close()             {}

func (f demoFolder) put(s *demoServer, weight int) error {
	path := filepath.Join(string(f), s.name+".json")
	if err := os.WriteFile(path+"~", s.entry(weight), 0o600); err != nil {
		return err
	}
	return os.Rename(path+"~", path)
}

func (f demoFolder) remove(s *demoServer) error {
	return os.Remove(filepath.Join(string(f), s.name+".json"))
}

// demoZooKeeper registers servers as ephemeral znodes.
type demoZooKeeper struct {
	address string
	root    string
	conn    *zk.Conn
}

// demoConnectTimeout bounds the wait for the ensemble.
const demoConnectTimeout = 10 * time.Second

func connectDemoZooKeeper(ctx context.Context, address string) (*demoZooKeeper, error) {
	conn, events, err := zk.Connect([]string{address}, demoConnectTimeout, zk.WithLogInfo(false), zk.WithLogger(quiet{}))
	if err != nil {
		return nil, fmt.Errorf("cannot connect to ZooKeeper at %q: %w", address, err)
	}
	timeout := time.NewTimer(demoConnectTimeout)
	defer timeout.Stop()
	for conn.State() != zk.StateHasSession {
		select {
		case <-events:
		case <-ctx.Done():
			conn.Close()
			return nil, ctx.Err()
		case <-timeout.C:
			conn.Close()
			return nil, fmt.Errorf("cannot connect to ZooKeeper at %q: no session within %s", address, demoConnectTimeout)
		}
	}
	z := &demoZooKeeper{address: address, conn: conn, root: fmt.Sprintf("/drover-demo-%d", os.Getpid())}
	if _, err := conn.Create(z.root, nil, 0, zk.WorldACL(zk.PermAll)); err != nil {
		conn.Close()
		return nil, fmt.Errorf("cannot create %q in ZooKeeper: %w", z.root, err)
	}
	return z, nil
}

type quiet struct{}

func (quiet) Printf(string, ...any) {}

func (z *demoZooKeeper) ensemble() string {
	return fmt.Sprintf("zookeeper: { servers: [ %q ] }\n", z.address)
}
func (z *demoZooKeeper) discover() string { return fmt.Sprintf("{ zookeeper: { path: %q } }", z.root) }

func (z *demoZooKeeper) put(s *demoServer, weight int) error {
	path := z.root + "/" + s.name
	_, err := z.conn.Set(path, s.entry(weight), -1)
	if errors.Is(err, zk.ErrNoNode) {
		_, err = z.conn.Create(path, s.entry(weight), zk.FlagEphemeral, zk.WorldACL(zk.PermAll))
	}
	return err
}

func (z *demoZooKeeper) remove(s *demoServer) error { return z.conn.Delete(z.root+"/"+s.name, -1) }

func (z *demoZooKeeper) close() {
	children, _, err := z.conn.Children(z.root)
	if err == nil {
		for _, child := range children {
			_ = z.conn.Delete(z.root+"/"+child, -1) // ephemeral: it would go by itself.
		}
		_ = z.conn.Delete(z.root, -1) // an empty node is all that can stay behind.
	}
	z.conn.Close()
}

// demoLoad sends requests at a steady rate.
type demoLoad struct {
	total, failed atomic.Int64
	first         atomic.Pointer[string]
	cancel        context.CancelFunc
	workers       sync.WaitGroup
	stopping      sync.Once
}

// demoWorkers is how many clients share the load.
const demoWorkers = 4

func startDemoLoad(url string, rate int) *demoLoad {
	ctx, cancel := context.WithCancel(context.Background())
	l := &demoLoad{cancel: cancel}
	interval := time.Second * demoWorkers / time.Duration(rate)
	for range demoWorkers {
		l.workers.Go(func() {
			client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			tick := time.NewTicker(interval)
			defer tick.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
					l.request(client, url)
				}
			}
		})
	}
	return l
}

// request sends one request. It is not tied to the load's end, so that stopping cuts
// none.
func (l *demoLoad) request(client *http.Client, url string) {
	err := func() error {
		resp, err := client.Get(url)
		if err != nil {
			return err
		}
		defer resp.Body.Close() //nolint:errcheck // read to its end below.
		body, err := io.ReadAll(resp.Body)
		if err == nil && resp.StatusCode != http.StatusOK {
			err = fmt.Errorf("status %d: %.100s", resp.StatusCode, body)
		}
		return err
	}()
	l.total.Add(1)
	if err != nil {
		l.failed.Add(1)
		text := err.Error()
		l.first.CompareAndSwap(nil, &text)
	}
}

func (l *demoLoad) firstError() string {
	if text := l.first.Load(); text != nil {
		return *text
	}
	return ""
}

func (l *demoLoad) stop() {
	l.stopping.Do(l.cancel)
	l.workers.Wait()
}
