package main

import (
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"drover/internal/zktest"
	"drover/metrics"
	"drover/proxy/front/acme"

	"go.uber.org/zap"
)

// pebble is an ACME server for tests, by Let's Encrypt; it is built from its module.
const pebbleModule = "github.com/letsencrypt/pebble/v2/cmd/pebble@v2.10.1"

// pebble is a running one that looks for domains below acme.test on this machine.
type pebble struct {
	directory string
	process   *zktest.Process
	log       *output
}

// startPebble starts one whose certificates last for some seconds, 0 for long.
func startPebble(t *testing.T, dir, web, secure string, seconds int) *pebble {
	t.Helper()
	build := exec.CommandContext(t.Context(), "go", "install", pebbleModule)
	build.Env = append(os.Environ(), "GOBIN="+dir, "GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("cannot build pebble: %v\n%s", err, out)
	}
	address, management := freeAddress(t), freeAddress(t)
	portOf := func(address string) string {
		_, port, err := net.SplitHostPort(address)
		if err != nil {
			t.Fatal(err)
		}
		return port
	}
	put(t, filepath.Join(dir, "pebble.json"), fmt.Sprintf(`{"pebble": {"listenAddress": %q, "managementListenAddress": %q,
		"certificate": %q, "privateKey": %q, "httpPort": %s, "tlsPort": %s, "retryAfter": {"authz": 1, "order": 1},
		"profiles": {"default": {"description": "for tests", "validityPeriod": %d}}}}`,
		address, management, filepath.Join(dir, "site.pem"), filepath.Join(dir, "site.key"), portOf(web), portOf(secure), seconds))
	p := &pebble{directory: "https://" + address + "/dir"}
	cmd := exec.Command(filepath.Join(dir, "pebble"), "-config", filepath.Join(dir, "pebble.json"), "-dnsserver", startResolver(t, "tcp", "acme.test."))
	cmd.Env = append(os.Environ(), "PEBBLE_VA_NOSLEEP=1", "PEBBLE_WFE_NONCEREJECT=0")
	p.process, p.log = spawnHeard(t, cmd)
	listening(t, address)
	return p
}

// certificateOf gives the issuer and the serial number of the certificate for a name, or
// the handshake's error.
func certificateOf(address, name string) (issuer, serial string, err error) {
	conn, err := tls.Dial("tcp", address, &tls.Config{ServerName: name, InsecureSkipVerify: true})
	if err != nil {
		return "", "", err
	}
	defer conn.Close()
	cert := conn.ConnectionState().PeerCertificates[0]
	return cert.Issuer.CommonName, cert.SerialNumber.String(), cert.VerifyHostname(name)
}

// TestACME has pebble issue certificates, by each challenge alone. They outlive the
// authority, and a reload wants another one.
func TestACME(t *testing.T) {
	t.Parallel()
	for _, challenge := range []string{"HTTP-01", "TLS-ALPN-01"} {
		t.Run(challenge, func(t *testing.T) {
			dir := t.TempDir()
			writePair(t, dir, 7)
			s := newSetup(t, "")
			web, secure := freeAddress(t), s.listen
			nobody := freeAddress(t)
			ports := map[string][2]string{"HTTP-01": {web, nobody}, "TLS-ALPN-01": {nobody, secure}}[challenge]
			authority := startPebble(t, dir, ports[0], ports[1], 0)
			yaml := func(domains string) string {
				return fmt.Sprintf(`admin: { address: "ADMIN" }
listeners:
  - { name: web, address: %q }
  - name: secure
    address: "LISTEN"
    tls:
      certificates: [ { cert_file: %q, key_file: %q } ]
      acme: { domains: [ %s ], directory: %q, ca_file: %q, storage_dir: %q, agree_to_terms: true }
routes: [ { respond: { body: mine } } ]
`, web, filepath.Join(dir, "site.pem"), filepath.Join(dir, "site.key"), domains, authority.directory, filepath.Join(dir, "site.pem"), filepath.Join(dir, "kept"))
			}
			s.write(t, yaml("a.acme.test"))
			p := s.run(t)
			var first string
			eventually(t, "a certificate for a.acme.test", func() bool {
				issuer, serial, err := certificateOf(secure, "a.acme.test")
				first = serial
				return err == nil && strings.Contains(issuer, "Pebble")
			})
			if got := serialOf(t, secure); got != 7 {
				t.Errorf("without a name the listener shows certificate %d; want that of the file", got)
			}
			s.write(t, yaml("a.acme.test, b.acme.test"))
			p.Signal(syscall.SIGHUP)
			eventually(t, "a certificate for b.acme.test", func() bool {
				issuer, _, err := certificateOf(secure, "b.acme.test")
				return err == nil && strings.Contains(issuer, "Pebble")
			})
			if _, body := fetch(t, client(t, false), "GET", "http://"+web+"/.well-known/acme-challenge/other", "", "Host", "a.acme.test"); body != "mine" {
				t.Errorf("a token of somebody else's was answered %q", body)
			}
			authority.process.Signal(syscall.SIGKILL)
			<-authority.process.Ended
			p.Signal(syscall.SIGTERM)
			p.wantExit(t, exitOK)
			s.run(t)
			eventually(t, "the certificate that was kept", func() bool {
				_, serial, err := certificateOf(secure, "a.acme.test")
				return err == nil && serial == first
			})
			for _, e := range mustReadDir(t, filepath.Join(dir, "kept")) {
				if info, err := e.Info(); err != nil || info.Mode().Perm()&0o077 != 0 {
					t.Errorf("%s can be read by others: %v, %v", e.Name(), info.Mode(), err)
				}
			}
		})
	}
}

func mustReadDir(t *testing.T, dir string) []os.DirEntry {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil || len(list) == 0 {
		t.Fatalf("cannot list %s: %v, %d entries", dir, err, len(list))
	}
	return list
}

// TestIssuedByAnother: a handshake that began before a change took its account away gets
// what another one has from the same authority, and nothing of another authority's.
func TestIssuedByAnother(t *testing.T) {
	dir := t.TempDir()
	writePair(t, dir, 7)
	text := ""
	for _, name := range []string{"site.key", "site.pem"} {
		part, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		text += string(part)
	}
	put(t, filepath.Join(dir, "drover.test"), text)
	here := acme.Config{Directory: "https://authority.test/dir", StorageDir: dir}
	m, err := acme.New(here, nil, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	m.Load(t.Context(), []string{"drover.test"})
	e := newEngine(zap.NewNop(), nil, metrics.New(0, "test"))
	e.secrets.Store(&secrets{issuers: map[acme.Config]*issuer{here: {manager: m}}})
	for directory, want := range map[string]bool{here.Directory: true, "https://other.test/dir": false} {
		for name, known := range map[string]bool{"drover.test": true, "else.test": false} {
			before := acme.Config{Directory: directory, StorageDir: "before"}
			cert, err := e.issued(before, &tls.ClientHelloInfo{ServerName: name})
			if (cert != nil) != (want && known) || (err == nil) != (want && known) {
				t.Errorf("%s, %s: got a certificate %v, %v; want one: %v", directory, name, cert != nil, err, want && known)
			}
		}
	}
}
