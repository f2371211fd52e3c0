package regress

import (
	"bufio"
	"io"
	"net"
	"strings"
	"testing"
)

// TestExpectDesync: whatever the server answers to a request that waits, the next
// request is the client's own, on a connection where it cannot be taken for a body.
func TestExpectDesync(t *testing.T) {
	for _, answer := range []string{"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 413 Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", ""} {
		leaked := make(chan string, 100)
		server := scripted(t, func(_ int, c net.Conn, r *bufio.Reader) {
			for {
				text, err := head(r)
				switch {
				case err != nil:
					return
				case strings.HasPrefix(text, "POST"):
					_, _ = io.WriteString(c, answer)
					if answer == "" || strings.Contains(answer, "close") {
						return
					}
					if !strings.Contains(strings.ToLower(text), "content-length: 36") {
						leaked <- text
					}
					_, _ = io.CopyN(io.Discard, r, 36)
				case strings.Contains(text, "smuggled"):
					leaked <- text
					return
				default:
					_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nmine")
				}
			}
		})
		d := start(t, toOrigin(server, ""), "")
		body := "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n."
		for range 5 {
			exchange(t, d.web, "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nConnection: close\r\nContent-Length: 36\r\n\r\n"+(body + "....")[:36])
			if got := exchange(t, d.web, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"); !strings.HasSuffix(got, "mine") {
				t.Errorf("after %q: got %q; want the answer of its own", answer, got)
			}
		}
		if len(leaked) > 0 {
			t.Errorf("%q: a body was taken for a request: %q", answer, <-leaked)
		}
	}
}
