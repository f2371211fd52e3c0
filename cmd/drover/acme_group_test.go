package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"
)

const acmePath = "/drover/acme"

// member is one drover of a group that shares certificates.
type member struct {
	*setup
	web, secure string
	program     *program
}

// acmeGroup is an authority, a ZooKeeper, and drovers that share certificates by both.
type acmeGroup struct {
	*ensemble
	authority *pebble
	dir       string

	mu      sync.Mutex
	members []*member
}

// startGroup starts an authority that looks for web and secure, and no drover yet.
func startGroup(t *testing.T, web, secure string, seconds int) *acmeGroup {
	t.Helper()
	g := &acmeGroup{ensemble: startEnsemble(t), dir: t.TempDir()}
	writePair(t, g.dir, 7)
	g.authority = startPebble(t, g.dir, web, secure, seconds)
	return g
}

func (g *acmeGroup) newMember(t *testing.T, domains string) *member {
	t.Helper()
	m := &member{setup: newSetup(t, ""), web: freeAddress(t)}
	m.secure = m.listen
	g.configure(t, m, domains, "storage_zookeeper: "+acmePath)
	return m
}

func (g *acmeGroup) configure(t *testing.T, m *member, domains, storage string) {
	t.Helper()
	m.write(t, fmt.Sprintf(`admin: { address: "ADMIN" }
listeners:
  - { name: web, address: %q }
  - { name: secure, address: "LISTEN", tls: { acme: { domains: [ %s ], directory: %q, ca_file: %q, %s, agree_to_terms: true } } }
routes: [ { respond: { body: mine } } ]
`, m.web, domains, g.authority.directory, filepath.Join(g.dir, "site.pem"), storage)+g.yaml("10s"))
}

// start starts a drover that is to be of the group from now on.
func (g *acmeGroup) start(t *testing.T, m *member) {
	t.Helper()
	m.program = startProgram(t, nil, "run", "-c", m.path)
	g.setMembers(append(g.all(), m))
}

func (g *acmeGroup) all() []*member {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.members)
}

func (g *acmeGroup) setMembers(members []*member) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.members = members
}

// serial is the number of the certificate that all members show for a name, "" as long as
// there is no such.
func (g *acmeGroup) serial(name string) string {
	common := ""
	for i, m := range g.all() {
		issuer, serial, err := certificateOf(m.secure, name)
		if err != nil || !strings.Contains(issuer, "Pebble") || i > 0 && serial != common {
			return ""
		}
		common = serial
	}
	return common
}

// wantSerial waits until all members show one certificate for a name.
func (g *acmeGroup) wantSerial(t *testing.T, name string) (serial string) {
	t.Helper()
	eventually(t, "all show one certificate for "+name, func() bool {
		serial = g.serial(name)
		return serial != ""
	})
	return serial
}

// issued is how many certificates the authority has issued.
func (g *acmeGroup) issued() int {
	return strings.Count(g.authority.log.String(), "Issued certificate serial")
}

// hold keeps everybody from ordering.
func (g *acmeGroup) hold(t *testing.T) (release func()) {
	t.Helper()
	lock := acmePath + "/order+lock"
	for _, path := range []string{"/drover", acmePath, lock} {
		if _, err := g.owner.Create(path, nil, map[string]int32{lock: zk.FlagEphemeral}[path], zk.AuthACL(zk.PermAll)); err != nil {
			t.Fatal(err)
		}
	}
	return func() {
		if err := g.owner.Delete(lock, -1); err != nil {
			t.Fatal(err)
		}
	}
}

// orderer tells the member that orders at this moment by its session.
func (g *acmeGroup) orderer(c *http.Client) (*member, error) {
	_, stat, err := g.owner.Get(acmePath + "/order+lock")
	if err != nil {
		return nil, err
	}
	for _, m := range g.all() {
		resp, err := c.Get("http://" + m.admin + "/status")
		if err != nil {
			return nil, err
		}
		text, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close() // it is read.
		if err != nil {
			return nil, err
		}
		if strings.Contains(string(text), fmt.Sprintf(`"session": "%#x"`, stat.EphemeralOwner)) {
			return m, nil
		}
	}
	return nil, errors.New("the lock is nobody's of the group")
}

// relay stands where the authority looks, and sends it to a member that has not ordered.
// It gives how often it did.
func (g *acmeGroup) relay(t *testing.T, ln net.Listener, address func(*member) string) (count func() int) {
	var running sync.WaitGroup
	var mu sync.Mutex
	n := 0
	c := client(t, false)
	carry := func(near net.Conn) {
		defer near.Close()
		orderer, err := g.orderer(c)
		for tick, begin := time.Tick(50*time.Millisecond), time.Now(); err != nil && time.Since(begin) < 5*time.Second; <-tick {
			orderer, err = g.orderer(c) // the test's client comes back to ZooKeeper later than the members do.
		}
		if err != nil {
			t.Errorf("asked while nobody orders: %v", err)
			return
		}
		for _, m := range g.all() {
			if m == orderer {
				continue
			}
			far, err := net.Dial("tcp", address(m))
			if err != nil {
				t.Error(err)
				return
			}
			defer far.Close()
			mu.Lock()
			n++
			mu.Unlock()
			running.Go(func() {
				_, _ = io.Copy(far, near) // until one of them has enough
				_ = far.(*net.TCPConn).CloseWrite()
			})
			_, _ = io.Copy(near, far)
			return
		}
	}
	running.Go(func() {
		for {
			near, err := ln.Accept()
			if err != nil {
				return
			}
			running.Go(func() { carry(near) })
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		running.Wait()
	})
	return func() int {
		mu.Lock()
		defer mu.Unlock()
		return n
	}
}

// TestGroupSharesCertificates lets two drovers begin together, without a certificate: one
// orders, the other answers the authority, both serve. While ZooKeeper is away nothing
// changes.
func TestGroupSharesCertificates(t *testing.T) {
	t.Parallel()
	for _, challenge := range []string{"HTTP-01", "TLS-ALPN-01"} {
		t.Run(challenge, func(t *testing.T) {
			t.Parallel()
			asked, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			here, nobody := asked.Addr().String(), freeAddress(t)
			ports, address := [2]string{here, nobody}, func(m *member) string { return m.web }
			if challenge == "TLS-ALPN-01" {
				ports, address = [2]string{nobody, here}, func(m *member) string { return m.secure }
			}
			g := startGroup(t, ports[0], ports[1], 0)
			a, b := g.newMember(t, "a.acme.test"), g.newMember(t, "a.acme.test")
			release := g.hold(t)
			for _, m := range []*member{a, b} {
				g.start(t, m)
				m.awaitReady(t, m.program)
				m.program.logs(t, "another order is under way", 1)
			}
			answered := g.relay(t, asked, address)
			release()
			first := g.wantSerial(t, "a.acme.test")
			log := g.authority.log.String()
			// Autocert tries TLS-ALPN-01 first, and HTTP-01 by another order.
			orders := map[string]int{"HTTP-01": 2, "TLS-ALPN-01": 1}[challenge]
			if got := strings.Count(log, "Added order"); got != orders || g.issued() != 1 || strings.Contains(log, "There are now 2 accounts") {
				t.Errorf("%d orders, %d certificates, or several accounts; want %d orders, one certificate and account", got, g.issued(), orders)
			}
			if answered() == 0 {
				t.Error("the authority has asked nobody but the one that ordered")
			}
			eventually(t, "the lock is given back", func() bool {
				there, _, err := g.owner.Exists(acmePath + "/order+lock")
				return err == nil && !there
			})
			if got := g.wantPrivate(t, "/drover"); got < 4 {
				t.Errorf("there are %d znodes; want the path, an account and a certificate", got)
			}
			g.withoutZooKeeper(t, first)
		})
	}
}

// withoutZooKeeper goes on with a group that has a certificate for a.acme.test.
func (g *acmeGroup) withoutZooKeeper(t *testing.T, first string) {
	t.Helper()
	g.Stop()
	const both = "a.acme.test, b.acme.test"
	early := g.all()
	for _, m := range early {
		g.configure(t, m, both, "storage_zookeeper: "+acmePath)
		m.program.Signal(syscall.SIGHUP)
	}
	late := g.newMember(t, both)
	g.start(t, late)
	late.awaitReady(t, late.program)
	for _, m := range g.all() {
		m.program.logs(t, "none is ordered until it is back", 1)
	}
	if issuer, _, err := certificateOf(late.secure, "a.acme.test"); err == nil {
		t.Errorf("one that has seen nothing of the group shows a certificate of %s", issuer)
	}
	g.setMembers(early)
	if got := g.serial("a.acme.test"); got != first || g.issued() != 1 {
		t.Errorf("without ZooKeeper the certificate is %s, of %d that were issued; want %s of 1", got, g.issued(), first)
	}
	g.setMembers(append(early, late))
	g.Restart(t)
	if got := g.wantSerial(t, "a.acme.test"); got != first {
		t.Errorf("with ZooKeeper again the certificate is %s; want %s", got, first)
	}
	g.wantSerial(t, "b.acme.test")
	if got := g.issued(); got != 2 {
		t.Errorf("%d certificates were issued; want one more", got)
	}
	for _, m := range g.all() {
		m.program.Signal(syscall.SIGTERM)
		m.program.wantExit(t, exitOK)
	}
}

// TestGroupRenews lets certificates come near their end: one drover renews, the other
// takes that up. Nobody is left without at any time, also while one moves from a folder
// of its own to the group.
func TestGroupRenews(t *testing.T) {
	t.Parallel()
	web := freeAddress(t)
	g := startGroup(t, web, freeAddress(t), 15)
	a, b := g.newMember(t, "a.acme.test"), g.newMember(t, "a.acme.test")
	a.web = web
	g.configure(t, a, "a.acme.test", "storage_dir: kept")
	g.start(t, a)
	g.wantSerial(t, "a.acme.test")
	begin := time.Now()

	g.configure(t, a, "a.acme.test", "storage_zookeeper: "+acmePath)
	a.program.Signal(syscall.SIGHUP)
	eventually(t, "the group has a certificate", func() bool {
		if _, _, err := certificateOf(a.secure, "a.acme.test"); err != nil {
			t.Fatalf("a reload left it without a certificate: %v", err)
		}
		_, _, err := g.owner.Get(acmePath + "/a.acme.test")
		if err != nil && !errors.Is(err, zk.ErrNoNode) {
			t.Fatal(err)
		}
		return err == nil
	})
	g.start(t, b)
	before := g.wantSerial(t, "a.acme.test")
	issued := g.issued()
	eventually(t, "a certificate is renewed", func() bool { return g.issued() > issued })
	eventually(t, "all show the new certificate", func() bool {
		for _, m := range g.all() {
			if _, _, err := certificateOf(m.secure, "a.acme.test"); err != nil {
				t.Fatalf("a renewal left one without a certificate: %v", err)
			}
		}
		got := g.serial("a.acme.test")
		return got != "" && got != before
	})
	// Each lasts ten seconds until it is due, in the folder and in the group.
	if got, most := g.issued(), 2*(1+int(time.Since(begin)/(10*time.Second))); got > most {
		t.Errorf("%d certificates were issued within %v; want %d at most", got, time.Since(begin), most)
	}
}
