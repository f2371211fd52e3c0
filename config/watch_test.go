package config

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fsnotify/fsnotify"
	"go.uber.org/zap"
)

// startWatcher runs a watcher that no poll helps, and gives a function that waits for
// one change.
func startWatcher(t *testing.T, files ...string) (w *Watcher, changed func()) {
	t.Helper()
	w = NewWatcher(zap.NewNop())
	w.debounce, w.poll = 20*time.Millisecond, time.Hour
	w.SetFiles(files)
	// The first look sets the watches; it finds the change that is made for it.
	w.Note(files[0], []byte("before"))
	ctx, cancel := context.WithCancel(context.Background())
	signals, done := make(chan struct{}, 100), make(chan error)
	go func() { done <- w.Run(ctx, func() { signals <- struct{}{} }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("got error %v from Run", err)
		}
	})
	changed = func() {
		t.Helper()
		select {
		case <-signals:
		case <-time.After(30 * time.Second):
			t.Fatal("got no change")
		}
	}
	changed()
	return w, changed
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestWatchInPlace(t *testing.T) {
	path := write(t, t.TempDir(), "drover.yaml", "one")
	_, changed := startWatcher(t, path)
	write(t, filepath.Dir(path), "drover.yaml", "two") // truncates and writes.
	changed()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteString("more")
	must(t, err)
	must(t, f.Close())
	changed()
}

func TestWatchRename(t *testing.T) {
	dir := t.TempDir()
	path := write(t, dir, "drover.yaml", "one")
	_, changed := startWatcher(t, path)
	for _, text := range []string{"two", "three"} { // twice: a watch on the file would be lost.
		must(t, os.Rename(write(t, dir, ".drover.yaml.swp", text), path))
		changed()
	}
}

func TestWatchRemoveAndCreate(t *testing.T) {
	dir := t.TempDir()
	path := write(t, dir, "drover.yaml", "one")
	_, changed := startWatcher(t, path)
	must(t, os.Remove(path))
	changed()
	write(t, dir, "drover.yaml", "two")
	changed()
	write(t, dir, "drover.yaml", "three")
	changed()
}

// TestWatchDirectoryGone removes not only the file but the directories above it.
func TestWatchDirectoryGone(t *testing.T) {
	dir := t.TempDir()
	path := write(t, dir, "a/b/drover.yaml", "one")
	_, changed := startWatcher(t, path)
	must(t, os.RemoveAll(filepath.Join(dir, "a")))
	changed()
	must(t, os.Rename(filepath.Dir(filepath.Dir(write(t, dir, "new/b/drover.yaml", "two"))), filepath.Join(dir, "a")))
	changed()
	write(t, dir, "a/b/drover.yaml", "three")
	changed()
}

// TestWatchKubernetes swaps the ..data link as a kubelet does for a ConfigMap.
func TestWatchKubernetes(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "..2026_1/drover.yaml", "one")
	must(t, os.Symlink("..2026_1", filepath.Join(dir, "..data")))
	path := filepath.Join(dir, "drover.yaml")
	must(t, os.Symlink("..data/drover.yaml", path))
	_, changed := startWatcher(t, path)
	for _, version := range []string{"..2026_2", "..2026_3"} {
		write(t, dir, version+"/drover.yaml", version)
		must(t, os.Symlink(version, filepath.Join(dir, "..data_tmp")))
		must(t, os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
		changed()
	}
	must(t, os.RemoveAll(filepath.Join(dir, "..2026_1")))
	write(t, dir, "..2026_3/drover.yaml", "in place, behind the links")
	changed()
}

// TestWatchLinkElsewhere follows a link in the middle of the path to another place.
func TestWatchLinkElsewhere(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "releases/1/etc/drover.yaml", "one")
	write(t, dir, "releases/2/etc/drover.yaml", "two")
	current := filepath.Join(dir, "links/current")
	must(t, os.Mkdir(filepath.Dir(current), 0o755)) //nolint:gosec // a test's directory.
	must(t, os.Symlink("../releases/1", current))
	_, changed := startWatcher(t, filepath.Join(current, "etc/drover.yaml"))
	must(t, os.Remove(current))
	changed()
	must(t, os.Symlink(filepath.Join(dir, "releases/2"), current))
	changed()
	write(t, dir, "releases/2/etc/drover.yaml", "three")
	changed()
}

// TestWatchIncludeDirectory wants a new file seen, though no file that is watched has
// changed, and other files ignored.
func TestWatchIncludeDirectory(t *testing.T) {
	dir := t.TempDir()
	path := write(t, dir, "drover.yaml", "one")
	write(t, dir, "conf.d/a.yaml", "a")
	w, changed := startWatcher(t, path, filepath.Join(dir, "conf.d"), filepath.Join(dir, "conf.d/a.yaml"))
	write(t, dir, "conf.d/b.yaml", "b")
	changed()
	w.SetFiles([]string{path, filepath.Join(dir, "conf.d"), filepath.Join(dir, "conf.d/a.yaml"), filepath.Join(dir, "conf.d/b.yaml")})
	write(t, dir, "conf.d/b.yaml", "bb")
	changed()
	must(t, os.Remove(filepath.Join(dir, "conf.d/a.yaml")))
	changed()
}

// TestWatchEmptyIncludeDirectory wants the first file in a directory seen.
func TestWatchEmptyIncludeDirectory(t *testing.T) {
	dir := t.TempDir()
	path := write(t, dir, "drover.yaml", "one")
	must(t, os.Mkdir(filepath.Join(dir, "conf.d"), 0o755)) //nolint:gosec // a test's directory.
	_, changed := startWatcher(t, path, filepath.Join(dir, "conf.d"))
	write(t, dir, "conf.d/a.yaml", "a")
	changed()
}

// TestWatchComparesContent wants unchanged bytes to be no change, whatever happened to
// the file.
func TestWatchComparesContent(t *testing.T) {
	dir := t.TempDir()
	path := write(t, dir, "drover.yaml", "one")
	w := NewWatcher(zap.NewNop())
	w.SetFiles([]string{path, dir})
	f := func(want ...string) {
		t.Helper()
		if got := w.changed(); !slices.Equal(got, want) {
			t.Errorf("got changes %q; want %q", got, want)
		}
	}
	f()
	write(t, dir, "drover.yaml", "one")
	must(t, os.Chtimes(path, time.Now(), time.Now().Add(time.Hour)))
	write(t, dir, "unrelated.log", "x")
	f()
	write(t, dir, "drover.yaml", "two")
	f(path)
	f()
	w.Note(path, []byte("three"))
	f(path)
	must(t, os.Remove(path))
	f(path, dir)
	f()
	w.Note(path, nil) // a load could not read it either.
	f()
	write(t, dir, "drover.yaml", "")
	f(path, dir)
}

// TestLoadNotes wants the watcher to compare with the bytes that were loaded, not with
// those that it finds when it begins.
func TestLoadNotes(t *testing.T) {
	dir := t.TempDir()
	path := write(t, dir, "drover.yaml", minimal+"include: conf.d\n")
	write(t, dir, "conf.d/a.yaml", "routes: []\n")
	w := NewWatcher(zap.NewNop())
	cfg, err := Load(Options{Path: path, OnRead: w.Note})
	must(t, err)
	w.SetFiles(cfg.Files())
	if got := w.changed(); got != nil {
		t.Errorf("got changes %q; want none after a load", got)
	}
	cfg, err = Load(Options{Path: path, OnRead: w.Note})
	must(t, err)
	write(t, dir, "conf.d/b.yaml", "routes: []\n")
	w.SetFiles(cfg.Files())
	if got := w.changed(); len(got) != 1 || !strings.HasSuffix(got[0], "conf.d") {
		t.Errorf("got changes %q; want the directory", got)
	}
}

// TestFailedLoadIsWatched wants the files of a load that failed watched too: the one
// that is at fault may be the new one.
func TestFailedLoadIsWatched(t *testing.T) {
	dir := t.TempDir()
	path := write(t, dir, "drover.yaml", minimal)
	w, changed := startWatcher(t, path)
	load := func() error {
		cfg, err := Load(Options{Path: path, OnRead: w.Note})
		if err == nil {
			w.SetFiles(cfg.Files())
		}
		return err
	}
	must(t, load())
	write(t, dir, "drover.yaml", minimal+"include: [ more/a.yaml ]\n")
	changed()
	if err := load(); err == nil {
		t.Fatal("got no error for a missing include")
	}
	write(t, dir, "more/a.yaml", "routs: []\n")
	changed()
	if err := load(); err == nil {
		t.Fatal("got no error for a broken include")
	}
	write(t, dir, "more/a.yaml", "routes: []\n")
	changed()
	must(t, load())
}

// TestWatchTiming tells when the watcher looks.
func TestWatchTiming(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := NewWatcher(zap.NewNop())
		events, failures := make(chan fsnotify.Event), make(chan error)
		start := time.Now()
		var looks []time.Duration
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			w.loop(ctx, events, failures, func() { looks = append(looks, time.Since(start)) })
		}()
		at := func(d time.Duration) { <-time.After(d - time.Since(start)) }
		ms := time.Millisecond

		at(1000 * ms)
		events <- fsnotify.Event{}
		at(1050 * ms)
		events <- fsnotify.Event{} // looks 100 ms after the last event.
		at(2000 * ms)
		for i := range 30 { // a series without rest: looks after 1 s all the same.
			at(2000*ms + time.Duration(i)*50*ms)
			events <- fsnotify.Event{}
		}
		at(5000 * ms)
		failures <- fsnotify.ErrEventOverflow
		at(6000 * ms)
		w.SetFiles(nil)
		at(10500 * ms) // the poll.
		cancel()
		<-done
		want := []time.Duration{0, 1150 * ms, 3000 * ms, 3550 * ms, 5100 * ms, 6000 * ms, 10000 * ms}
		if !slices.Equal(looks, want) {
			t.Errorf("got looks at %v; want %v", looks, want)
		}
	})
}

// TestWatchableLoop wants link loops to end.
func TestWatchableLoop(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Symlink("b", filepath.Join(dir, "a")))
	must(t, os.Symlink("a", filepath.Join(dir, "b")))
	if got := watchable(filepath.Join(dir, "a/drover.yaml")); !slices.Contains(got, dir) {
		t.Errorf("got directories %q; want %q among them", got, dir)
	}
}
