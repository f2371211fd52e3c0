package zookeeper

import (
	"errors"
	"io/fs"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"drover/backend"
)

func testSnapshot() snapshot {
	return snapshot{
		About:  aboutSnapshot{Servers: []string{"zk:2181"}, Path: "/app/svc", Format: "auto"},
		Synced: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC),
		Set: []backend.Server{
			{ID: backend.ID{Scheme: "http", Host: "10.0.0.1", Port: 80}, Weight: 3, Zone: "a", Role: "leader", Tags: []string{"x", "y"}, Origin: "/svc/1"},
			{ID: backend.ID{Scheme: "https", Host: "::1", Port: 443}, Weight: 0, Priority: 2},
		},
	}
}

func TestDiskKeepsASet(t *testing.T) {
	cfg := Config{Servers: []string{"zk:2181"}, Chroot: "/app", SnapshotDir: t.TempDir()}
	d := newDisk(cfg, SourceConfig{Path: "/svc", Format: "auto"})
	if _, err := d.load(); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("got %v; want not exist", err)
	}
	want := testSnapshot()
	for range 2 { // the second replaces the first
		if err := d.save(want.Set, want.Synced); err != nil {
			t.Fatal(err)
		}
		got, err := d.load()
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("got %+v, %v; want %+v", got, err, want)
		}
	}
	entries, err := os.ReadDir(cfg.SnapshotDir)
	if err != nil || len(entries) != 1 || !strings.HasPrefix(entries[0].Name(), "app_svc-") {
		t.Fatalf("files %v, %v", entries, err)
	}
}

// Whatever is not exactly what was written is refused.
func TestDiskRefuses(t *testing.T) {
	cfg := Config{Servers: []string{"zk:2181"}, SnapshotDir: t.TempDir()}
	d := newDisk(cfg, SourceConfig{Path: "/app/svc", Format: "auto"})
	whole, err := encodeSnapshot(testSnapshot())
	if err != nil {
		t.Fatal(err)
	}
	f := func(data []byte, want string) {
		t.Helper()
		if err := os.WriteFile(d.file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := d.load(); err == nil || !strings.Contains(err.Error(), want) {
			t.Fatalf("got %v; want %q", err, want)
		}
	}
	f(nil, "starts with")
	f([]byte("something else\n"), "starts with")
	f(whole[:len(whole)-1], "checksum")
	f(append(whole[:len(whole):len(whole)], ' '), "checksum")
	for i := range whole {
		changed := append([]byte(nil), whole...)
		changed[i] ^= 1
		f(changed, "cannot use")
	}
	other := testSnapshot()
	other.About.Path = "/another"
	data, err := encodeSnapshot(other)
	if err != nil {
		t.Fatal(err)
	}
	f(data, `of path "/another"`)
	other = testSnapshot()
	other.Set[1].Port = 0
	if data, err = encodeSnapshot(other); err != nil {
		t.Fatal(err)
	}
	f(data, "server 1 has no usable address")
}

// Sources that differ have files that differ.
func TestDiskFilesDiffer(t *testing.T) {
	seen := map[string]bool{}
	for _, cfg := range []Config{{Servers: []string{"a:1"}}, {Servers: []string{"b:1"}}, {Servers: []string{"a:1"}, Chroot: "/c"}} {
		cfg.SnapshotDir = "dir"
		for _, source := range []SourceConfig{{"/a/b", "auto"}, {"/a_b", "auto"}, {"/a/b", "nerve"}, {"/" + strings.Repeat("x", 5000), "auto"}} {
			file := newDisk(cfg, source).file
			if seen[file] || len(file) > 200 {
				t.Errorf("file %q", file)
			}
			seen[file] = true
		}
	}
	if newDisk(Config{}, SourceConfig{}) != nil {
		t.Error("a disk without a directory")
	}
}

func TestDiskSaysWhatFails(t *testing.T) {
	file := t.TempDir() + "/file"
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	d := newDisk(Config{SnapshotDir: file + "/below"}, SourceConfig{Path: "/a"})
	if err := d.save(nil, time.Now()); err == nil || !strings.Contains(err.Error(), "cannot write the snapshot") {
		t.Fatalf("got %v", err)
	}
}

func FuzzDecodeSnapshot(f *testing.F) {
	whole, err := encodeSnapshot(testSnapshot())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add([]byte(diskMagic + " \n{}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		snap, err := decodeSnapshot(data)
		if err != nil {
			return
		}
		again, err := encodeSnapshot(snap)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := decodeSnapshot(again); err != nil || !reflect.DeepEqual(back, snap) {
			t.Fatalf("%+v came back as %+v, %v", snap, back, err)
		}
	})
}
