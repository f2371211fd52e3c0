package regress

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
)

// TestLeftoverBytes: a second answer to one request is nobody's.
func TestLeftoverBytes(t *testing.T) {
	server := scripted(t, func(_ int, c net.Conn, r *bufio.Reader) {
		for {
			text, err := head(r)
			if err != nil {
				return
			}
			answer := "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood"
			if strings.Contains(text, "/twice") {
				answer += "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nPOISON"
			}
			_, _ = io.WriteString(c, answer)
		}
	})
	d := start(t, toOrigin(server, ""), "")
	for range 20 {
		for _, target := range []string{"/twice", "/next"} {
			got := exchange(t, d.web, "GET "+target+" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
			if strings.Contains(got, "POISON") {
				t.Fatalf("%s: got %q", target, got)
			}
		}
	}
}

// TestUnreadBody: the body of a request that drover answers itself is no request.
func TestUnreadBody(t *testing.T) {
	o := startOrigin(t, nil)
	d := start(t, toOrigin(o.address, `[{ path: /no, respond: { status: 403 } }, { path: /moved, redirect: { to: "http://b/" } }, { upstream: u }]`), "")
	inner := "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
	for _, target := range []string{"/no", "/moved"} {
		got := exchange(t, d.web, "POST "+target+" HTTP/1.1\r\nHost: a\r\nContent-Length: "+
			fmt.Sprint(len(inner))+"\r\n\r\n"+inner+"GET /next HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
		if n := strings.Count(got, "HTTP/1.1 "); n < 1 || n > 2 {
			t.Errorf("%s: got %q; want one answer or two", target, got)
		}
	}
	for _, line := range o.requests() {
		if strings.Contains(line, "smuggled") {
			t.Errorf("the server got %q", line)
		}
	}
}
