package proxy

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// logLine writes one line as Log does.
func logLine(l *AccessLog, format string, args ...any) {
	l.write(func(dst []byte) []byte { return append(fmt.Appendf(dst, format, args...), '\n') })
}

// running is an access log at work. It ends with the test.
type running struct {
	*AccessLog
	reports []string // by the log's goroutine; read it when that is at rest
	stop    func() error
}

func runLog(t *testing.T, output string, change func(l *AccessLog)) *running {
	t.Helper()
	r := &running{}
	l, err := OpenAccessLog(output, func(err error) { r.reports = append(r.reports, err.Error()) })
	if err != nil {
		t.Fatal(err)
	}
	r.AccessLog = l
	if change != nil {
		change(l)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	r.stop = sync.OnceValue(func() error { cancel(); return <-ended })
	t.Cleanup(func() { _ = r.stop() })
	return r
}

func content(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestAccessLogIsWrittenSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "log")
		if err := os.WriteFile(path, []byte("earlier\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		l := runLog(t, path, nil)
		logLine(l.AccessLog, "one")
		time.Sleep(accessLogDelay)
		synctest.Wait()
		if got := content(t, path); got != "earlier\none\n" {
			t.Errorf("got %q", got)
		}
		// Much at once does not wait.
		long := strings.Repeat("x", accessLogBuffer/8)
		logLine(l.AccessLog, "%s", long)
		synctest.Wait()
		if got := content(t, path); got != "earlier\none\n"+long+"\n" {
			t.Errorf("got %d bytes, want the long line too", len(got))
		}
		logLine(l.AccessLog, "last")
		if err := l.stop(); err != nil || len(l.reports) != 0 || l.Dropped() != 0 {
			t.Errorf("got %v, %q, %d lines dropped", err, l.reports, l.Dropped())
		}
		if got := content(t, path); !strings.HasSuffix(got, "\nlast\n") {
			t.Errorf("got no last line")
		}
	})
}

// TestAccessLogRotation: as logrotate does it, with requests going on.
func TestAccessLogRotation(t *testing.T) {
	const writers, lines, rotations = 4, 2000, 5
	dir := t.TempDir()
	path := filepath.Join(dir, "log")
	l := runLog(t, path, nil)
	var workers sync.WaitGroup
	for n := range writers {
		workers.Go(func() {
			for i := range lines {
				logLine(l.AccessLog, "%d %d", n, i)
			}
		})
	}
	for n := range rotations {
		if err := os.Rename(path, fmt.Sprintf("%s.%d", path, n)); err != nil {
			t.Fatal(err)
		}
		l.Reopen()
		for deadline := time.Now().Add(patience); ; <-time.After(time.Millisecond) {
			if _, err := os.Stat(path); err == nil {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("got no new file")
			}
		}
	}
	workers.Wait()
	logLine(l.AccessLog, "end")
	if err := l.stop(); err != nil {
		t.Error(err)
	}
	if got := content(t, path); !strings.HasSuffix(got, "end\n") {
		t.Errorf("the last file ends with %q", got[max(0, len(got)-20):])
	}
	var all strings.Builder
	for n := range rotations {
		all.WriteString(content(t, fmt.Sprintf("%s.%d", path, n)))
	}
	all.WriteString(content(t, path))
	next := [writers]int{}
	for line := range strings.Lines(all.String()) {
		var n, i int
		if _, err := fmt.Sscanf(line, "%d %d\n", &n, &i); err != nil {
			continue // the end
		}
		if i != next[n] {
			t.Fatalf("writer %d: got line %d, want %d", n, i, next[n])
		}
		next[n]++
	}
	for n, got := range next {
		if got != lines {
			t.Errorf("writer %d: got %d lines, want %d", n, got, lines)
		}
	}
}

func TestAccessLogKeepsTheFileThatItCannotReopen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "logs")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, "log")
		l := runLog(t, path, nil)
		logLine(l.AccessLog, "one")
		// The directory is gone, which stops root too.
		moved := dir + ".old"
		if err := os.Rename(dir, moved); err != nil {
			t.Fatal(err)
		}
		l.Reopen()
		synctest.Wait()
		if len(l.reports) != 1 || !strings.Contains(l.reports[0], "cannot open access log") || !strings.Contains(l.reports[0], path) {
			t.Errorf("got reports %q, want one that the file cannot be opened", l.reports)
		}
		logLine(l.AccessLog, "two")
		time.Sleep(accessLogDelay)
		synctest.Wait()
		if got := content(t, filepath.Join(moved, "log")); got != "one\ntwo\n" {
			t.Errorf("the old file has %q", got)
		}
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		l.Reopen()
		synctest.Wait()
		logLine(l.AccessLog, "three")
		if err := l.stop(); err != nil {
			t.Error(err)
		}
		if got := content(t, path); got != "three\n" {
			t.Errorf("the new file has %q", got)
		}
	})
}

func TestAccessLogCannotOpen(t *testing.T) {
	if l, err := OpenAccessLog(t.TempDir(), nil); err == nil || !strings.Contains(err.Error(), "cannot open access log") {
		t.Errorf("a directory: got %v, %v", l, err)
	}
	for _, output := range []string{"stdout", "stderr"} {
		l, err := OpenAccessLog(output, nil)
		if err != nil || l.Output() != output {
			t.Fatalf("%s: got %v", output, err)
		}
		l.close(l.file) // leaves it open
	}
	if _, err := os.Stderr.Stat(); err != nil {
		t.Error("stderr was closed")
	}
	if _, err := os.Stdout.Stat(); err != nil {
		t.Error("stdout was closed")
	}
}

// disk fails while it is full, having taken a few bytes, and hangs while it is stuck.
type disk struct {
	full  bool
	stuck chan struct{}
	got   bytes.Buffer
}

var errFull = errors.New("no space left on device")

func (d *disk) Write(p []byte) (int, error) {
	if d.stuck != nil {
		<-d.stuck
	}
	if d.full {
		n, _ := d.got.Write(p[:min(len(p), 6)])
		return n, errFull
	}
	return d.got.Write(p)
}

func TestAccessLogOnAFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{full: true}
		l := runLog(t, "stderr", func(l *AccessLog) { l.file = d })
		for range 3 {
			for range 3 {
				logLine(l.AccessLog, "line")
			}
			time.Sleep(accessLogDelay)
			synctest.Wait()
		}
		// Of each three, one fitted in what was left.
		if got := l.Dropped(); got != 6 {
			t.Errorf("%d lines dropped, want 6", got)
		}
		if len(l.reports) != 1 || !strings.Contains(l.reports[0], errFull.Error()) {
			t.Errorf("got reports %q, want one", l.reports)
		}
		d.full = false
		logLine(l.AccessLog, "fits")
		time.Sleep(accessLogDelay)
		synctest.Wait()
		d.full = true
		logLine(l.AccessLog, "too long")
		time.Sleep(accessLogDelay)
		synctest.Wait()
		if len(l.reports) != 2 {
			t.Errorf("got reports %q, want another after it worked for a while", l.reports)
		}
		if got := d.got.String(); !strings.Contains(got, "fits\n") {
			t.Errorf("got %q", got)
		}
	})
}

func TestAccessLogEndsOnAHangingDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{stuck: make(chan struct{})}
		l := runLog(t, "stderr", func(l *AccessLog) { l.file = d })
		logLine(l.AccessLog, "one")
		time.Sleep(accessLogDelay)
		start := time.Now()
		if err := l.stop(); err == nil || !strings.Contains(err.Error(), "hangs") {
			t.Errorf("got %v", err)
		}
		if took := time.Since(start); took != accessLogGrace {
			t.Errorf("took %v, want %v", took, accessLogGrace)
		}
		close(d.stuck)
	})
}

// TestAccessLogOnAStalledPipe: requests go on while nobody reads, the memory is
// bounded, and every line is either read in the end or counted.
func TestAccessLogOnAStalledPipe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	reader, err := os.OpenFile(path, os.O_RDWR, 0) // else the log's open would wait
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	if err := reader.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	l := runLog(t, path, nil)
	const writers, lines = 4, 5000
	long := strings.Repeat("x", 1000)
	var workers sync.WaitGroup
	for n := range writers {
		workers.Go(func() {
			for i := range lines {
				logLine(l.AccessLog, "%d %d %s", n, i, long)
			}
		})
	}
	workers.Wait() // would not come back if a line waited for the reader
	if l.Dropped() == 0 {
		t.Errorf("20 MB were kept for nobody")
	}
	l.mu.Lock()
	if size := len(l.buf); size > accessLogBuffer+len(long)+20 {
		t.Errorf("%d bytes wait, want %d at most", size, accessLogBuffer)
	}
	l.mu.Unlock()

	var read atomic.Int64
	finished := make(chan error, 1)
	go func() {
		in := bufio.NewReader(reader)
		for {
			line, err := in.ReadString('\n')
			if err != nil || line == "end\n" {
				finished <- err
				return
			}
			if len(line) < len(long) {
				finished <- fmt.Errorf("got a piece of a line: %q", line)
				return
			}
			read.Add(1)
		}
	}()
	for ended := false; !ended; { // the first try may still find no room
		before := l.Dropped()
		logLine(l.AccessLog, "end")
		if ended = l.Dropped() == before; !ended {
			<-time.After(time.Millisecond)
			l.mu.Lock()
			l.dropped--
			l.mu.Unlock()
		}
	}
	if err := <-finished; err != nil {
		t.Fatal(err)
	}
	if total := read.Load() + l.Dropped(); total != writers*lines {
		t.Errorf("%d lines read and %d dropped, want %d in all", read.Load(), l.Dropped(), writers*lines)
	}
	if err := l.stop(); err != nil {
		t.Error(err)
	}
}
