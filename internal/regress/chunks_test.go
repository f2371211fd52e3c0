package regress

import (
	"bufio"
	"io"
	"net"
	"strings"
	"testing"
)

func TestChunkSyntax(t *testing.T) {
	bodies := []string{"0x1\r\na\r\n0\r\n\r\n", "+1\r\na\r\n0\r\n\r\n", "1;x\ny\r\na\r\n0\r\n\r\n", "1\na\r\n0\r\n\r\n", "1\r\nab\r\n0\r\n\r\n",
		"fffffffffffffffff\r\na\r\n0\r\n\r\n", "\r\n0\r\n\r\n", "1\r\na\r\n0\r\nX: 5\n\r\n"}
	const forbidden = "1\r\na\r\n0\r\nContent-Length: 5\r\n\r\n" // of a server it is dropped (RFC 9110, section 6.5.1)
	o := startOrigin(t, nil)
	d := start(t, toOrigin(o.address, ""), "")
	for _, body := range append(bodies, forbidden) {
		got := exchange(t, d.web, post("Transfer-Encoding: chunked\r\n", body+"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"))
		if strings.Contains(got, "HTTP/1.1 200") {
			t.Errorf("%q: got %q; want no success", body, got)
		}
	}
	for _, line := range o.requests() {
		if !strings.HasSuffix(line, "broken") {
			t.Errorf("the server got %q whole", line)
		}
	}
	for _, body := range append(bodies, forbidden) {
		server := scripted(t, func(_ int, c net.Conn, r *bufio.Reader) {
			if _, err := head(r); err == nil {
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"+body)
			}
		})
		back := start(t, toOrigin(server, ""), "")
		got := exchange(t, back.web, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
		whole := strings.HasPrefix(got, "HTTP/1.1 200") && strings.HasSuffix(got, "0\r\n\r\n")
		if whole != (body == forbidden) || strings.Contains(got, "Content-Length: 5") {
			t.Errorf("an answer with %q: got %q; want it refused or cut, or its trailer dropped", body, got)
		}
	}
}

// TestCutAtAChunkBoundary: what ends between two chunks is broken, in both directions.
func TestCutAtAChunkBoundary(t *testing.T) {
	arrived := make(chan string, 1)
	server := scripted(t, func(_ int, c net.Conn, r *bufio.Reader) {
		text, err := head(r)
		switch {
		case err != nil:
		case strings.HasPrefix(text, "POST"):
			body, _ := io.ReadAll(r)
			arrived <- string(body)
		default:
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
		}
	})
	d := start(t, toOrigin(server, ""), "")
	if got := exchange(t, d.web, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"); strings.HasSuffix(got, "0\r\n\r\n") {
		t.Errorf("a cut answer: got %q; want no end", got)
	}
	c := dial(t, d.web)
	_, _ = io.WriteString(c, post("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n"))
	_ = c.Close()
	select {
	case body := <-arrived:
		if strings.HasSuffix(body, "0\r\n\r\n") {
			t.Errorf("a cut upload arrived as %q; want no end", body)
		}
	case <-t.Context().Done():
	}
}
