package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// sample gives the value of a series, such as `drover_upstream_panic{upstream="app"}`,
// and whether there is one.
func (n *node) sample(t *testing.T, series string) (value float64, ok bool) {
	t.Helper()
	w := httptest.NewRecorder()
	n.metrics.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != 200 {
		t.Fatalf("scrape answered %d: %s", w.Code, w.Body)
	}
	for line := range strings.Lines(w.Body.String()) {
		text, found := strings.CutPrefix(line, series+" ")
		if !found {
			continue
		}
		value, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
		if err != nil {
			t.Fatalf("cannot read %q: %v", line, err)
		}
		return value, true
	}
	return 0, false
}

// answering makes a peer answer requests, probes apart, with a status.
func (p *peer) answering(status int) {
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })
	p.handler.Store(&h)
}

// TestHealthMetrics ejects a server, keeps the other in since it is the last, and lets
// the first in again; all of it, and the checks, can be read from the metrics.
func TestHealthMetrics(t *testing.T) {
	a, b := startPeer(t, "a"), startPeer(t, "b")
	n := startNode(t, fmt.Sprintf(`listeners: [ { name: web, address: "LISTEN" } ]
upstreams:
  - name: app
    servers: [ { address: %q }, { address: %q } ]
    check: { path: /healthz, interval: 50ms, edge_interval: 50ms }
    outlier: { consecutive_failures: 2, eject_for: 100ms, max_ejected_percent: 50 }
routes: [ { upstream: app } ]
`, a.address, b.address))
	f := func(what, family string, want func(float64) bool) {
		t.Helper()
		eventually(t, what, func() bool {
			fetch(t, client(t, false), "GET", n.url("web")+"/", "")
			got, ok := n.sample(t, family)
			return ok && want(got)
		})
	}
	some, none := func(v float64) bool { return v > 0 }, func(v float64) bool { return v == 0 }
	f("nothing is suppressed yet", `drover_upstream_ejections_suppressed_total{upstream="app"}`, none)
	f("nobody was let in yet", `drover_upstream_readmissions_total{upstream="app"}`, none)
	a.answering(500)
	b.answering(500)
	f("a server is ejected", `drover_upstream_ejections_total{reason="consecutive_failures",upstream="app"}`, some)
	f("the last one is not", `drover_upstream_ejections_suppressed_total{upstream="app"}`, some)
	f("the first is let in again", `drover_upstream_readmissions_total{upstream="app"}`, some)
	f("checks run", `drover_upstream_probes_total{result="pass",upstream="app"}`, some)
	f("no check panics", `drover_upstream_probe_panics_total{upstream="app"}`, none)
	f("checks begin late by nothing or more", `drover_upstream_probe_lateness_seconds{upstream="app"}`, func(v float64) bool { return v >= 0 })
}

// TestCheckTrustsAsTheWireDoes checks an https server whose authority is known to the
// upstream's transport.tls alone, or to the check alone.
func TestCheckTrustsAsTheWireDoes(t *testing.T) {
	secure := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok")) }))
	secure.Config.ErrorLog = log.New(io.Discard, "", 0) // of handshakes that are meant to fail
	secure.StartTLS()
	t.Cleanup(secure.Close)
	dir := t.TempDir()
	write := func(name string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	known, other := write("known.pem", secure.Certificate().Raw), write("other.pem", otherAuthority(t))
	// The server's certificate is for 127.0.0.1 and example.com.
	yaml := func(check, wire string) string {
		return fmt.Sprintf(`listeners: [ { name: web, address: "LISTEN" } ]
upstreams:
  - name: app
    servers: [ { address: %q } ]
    check: { interval: 20ms, edge_interval: 20ms, unhealthy_after: 2, %s }
    transport: { tls: { %s } }
routes: [ { upstream: app } ]
`, secure.URL, check, wire)
	}
	ca := func(path string) string { return fmt.Sprintf("ca_file: %q", path) }
	for _, c := range []struct {
		name, check, wire string
		up                float64
	}{
		{"nobody knows", "", "", 0},
		{"the wire knows", "", ca(known), 1},
		{"the check knows", ca(known), "", 1},
		{"the check knows another", ca(other), ca(known), 0},
		{"the wire's name", "", ca(known) + ", server_name: example.com", 1},
		{"the wire's wrong name", "", ca(known) + ", server_name: example.org", 0},
		{"the check's name", "server_name: example.com", ca(known) + ", server_name: example.org", 1},
		{"the wire verifies nothing", "", "insecure_skip_verify: true", 1},
		{"the check verifies alone", ca(other), "insecure_skip_verify: true", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := startNode(t, yaml(c.check, c.wire))
			up := fmt.Sprintf(`drover_server_up{server=%q,upstream="app"}`, secure.URL)
			var got float64
			eventually(t, "there is a verdict", func() bool {
				got, _ = n.sample(t, up)
				return got >= 0
			})
			if got != c.up {
				t.Errorf("the check's verdict is %v; want %v", got, c.up)
			}
		})
	}
	t.Run("a reload", func(t *testing.T) {
		n := startNode(t, yaml("", ""))
		up := fmt.Sprintf(`drover_server_up{server=%q,upstream="app"}`, secure.URL)
		verdict := func(want float64) func() bool {
			return func() bool { got, _ := n.sample(t, up); return got == want }
		}
		eventually(t, "the server is down", verdict(0))
		n.write(t, yaml("", ca(known)))
		n.mustReload(t)
		eventually(t, "the server is up with the wire's new authority", verdict(1))
	})
}

// otherAuthority gives a certificate that no server shows, DER.
func otherAuthority(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// TestOutliersByDefault sends requests to two servers of which one fails all of them:
// it is taken out without a word in the configuration, unless that turns it off.
func TestOutliersByDefault(t *testing.T) {
	for _, c := range []struct {
		name, outlier string
		failures      int64 // what the bad server gets of 40 requests
	}{
		{"nothing is written", "", 5},
		{"an empty block", "outlier: {}", 5},
		{"disabled", "outlier: { disabled: true }", 20},
	} {
		t.Run(c.name, func(t *testing.T) {
			good, bad := startPeer(t, "good"), startPeer(t, "bad")
			bad.answering(500)
			n := startNode(t, fmt.Sprintf(`listeners: [ { name: web, address: "LISTEN" } ]
upstreams:
  - name: app
    servers: [ { address: %q }, { address: %q } ]
    %s
routes: [ { upstream: app } ]
`, good.address, bad.address, c.outlier))
			user := client(t, true)
			ejected := fmt.Sprintf(`drover_server_ejected{server="http://%s",upstream="app"}`, bad.address)
			for range 40 {
				fetch(t, user, "GET", n.url("web")+"/", "")
				if c.outlier != "outlier: { disabled: true }" && bad.requests.Load() == c.failures {
					eventually(t, "the bad server is ejected", func() bool { got, _ := n.sample(t, ejected); return got == 1 })
				}
			}
			if got := bad.requests.Load(); got != c.failures {
				t.Errorf("the bad server got %d of 40 requests; want %d", got, c.failures)
			}
		})
	}
}

// TestPanicIsTold lets the checks fail one after the other: once too few servers are
// left, health is ignored, and log and metric say so, as they do when it is over.
func TestPanicIsTold(t *testing.T) {
	peers := []*peer{startPeer(t, "a"), startPeer(t, "b"), startPeer(t, "c")}
	core, logs := observer.New(zap.InfoLevel)
	n := startLoggedNode(t, fmt.Sprintf(`listeners: [ { name: web, address: "LISTEN" } ]
upstreams:
  - name: app
    servers: [ { address: %q }, { address: %q }, { address: %q } ]
    check: { path: /healthz, interval: 20ms, edge_interval: 20ms, unhealthy_after: 1, healthy_after: 1 }
    panic_threshold: 50
routes: [ { upstream: app } ]
`, peers[0].address, peers[1].address, peers[2].address), zap.New(core))
	const began, over = "panic: health is ignored since too few servers are available", "panic is over: health counts again"
	step := func(what string, change func(), available, panics float64, lines ...int) {
		t.Helper()
		change()
		eventually(t, what, func() bool {
			a, _ := n.sample(t, `drover_upstream_servers_available{upstream="app"}`)
			p, ok := n.sample(t, `drover_upstream_panic{upstream="app"}`)
			return ok && a == available && p == panics
		})
		if b, o := logs.FilterMessage(began).Len(), logs.FilterMessage(over).Len(); b != lines[0] || o != lines[1] {
			t.Errorf("%s: the log tells %d times that panic began and %d times that it is over; want %d and %d", what, b, o, lines[0], lines[1])
		}
	}
	step("all are up", func() {}, 3, 0, 0, 0)
	step("two of three are enough", func() { peers[0].down.Store(true) }, 2, 0, 0, 0)
	step("one of three is not", func() { peers[1].down.Store(true) }, 1, 1, 1, 0)
	step("none is not, and no news", func() { peers[2].down.Store(true) }, 0, 1, 1, 0)
	if resp, _ := fetch(t, client(t, false), "GET", n.url("web")+"/", ""); resp.StatusCode != 200 {
		t.Errorf("in panic a request got %d; want 200", resp.StatusCode)
	}
	step("two are enough again", func() { peers[0].down.Store(false); peers[1].down.Store(false) }, 2, 0, 1, 1)
}

// TestHeldServersAreTold empties most of a registry at once: the brake keeps the
// servers, with one line in the log and a gauge, until they are listed again.
func TestHeldServersAreTold(t *testing.T) {
	var lines []string
	for _, name := range []string{"a", "b", "c", "d"} {
		lines = append(lines, startPeer(t, name).address)
	}
	path := filepath.Join(t.TempDir(), "servers")
	list := func(lines []string) {
		t.Helper()
		if err := os.WriteFile(path+".new", []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	list(lines)
	core, logs := observer.New(zap.InfoLevel)
	n := startLoggedNode(t, fmt.Sprintf(`listeners: [ { name: web, address: "LISTEN" } ]
upstreams: [ { name: app, discover: { file: { path: %q } } } ]
routes: [ { upstream: app } ]
`, path), zap.New(core))
	step := func(what string, listed []string, servers, held, brakes float64) {
		t.Helper()
		list(listed)
		eventually(t, what, func() bool {
			s, _ := n.sample(t, `drover_upstream_servers{upstream="app"}`)
			h, ok := n.sample(t, `drover_upstream_servers_held{upstream="app"}`)
			return ok && s == servers && h == held
		})
		if got, _ := n.sample(t, `drover_upstream_removal_brakes_total{upstream="app"}`); got != brakes {
			t.Errorf("%s: the brake held %v times; want %v", what, got, brakes)
		}
		const message = "many servers vanished from the registry; those that still work are kept for a while"
		if got := logs.FilterMessage(message).Len(); got != int(brakes) {
			t.Errorf("%s: the log tells %d times; want %v", what, got, brakes)
		}
	}
	step("all are listed", lines, 4, 0, 0)
	step("three vanish and are held", lines[:1], 4, 3, 1)
	step("one is back and no news", lines[:2], 4, 2, 1)
	step("all are back", lines, 4, 0, 1)
}
