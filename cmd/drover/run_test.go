package main

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	"drover/config"
	"drover/metrics"

	"go.uber.org/zap"
)

// TestHangingPart: a part that never ends keeps neither a second signal nor the drain
// time-out from ending the process.
func TestHangingPart(t *testing.T) {
	for name, c := range map[string]struct {
		timeout string
		signals int
		within  time.Duration
	}{
		"second signal": {"1h", 2, lastMoment},
		"time-out":      {"100ms", 1, overtime},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // it does nothing but wait
			setup := newSetup(t, "drain_timeout: "+c.timeout+"\n"+fmt.Sprintf(oneUpstream, "127.0.0.1:1"))
			cfg, err := config.Load(config.Options{Path: setup.path})
			if err != nil {
				t.Fatal(err)
			}
			s := &service{logger: zap.NewNop(), engine: newEngine(zap.NewNop(), nil, metrics.New(0, "test"))}
			s.engine.drains.Add(1)
			defer s.engine.drains.Done()
			signals, ends := make(chan os.Signal, 8), make(chan os.Signal, 8)
			ended := make(chan error, 1)
			go func() {
				ended <- s.untilForced(ends, func() error { return s.heed(t.Context(), cfg, signals) })
			}()
			for range c.signals {
				signals <- syscall.SIGTERM
				ends <- syscall.SIGTERM
			}
			var exit *exitError
			select {
			case err := <-ended:
				if !errors.As(err, &exit) || exit.code != exitForced {
					t.Errorf("got %v; want exit code %d", err, exitForced)
				}
			case <-time.After(c.within + 20*time.Second):
				t.Error("it still runs")
			}
		})
	}
}
