package config

import (
	"context"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
	"go.uber.org/zap"
)

// Watcher tells when a file of the configuration has other content. It watches the
// directories, not the files: an editor that writes a new file and renames it, a
// deployment that swaps a symbolic link, and a file that is removed and made again all
// replace what a watch on the file itself would be tied to. Events only say when to
// look; whether something changed is decided by the bytes.
type Watcher struct {
	// Immutable.
	logger   *zap.Logger
	debounce time.Duration // quiet time that ends a series of events
	patience time.Duration // longest series that is waited for
	poll     time.Duration // a look without any event, for what events miss
	kick     chan struct{} // what is to be watched has changed

	mu    sync.Mutex
	files []string                     // absolute, under mu
	sums  map[string][sha256.Size]byte // by path, what the running configuration was read from; under mu
}

// NewWatcher makes a watcher of no files. It does nothing before Run.
func NewWatcher(logger *zap.Logger) *Watcher {
	return &Watcher{
		logger:   logger,
		debounce: 100 * time.Millisecond,
		patience: time.Second,
		poll:     10 * time.Second,
		kick:     make(chan struct{}, 1),
		sums:     map[string][sha256.Size]byte{},
	}
}

// Note tells the content with which a file or include directory was read, nil for one
// that could not be; it is made for Options.OnRead. What is found later is compared
// with it. The file is watched from then on, so that a load that failed is tried again
// when any of its files changes.
func (w *Watcher) Note(path string, content []byte) {
	w.mu.Lock()
	w.sums[path] = contentSum(content)
	added := !slices.Contains(w.files, path)
	if added {
		w.files = append(w.files, path)
	}
	w.mu.Unlock()
	if added {
		w.wake()
	}
}

// SetFiles sets what is watched: files, and include directories, of which the list
// of names counts. The present content of those that Note was not told about becomes
// the one to compare with.
func (w *Watcher) SetFiles(paths []string) {
	w.mu.Lock()
	w.files = slices.Clone(paths)
	for path := range w.sums {
		if !slices.Contains(paths, path) {
			delete(w.sums, path)
		}
	}
	for _, path := range paths {
		if _, known := w.sums[path]; !known {
			w.sums[path] = currentSum(path)
		}
	}
	w.mu.Unlock()
	w.wake()
}

// wake makes Run look, and renew its watches, at once.
func (w *Watcher) wake() {
	select {
	case w.kick <- struct{}{}:
	default:
	}
}

// Run calls onChange, in its own goroutine, after the content of a watched file has
// changed, until ctx ends. Where the system grants no watches it looks every few
// seconds instead.
func (w *Watcher) Run(ctx context.Context, onChange func()) error {
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		w.logger.Warn("cannot watch files for changes; looking at them now and then", zap.Duration("every", w.poll), zap.Error(err))
		w.loop(ctx, nil, nil, func() { w.look(nil, onChange) })
		return nil
	}
	defer func() { _ = notify.Close() }()
	w.loop(ctx, notify.Events, notify.Errors, func() { w.look(notify, onChange) })
	return nil
}

// loop decides when to look: once at the start, since SetFiles may be long ago, when
// events have come to rest, when the files are others, and now and then.
func (w *Watcher) loop(ctx context.Context, events <-chan fsnotify.Event, failures <-chan error, look func()) {
	poll := time.NewTicker(w.poll)
	defer poll.Stop()
	quiet := time.NewTimer(0)
	defer quiet.Stop()
	var began time.Time // of the series of events, zero without one
	for {
		select {
		case <-ctx.Done():
			return
		case err := <-failures:
			// The queue overflowed, or a directory could not be read: look.
			w.logger.Debug("file events were lost", zap.Error(err))
			quiet.Reset(w.debounce)
		case <-events:
			now := time.Now()
			if began.IsZero() {
				began = now
			}
			quiet.Reset(max(0, min(w.debounce, w.patience-now.Sub(began))))
		case <-w.kick:
			quiet.Reset(0)
		case <-poll.C:
			look()
		case <-quiet.C:
			began = time.Time{}
			look()
		}
	}
}

// look renews the watches, since links may lead elsewhere now and directories may
// have come back, and only then compares, so that no change falls between the two.
func (w *Watcher) look(notify *fsnotify.Watcher, onChange func()) {
	w.mu.Lock()
	files := slices.Clone(w.files)
	w.mu.Unlock()
	if notify != nil {
		w.watch(notify, files)
	}
	if changed := w.changed(); len(changed) > 0 {
		w.logger.Info("configuration files changed", zap.Strings("files", changed))
		onChange()
	}
}

// changed gives the files whose content differs from what it was at the last look.
func (w *Watcher) changed() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var changed []string
	for _, path := range w.files {
		if sum := currentSum(path); sum != w.sums[path] {
			w.sums[path] = sum
			changed = append(changed, path)
		}
	}
	return changed
}

// currentSum digests a file's content, or an include directory's names.
func currentSum(path string) [sha256.Size]byte {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		names, err := includable(path)
		if err != nil {
			return contentSum(nil)
		}
		return contentSum(listing(names))
	}
	content, err := readBounded(path)
	if err != nil {
		return contentSum(nil)
	}
	return contentSum(content)
}

// contentSum gives what cannot be read a digest of its own, unlike that of any file.
func contentSum(content []byte) [sha256.Size]byte {
	if content == nil {
		return [sha256.Size]byte{}
	}
	return sha256.Sum256(content)
}

// watch makes the set of watched directories that of the files. Directories that come
// or go meanwhile would be missed for good, so it is done again until two rounds find
// the same; a tree that changes faster than that makes events that lead here again.
func (w *Watcher) watch(notify *fsnotify.Watcher, files []string) {
	const rounds = 10
	var before []string
	for range rounds {
		var wanted []string
		for _, path := range files {
			wanted = append(wanted, watchable(path)...)
		}
		slices.Sort(wanted)
		wanted = slices.Compact(wanted)
		if before != nil && slices.Equal(wanted, before) {
			break
		}
		before = wanted
		for _, dir := range wanted {
			if err := notify.Add(dir); errors.Is(err, os.ErrNotExist) {
				before = nil // it went between the two: look where to watch instead.
			} else if err != nil {
				w.logger.Debug("cannot watch directory; looking at it now and then", zap.String("directory", dir), zap.Error(err))
			}
		}
	}
	for _, dir := range notify.WatchList() {
		if before != nil && !slices.Contains(before, dir) {
			// It may be gone already, and its watch with it.
			_ = notify.Remove(dir)
		}
	}
}

// watchable gives the directories in which a change of names can give a path other
// content: its own, that of every symbolic link on the way, and the nearest one that
// exists where part of the path is missing. A directory further up that is renamed is
// left to the poll: watching them all would wake the watcher for every file in /tmp.
func watchable(path string) []string {
	const maxLinks = 40 // as the kernel has it
	var dirs []string
	links := 0
	at, rest := "/", splitPath(path)
	for len(rest) > 0 {
		name := rest[0]
		rest = rest[1:]
		next := filepath.Join(at, name)
		info, err := os.Lstat(next)
		if err != nil {
			return append(dirs, at)
		}
		if info.Mode()&os.ModeSymlink != 0 {
			dirs = append(dirs, at)
			target, err := os.Readlink(next)
			if links++; err != nil || links > maxLinks {
				return dirs
			}
			if filepath.IsAbs(target) {
				at = "/"
			}
			rest = append(splitPath(target), rest...)
			continue
		}
		if len(rest) == 0 {
			dirs = append(dirs, at)
			if info.IsDir() {
				dirs = append(dirs, next)
			}
		}
		at = next
	}
	return dirs
}

// splitPath gives the names in a path. ".." stays: behind a link it leads to the
// link's target's parent, which walking the real directories gets right.
func splitPath(path string) []string {
	return slices.DeleteFunc(strings.Split(path, "/"), func(name string) bool { return name == "" || name == "." })
}
