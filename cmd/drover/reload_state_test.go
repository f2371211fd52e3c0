package main

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"drover/config"
	"drover/metrics"
)

// scrape gives the lines of the metrics that hold a text.
func (n *node) scrape(text string) (lines []string) {
	rec := httptest.NewRecorder()
	n.metrics.Handler().ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
	for line := range strings.Lines(rec.Body.String()) {
		if !strings.HasPrefix(line, "#") && strings.Contains(line, text) {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}

// TestSeriesFollowTheConfiguration: what a refused configuration names leaves nothing
// behind, and a route that leads elsewhere leaves nothing of where it led.
func TestSeriesFollowTheConfiguration(t *testing.T) {
	p := startPeer(t, "a")
	text := func(to, more string) string {
		return fmt.Sprintf(`listeners: [ { name: web, address: "LISTEN" } %s ]
upstreams: [ { name: one, servers: [ { address: %q } ] }, { name: two, servers: [ { address: %q } ] } ]
routes: [ { name: r, upstream: %s }, { name: other, path: /other, upstream: one } ]
`, more, p.address, p.address, to)
	}
	n := startNode(t, text("one", ""))
	result := func(want string) {
		t.Helper()
		if got := n.scrape("drover_config_last_reload_successful"); len(got) != 1 || !strings.HasSuffix(got[0], " "+want) {
			t.Errorf("last reload: %q; want %s", got, want)
		}
	}
	result("1")
	fetch(t, client(t, false), "GET", n.url("web")+"/", "")
	if got := n.scrape(`route="r",upstream="one"`); len(got) == 0 {
		t.Fatal("no series of the route; want some to lose")
	}
	n.write(t, text("two", ""))
	n.mustReload(t)
	if got := n.scrape(`route="r",upstream="one"`); len(got) != 0 {
		t.Errorf("the route leads elsewhere; left is %q", got)
	}

	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	log := filepath.Join(t.TempDir(), "ghost.log")
	for i := range 3 {
		ghost := fmt.Sprintf("ghost%d", i)
		n.write(t, fmt.Sprintf(`access_log: { output: %q }
listeners: [ { name: web, address: "LISTEN" }, { name: %[2]s, address: %[3]q } ]
upstreams: [ { name: %[2]s, servers: [ { address: %[4]q } ] } ]
routes: [ { name: %[2]s, upstream: %[2]s }, { name: r, path: /r, upstream: %[2]s } ]
`, log, ghost, taken.Addr(), p.address))
		if err := n.reloadFile(t.Context()); err == nil {
			t.Fatal("an address that is taken was accepted")
		}
		result("0")
		if got := n.scrape(ghost); len(got) != 0 {
			t.Errorf("after a refused reload: %q; want no series of it", got)
		}
	}
	for _, fd := range openFiles(t) {
		if fd == log {
			t.Error("the access log of a refused configuration is still open")
		}
	}
	n.write(t, text("two", ""))
	n.mustReload(t)
	result("1")
}

// openFiles names the files that this process has open.
func openFiles(t *testing.T) (names []string) {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("no /proc: ", err)
	}
	for _, fd := range list {
		if name, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil {
			names = append(names, name)
		}
	}
	return names
}

// TestAccessLogMoves: a request that began before a reload gave the log another file
// has its line in the new one.
func TestAccessLogMoves(t *testing.T) {
	p := startPeer(t, "a")
	arrived, release := make(chan struct{}), make(chan struct{})
	hold := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { close(arrived); <-release })
	p.handler.Store(&hold)
	dir := t.TempDir()
	text := func(log string) string {
		return fmt.Sprintf(`access_log: { format: json, output: %q }
listeners: [ { name: web, address: "LISTEN" } ]
upstreams: [ { name: app, servers: [ { address: %q } ] } ]
routes: [ { upstream: app } ]
`, filepath.Join(dir, log), p.address)
	}
	n := startNode(t, text("one"))
	answers := inBackground(t, n.url("web"), 1)
	<-arrived
	n.write(t, text("two"))
	n.mustReload(t)
	close(release)
	if got := <-answers; got != 200 {
		t.Errorf("status %d", got)
	}
	eventually(t, "the line is in the new file", func() bool { return len(accessLines(t, filepath.Join(dir, "two"))) == 1 })
	if got := accessLines(t, filepath.Join(dir, "one")); len(got) != 0 {
		t.Errorf("the old file has %q too", got)
	}
}

// TestLogChanges: a reload gives the log another level and another file, or, where that
// cannot be opened, changes nothing at all.
func TestLogChanges(t *testing.T) {
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	load := func(level, output, address string) (*config.Config, error) {
		text := fmt.Sprintf(`log: { level: %s, output: %q }
admin: { address: "" }
access_log: { format: "off" }
listeners: [ { name: web, address: %q } ]
routes: [ { respond: { status: 200 } } ]
`, level, output, address)
		if err := os.WriteFile(file("drover.yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return config.Load(config.Options{Path: file("drover.yaml")})
	}
	address := freeAddress(t)
	cfg, err := load("info", file("one"), address)
	if err != nil {
		t.Fatal(err)
	}
	logger, output, err := newLogger(cfg.Log)
	if err != nil {
		t.Fatal(err)
	}
	e := newEngine(logger, output, metrics.New(0, "test"))
	t.Cleanup(func() { e.shutdown(expired()); closeLog(output.file) })
	if err := e.reload(t.Context(), cfg, nil); err != nil {
		t.Fatal(err)
	}
	logger.Debug("too fine")

	cfg, err = load("debug", file("two"), address)
	if err := e.reload(t.Context(), cfg, err); err != nil {
		t.Fatal(err)
	}
	logger.Debug("fine enough")

	cfg, err = load("error", filepath.Join(dir, "nowhere", "three"), freeAddress(t))
	if err := e.reload(t.Context(), cfg, err); err == nil || !strings.Contains(err.Error(), "nowhere/three") {
		t.Errorf("a log that cannot be opened: %v", err)
	}
	logger.Debug("still here")

	read := func(name string) string {
		text, err := os.ReadFile(file(name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	if one := read("one"); strings.Contains(one, "too fine") || strings.Contains(one, "fine enough") {
		t.Errorf("the first file has\n%s", one)
	}
	if two := read("two"); !strings.Contains(two, "fine enough") || !strings.Contains(two, "still here") || !strings.Contains(two, "refused") {
		t.Errorf("the second file has\n%s", two)
	}
}

// TestWebSocketsOutliveSettings: whatever a reload changes of a listener, its WebSockets
// go on, however short the drain.
func TestWebSocketsOutliveSettings(t *testing.T) {
	p := startPeer(t, "a")
	text := func(settings string) string {
		return fmt.Sprintf(`drain_timeout: 1ms
listeners: [ { name: web, address: "LISTEN" %s } ]
upstreams: [ { name: app, servers: [ { address: %q } ] } ]
routes: [ { upstream: app } ]
`, settings, p.address)
	}
	n := startNode(t, text(""))
	echoes := openWebSockets(t, n.listen, nil)
	echoes()
	for _, settings := range []string{
		", max_header_size: 1KiB", ", max_header_size: 64KiB", ", max_header_fields: 2", ", max_connections: 1", ", max_connections_per_client: 1",
		", http2: { max_streams: 1 }", ", http2: { disabled: true }", ", http2: { only: true }", ", keep_alive_timeout: 1ms, write_idle_timeout: 1ms, body_idle_timeout: 1ms",
		", proxy_protocol: { trusted: [ 10.0.0.0/8 ] }", ", forwarded: true, via: true", ", request_id: {}", ", path: { merge_slashes: true }", "",
	} {
		n.write(t, text(settings))
		n.mustReload(t)
		n.drains.Wait() // whatever was retired has ended
		echoes()
	}
}

// TestWebSocketsOutliveListeners: a listener that a reload renames, moves, secures or
// takes out leaves its WebSockets alone, however short the drain, which its requests are
// held to. When drover ends, so do they.
func TestWebSocketsOutliveListeners(t *testing.T) {
	p := startPeer(t, "a")
	arrived := make(chan struct{}, 1)
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/ws" {
			p.echo(w, r)
			return
		}
		arrived <- struct{}{}
		<-r.Context().Done()
	})
	p.handler.Store(&h)
	dir := t.TempDir()
	writePair(t, dir, 1)
	secure := fmt.Sprintf("tls: { certificates: [ { cert_file: %q, key_file: %q } ] }", filepath.Join(dir, "site.pem"), filepath.Join(dir, "site.key"))
	other := freeAddress(t)
	text := func(listeners string) string {
		return fmt.Sprintf(`drain_timeout: 1ms
listeners: [ %s ]
upstreams: [ { name: app, servers: [ { address: %q } ] } ]
routes: [ { upstream: app } ]
`, listeners, p.address)
	}
	for name, listeners := range map[string]string{
		"renamed": `{ name: other, address: "LISTEN" }`,
		"moved":   fmt.Sprintf("{ name: web, address: %q }", other),
		"secured": fmt.Sprintf(`{ name: web, address: "LISTEN", %s }`, secure),
		"gone":    fmt.Sprintf("{ name: another, address: %q }", other),
	} {
		t.Run(name, func(t *testing.T) {
			n := startNode(t, text(`{ name: web, address: "LISTEN" }`))
			echoes := openWebSockets(t, n.listen, nil)
			echoes()
			answers := inBackground(t, "http://"+n.listen, 1)
			<-arrived
			n.write(t, text(listeners))
			n.mustReload(t)
			if got := <-answers; got != 0 {
				t.Errorf("the request got %d; want it cut", got)
			}
			echoes()
			n.mustReload(t)
			echoes()
			n.shutdown(expired())
		})
	}
}
