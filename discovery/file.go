package discovery

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"drover/backend"
	"drover/discovery/format"

	"github.com/fsnotify/fsnotify"
	"go.uber.org/zap"
)

// File follows a directory whose files are entries as znodes are, or one file with an
// entry on each line. Hidden files and editors' copies (names that begin with "." or
// "#" or end in "~" or ".swp") are left out.
type File struct {
	// immutable
	cfg     FileConfig
	logger  *zap.Logger
	rejects *format.Rejects

	// one goroutine: Run
	last    []backend.Server
	emitted bool
	good    map[string]goodEntry
	failing string // the fault that was logged last

	// under mu
	mu     sync.Mutex
	status Status
}

// goodEntry is the last content of an entry that could be used. A file that is being
// written is broken for a moment; until graceful its servers stay.
type goodEntry struct {
	servers []backend.Server
	brokeAt time.Time // the zero time while it is good
}

const (
	fileDebounce    = 50 * time.Millisecond
	fileMaxDebounce = 500 * time.Millisecond
	filePoll        = 5 * time.Second // finds what no event told, on network file systems for one
	fileGrace       = time.Second     // how long a broken entry keeps its servers
	maxEntrySize    = 1 << 20         // as much as ZooKeeper allows
)

// NewFile makes the source. It reads nothing.
func NewFile(cfg FileConfig, logger *zap.Logger) *File {
	return &File{
		cfg: cfg, logger: logger.With(zap.String("path", cfg.Path)),
		rejects: format.NewRejects(logger), good: map[string]goodEntry{},
		status: Status{Kind: "file", Path: cfg.Path, Stale: true},
	}
}

// Status is the source's present status.
func (f *File) Status() Status {
	f.mu.Lock()
	s := f.status
	f.mu.Unlock()
	s.Rejected = f.rejects.List()
	return s
}

// Run implements Source.
func (f *File) Run(ctx context.Context, emit func([]backend.Server)) error {
	decode, err := format.Lookup(f.cfg.Format)
	if err != nil {
		return err
	}
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("cannot watch %q: %w", f.cfg.Path, err)
	}
	defer notify.Close() //nolint:errcheck // the process gives the descriptor back.
	poll := time.NewTicker(filePoll)
	defer poll.Stop()
	for {
		f.watch(notify)
		again := f.read(decode, emit)
		if err := f.wait(ctx, notify, poll.C, again); err != nil {
			return nil //nolint:nilerr // ctx has ended, as asked.
		}
	}
}

// watch adds watches on the path and, so that its coming and its replacement are
// seen, on what contains it. A symbolic link's target may be swapped at any level, so
// the real directory is watched too.
func (f *File) watch(notify *fsnotify.Watcher) {
	paths := []string{filepath.Dir(f.cfg.Path)}
	if info, err := os.Stat(f.cfg.Path); err == nil && info.IsDir() {
		paths = append(paths, f.cfg.Path)
	}
	if real, err := filepath.EvalSymlinks(f.cfg.Path); err == nil && real != f.cfg.Path {
		paths = append(paths, filepath.Dir(real))
	}
	for _, p := range paths {
		// A directory that is not there yet is found by polling. Adding a watch twice
		// is one watch.
		if err := notify.Add(p); err != nil && !errors.Is(err, fs.ErrNotExist) {
			f.fault(err)
		}
	}
}

// wait returns when there may be something to read: after an event, gathered with
// those that follow it, after a poll's time, or after again if that is not 0.
func (f *File) wait(ctx context.Context, notify *fsnotify.Watcher, poll <-chan time.Time, again time.Duration) error {
	var retry <-chan time.Time
	if again > 0 {
		timer := time.NewTimer(again)
		defer timer.Stop()
		retry = timer.C
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-retry:
		return nil
	case <-poll:
		return nil
	case err := <-notify.Errors:
		f.fault(err)
		return nil
	case <-notify.Events:
	}
	most := time.NewTimer(fileMaxDebounce)
	defer most.Stop()
	quiet := time.NewTimer(fileDebounce)
	defer quiet.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-notify.Events:
			quiet.Reset(fileDebounce)
		case <-quiet.C:
			return nil
		case <-most.C:
			return nil
		}
	}
}

// read reads all entries and emits a changed set. It gives the time after which to
// read again, where an entry is broken for the moment.
func (f *File) read(decode format.Decoder, emit func([]backend.Server)) (again time.Duration) {
	entries, err := f.entries()
	if err != nil {
		f.fault(err)
		return 0
	}
	f.failing = ""
	var set []backend.Server
	present := map[string]bool{}
	for _, e := range entries {
		present[e.path] = true
		servers, err := decode(e.path, e.data)
		if err == nil {
			f.rejects.Remove(e.path)
			f.good[e.path] = goodEntry{servers: servers}
			set = append(set, servers...)
			continue
		}
		if kept, wait := f.broken(e.path, err); wait > 0 {
			again = wait
			set = append(set, kept...)
		}
	}
	for path := range f.good {
		if !present[path] {
			delete(f.good, path)
			f.rejects.Remove(path)
		}
	}
	for _, r := range f.rejects.List() {
		if !present[r.Path] {
			f.rejects.Remove(r.Path)
		}
	}
	f.publish(backend.Merge(set), emit)
	return again
}

// broken gives the servers that a broken entry keeps for the moment, and for how long
// yet; 0 rejects it.
func (f *File) broken(path string, err error) ([]backend.Server, time.Duration) {
	kept, ok := f.good[path]
	if ok {
		if kept.brokeAt.IsZero() {
			kept.brokeAt = time.Now()
			f.good[path] = kept
		}
		if left := fileGrace - time.Since(kept.brokeAt); left > 0 {
			return kept.servers, left
		}
	}
	f.rejects.Add(path, err)
	return nil, 0
}

func (f *File) publish(set []backend.Server, emit func([]backend.Server)) {
	f.mu.Lock()
	f.status.LastSync, f.status.Servers = time.Now(), len(set)
	f.status.Connected, f.status.Stale = true, false
	f.mu.Unlock()
	if f.emitted && slices.EqualFunc(set, f.last, backend.Server.SameData) {
		return
	}
	f.last, f.emitted = set, true
	emit(set)
}

// fault notes that the set cannot be known; each fault is logged once.
func (f *File) fault(err error) {
	f.mu.Lock()
	f.status.Connected, f.status.Stale = false, true
	f.mu.Unlock()
	if text := err.Error(); text != f.failing {
		f.failing = text
		f.logger.Warn("cannot read servers; the last ones stay in use", zap.Error(err))
	}
}

// fileEntry is what one znode would be.
type fileEntry struct {
	path string
	data []byte
}

// entries reads the directory's files or the file's lines. Any error means that the
// set is not known in full.
func (f *File) entries() ([]fileEntry, error) {
	info, err := os.Stat(f.cfg.Path)
	if errors.Is(err, fs.ErrNotExist) && !f.emitted {
		return nil, nil // it is waited for, and empty until then
	}
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return f.lines()
	}
	list, err := os.ReadDir(f.cfg.Path)
	if err != nil {
		return nil, err
	}
	var entries []fileEntry
	for _, item := range list {
		if skipped(item.Name()) {
			continue
		}
		path := filepath.Join(f.cfg.Path, item.Name())
		data, err := readEntry(path)
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, errDirectory):
			continue // gone between the two, as znodes go; or no entry at all
		case err != nil:
			return nil, err
		}
		entries = append(entries, fileEntry{path, data})
	}
	return entries, nil
}

func skipped(name string) bool {
	return strings.HasPrefix(name, ".") || strings.HasPrefix(name, "#") ||
		strings.HasSuffix(name, "~") || strings.HasSuffix(name, ".swp")
}

var errDirectory = errors.New("a directory is no entry")

func readEntry(path string) ([]byte, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, err
	case info.IsDir():
		return nil, errDirectory
	case info.Size() > maxEntrySize:
		return nil, fmt.Errorf("got %d bytes in %q; want at most %d", info.Size(), path, maxEntrySize)
	}
	return os.ReadFile(path) //nolint:gosec // below the folder that the operator names.
}

// lines reads a file with an entry on each line; empty lines and those that begin with
// "#" are left out.
func (f *File) lines() ([]fileEntry, error) {
	data, err := readEntry(f.cfg.Path)
	if err != nil {
		return nil, err
	}
	var entries []fileEntry
	for i, line := range strings.Split(string(data), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		entries = append(entries, fileEntry{fmt.Sprintf("%s:%d", f.cfg.Path, i+1), []byte(line)})
	}
	return entries, nil
}
