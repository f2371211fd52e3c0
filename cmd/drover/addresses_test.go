package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"drover/backend"

	"github.com/gorilla/websocket"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// servers gives the members' addresses.
func (n *node) servers(upstream string) (list []string) {
	for _, m := range n.upstreams[upstream].group.Snapshot().Members {
		list = append(list, m.Address())
	}
	return list
}

func writeEntries(t *testing.T, path string, lines ...string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestHostileEntries: what a registry has no business with is refused, counted, logged
// once and shown; the rest of the set stands.
func TestHostileEntries(t *testing.T) {
	p := startPeer(t, "a")
	path := filepath.Join(t.TempDir(), "servers")
	hostile := []string{"169.254.169.254:80", "[::ffff:169.254.1.1]:80", "[fe80::1]:80", "[fd00:ec2::254]:80", "0.0.0.0:80", "[::]:80", "224.0.0.1:80", "255.255.255.255:80"}
	writeEntries(t, path, append([]string{p.address}, hostile...)...)
	core, logs := observer.New(zap.WarnLevel)
	n := startLoggedNode(t, fmt.Sprintf(`listeners: [{ name: web, address: "LISTEN" }]
upstreams: [{ name: u, discover: { file: { path: %q, format: plain } } }]
routes: [{ upstream: u }]
`, path), zap.New(core))
	if got := n.servers("u"); !slices.Equal(got, []string{p.address}) {
		t.Errorf("servers %q; want %q alone", got, p.address)
	}
	if got := n.scrape("drover_discovery_rejected_entries"); len(got) != 1 || !strings.HasSuffix(got[0], fmt.Sprint(" ", len(hostile))) {
		t.Errorf("rejected: %q; want %d", got, len(hostile))
	}
	shown := n.status().(status).Upstreams[0].Source.Rejected
	if len(shown) != len(hostile) || !strings.Contains(shown[0].Reason, "got from a registry") {
		t.Errorf("/status shows %+v; want %d entries with their reason", shown, len(hostile))
	}
	if got := logs.FilterMessageSnippet("cannot be used").Len(); got != len(hostile) {
		t.Errorf("%d lines in the log; want %d", got, len(hostile))
	}
	for range 20 {
		if resp, body := fetch(t, client(t, false), "GET", n.url("web")+"/", ""); resp.StatusCode != 200 {
			t.Fatalf("got %d %q; want the good server's answer", resp.StatusCode, body)
		}
	}
	// The same again, and one more: nothing is logged twice.
	writeEntries(t, path, append([]string{p.address, "127.0.0.2:9"}, hostile...)...)
	eventually(t, "the further server", func() bool { return len(n.servers("u")) == 2 })
	if got := logs.FilterMessageSnippet("cannot be used").Len(); got != len(hostile) {
		t.Errorf("%d lines in the log after a change; want %d", got, len(hostile))
	}
	writeEntries(t, path, p.address, "127.0.0.2:9")
	eventually(t, "nothing refused", func() bool { return strings.HasSuffix(n.scrape("rejected_entries")[0], " 0") })
}

// TestHostileEntriesAndBrake: entries that turn into refused ones vanish as others do,
// and the brake keeps the servers that they named; the refused are never among them.
func TestHostileEntriesAndBrake(t *testing.T) {
	path := filepath.Join(t.TempDir(), "servers")
	writeEntries(t, path, "127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3")
	n := startNode(t, fmt.Sprintf(`listeners: [{ name: web, address: "LISTEN" }]
upstreams: [{ name: u, discover: { file: { path: %q, format: plain } } }]
routes: [{ upstream: u }]
`, path))
	writeEntries(t, path, "169.254.0.1:1", "169.254.0.1:2", "169.254.0.1:3")
	eventually(t, "the brake", func() bool { return n.upstreams["u"].group.Snapshot().Held == 3 })
	if got := n.servers("u"); !slices.Equal(got, []string{"127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"}) {
		t.Errorf("servers %q; want the three that were there", got)
	}
	// A reload that denies one lets it go at once, and the brake keeps the others.
	n.write(t, fmt.Sprintf(`listeners: [{ name: web, address: "LISTEN" }]
upstreams: [{ name: u, addresses: { allow_link_local: true }, discover: { file: { path: %q, format: plain } } }]
routes: [{ upstream: u }]
`, path))
	n.mustReload(t)
	if got := n.servers("u"); len(got) != 6 {
		t.Errorf("servers %q; want the held ones and those that are permitted now", got)
	}
	n.write(t, fmt.Sprintf(`listeners: [{ name: web, address: "LISTEN" }]
upstreams: [{ name: u, addresses: { deny: [127.0.0.0/8] }, discover: { file: { path: %q, format: plain } } }]
routes: [{ upstream: u }]
`, path))
	n.mustReload(t)
	if got := n.servers("u"); len(got) != 0 {
		t.Errorf("servers %q; want none: the operator denies them", got)
	}
}

// TestRebinding: a name is checked by what it resolves to, for requests in HTTP/1.1 and
// HTTP/2, for tunnels and for probes; the failure says why.
func TestRebinding(t *testing.T) {
	p := startPeer(t, "a")
	_, port, _ := net.SplitHostPort(p.address)
	path := filepath.Join(t.TempDir(), "servers")
	writeEntries(t, path, "localhost:"+port)
	yaml := func(deny, transport, check string) string {
		return fmt.Sprintf(`listeners: [{ name: web, address: "LISTEN" }]
upstreams: [{ name: u, addresses: { deny: [%s] }, transport: { protocol: %s }, %s discover: { file: { path: %q, format: plain } } }]
routes: [{ upstream: u }]
`, deny, transport, check, path)
	}
	const denied = "127.0.0.0/8, '::1'"
	for _, protocol := range []string{"auto", "h2c"} {
		n := startNode(t, yaml(denied, protocol, ""))
		if resp, body := fetch(t, client(t, false), "GET", n.url("web")+"/", ""); resp.StatusCode != 502 {
			t.Errorf("%s: got %d %q; want 502", protocol, resp.StatusCode, body)
		}
		if got := n.scrape(`drover_server_dials_total{result="failure"`); len(got) != 1 || strings.HasSuffix(got[0], " 0") {
			t.Errorf("%s: %q; want a failed connect", protocol, got)
		}
		if c, resp, err := websocket.DefaultDialer.DialContext(t.Context(), "ws"+strings.TrimPrefix(n.url("web"), "http")+"/ws", nil); err == nil || resp == nil || resp.StatusCode != 502 {
			t.Errorf("%s: a tunnel: %v %v; want 502", protocol, c, err)
		}
	}
	n := startNode(t, yaml(denied, "auto", "check: { path: /healthz, interval: 10ms, edge_interval: 10ms, unhealthy_after: 1 },"))
	eventually(t, "the probe refused", func() bool {
		u := n.upstreams["u"]
		members := u.group.Snapshot().Members
		checks := u.monitor.Load().Status()
		return len(members) == 1 && members[0].Health() == backend.HealthDown && strings.Contains(fmt.Sprintf("%+v", checks), "address policy")
	})
	if p.requests.Load() != 0 {
		t.Errorf("%d requests arrived; want none", p.requests.Load())
	}
	p.conns.Range(func(_, _ any) bool { t.Error("a connection arrived; want none"); return false })
	n.write(t, yaml("", "auto", "check: { path: /healthz, interval: 10ms, edge_interval: 10ms, unhealthy_after: 1 },"))
	n.mustReload(t)
	eventually(t, "the server up", func() bool { return n.upstreams["u"].group.Snapshot().Available == 1 })
	if resp, body := fetch(t, client(t, false), "GET", n.url("web")+"/", ""); resp.StatusCode != 200 {
		t.Errorf("permitted: got %d %q; want 200", resp.StatusCode, body)
	}
}

// TestAddressesReload: a kept connection to an address that is denied now is not used
// again; a running answer ends.
func TestAddressesReload(t *testing.T) {
	p := startPeer(t, "a")
	begun, goOn := make(chan struct{}), make(chan struct{})
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "first ")
		if r.URL.Path == "/slow" {
			_ = http.NewResponseController(w).Flush()
			close(begun)
			<-goOn
		}
		_, _ = io.WriteString(w, "last")
	})
	p.handler.Store(&h)
	_, port, _ := net.SplitHostPort(p.address)
	for _, address := range []string{p.address, "localhost:" + port} {
		begun, goOn = make(chan struct{}), make(chan struct{})
		yaml := func(deny string) string {
			return fmt.Sprintf(`listeners: [{ name: web, address: "LISTEN" }]
upstreams: [{ name: u, addresses: { deny: [%s] }, servers: [{ address: %q }] }]
routes: [{ upstream: u }]
`, deny, address)
		}
		n := startNode(t, yaml(""))
		c := client(t, true)
		fetch(t, c, "GET", n.url("web")+"/", "")
		slow := make(chan string, 1)
		go func() {
			resp, err := c.Get(n.url("web") + "/slow")
			if err != nil {
				slow <- err.Error()
				return
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			slow <- fmt.Sprint(string(body), err)
		}()
		<-begun
		n.write(t, yaml("127.0.0.0/8, '::1'"))
		n.mustReload(t)
		if resp, _ := fetch(t, c, "GET", n.url("web")+"/", ""); resp.StatusCode < 500 {
			t.Errorf("%s: got %d from a denied address", address, resp.StatusCode)
		}
		close(goOn)
		if got := <-slow; got != "first last<nil>" {
			t.Errorf("%s: the running answer: %q; want it whole", address, got)
		}
		if resp, _ := fetch(t, c, "GET", n.url("web")+"/", ""); resp.StatusCode < 500 {
			t.Errorf("%s: got %d from a denied address by a kept connection", address, resp.StatusCode)
		}
	}
}

// TestEntryOfTheAdminAddress: a registry cannot make drover show its own interface;
// the operator can.
func TestEntryOfTheAdminAddress(t *testing.T) {
	address := freeAddress(t)
	path := filepath.Join(t.TempDir(), "servers")
	_, port, _ := net.SplitHostPort(address)
	writeEntries(t, path, address, "[::ffff:127.0.0.1]:"+port)
	for _, operator := range []string{address, ":" + port} {
		if got := ownAddresses(operator); !slices.Contains(fmtAll(got), address) {
			t.Errorf("%q: own addresses %v; want %s among them", operator, got, address)
		}
	}
	if got := ownAddresses(""); got != nil {
		t.Errorf("without an interface: %v; want none", got)
	}
	n := startNode(t, fmt.Sprintf("admin: { address: %q }\n", address)+fmt.Sprintf(`listeners: [{ name: web, address: "LISTEN" }]
upstreams:
  - { name: found, discover: { file: { path: %q, format: plain } } }
  - { name: listed, servers: [{ address: %q }] }
routes: [{ upstream: found }, { path: /status, upstream: listed }]
`, path, address))
	if got := n.servers("found"); len(got) != 0 {
		t.Errorf("servers %q; want none", got)
	}
	if got := n.servers("listed"); len(got) != 1 {
		t.Errorf("servers %q; want the operator's own", got)
	}
}

func fmtAll[T fmt.Stringer](list []T) (texts []string) {
	for _, v := range list {
		texts = append(texts, v.String())
	}
	return texts
}
