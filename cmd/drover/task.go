package main

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"go.uber.org/zap"
)

// restartDelay is the wait before a part that failed runs again. It doubles up to
// maxRestartDelay: a part that fails at once must not take a core.
const (
	restartDelay    = 100 * time.Millisecond
	maxRestartDelay = 10 * time.Second
)

// A task is one running part. A part that fails or panics is logged and started
// again: one broken part must not end the process, nor quietly stay away.
type task struct {
	cancel context.CancelFunc
	done   chan struct{}
}

func startTask(name string, logger *zap.Logger, run func(context.Context) error) *task {
	ctx, cancel := context.WithCancel(context.Background())
	t := &task{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(t.done)
		supervise(ctx, name, logger, run)
	}()
	return t
}

func supervise(ctx context.Context, name string, logger *zap.Logger, run func(context.Context) error) {
	delay := restartDelay
	for {
		err := guarded(ctx, run)
		if ctx.Err() != nil {
			if err != nil && !errors.Is(err, context.Canceled) {
				logger.Warn("a part ended with an error", zap.String("part", name), zap.Error(err))
			}
			return
		}
		if err == nil {
			return // it had nothing more to do.
		}
		logger.Error("a part failed and is started again",
			zap.String("part", name), zap.Duration("after", delay), zap.Error(err))
		select {
		case <-ctx.Done():
			return
		case <-time.After(delay):
		}
		delay = min(2*delay, maxRestartDelay)
	}
}

func guarded(ctx context.Context, run func(context.Context) error) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("panic: %v\n%s", cause, debug.Stack())
		}
	}()
	return run(ctx)
}

// stop ends the part and waits for it. A nil task is none.
func (t *task) stop() {
	if t != nil {
		t.cancel()
		<-t.done
	}
}
