package proxy

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// AccessLog gathers lines and writes them out from a goroutine of its own, so that
// a slow disk delays the log and not the requests. Lines that do not fit while the
// disk hangs, or that it refuses, are dropped and counted.
type AccessLog struct {
	// immutable
	output string
	report func(error)

	// under mu
	mu      sync.Mutex
	buf     []byte
	dropped int64

	// one goroutine: run
	file    io.Writer
	failing bool

	reopen chan struct{}
	filled chan struct{}
}

const (
	accessLogBuffer = 4 << 20                // lines waiting for the disk
	accessLogDelay  = 100 * time.Millisecond // the longest a line waits for company
	accessLogGrace  = time.Second            // the longest that a hanging disk delays the end
)

// OpenAccessLog opens an output: stdout, stderr or a file's path. Report is told what
// goes wrong later.
func OpenAccessLog(output string, report func(error)) (*AccessLog, error) {
	l := &AccessLog{output: output, report: report, reopen: make(chan struct{}, 1), filled: make(chan struct{}, 1)}
	if err := l.open(); err != nil {
		return nil, err
	}
	return l, nil
}

func (l *AccessLog) open() error {
	switch l.output {
	case "stdout":
		l.file = os.Stdout
	case "stderr":
		l.file = os.Stderr
	default:
		f, err := os.OpenFile(l.output, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640) //nolint:gosec // the operator names it.
		if err != nil {
			return fmt.Errorf("cannot open access log %q: %w", l.output, err)
		}
		l.file = f
	}
	return nil
}

// Close closes the file of a log that was never Run.
func (l *AccessLog) Close() { l.close(l.file) }

// Output is the output's name.
func (l *AccessLog) Output() string { return l.output }

// Reopen makes Run close the file and open it anew, for log rotation. If it cannot be
// opened, the one that is open stays in use.
func (l *AccessLog) Reopen() {
	select {
	case l.reopen <- struct{}{}:
	default:
	}
}

// Dropped counts the lines lost since the output could not keep up or failed.
func (l *AccessLog) Dropped() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dropped
}

func (l *AccessLog) write(appendLine func([]byte) []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.buf) > accessLogBuffer {
		l.dropped++
		return
	}
	if l.buf = appendLine(l.buf); len(l.buf) > accessLogBuffer/8 {
		select {
		case l.filled <- struct{}{}:
		default:
		}
	}
}

// Run writes lines until ctx ends, then what is left, and closes the file. It does not
// wait for a disk that hangs then.
func (l *AccessLog) Run(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.run(ctx)
	}()
	<-ctx.Done()
	select {
	case <-done:
		return nil
	case <-time.After(accessLogGrace):
		return fmt.Errorf("cannot write access log %q: it hangs; the last lines are lost", l.output)
	}
}

func (l *AccessLog) run(ctx context.Context) {
	tick := time.NewTicker(accessLogDelay)
	defer tick.Stop()
	var spare []byte
	for {
		select {
		case <-tick.C:
		case <-l.filled:
		case <-l.reopen:
			spare = l.flush(spare)
			old := l.file
			if err := l.open(); err != nil {
				l.report(err)
				break
			}
			l.close(old)
		case <-ctx.Done():
			l.flush(spare)
			l.close(l.file)
			return
		}
		spare = l.flush(spare)
	}
}

// flush writes what has gathered, and gives its memory for use again.
func (l *AccessLog) flush(spare []byte) []byte {
	l.mu.Lock()
	full := l.buf
	l.buf = spare[:0]
	l.mu.Unlock()
	if len(full) == 0 {
		return full
	}
	n, err := l.file.Write(full)
	if err != nil {
		l.mu.Lock()
		l.dropped += int64(bytes.Count(full[n:], []byte("\n")))
		l.mu.Unlock()
		if !l.failing {
			l.report(fmt.Errorf("cannot write access log %q: %w", l.output, err))
		}
	}
	l.failing = err != nil // a full disk is told once, not ten times a second
	return full
}

func (l *AccessLog) close(file io.Writer) {
	if f, ok := file.(*os.File); ok && f != os.Stdout && f != os.Stderr {
		_ = f.Close() // written with O_APPEND; the kernel has the bytes.
	}
}
