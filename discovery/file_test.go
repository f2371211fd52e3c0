package discovery

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// followFile follows a path in a new directory.
func followFile(t *testing.T, name string) (path string, start func() *followed, warnings func() []string) {
	t.Helper()
	logger, logs := observed()
	path = filepath.Join(t.TempDir(), name)
	start = func() *followed {
		return follow(t, NewFile(FileConfig{Path: path, Format: "auto"}, logger))
	}
	warnings = func() []string {
		var lines []string
		for _, line := range logs.All() {
			lines = append(lines, fmt.Sprint(line.Message, " ", line.ContextMap()["error"], line.ContextMap()["reason"]))
		}
		return lines
	}
	return path, start, warnings
}

func write(t *testing.T, path, text string) {
	t.Helper()
	must(t, os.WriteFile(path, []byte(text), 0o600))
}

// TestFileWrittenSlowly: a program writes the file in place, line by line, slower than
// any debouncing. No set is seen that nobody meant.
func TestFileWrittenSlowly(t *testing.T) {
	t.Parallel()
	path, start, warnings := followFile(t, "servers")
	write(t, path, "10.0.0.1:80\n10.0.0.2:80\n10.0.0.3:80\n")
	f := start()
	f.next(t, "10.0.0.1:80 10.0.0.2:80 10.0.0.3:80")

	file, err := os.Create(path)
	must(t, err)
	tick := time.NewTicker(fileMaxDebounce + fileDebounce)
	defer tick.Stop()
	for _, part := range []string{"10.0.0.2:80\n10.0", ".0.3:80\n", "10.0.0.4:80 wei", "ght=2\n"} {
		<-tick.C // the writer is slow
		_, err := file.WriteString(part)
		must(t, err)
	}
	must(t, file.Close())
	f.next(t, "10.0.0.2:80 10.0.0.3:80 10.0.0.4:80*2")
	if lines := warnings(); len(lines) != 0 {
		t.Errorf("logged %q; want nothing, the file was only being written", lines)
	}
}

// TestFileWrittenForEver: a file that is never at rest is taken all the same.
func TestFileWrittenForEver(t *testing.T) {
	t.Parallel()
	path, start, _ := followFile(t, "servers")
	write(t, path, "10.0.0.1:80\n10.0.0.2:80\n")
	f := start()
	f.next(t, "10.0.0.1:80 10.0.0.2:80")
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			case <-tick.C:
				_ = os.WriteFile(path, fmt.Appendf(nil, "10.0.0.1:80\n# %d\n", i), 0o600)
			}
		}
	}()
	defer func() { close(stop); <-done }()
	// Between truncation and writing the file is empty, which may be what is taken.
	select {
	case set := <-f.sets:
		if got := setText(set); got != "10.0.0.1:80" && got != "" {
			t.Errorf("set %q; want what is written", got)
		}
	case <-time.After(patience):
		t.Error("a file that is written all the time is never taken")
	}
}

// TestFileAtOnce: what cannot be half written is not waited for.
func TestFileAtOnce(t *testing.T) {
	path, start, _ := followFile(t, "servers")
	write(t, path, "10.0.0.1:80\n10.0.0.2:80\n")
	f := start()
	f.next(t, "10.0.0.1:80 10.0.0.2:80")

	write(t, path, "10.0.0.1:80\n10.0.0.2:80 weight=5\n10.0.0.3:80\n") // in place, and nothing is lost
	f.next(t, "10.0.0.1:80 10.0.0.2:80*5 10.0.0.3:80")
	replaceFile(t, path, "10.0.0.3:80\n")
	f.next(t, "10.0.0.3:80")
	replaceFile(t, path, "# none\n")
	f.next(t, "")
}

// TestFileEmptiedInPlace: an empty file at rest means what it says.
func TestFileEmptiedInPlace(t *testing.T) {
	t.Parallel()
	path, start, _ := followFile(t, "servers")
	write(t, path, "10.0.0.1:80\n")
	f := start()
	f.next(t, "10.0.0.1:80")
	write(t, path, "")
	f.next(t, "")
	if f.source.Status().Servers != 0 {
		t.Errorf("status %+v", f.source.Status())
	}
}

// TestFileLink: the file is a link to another, as in a mounted ConfigMap, and the link
// in between is swapped.
func TestFileLink(t *testing.T) {
	path, start, _ := followFile(t, "servers")
	dir := filepath.Dir(path)
	for i := 1; i <= 3; i++ {
		must(t, os.Mkdir(filepath.Join(dir, fmt.Sprint("..v", i)), 0o700))
		write(t, filepath.Join(dir, fmt.Sprint("..v", i), "servers"), fmt.Sprintf("10.0.0.%d:80\n", i))
	}
	swap := func(to int) {
		must(t, os.Symlink(fmt.Sprint("..v", to), filepath.Join(dir, "..new")))
		must(t, os.Rename(filepath.Join(dir, "..new"), filepath.Join(dir, "..data")))
	}
	swap(1)
	must(t, os.Symlink("..data/servers", path))
	f := start()
	f.next(t, "10.0.0.1:80")
	swap(2)
	f.next(t, "10.0.0.2:80")
	swap(3)
	f.next(t, "10.0.0.3:80")
}

// TestFileMissing: the path is waited for, and the status says so.
func TestFileMissing(t *testing.T) {
	path, start, warnings := followFile(t, "servers")
	f := start()
	f.next(t, "")
	s := f.status(t, "stale", func(s Status) bool { return s.Stale })
	if s.Connected || !strings.Contains(s.Fault, "does not exist yet") {
		t.Errorf("status %+v; want that it is waited for", s)
	}
	must(t, os.Mkdir(path, 0o700))
	f.status(t, "fresh", func(s Status) bool { return !s.Stale && s.Connected && s.Fault == "" })
	write(t, filepath.Join(path, "10.0.0.1:80"), "")
	f.next(t, "10.0.0.1:80")
	if lines := warnings(); len(lines) != 1 || !strings.Contains(lines[0], "does not exist yet") {
		t.Errorf("logged %q; want one line", lines)
	}
}

// TestFileMissingFolder: what contains the path is missing too, so nothing can be
// watched; it is found by looking.
func TestFileMissingFolder(t *testing.T) {
	t.Parallel()
	path, start, _ := followFile(t, "a/b/servers")
	f := start()
	f.next(t, "")
	must(t, os.MkdirAll(filepath.Dir(path), 0o700))
	write(t, path, "10.0.0.1:80\n")
	f.next(t, "10.0.0.1:80")
}

// TestDirectoryBadNeighbours: files that cannot be read or are no entries cost
// themselves only, and what was known of them stays while they are there.
func TestDirectoryBadNeighbours(t *testing.T) {
	path, start, _ := followFile(t, "servers")
	must(t, os.Mkdir(path, 0o700))
	at := func(name string) string { return filepath.Join(path, name) }
	write(t, at("one"), "10.0.0.1:80")
	write(t, at("two"), "10.0.0.2:80")
	f := start()
	f.next(t, "10.0.0.1:80 10.0.0.2:80")

	must(t, os.Truncate(at("two"), maxEntrySize+1)) // it cannot be read, but it is there
	must(t, os.Mkdir(at("folder"), 0o700))
	must(t, syscall.Mkfifo(at("pipe"), 0o600)) // whoever opens it waits for ever
	must(t, os.Symlink("nowhere", at("link")))
	for _, name := range []string{".hidden", "#one#", "one~", "one.swp"} {
		write(t, at(name), "10.9.9.9:80")
	}
	write(t, at("three"), "10.0.0.3:80")
	f.next(t, "10.0.0.1:80 10.0.0.2:80 10.0.0.3:80")
	s := f.status(t, "three rejects", func(s Status) bool { return len(s.Rejected) == 3 })
	for i, want := range []string{"no such file", "want a file", "want at most 1048576"} {
		if got := s.Rejected[i]; !strings.Contains(got.Reason, want) {
			t.Errorf("reject %+v; want %q", got, want)
		}
	}

	for _, name := range []string{"pipe", "link", "two"} {
		must(t, os.Remove(at(name)))
	}
	f.next(t, "10.0.0.1:80 10.0.0.3:80")
	f.status(t, "no rejects", func(s Status) bool { return len(s.Rejected) == 0 })
}

// TestEntryBreaks: an entry that is overwritten with rubbish keeps the server that it
// had: the old state stays, and the status and one line of log say what is wrong. It
// goes when the entry does.
func TestEntryBreaks(t *testing.T) {
	t.Parallel()
	t.Run("directory", func(t *testing.T) {
		t.Parallel()
		path, start, warnings := followFile(t, "servers")
		must(t, os.Mkdir(path, 0o700))
		write(t, filepath.Join(path, "one"), "10.0.0.1:80")
		write(t, filepath.Join(path, "two"), "10.0.0.2:80")
		f := start()
		f.next(t, "10.0.0.1:80 10.0.0.2:80")
		write(t, filepath.Join(path, "two"), "{")
		f.status(t, "one reject", func(s Status) bool { return len(s.Rejected) == 1 })
		write(t, filepath.Join(path, "three"), "10.0.0.3:80")
		f.next(t, "10.0.0.1:80 10.0.0.2:80 10.0.0.3:80")
		if lines := warnings(); len(lines) != 1 || !strings.Contains(lines[0], "cannot parse JSON") {
			t.Errorf("logged %q; want one line", lines)
		}
		must(t, os.Remove(filepath.Join(path, "two")))
		f.next(t, "10.0.0.1:80 10.0.0.3:80")
		f.status(t, "no reject", func(s Status) bool { return len(s.Rejected) == 0 })
	})
	t.Run("lines", func(t *testing.T) {
		t.Parallel()
		path, start, _ := followFile(t, "servers")
		replaceFile(t, path, "10.0.0.1:80\n10.0.0.2:80\n")
		f := start()
		f.next(t, "10.0.0.1:80 10.0.0.2:80")
		replaceFile(t, path, "10.0.0.1:80\n10.0.0.2,80\n10.0.0.3:80\n")
		f.next(t, "10.0.0.1:80 10.0.0.2:80 10.0.0.3:80")
		f.status(t, "one reject", func(s Status) bool { return len(s.Rejected) == 1 && strings.HasSuffix(s.Rejected[0].Path, "servers:2") })
		replaceFile(t, path, "10.0.0.1:80\n10.0.0.3:80\n")
		f.next(t, "10.0.0.1:80 10.0.0.3:80")
	})
}
