package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
)

// flaky is a server that takes a request, reads some of its body, and breaks the
// connection instead of an answer.
func flaky(t *testing.T, read func(body io.Reader), requests *atomic.Int64) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			if req, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
				requests.Add(1)
				read(req.Body)
			}
			_ = c.(*net.TCPConn).SetLinger(0)
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = ln.Close(); <-done })
	return ln.Addr().String()
}

// TestBodyIsSentAgain: a body that is small enough is kept, and a request that may be
// repeated goes to the next server whole.
func TestBodyIsSentAgain(t *testing.T) {
	var broke atomic.Int64
	whole := func(body io.Reader) { _, _ = io.Copy(io.Discard, body) }
	bad := flaky(t, whole, &broke)
	good := startPeer(t, "good")
	bodies := make(chan string, 1)
	record := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		bodies <- string(body)
	})
	good.handler.Store(&record)
	n := startNode(t, fmt.Sprintf(`listeners: [ { name: web, address: "LISTEN" } ]
upstreams:
  - name: app
    outlier: { disabled: true }
    servers: [ { address: %q, weight: 10000 }, { address: %q } ] # the first one gets all but second tries
routes:
  - { upstream: app, retry: { attempts: 2, on: [ connect, stale, reset ], max_buffered_body: 100KiB } }
`, bad, good.address))
	c := client(t, true)
	for _, row := range []struct {
		method string
		size   int
		length bool
		status int
	}{
		{"PUT", 100 << 10, true, 200},
		{"PUT", 100 << 10, false, 200},
		{"PUT", 100<<10 + 1, true, 502},
		{"PUT", 100<<10 + 1, false, 502},
		{"PUT", 10, true, 200},
		{"PUT", 10, false, 200},
		{"POST", 100 << 10, true, 502}, // it may have been executed
		{"POST", 10, true, 502},
	} {
		t.Run(fmt.Sprint(row.method, " ", row.size, " ", row.length), func(t *testing.T) {
			before := broke.Load()
			text := strings.Repeat("0123456789", row.size/10+1)[:row.size]
			body := io.Reader(strings.NewReader(text))
			if !row.length {
				body = io.MultiReader(body) // whose length net/http cannot tell
			}
			req, err := http.NewRequest(row.method, n.url("web")+"/", body)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := c.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if resp.StatusCode != row.status || broke.Load() != before+1 {
				t.Errorf("status %d after %d broken tries; want %d after one", resp.StatusCode, broke.Load()-before, row.status)
			}
			if row.status == 200 && resp.StatusCode == 200 {
				if got := <-bodies; got != text {
					t.Errorf("the next server got %d bytes, or others; want %d", len(got), len(text))
				}
			}
		})
	}
}

// TestServerBreaksUpload: a server that breaks in the middle of an upload is to blame
// for it, and the client, which is still there, is told.
func TestServerBreaksUpload(t *testing.T) {
	var broke atomic.Int64
	bad := flaky(t, func(body io.Reader) { _, _ = io.ReadFull(body, make([]byte, 10)) }, &broke)
	n := startNode(t, fmt.Sprintf(`listeners: [ { name: web, address: "LISTEN" } ]
upstreams: [ { name: app, outlier: { disabled: true }, servers: [ { address: %q } ] } ]
routes: [ { upstream: app } ]
`, bad))
	got := raw(t, n.listen, "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n0123456789")
	if !strings.HasPrefix(got, "HTTP/1.1 502 ") {
		t.Errorf("got %.100q; want 502", got)
	}
}
