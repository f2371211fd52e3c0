package discovery

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
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
//
// A file that is replaced (by a rename or a symbolic link) is taken at once. One that
// is written in place may be seen half written: while it has lost servers or holds an
// entry that cannot be used, the servers that it had stay until it is at rest. Where an
// entry cannot be used even then, servers that are missing stay: it may have been theirs.
type File struct {
	// immutable
	cfg     FileConfig
	logger  *zap.Logger
	rejects *format.Rejects

	// one goroutine: Run
	last    []backend.Server
	emitted bool
	found   bool // the path has been there
	known   map[string]knownFile
	failing string // the fault that was logged last
	blind   string // the fault of the watch that was logged last

	// under mu
	mu     sync.Mutex
	status Status
}

// knownFile is a file as it was last taken.
type knownFile struct {
	info    fs.FileInfo
	servers []backend.Server
	// How it has looked since it differed in place; the zero value while it does not.
	writing    fs.FileInfo
	at         time.Time // since when it has looked so
	writtenFor time.Time // since when it has differed
}

const (
	fileDebounce    = 50 * time.Millisecond
	fileMaxDebounce = 500 * time.Millisecond
	filePoll        = 5 * time.Second // finds what no event told, on network file systems for one
	fileRest        = time.Second     // a file that nobody has written to for so long is whole
	fileMaxRest     = 5 * time.Second // one that is written to all the time is taken after this
	maxEntrySize    = 1 << 20         // as much as ZooKeeper allows
)

// NewFile makes the source. It reads nothing.
func NewFile(cfg FileConfig, logger *zap.Logger) *File {
	return &File{
		cfg: cfg, logger: logger.With(zap.String("path", cfg.Path)),
		rejects: format.NewRejects(logger), known: map[string]knownFile{},
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

// watch keeps watches on the path and, so that its coming and its replacement are
// seen, on what contains it. A symbolic link's target may be swapped at any level, so
// the real directory is watched too. What cannot be watched is found by polling.
func (f *File) watch(notify *fsnotify.Watcher) {
	paths := []string{filepath.Dir(f.cfg.Path)}
	if info, err := os.Stat(f.cfg.Path); err == nil && info.IsDir() {
		paths = append(paths, f.cfg.Path)
	}
	if real, err := filepath.EvalSymlinks(f.cfg.Path); err == nil && real != f.cfg.Path {
		paths = append(paths, filepath.Dir(real))
	}
	for _, p := range notify.WatchList() {
		if !slices.Contains(paths, p) {
			_ = notify.Remove(p) // it may have gone by itself
		}
	}
	blind := ""
	for _, p := range paths {
		// Adding a watch twice is one watch.
		if err := notify.Add(p); err != nil && !errors.Is(err, fs.ErrNotExist) {
			blind = err.Error()
		}
	}
	if blind != "" && blind != f.blind {
		f.logger.Warn("cannot watch; changes are found by looking", zap.Duration("every", filePoll), zap.String("error", blind))
	}
	f.blind = blind
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
	case <-notify.Errors: // events were lost; what they told of is looked for
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

// read reads all files and emits a changed set. It gives the time after which to read
// again, where a file is being written.
func (f *File) read(decode format.Decoder, emit func([]backend.Server)) (again time.Duration) {
	files, err := f.files()
	switch {
	case errors.Is(err, fs.ErrNotExist) && !f.found:
		f.fault("it does not exist yet and is waited for", err)
		f.give(nil, emit)
		return 0
	case err != nil:
		f.fault("cannot read servers; the last ones stay in use", err)
		return 0
	}
	f.found = true
	known := make(map[string]knownFile, len(files))
	bad := map[string]error{}
	var set []backend.Server
	for _, file := range files {
		k, rejected, wait := f.take(file, decode)
		if wait > 0 && (again == 0 || wait < again) {
			again = wait
		}
		known[file.path] = k
		maps.Copy(bad, rejected)
		set = append(set, k.servers...)
	}
	f.known = known
	f.reject(bad)
	f.failing = ""
	f.mu.Lock()
	f.status.LastSync = time.Now()
	f.status.Connected, f.status.Stale, f.status.Fault = true, false, ""
	f.mu.Unlock()
	f.give(backend.Merge(set), emit)
	return again
}

// take gives the file as it is now known, its entries that cannot be used, and how long
// to wait for its writer, if that is not 0.
func (f *File) take(file entryFile, decode format.Decoder) (knownFile, map[string]error, time.Duration) {
	known, ok := f.known[file.path]
	if file.err != nil { // it is there, so its servers are not gone
		return known, map[string]error{file.path: file.err}, 0
	}
	bad := map[string]error{}
	var servers []backend.Server
	for _, e := range file.entries {
		decoded, err := decode(e.path, e.data)
		if err != nil {
			bad[e.path] = err
		}
		servers = append(servers, decoded...)
	}
	if ok && os.SameFile(known.info, file.info) && (len(bad) > 0 || len(missing(known.servers, servers)) > 0) {
		if left := known.rest(file.info); left > 0 {
			return known, nil, left
		}
	}
	if len(bad) > 0 {
		// An entry that cannot be used may be one that was overwritten.
		servers = append(missing(known.servers, servers), servers...)
	}
	return knownFile{info: file.info, servers: servers}, bad, 0
}

// rest notes that the file differs in place, and gives the time until it counts as
// whole.
func (k *knownFile) rest(info fs.FileInfo) time.Duration {
	now := time.Now()
	if k.writing == nil {
		k.writtenFor = now
	}
	if k.writing == nil || k.writing.Size() != info.Size() || !k.writing.ModTime().Equal(info.ModTime()) {
		k.writing, k.at = info, now
	}
	return min(fileRest-now.Sub(k.at), fileMaxRest-now.Sub(k.writtenFor))
}

// missing gives the servers of before that are not there now.
func missing(before, now []backend.Server) []backend.Server {
	ids := make(map[backend.ID]bool, len(now))
	for i := range now {
		ids[now[i].ID] = true
	}
	return slices.DeleteFunc(slices.Clone(before), func(s backend.Server) bool { return ids[s.ID] })
}

// reject tells of the entries that cannot be used, and of no others.
func (f *File) reject(bad map[string]error) {
	for _, r := range f.rejects.List() {
		if bad[r.Path] == nil {
			f.rejects.Remove(r.Path)
		}
	}
	for path, err := range bad {
		f.rejects.Add(path, err)
	}
}

func (f *File) give(set []backend.Server, emit func([]backend.Server)) {
	if f.emitted && slices.EqualFunc(set, f.last, backend.Server.SameData) {
		return
	}
	f.last, f.emitted = set, true
	f.mu.Lock()
	f.status.Servers = len(set)
	f.mu.Unlock()
	emit(set)
}

// fault notes that the set cannot be known; each fault is logged once.
func (f *File) fault(text string, err error) {
	f.mu.Lock()
	f.status.Connected, f.status.Stale, f.status.Fault = false, true, text+": "+err.Error()
	f.mu.Unlock()
	if err.Error() != f.failing {
		f.failing = err.Error()
		f.logger.Warn(text, zap.Error(err))
	}
}
