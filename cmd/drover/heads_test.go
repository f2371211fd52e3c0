package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// TestHeadsAreTheirOwn: the head of an answer over HTTP/2 and HTTP/3 may wait for its body
// while the server's connection has its next request already, whose answer it must not be
// made of. The race detector sees what the contents show only now and then.
func TestHeadsAreTheirOwn(t *testing.T) {
	h := startHTTP3Node(t)
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Own", r.URL.Path)
		_, _ = io.WriteString(w, r.URL.Path)
	})
	h.peer.handler.Store(&handler)
	over2 := func() *http.Client {
		tr := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
		t.Cleanup(tr.CloseIdleConnections)
		return &http.Client{Transport: tr}
	}
	over3 := func() *http.Client { return http3Client(t) }
	for version, made := range map[int]func() *http.Client{2: over2, 3: over3} {
		var load sync.WaitGroup
		for worker := range 6 {
			c := made()
			load.Go(func() {
				for i := range 200 {
					path := "/" + strings.Repeat(fmt.Sprint(worker), 1+i%50)
					resp, err := c.Get("https://" + h.address() + path)
					if err != nil {
						t.Error(err)
						return
					}
					got, _ := io.ReadAll(resp.Body) // what it lacks shows.
					_ = resp.Body.Close()
					if own := resp.Header.Get("X-Own"); own != path || string(got) != path || resp.ProtoMajor != version {
						t.Errorf("got head of %q, body %q over HTTP/%d; want %q over HTTP/%d", own, got, resp.ProtoMajor, path, version)
					}
				}
			})
		}
		load.Wait()
	}
}
