package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// fault is a way in which a server goes bad.
type fault int32

const (
	none fault = iota
	gone
	reset
	blackHole
	latency
	cut
	trickle
	status503
)

// bodySize is how much a server answers, over four seconds at 1 KiB/s.
const bodySize = 4 << 10

var body = strings.Repeat("x", bodySize)

// server is an HTTP server that can be told to go bad.
type server struct {
	address string
	mode    atomic.Int32
	changed atomic.Pointer[chan struct{}] // closed when mode changes

	mu       sync.Mutex
	http     *http.Server
	conns    map[net.Conn]bool
	executed map[string]int // POSTs by id
}

func startServer() (*server, error) {
	s := &server{conns: map[net.Conn]bool{}, executed: map[string]int{}}
	first := make(chan struct{})
	s.changed.Store(&first)
	return s, s.listen("127.0.0.1:0")
}

func (s *server) listen(address string) error {
	var ln net.Listener
	var err error
	for range 50 { // the port of a server that is gone may need a moment
		if ln, err = net.Listen("tcp", address); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.address = ln.Addr().String()
	s.http = &http.Server{Handler: http.HandlerFunc(s.serve), ConnState: s.track, ReadHeaderTimeout: time.Minute}
	go func(h *http.Server) { _ = h.Serve(ln) }(s.http) // ends with Close.
	return nil
}

func (s *server) track(c net.Conn, state http.ConnState) {
	if state == http.StateNew && fault(s.mode.Load()) == reset {
		abort(c)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch state {
	case http.StateNew:
		s.conns[c] = true
	case http.StateClosed, http.StateHijacked:
		delete(s.conns, c)
	case http.StateActive, http.StateIdle:
	}
}

func abort(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // so that the close is a reset.
	}
	_ = c.Close() // see above.
}

// set changes the mode.
func (s *server) set(f fault) error {
	was := fault(s.mode.Swap(int32(f)))
	next := make(chan struct{})
	close(*s.changed.Swap(&next))
	switch {
	case f == gone:
		s.stop()
	case was == gone:
		return s.listen(s.address)
	}
	return nil
}

// stop resets all connections and stops listening.
func (s *server) stop() {
	s.mu.Lock()
	conns := s.conns
	s.conns = map[net.Conn]bool{}
	h := s.http
	s.mu.Unlock()
	for c := range conns {
		abort(c)
	}
	_ = h.Close() // nothing is left to lose.
}

// checked are the faults that a health check meets too.
var checked = map[fault]bool{reset: true, blackHole: true, latency: true, status503: true}

func (s *server) serve(w http.ResponseWriter, r *http.Request) {
	mode := fault(s.mode.Load())
	if r.URL.Path == "/healthz" && !checked[mode] {
		return
	}
	switch mode {
	case reset:
		s.hijack(w, abort)
		return
	case blackHole:
		s.wait(r.Context(), time.Minute)
		s.hijack(w, abort)
		return
	case latency:
		s.pause(r.Context(), 3*time.Second)
	case status503:
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	s.execute(r)
	w.Header().Set("Content-Length", fmt.Sprint(bodySize))
	switch mode {
	case cut:
		_, _ = io.WriteString(w, body[:bodySize/4]) // cut anyway.
		_ = http.NewResponseController(w).Flush()   // see above.
		s.hijack(w, func(c net.Conn) { _ = c.Close() })
	case trickle:
		for i := range 16 {
			_, _ = io.WriteString(w, body[:bodySize/16]) // whoever left misses it.
			_ = http.NewResponseController(w).Flush()    // see above.
			if i < 15 {
				s.pause(r.Context(), 250*time.Millisecond)
			}
		}
	default:
		_, _ = io.WriteString(w, body) // whoever left misses it.
	}
}

func (s *server) execute(r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body) // a broken body is the sender's loss.
	if id := r.Header.Get("X-Request-Number"); id != "" && r.Method == http.MethodPost {
		s.mu.Lock()
		s.executed[id]++
		s.mu.Unlock()
	}
}

// wait returns when the mode changes, the client goes or the time is over.
func (s *server) wait(ctx context.Context, most time.Duration) {
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case <-*s.changed.Load():
	case <-ctx.Done():
	case <-timer.C:
	}
}

// pause returns after the time, or when the client goes.
func (s *server) pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

func (s *server) hijack(w http.ResponseWriter, end func(net.Conn)) {
	if c, _, err := http.NewResponseController(w).Hijack(); err == nil {
		end(c)
	}
}
