package discovery

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"drover/backend"
	"drover/internal/zktest"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

var ensemble zktest.Shared

func TestMain(m *testing.M) {
	code := m.Run()
	ensemble.Close()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// patience bounds every wait; nothing takes nearly as long unless it never comes.
const patience = 30 * time.Second

// sourceWithStatus is what every source is, ZooKeeper's included.
type sourceWithStatus interface {
	Source
	Status() Status
}

// followed is a source that runs, and what it gives.
type followed struct {
	source sourceWithStatus
	sets   chan []backend.Server
	stop   func() // joins Run
}

func follow(t *testing.T, source sourceWithStatus) *followed {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	f := &followed{source: source, sets: make(chan []backend.Server, 100)}
	done := make(chan error, 1)
	go func() { done <- source.Run(ctx, func(set []backend.Server) { f.sets <- set }) }()
	ended := false
	f.stop = func() {
		if ended {
			return
		}
		ended = true
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run: %v; want nil, it was asked to end", err)
			}
		case <-time.After(patience):
			t.Fatal("Run does not end")
		}
	}
	t.Cleanup(f.stop)
	return f
}

// setText shows a set: host:port, with whatever is not the default.
func setText(set []backend.Server) string {
	var words []string
	for _, s := range set {
		word := s.Address()
		if s.Weight != backend.DefaultWeight {
			word += fmt.Sprintf("*%d", s.Weight)
		}
		if s.Priority != 0 {
			word += fmt.Sprintf("/%d", s.Priority)
		}
		words = append(words, word)
	}
	return strings.Join(words, " ")
}

// next wants the very next set to be this one: anything emitted in between is a fault.
func (f *followed) next(t *testing.T, want string) {
	t.Helper()
	select {
	case set := <-f.sets:
		if got := setText(set); got != want {
			t.Fatalf("set %q; want %q", got, want)
		}
		if !slices.IsSortedFunc(set, func(a, b backend.Server) int { return a.ID.Compare(b.ID) }) {
			t.Fatalf("set %v is not in order", set)
		}
	case <-time.After(patience):
		t.Fatalf("no set; want %q; status %+v", want, f.source.Status())
	}
}

// status waits for a status that fits.
func (f *followed) status(t *testing.T, what string, fits func(Status) bool) Status {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		s := f.source.Status()
		if fits(s) {
			return s
		}
		if time.Now().After(deadline) {
			t.Fatalf("never %s: %+v", what, s)
		}
		time.Sleep(time.Millisecond) // between two looks
	}
}

// observed makes a logger whose lines a test can read.
func observed() (*zap.Logger, *observer.ObservedLogs) {
	core, logs := observer.New(zapcore.InfoLevel)
	return zap.New(core), logs
}
