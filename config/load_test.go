package config

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

const minimal = `listeners: [ { name: web, address: ":8080" } ]
upstreams: [ { name: users, servers: [ { address: "10.0.0.1:8080" } ] } ]
routes: [ { upstream: users } ]
`

// write writes a file, and the directories to it, below a directory.
func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // a test's directory.
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func load(t *testing.T, path string) *Config {
	t.Helper()
	cfg, err := Load(Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// keyPair makes a certificate that is valid until a time, and its key.
func keyPair(t *testing.T, until time.Time) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "localhost"},
		DNSNames:     []string{"localhost"},
		NotBefore:    until.Add(-time.Hour),
		NotAfter:     until,
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	privateDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: privateDER}))
}

func TestLoadIsComparable(t *testing.T) {
	path := write(t, t.TempDir(), "drover.yaml", minimal)
	first := load(t, path)
	write(t, filepath.Dir(path), "drover.yaml", "# a comment\n\n"+minimal)
	if second := load(t, path); !reflect.DeepEqual(first, second) {
		t.Errorf("got another configuration after a comment was added:\n%+v\n%+v", first, second)
	}
	write(t, filepath.Dir(path), "drover.yaml", minimal+"drain_timeout: 31s\n")
	if third := load(t, path); reflect.DeepEqual(first, third) {
		t.Error("got an equal configuration after a change")
	}
}

func TestRouteNames(t *testing.T) {
	path := write(t, t.TempDir(), "drover.yaml", minimal[:strings.Index(minimal, "routes")]+
		"routes: [ { upstream: users, host: a }, { name: route-1, upstream: users, host: b }, { upstream: users } ]\n")
	var got []string
	for _, r := range load(t, path).Routes {
		got = append(got, r.Name)
	}
	if want := []string{"route-1-", "route-1", "route-3"}; !slices.Equal(got, want) {
		t.Errorf("got route names %q; want %q", got, want)
	}
}

func TestPathsAreMeantFromTheirFile(t *testing.T) {
	dir := t.TempDir()
	cert, key := keyPair(t, time.Now().Add(time.Hour))
	main := write(t, dir, "etc/drover.yaml", minimal+`include: conf.d
log: { output: drover.log }
zookeeper: { servers: [ "127.0.0.1:2181" ], snapshot_dir: ../state }
`)
	write(t, dir, "etc/conf.d/tls.yaml", `listeners:
  - { name: tls, address: ":8443", tls: { certificates: [ { cert_file: ../certs/a.pem, key_file: ../certs/a.key } ] } }
`)
	certFile, keyFile := write(t, dir, "etc/certs/a.pem", cert), write(t, dir, "etc/certs/a.key", key)
	cfg := load(t, main)
	f := func(got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("got path %q; want %q", got, want)
		}
	}
	f(cfg.Listeners[1].TLS.Certificates[0].CertFile, certFile)
	f(cfg.Listeners[1].TLS.Certificates[0].KeyFile, keyFile)
	f(cfg.ZooKeeper.SnapshotDir, filepath.Join(dir, "state"))
	f(cfg.Log.Output, filepath.Join(dir, "etc/drover.log"))
	f(cfg.AccessLog.Output, "stdout")

	want := []string{
		keyFile, certFile, filepath.Join(dir, "etc/conf.d"), filepath.Join(dir, "etc/conf.d/tls.yaml"), main,
	}
	got := cfg.Files()
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got files\n%q\nwant\n%q", got, want)
	}
}

func TestFileChanged(t *testing.T) {
	dir := t.TempDir()
	cert, key := keyPair(t, time.Now().Add(time.Hour))
	main := write(t, dir, "drover.yaml", `listeners:
  - { name: web, address: ":8443", tls: { certificates: [ { cert_file: a.pem, key_file: a.key } ] } }
`)
	certFile, keyFile := write(t, dir, "a.pem", cert), write(t, dir, "a.key", key)
	before := load(t, main)
	if again := load(t, main); !reflect.DeepEqual(before, again) {
		t.Error("got another configuration from the same files")
	}
	write(t, dir, "a.pem", cert+"\n")
	after := load(t, main)
	if !after.FileChanged(certFile, before) || after.FileChanged(keyFile, before) || after.FileChanged(main, before) {
		t.Error("want a change of the certificate, and of nothing else")
	}
	if reflect.DeepEqual(before, after) {
		t.Error("got an equal configuration after a certificate was renewed")
	}
	write(t, dir, "a.key", "nonsense")
	if _, err := Load(Options{Path: main}); err == nil || !strings.Contains(err.Error(), "cannot use certificate and key") {
		t.Errorf("got error %v; want one about the key", err)
	}
}

func TestIncludeOrder(t *testing.T) {
	dir := t.TempDir()
	upstream := func(name string) string {
		return "upstreams: [ { name: " + name + ", servers: [ { address: \"10.0.0.1:80\" } ] } ]\n"
	}
	main := write(t, dir, "drover.yaml", "listeners: [ { name: web, address: \":8080\" } ]\ninclude: [ z.yaml, conf.d, empty.d ]\n"+upstream("main"))
	write(t, dir, "z.yaml", upstream("z"))
	write(t, dir, "conf.d/20.yaml", upstream("twenty"))
	write(t, dir, "conf.d/10.yml", upstream("ten"))
	write(t, dir, "conf.d/.hidden.yaml", "nonsense")
	write(t, dir, "conf.d/README.txt", "nonsense")
	write(t, dir, "conf.d/30.yaml", "# nothing but a comment is no document\nroutes: []\n")
	if err := os.Mkdir(filepath.Join(dir, "empty.d"), 0o755); err != nil { //nolint:gosec // a test's directory.
		t.Fatal(err)
	}
	var got []string
	for _, u := range load(t, main).Upstreams {
		got = append(got, u.Name)
	}
	if want := []string{"main", "z", "ten", "twenty"}; !slices.Equal(got, want) {
		t.Errorf("got upstreams %q; want %q", got, want)
	}
}

func TestMissingFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "nowhere.yaml")
	_, err := Load(Options{Path: path})
	if !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), path) {
		t.Errorf("got error %v; want one that names %s", err, path)
	}
	t.Setenv("DROVER_CONFIG", path)
	if _, err := Load(Options{}); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), path) {
		t.Errorf("got error %v; want one that names %s", err, path)
	}
	t.Setenv("DROVER_CONFIG", "")
	t.Chdir(t.TempDir())
	if _, err := Load(Options{}); err == nil || !strings.Contains(err.Error(), "./drover.yaml") || !strings.Contains(err.Error(), "drover proxy") {
		t.Errorf("got error %v; want one that says where it looked and what to do", err)
	}
	if _, err := Load(Options{Path: t.TempDir()}); err == nil || !strings.Contains(err.Error(), "want a file") {
		t.Errorf("got error %v; want one about a directory", err)
	}
}

func TestDefaultFile(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	path := write(t, dir, "drover.yaml", minimal)
	if cfg, err := Load(Options{}); err != nil || !slices.Equal(cfg.Files(), []string{path}) {
		t.Errorf("got %v, %v; want the configuration in ./drover.yaml", cfg, err)
	}
}

func TestWarnings(t *testing.T) {
	dir := t.TempDir()
	cert, key := keyPair(t, time.Now().Add(-24*time.Hour))
	write(t, dir, "a.pem", cert)
	write(t, dir, "a.key", key)
	path := write(t, dir, "drover.yaml", `listeners:
  - { name: web, address: ":8443", tls: { certificates: [ { cert_file: a.pem, key_file: a.key } ] } }
upstreams: [ { name: users, servers: [ { address: "10.0.0.1:8080" } ] } ]
zookeeper: { servers: [ "127.0.0.1:2181" ] }
`)
	var got []string
	if _, err := Load(Options{Path: path, Warn: func(w *Error) { got = append(got, strings.TrimPrefix(w.Error(), path+":")) }}); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"2:72: listeners[0].tls.certificates[0].cert_file: got a certificate that expired on ",
		`3:22: upstreams[0].name: got upstream "users" that no route uses`,
		"1:1: routes: got no route",
		"4:1: zookeeper: got a zookeeper block that no upstream and no listener uses",
	}
	if len(got) != len(want) {
		t.Fatalf("got warnings %q; want %d", got, len(want))
	}
	for i := range want {
		if !strings.HasPrefix(got[i], want[i]) {
			t.Errorf("got warning %q; want %q", got[i], want[i])
		}
	}
}
