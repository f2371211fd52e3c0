package zookeeper

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"drover/backend"
)

// diskMagic is the first word of a snapshot; its number changes with the layout.
const diskMagic = "drover-zookeeper-1"

// disk keeps a source's last good set in a file, from which a start without
// ZooKeeper serves. The file is one line "drover-zookeeper-1 SHA256-OF-THE-REST"
// and a JSON document. It is replaced as a whole, so that a crash leaves the old
// one or the new one.
type disk struct {
	dir   string
	file  string
	about aboutSnapshot
}

// aboutSnapshot says what a snapshot is of, so that one that was copied or renamed
// is not taken for another's.
type aboutSnapshot struct {
	Servers []string `json:"zookeeper"`
	Path    string   `json:"path"`
	Format  string   `json:"format"`
}

// snapshot is the document in the file.
type snapshot struct {
	About  aboutSnapshot    `json:"about"`
	Synced time.Time        `json:"synced"` // when the set was last known to be right
	Set    []backend.Server `json:"servers"`
}

// newDisk names the file of a source: readable, and told apart by a hash of all that
// the set depends on.
func newDisk(cfg Config, source SourceConfig) *disk {
	if cfg.SnapshotDir == "" {
		return nil
	}
	about := aboutSnapshot{cfg.Servers, strings.TrimSuffix(cfg.Chroot, "/") + source.Path, source.Format}
	sum := sha256.Sum256([]byte(strings.Join(append([]string{about.Path, about.Format}, about.Servers...), "\x00")))
	name := strings.Map(func(r rune) rune {
		if r == '.' || r == '-' || r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' {
			return r
		}
		return '_'
	}, strings.Trim(about.Path, "/"))
	name = fmt.Sprintf("%.100s-%s.snapshot", name, hex.EncodeToString(sum[:8]))
	return &disk{dir: cfg.SnapshotDir, file: filepath.Join(cfg.SnapshotDir, name), about: about}
}

// load reads the snapshot. The error is os.ErrNotExist if there is none yet.
func (d *disk) load() (snapshot, error) {
	data, err := os.ReadFile(d.file)
	if err != nil {
		return snapshot{}, fmt.Errorf("cannot read the snapshot: %w", err)
	}
	snap, err := decodeSnapshot(data)
	if err != nil {
		return snapshot{}, fmt.Errorf("cannot use the snapshot %q: %w", d.file, err)
	}
	if snap.About.Path != d.about.Path || snap.About.Format != d.about.Format {
		return snapshot{}, fmt.Errorf("cannot use the snapshot %q: it is of path %q, format %q; want %q, %q",
			d.file, snap.About.Path, snap.About.Format, d.about.Path, d.about.Format)
	}
	return snap, nil
}

// save replaces the snapshot.
func (d *disk) save(set []backend.Server, synced time.Time) error {
	data, err := encodeSnapshot(snapshot{About: d.about, Synced: synced, Set: set})
	if err == nil {
		err = d.replace(data)
	}
	if err != nil {
		return fmt.Errorf("cannot write the snapshot %q: %w", d.file, err)
	}
	return nil
}

// replace writes beside the file, makes it durable and renames: the order that
// survives a crash at any point.
func (d *disk) replace(data []byte) (err error) {
	if err := os.MkdirAll(d.dir, 0o750); err != nil {
		return err
	}
	temp, err := os.CreateTemp(d.dir, filepath.Base(d.file)+".*.tmp")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(temp.Name()))
		}
	}()
	_, err = temp.Write(data)
	if err == nil {
		err = temp.Sync()
	}
	if err = errors.Join(err, temp.Close()); err != nil {
		return err
	}
	if err := os.Rename(temp.Name(), d.file); err != nil {
		return err
	}
	dir, openErr := os.Open(d.dir)
	if openErr != nil {
		return nil // the snapshot is in place; a crash now may bring back the old one
	}
	_ = dir.Sync() // not every file system can
	_ = dir.Close()
	return nil
}

func encodeSnapshot(snap snapshot) ([]byte, error) {
	body, err := json.MarshalIndent(snap, "", " ")
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(body)
	return append([]byte(diskMagic+" "+hex.EncodeToString(sum[:])+"\n"), body...), nil
}

func decodeSnapshot(data []byte) (snapshot, error) {
	head, body, _ := bytes.Cut(data, []byte("\n"))
	magic, want, _ := strings.Cut(string(head), " ")
	if magic != diskMagic {
		return snapshot{}, fmt.Errorf("it starts with %.40q; want %s", magic, diskMagic)
	}
	sum := sha256.Sum256(body)
	if got := hex.EncodeToString(sum[:]); got != want {
		return snapshot{}, fmt.Errorf("its checksum is %.64q; want %s", want, got)
	}
	var snap snapshot
	if err := json.Unmarshal(body, &snap); err != nil {
		return snapshot{}, err
	}
	for i, s := range snap.Set {
		if s.Host == "" || s.Port == 0 || s.Weight < 0 {
			return snapshot{}, fmt.Errorf("server %d has no usable address or weight", i)
		}
	}
	return snap, nil
}
