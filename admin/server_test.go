package admin

import (
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"
	"go.uber.org/zap"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve runs a Server on a free loopback port and gives its URL.
func serve(t *testing.T, cfg Config, state State) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg.Address = ln.Addr().String()
	s := New(cfg, state, zap.NewNop())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ln) }()
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		if err := s.Shutdown(t.Context()); err != nil && !errors.Is(err, t.Context().Err()) {
			t.Errorf("Shutdown: %v", err)
		}
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return "http://" + cfg.Address
}

func get(t *testing.T, method, url, host string) (int, string) {
	t.Helper()
	req, err := http.NewRequest(method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = host
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close() //nolint:errcheck // read to the end below.
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestServer(t *testing.T) {
	var notReady atomic.Bool
	state := State{
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { plain(w, 200, "metrics here") }),
		Ready: func() error {
			if notReady.Load() {
				return errors.New("draining")
			}
			return nil
		},
		Status: func() any { return map[string]int{"upstreams": 3} },
	}
	url := serve(t, Config{}, state)
	want := func(method, path, host string, status int, part string) {
		t.Helper()
		got, body := get(t, method, url+path, host)
		if got != status || !strings.Contains(body, part) {
			t.Errorf("%s %s (Host %q) = %d %q; want %d with %q", method, path, host, got, body, status, part)
		}
	}
	want("GET", "/livez", "", 200, "alive")
	want("GET", "/readyz", "", 200, "ready")
	want("GET", "/metrics", "", 200, "metrics here")
	want("GET", "/status", "localhost:9900", 200, `"upstreams": 3`)
	want("GET", "/", "", 200, "/status")
	want("POST", "/status", "", 405, "")
	want("GET", "/debug/pprof/", "", 404, "")
	want("GET", "/status", "evil.example", 421, "localhost")
	notReady.Store(true)
	want("GET", "/readyz", "", 503, "draining")
	want("GET", "/livez", "", 200, "alive")
}

func TestPProfSwitch(t *testing.T) {
	url := serve(t, Config{PProf: true}, State{Metrics: http.NotFoundHandler()})
	if status, body := get(t, "GET", url+"/debug/pprof/", ""); status != 200 || !strings.Contains(body, "goroutine") {
		t.Errorf("pprof index = %d %q; want 200 with profiles", status, body)
	}
}
