package discovery

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// entryFile is a file with its entries, or why it cannot be read.
type entryFile struct {
	path    string
	info    fs.FileInfo
	entries []fileEntry
	err     error
}

// fileEntry is what one znode would be.
type fileEntry struct {
	path string
	data []byte
}

// files reads the directory's files, or the file. An error means that the set is not
// known in full.
func (f *File) files() ([]entryFile, error) {
	info, err := os.Stat(f.cfg.Path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		file := readEntryFile(f.cfg.Path)
		file.entries = file.lines()
		return []entryFile{file}, file.err
	}
	list, err := os.ReadDir(f.cfg.Path)
	if err != nil {
		return nil, err
	}
	var files []entryFile
	for _, item := range list {
		if skipped(item.Name()) {
			continue
		}
		file := readEntryFile(filepath.Join(f.cfg.Path, item.Name()))
		gone := errors.Is(file.err, fs.ErrNotExist) && item.Type()&fs.ModeSymlink == 0
		if gone || errors.Is(file.err, errDirectory) {
			continue // between the two, as znodes go; or no entry at all
		}
		files = append(files, file)
	}
	return files, nil
}

func skipped(name string) bool {
	return strings.HasPrefix(name, ".") || strings.HasPrefix(name, "#") ||
		strings.HasSuffix(name, "~") || strings.HasSuffix(name, ".swp")
}

var (
	errDirectory = errors.New("got a directory; want a file")
	errSpecial   = errors.New("got a pipe, socket or device; want a file")
)

// readEntryFile reads a file as one entry.
func readEntryFile(path string) entryFile {
	file := entryFile{path: path}
	info, err := os.Stat(path)
	switch {
	case err != nil:
		file.err = err
	case info.IsDir():
		file.err = errDirectory
	case !info.Mode().IsRegular():
		file.err = errSpecial // to open it might block for ever
	case info.Size() > maxEntrySize:
		file.err = fmt.Errorf("got %d bytes; want at most %d", info.Size(), maxEntrySize)
	default:
		file.info = info
		data, err := os.ReadFile(path) //nolint:gosec // below the folder that the operator names.
		file.entries, file.err = []fileEntry{{path, data}}, err
	}
	return file
}

// lines splits the one entry into an entry a line; empty lines and those that begin
// with "#" are left out.
func (e entryFile) lines() []fileEntry {
	var lines []fileEntry
	for _, whole := range e.entries {
		for i, line := range strings.Split(string(whole.data), "\n") {
			line = strings.TrimSpace(line)
			if line != "" && line[0] != '#' {
				lines = append(lines, fileEntry{fmt.Sprintf("%s:%d", e.path, i+1), []byte(line)})
			}
		}
	}
	return lines
}
