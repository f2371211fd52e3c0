package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"go.uber.org/zap"
)

// State is what the interface shows; whoever runs drover supplies it.
type State struct {
	// Metrics serves Prometheus' text format.
	Metrics http.Handler
	// Ready gives nil while drover can take traffic, else the reason why not.
	Ready func() error
	// Status gives a value that is shown as JSON.
	Status func() any
}

// Server is the operator's interface. It only answers GET and HEAD, and changes
// nothing.
type Server struct {
	// immutable
	http *http.Server
}

// New makes a Server. It starts nothing.
func New(cfg Config, state State, logger *zap.Logger) *Server {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", state.Metrics)
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		plain(w, http.StatusOK, "alive\n")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := state.Ready(); err != nil {
			plain(w, http.StatusServiceUnavailable, "not ready: "+err.Error()+"\n")
			return
		}
		plain(w, http.StatusOK, "ready\n")
	})
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		_ = encoder.Encode(state.Status()) // the client left; nobody to tell.
	})
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		plain(w, http.StatusOK, "drover\n\n/status   upstreams, servers, sources, checks\n/metrics  Prometheus\n/livez    the process answers\n/readyz   it can take traffic\n")
	})
	if cfg.PProf {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	return &Server{http: &http.Server{
		Handler:           onlyAddressed(cfg.Address, mux),
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		IdleTimeout:       75 * time.Second,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          zap.NewStdLog(logger.Named("admin")),
	}}
}

// Serve answers on ln until Shutdown.
func (s *Server) Serve(ln net.Listener) error {
	if err := s.http.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("cannot serve admin interface on %q: %w", ln.Addr(), err)
	}
	return nil
}

// Shutdown ends Serve, letting running answers finish until ctx ends.
func (s *Server) Shutdown(ctx context.Context) error {
	if err := s.http.Shutdown(ctx); err != nil {
		return errors.Join(err, s.http.Close())
	}
	return nil
}

// onlyAddressed refuses requests whose Host is a name, where the interface listens on
// the loopback: a web page that rebinds its own name to 127.0.0.1 must not read it.
func onlyAddressed(address string, next http.Handler) http.Handler {
	host, _, err := net.SplitHostPort(address)
	ip := net.ParseIP(host)
	if err != nil || host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := r.Host
		if h, _, err := net.SplitHostPort(r.Host); err == nil {
			name = h
		}
		if name != "localhost" && net.ParseIP(name) == nil {
			plain(w, http.StatusMisdirectedRequest, "this interface is addressed by IP address or as localhost\n")
			return
		}
		next.ServeHTTP(w, r)
	})
}

func plain(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text)) // the client left; nobody to tell.
}
