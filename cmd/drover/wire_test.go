package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"drover/exchange"
)

// raw sends bytes and reads until the connection closes or goes quiet.
func raw(t *testing.T, address, text string) string {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	if err := c.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	got, _ := io.ReadAll(c)
	return string(got)
}

// recorder is a raw server that keeps the bytes it gets and answers with a script.
type recorder struct {
	address string
	got     chan string
}

func startRecorder(t *testing.T, answer string) *recorder {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &recorder{ln.Addr().String(), make(chan string, 16)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			br := bufio.NewReader(c)
			var head strings.Builder
			for {
				line, err := br.ReadString('\n')
				head.WriteString(line)
				if err != nil || line == "\r\n" {
					break
				}
			}
			_, _ = io.WriteString(c, answer)
			_ = c.Close()
			r.got <- head.String()
		}
	}()
	t.Cleanup(func() { _ = ln.Close(); <-done })
	return r
}

const okAnswer = "HTTP/1.1 200 OK\r\nETag: \"x\"\r\nx-lower: 1\r\nSet-Cookie: a=1\r\nX-Mid: m\r\nSet-Cookie: b=2\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"

func TestBytesPassUnchanged(t *testing.T) {
	r := startRecorder(t, okAnswer)
	n := startNode(t, fmt.Sprintf(`listeners: [ { name: web, address: "LISTEN" } ]
upstreams: [ { name: app, servers: [ { address: %q } ] } ]
routes: [ { upstream: app } ]
`, r.address))
	got := raw(t, n.listen, "GET //x?u=http://z&a=%2F HTTP/1.1\r\nhOST: Example.COM\r\nx-b: 2\r\nETag: \"a\"\r\nX-B: 1\r\nConnection: close, X-Hop\r\nX-Hop: gone\r\nAccept: */*\r\n\r\n")
	want := "HTTP/1.1 200 OK\r\nETag: \"x\"\r\nx-lower: 1\r\nSet-Cookie: a=1\r\nX-Mid: m\r\nSet-Cookie: b=2\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
	if got != want {
		t.Errorf("client got\n%q\nwant\n%q", got, want)
	}
	sent := <-r.got
	wantSent := "GET //x?u=http://z&a=%2F HTTP/1.1\r\nhOST: Example.COM\r\nx-b: 2\r\nETag: \"a\"\r\nX-B: 1\r\nAccept: */*\r\nX-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: Example.COM\r\n\r\n"
	if sent != wantSent {
		t.Errorf("server got\n%q\nwant\n%q", sent, wantSent)
	}
}

// TestBadInput has a request for each row of what may be wrong, through a real socket.
func TestBadInput(t *testing.T) {
	good := startPeer(t, "good")
	dead := freeAddress(t)
	invalidAnswer := startRecorder(t, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx")
	late := startPeer(t, "late")
	hold := make(chan struct{})
	t.Cleanup(func() { close(hold) })
	wait := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-hold:
		case <-r.Context().Done():
		}
	})
	late.handler.Store(&wait)
	cut := startRecorder(t, "")
	logFile := filepath.Join(t.TempDir(), "access.log")
	n := startNode(t, fmt.Sprintf(`access_log: { format: json, output: %q }
listeners: [ { name: web, address: "LISTEN", max_header_size: 8KiB, max_body_size: 1KiB } ]
upstreams:
  - { name: good, servers: [ { address: %q } ] }
  - { name: dead, servers: [ { address: %q } ] }
  - { name: invalid, servers: [ { address: %q } ] }
  - { name: late, servers: [ { address: %q } ], transport: { response_header_timeout: 200ms } }
  - { name: cut, servers: [ { address: %q } ] }
  - { name: drained, servers: [ { address: %q, weight: 0 } ] }
routes:
  - { path: /dead, upstream: dead }
  - { path: /invalid, upstream: invalid }
  - { path: /late, upstream: late }
  - { path: /cut, upstream: cut }
  - { path: /drained, upstream: drained }
  - { path_prefix: /good, upstream: good }
`, logFile, good.address, dead, invalidAnswer.address, late.address, cut.address, good.address))
	var logged []string
	f := func(what, request string, status int, reason exchange.Reason) {
		t.Helper()
		logged = append(logged, fmt.Sprintf("%d %s", status, reason))
		got := raw(t, n.listen, request)
		if !strings.HasPrefix(got, fmt.Sprintf("HTTP/1.1 %d ", status)) {
			t.Errorf("%s: got %.200q; want status %d", what, got, status)
		}
		for _, secret := range []string{"127.0.0.1", "panic", ".go:", "dial", "fasthttp"} {
			if status >= 400 && strings.Contains(got, secret) {
				t.Errorf("%s: the answer tells of the inside: %q", what, got)
			}
		}
	}
	before := good.requests.Load()
	f("no such protocol", "GET /good HTTP/9.9\r\nHost: a\r\n\r\n", 505, "VN")
	f("space before colon", "GET /good HTTP/1.1\r\nHost : a\r\n\r\n", 400, "BR")
	f("no host", "GET /good HTTP/1.1\r\n\r\n", 400, "BR")
	f("two hosts", "GET /good HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, "BR")
	f("user in host", "GET /good HTTP/1.1\r\nHost: u:p@h\r\n\r\n", 400, "BR")
	f("folded line", "GET /good HTTP/1.1\r\nHost: a\r\nX: 1\r\n 2\r\n\r\n", 400, "BR")
	f("both framings", "POST /good HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "BR")
	f("two lengths", "POST /good HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc", 400, "BR")
	f("control byte", "GET /good HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n", 400, "BR")
	f("header too large", "GET /good HTTP/1.1\r\nHost: a\r\nX: "+strings.Repeat("y", 20<<10)+"\r\n\r\n", 431, "HL")
	f("body too large", "POST /good HTTP/1.1\r\nHost: a\r\nContent-Length: 2000\r\nConnection: close\r\n\r\n"+strings.Repeat("x", 2000), 413, "BL")
	f("no route", "GET /nowhere HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 404, "NR")
	if got := good.requests.Load(); got != before {
		t.Errorf("%d bad requests reached a server; want none", got-before)
	}
	f("no server", "GET /drained HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 503, "AD")
	f("refused", "GET /dead HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 502, "UC")
	f("invalid answer", "GET /invalid HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 502, "UP")
	f("late", "GET /late HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 504, "UT")
	f("cut before an answer", "GET /cut HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 502, "UR")
	f("good after all", "GET /good HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 200, "")
	if got := raw(t, n.listen, "GET /nowhere HTTP/1.1\r\nHost: a\r\nAccept: application/json\r\nConnection: close\r\n\r\n"); !strings.Contains(got, `{"status":404`) {
		t.Errorf("asked for JSON, got %q", got)
	}
	logged = append(logged, "404 NR")
	// What no route saw is counted apart.
	for reason, want := range map[string]int{"VN": 1, "BR": 8, "HL": 1, "BL": 1, "": 11} {
		if got := n.rejections(t, reason); got != want {
			t.Errorf("%d rejected with reason %q; want %d", got, reason, want)
		}
	}
	var lines []string
	eventually(t, "every answer has its line", func() bool {
		lines = accessLines(t, logFile)
		return len(lines) >= len(logged)
	})
	if !slices.Equal(lines, logged) {
		t.Errorf("the log has\n%q\nwant\n%q", lines, logged)
	}
}

// rejections is how many requests the listener has rejected for a reason, "" for any.
func (n *node) rejections(t *testing.T, reason string) (sum int) {
	t.Helper()
	for _, line := range n.scrape(`drover_listener_rejected_total{listener="web",reason="` + reason) {
		count, err := strconv.Atoi(line[strings.LastIndexByte(line, ' ')+1:])
		if err != nil {
			t.Fatal(err)
		}
		sum += count
	}
	return sum
}

// accessLines gives status and reason of each line of an access log.
func accessLines(t *testing.T, path string) (lines []string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var entry struct {
			Status int
			Reason string
		}
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		lines = append(lines, fmt.Sprintf("%d %s", entry.Status, entry.Reason))
	}
	return lines
}

// TestRoutesAndRules runs the rules through real sockets.
func TestRoutesAndRules(t *testing.T) {
	a, b := startPeer(t, "a"), startPeer(t, "b")
	show := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Remove", "1")
		_, _ = fmt.Fprintf(w, "%s %s %s", r.Host, r.RequestURI, r.Header.Get("X-Added"))
	})
	b.handler.Store(&show)
	n := startNode(t, fmt.Sprintf(`listeners: [ { name: web, address: "LISTEN" } ]
upstreams:
  - { name: a, servers: [ { address: %q } ] }
  - { name: b, servers: [ { address: %q } ] }
  - { name: kept, servers: [ { address: %q }, { address: %q } ], sticky: { cookie: sid, secret: "0123456789abcdef0123456789abcdef" } }
routes:
  - { host: "*.example.com", upstream: a }
  - { path_prefix: /api, strip_prefix: /api, host_header: inner.test, upstream: b, request_headers: { set: [ { name: X-Added, value: "by {route}" } ] }, response_headers: { remove: [ X-Remove ] }, name: api }
  - { path: /old, redirect: { to: "https://{host}/new{query}", status: 301 } }
  - { path: /hello, respond: { status: 200, body: "hi", content_type: text/plain } }
  - { path: /split, split: [ { upstream: a, weight: 1 }, { upstream: b, weight: 1 } ] }
  - { path: /kept, upstream: kept }
`, a.address, b.address, a.address, b.address))
	c := client(t, true)
	url := n.url("web")
	if _, body := fetch(t, c, "GET", url+"/x", "", "Host", "www.example.com"); body != "GET a 0" {
		t.Errorf("wildcard host gave %q", body)
	}
	resp, body := fetch(t, c, "GET", url+"/api/v1?q=%2F", "", "Host", "any")
	if body != "inner.test /v1?q=%2F by api" || resp.Header.Get("X-Remove") != "" {
		t.Errorf("rules gave %q with %v", body, resp.Header)
	}
	resp, _ = fetch(t, c, "GET", url+"/old?a=1", "", "Host", "h.test")
	if resp.StatusCode != 301 || resp.Header.Get("Location") != "https://h.test/new?a=1" {
		t.Errorf("redirect gave %d to %q", resp.StatusCode, resp.Header.Get("Location"))
	}
	if resp, body = fetch(t, c, "GET", url+"/hello", ""); resp.StatusCode != 200 || body != "hi" {
		t.Errorf("fixed response gave %d %q", resp.StatusCode, body)
	}
	seen := map[bool]int{}
	for range 200 {
		_, body := fetch(t, c, "GET", url+"/split", "")
		seen[body == "GET a 0"]++
	}
	if seen[true] < 50 || seen[false] < 50 {
		t.Errorf("split gave %v of 200; want about half each", seen)
	}
	resp, first := fetch(t, c, "GET", url+"/kept", "")
	cookie := resp.Header.Get("Set-Cookie")
	cookie, _, _ = strings.Cut(cookie, ";")
	for range 20 {
		if _, again := fetch(t, c, "GET", url+"/kept", "", "Cookie", cookie); (again == "GET a 0") != (first == "GET a 0") {
			t.Fatalf("with cookie %q: first %q, then %q", cookie, first, again)
		}
	}
}

// TestLargeBodies streams both ways with bounded memory: 256 MiB, or 5 GiB where
// TEST_LARGE is set.
func TestLargeBodies(t *testing.T) {
	size := int64(256 << 20)
	if os.Getenv("TEST_LARGE") != "" {
		size = 5 << 30
	}
	p := startPeer(t, "a")
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			n, err := io.Copy(io.Discard, r.Body)
			_, _ = fmt.Fprint(w, n, err)
			return
		}
		_, _ = io.CopyN(w, zeros{}, size)
	})
	p.handler.Store(&h)
	n := startNode(t, fmt.Sprintf(`listeners: [ { name: web, address: "LISTEN" } ]
upstreams: [ { name: app, servers: [ { address: %q } ] } ]
routes: [ { upstream: app } ]
`, p.address))
	c := client(t, true)
	c.Timeout = 10 * time.Minute
	before := resetPeak(t)
	resp, err := c.Get(n.url("web") + "/")
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.Copy(io.Discard, resp.Body)
	if err != nil || got != size {
		t.Errorf("download gave %d bytes, %v; want %d", got, err, size)
	}
	_ = resp.Body.Close()
	for _, length := range []int64{size, -1} {
		req, err := http.NewRequest("POST", n.url("web")+"/", io.LimitReader(zeros{}, size))
		if err != nil {
			t.Fatal(err)
		}
		req.ContentLength = length
		resp, err = c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if want := fmt.Sprint(size, "<nil>"); strings.ReplaceAll(string(text), " ", "") != want {
			t.Errorf("upload of length %d gave %q; want %q", length, text, want)
		}
	}
	grown := peakResident(t) - before
	t.Logf("%d bytes down, up, and up in chunks: resident memory grew by %.1f MiB at its peak", size, float64(grown)/(1<<20))
	if grown > 64<<20 {
		t.Errorf("resident memory grew by %d MiB; want less than 64", grown>>20)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// resetPeak makes the present resident memory the peak (proc(5), clear_refs) and gives
// it. Client, server and drover share the process.
func resetPeak(t *testing.T) int64 {
	t.Helper()
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
		t.Skip("the kernel tells no peak: ", err)
	}
	return peakResident(t)
}

// peakResident is the most resident memory since resetPeak, in bytes.
func peakResident(t *testing.T) int64 {
	t.Helper()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(text), "VmHWM:")
	var kilobytes int64
	if _, err := fmt.Sscan(after, &kilobytes); err != nil {
		t.Fatalf("no peak in %q: %v", text, err)
	}
	return kilobytes << 10
}

// TestEventStream sees the head before there is a body, and each event before the next
// one is sent.
func TestEventStream(t *testing.T) {
	for name, length := range map[string]string{"chunked": "", "known length": "27"} {
		t.Run(name, func(t *testing.T) { eventStream(t, length) })
	}
}

func eventStream(t *testing.T, length string) {
	p := startPeer(t, "a")
	next := make(chan struct{})
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		if length != "" {
			w.Header().Set("Content-Length", length)
		}
		for i := range 4 {
			if i > 0 {
				_, _ = fmt.Fprintf(w, "data: %d\n\n", i)
			}
			_ = http.NewResponseController(w).Flush()
			select {
			case <-next:
			case <-r.Context().Done():
				return
			}
		}
	})
	p.handler.Store(&h)
	n := startNode(t, fmt.Sprintf(`listeners: [ { name: web, address: "LISTEN" } ]
upstreams: [ { name: app, servers: [ { address: %q } ] } ]
routes: [ { upstream: app } ]
`, p.address))
	resp, err := client(t, true).Get(n.url("web") + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	events := bufio.NewReader(resp.Body)
	for i := range 3 {
		next <- struct{}{}
		line, err := events.ReadString('\n')
		if err != nil || line != fmt.Sprintf("data: %d\n", i+1) {
			t.Fatalf("event %d: %q, %v", i, line, err)
		}
		_, _ = events.ReadString('\n')
	}
	next <- struct{}{}
}

// TestCutAnswer sees that an answer whose rest does not come is never a clean end.
func TestCutAnswer(t *testing.T) {
	for name, answer := range map[string]string{
		"length":           "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
		"inside a chunk":   "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\nhalf",
		"behind a chunk":   "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
		"before last CRLF": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			r := startRecorder(t, answer)
			n := startNode(t, fmt.Sprintf(`listeners: [ { name: web, address: "LISTEN" } ]
upstreams: [ { name: app, servers: [ { address: %q } ] } ]
routes: [ { upstream: app } ]
`, r.address))
			resp, err := client(t, true).Get(n.url("web") + "/")
			if err != nil {
				return // cut before the head had gone out: seen as broken too
			}
			defer resp.Body.Close()
			if body, err := io.ReadAll(resp.Body); err == nil {
				t.Errorf("got %q as a whole answer; want it broken", body)
			}
		})
	}
}

// TestRefusedReloadKeepsRunning breaks the file and reads the message.
func TestRefusedReloadKeepsRunning(t *testing.T) {
	p := startPeer(t, "a")
	good := fmt.Sprintf(`listeners: [ { name: web, address: "LISTEN" } ]
upstreams: [ { name: app, servers: [ { address: %q } ] } ]
routes: [ { upstream: app } ]
`, p.address)
	n := startNode(t, good)
	n.write(t, strings.Replace(good, "upstream: app", "upstreem: app", 1))
	err := n.reloadFile(t.Context())
	if err == nil || !strings.Contains(err.Error(), "drover.yaml:5:") || !strings.Contains(err.Error(), "upstream") {
		t.Errorf("got error %v; want one that names file, line and the nearest key", err)
	}
	if _, body := fetch(t, client(t, false), "GET", n.url("web")+"/", ""); body != "GET a 0" {
		t.Errorf("after a refused reload got %q", body)
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	n.write(t, strings.Replace(good, "listeners: [", fmt.Sprintf("listeners: [ { name: second, address: %q },", taken.Addr()), 1))
	if err := n.reloadFile(t.Context()); err == nil {
		t.Error("an address that is taken was accepted")
	}
	if _, body := fetch(t, client(t, false), "GET", n.url("web")+"/", ""); body != "GET a 0" {
		t.Errorf("after a second refused reload got %q", body)
	}
}
