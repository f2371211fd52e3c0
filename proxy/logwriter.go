package proxy

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// AccessLog gathers lines and writes them out from a goroutine of its own, so that
// a slow disk delays the log and not the requests. Lines that do not fit while the
// disk hangs are dropped and counted.
type AccessLog struct {
	// immutable
	output string

	// under mu
	mu      sync.Mutex
	buf     []byte
	dropped int64

	// one goroutine: Run
	file io.Writer

	reopen chan struct{}
	filled chan struct{}
}

const (
	accessLogBuffer = 4 << 20                // lines waiting for the disk
	accessLogDelay  = 100 * time.Millisecond // the longest a line waits for company
)

// OpenAccessLog opens an output: stdout, stderr or a file's path.
func OpenAccessLog(output string) (*AccessLog, error) {
	l := &AccessLog{output: output, reopen: make(chan struct{}, 1), filled: make(chan struct{}, 1)}
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

// Output is the output's name.
func (l *AccessLog) Output() string { return l.output }

// Reopen makes Run close the file and open it anew, for log rotation.
func (l *AccessLog) Reopen() {
	select {
	case l.reopen <- struct{}{}:
	default:
	}
}

// Dropped counts the lines lost since the output could not keep up.
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

// Run writes lines until ctx ends, then what is left, and closes the file. It gives
// the first error that lost lines, if any.
func (l *AccessLog) Run(ctx context.Context) error {
	tick := time.NewTicker(accessLogDelay)
	defer tick.Stop()
	var spare []byte
	var lost error
	for {
		select {
		case <-tick.C:
		case <-l.filled:
		case <-l.reopen:
			spare = l.flush(spare, &lost)
			l.close()
			if err := l.open(); err != nil {
				// Losing the log is better than losing the service; stderr is still there.
				l.file, lost = os.Stderr, err
			}
		case <-ctx.Done():
			l.flush(spare, &lost)
			l.close()
			return lost
		}
		spare = l.flush(spare, &lost)
	}
}

func (l *AccessLog) flush(spare []byte, lost *error) []byte {
	l.mu.Lock()
	full := l.buf
	l.buf = spare[:0]
	l.mu.Unlock()
	if len(full) > 0 {
		if _, err := l.file.Write(full); err != nil && *lost == nil {
			*lost = fmt.Errorf("cannot write access log %q: %w", l.output, err)
		}
	}
	return full
}

func (l *AccessLog) close() {
	if f, ok := l.file.(*os.File); ok && f != os.Stdout && f != os.Stderr {
		_ = f.Close() // written with O_APPEND; the kernel has the bytes.
	}
}
