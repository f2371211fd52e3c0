package regress

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
)

// TestLeftoverBytes: a second answer to one request is nobody's, whether it comes with the
// first, behind it or when the connection is unused, and over TLS as well.
func TestLeftoverBytes(t *testing.T) {
	cert, key := certificate(t, "s.test")
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	for _, secure := range []bool{false, true} {
		for _, when := range []string{"together", "at once", "later"} {
			t.Run(fmt.Sprintf("TLS %v, %s", secure, when), func(t *testing.T) {
				unused, said := make(chan struct{}), make(chan struct{})
				server := scripted(t, func(_ int, c net.Conn, r *bufio.Reader) {
					if secure {
						c = tls.Server(c, &tls.Config{Certificates: []tls.Certificate{pair}})
						r = bufio.NewReader(c)
					}
					sayTwice(c, r, when, unused, said)
				})
				yaml := toOrigin(server, "")
				if secure {
					yaml = strings.Replace(toOrigin("https://"+server, ""), "name: u,", "name: u, transport: { tls: { ca_file: "+cert+", server_name: s.test } },", 1)
				}
				d := start(t, yaml, "")
				for range 20 {
					for _, target := range []string{"/twice", "/next"} {
						got := exchange(t, d.web, "GET "+target+" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
						if !strings.HasSuffix(got, "good") {
							t.Fatalf("%s: got %q", target, got)
						}
						if target == "/twice" {
							unused <- struct{}{}
							<-said
						}
					}
				}
			})
		}
	}
}

// sayTwice answers requests, and those for /twice again: when the connection is unused
// for "later". It tells when it has.
func sayTwice(c net.Conn, r *bufio.Reader, when string, unused <-chan struct{}, said chan<- struct{}) {
	const good = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood"
	const poison = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nPOISON"
	for {
		text, err := head(r)
		if err != nil {
			return
		}
		if !strings.Contains(text, "/twice") {
			_, _ = io.WriteString(c, good)
			continue
		}
		switch when {
		case "together":
			_, _ = io.WriteString(c, good+poison)
			<-unused
		case "at once":
			_, _ = io.WriteString(c, good)
			_, _ = io.WriteString(c, poison)
			<-unused
		case "later":
			_, _ = io.WriteString(c, good)
			<-unused
			_, _ = io.WriteString(c, poison)
		}
		said <- struct{}{}
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
