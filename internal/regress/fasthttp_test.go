package regress

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestRequestAsItCame: the server gets the bytes that the client sent, but for what drover
// is there to change.
func TestRequestAsItCame(t *testing.T) {
	const added = "X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\n"
	const host = "X-Forwarded-Host: A.Test:80\r\n"
	got := make(chan string, 1)
	server := scripted(t, func(_ int, c net.Conn, r *bufio.Reader) {
		text, err := head(r)
		if err != nil {
			return
		}
		if strings.Contains(text, "Content-Length: 61") {
			body := make([]byte, 61)
			_, _ = io.ReadFull(r, body)
			text += string(body)
		}
		got <- text
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
	})
	// Cookies are looked into, for whatever it makes of them.
	yaml := strings.Replace(toOrigin(server, ""), "}] }]", `}], sticky: { cookie: sid, secret: "0123456789abcdef0123456789abcdef" } }]`, 1)
	d := start(t, yaml, "")
	for name, c := range map[string]struct{ sent, want string }{
		"names, order, duplicates, cookies": {
			"GET /a?b=%2F HTTP/1.1\r\nx-z: 1\r\nhost: A.Test:80\r\nUser-Agent: u\r\nETag: \"x\"\r\nCookie: a=\"b c\"; sid=; d\r\nDNT: 1\r\nuser-agent: v\r\nContent-Type: t\r\nWWW-Authenticate: w\r\ncookie: e=f;g=h\r\nContent-Type: s\r\nX-Z:2\r\n\r\n",
			"GET /a?b=%2F HTTP/1.1\r\nx-z: 1\r\nhost: A.Test:80\r\nUser-Agent: u\r\nETag: \"x\"\r\nCookie: a=\"b c\"; sid=; d\r\nDNT: 1\r\nuser-agent: v\r\nContent-Type: t\r\nWWW-Authenticate: w\r\ncookie: e=f;g=h\r\nContent-Type: s\r\nX-Z: 2\r\n" + added + host + "\r\n",
		},
		"a form": {
			"POST / HTTP/1.1\r\nHost: A.Test:80\r\nContent-Type: multipart/form-data; boundary=x\r\nContent-Length: 61\r\n\r\npreamble\r\n--x \r\nA: b\r\nContent-Disposition: y\r\n\r\nz\r\n--x--\r\nend",
			"POST / HTTP/1.1\r\nHost: A.Test:80\r\nContent-Type: multipart/form-data; boundary=x\r\nContent-Length: 61\r\n" + added + host + "\r\npreamble\r\n--x \r\nA: b\r\nContent-Disposition: y\r\n\r\nz\r\n--x--\r\nend",
		},
		"a body without a type": {
			"POST / HTTP/1.1\r\nHost: A.Test:80\r\nContent-Length: 61\r\n\r\n" + strings.Repeat("y", 61),
			"POST / HTTP/1.1\r\nHost: A.Test:80\r\nContent-Length: 61\r\n" + added + host + "\r\n" + strings.Repeat("y", 61),
		},
		"no body":                     {"DELETE / HTTP/1.1\r\nHost: A.Test:80\r\n\r\n", "DELETE / HTTP/1.1\r\nHost: A.Test:80\r\n" + added + host + "\r\n"},
		"a later version":             {"GET / HTTP/1.2\r\nHost: A.Test:80\r\n\r\n", "GET / HTTP/1.1\r\nHost: A.Test:80\r\n" + added + host + "\r\n"},
		"HTTP/1.0 without Host":       {"GET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.1\r\nHost: " + server + "\r\n" + added + "\r\n"},
		"absolute, of another scheme": {"GET https://a.test/b?c HTTP/1.1\r\nHost: a.test\r\n\r\n", "GET /b?c HTTP/1.1\r\nHost: a.test\r\n" + added + "X-Forwarded-Host: a.test\r\n\r\n"},
		"all of the server":           {"OPTIONS * HTTP/1.1\r\nHost: A.Test:80\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: A.Test:80\r\n" + added + host + "\r\n"},
		"an expectation": {
			"POST / HTTP/1.1\r\nHost: A.Test:80\r\nExpect: 100-continue\r\nContent-Length: 0\r\n\r\n",
			"POST / HTTP/1.1\r\nHost: A.Test:80\r\nContent-Length: 0\r\n" + added + host + "\r\n",
		},
	} {
		client := dial(t, d.web)
		_, _ = io.WriteString(client, c.sent)
		select {
		case text := <-got:
			if text != c.want {
				t.Errorf("%s: the server got\n%q\nwant\n%q", name, text, c.want)
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("%s: nothing came", name)
		}
		_, _ = bufio.NewReader(client).ReadString('\n') // the server is through with it.
		_ = client.Close()
	}
	refuses(t, d, startOrigin(t, nil), "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", "GET / HTTP/9.9\r\nHost: a\r\n\r\n")
}

// TestAnswerAsItCame: the client gets the bytes that the server sent, but for what is of
// the one connection or the other.
func TestAnswerAsItCame(t *testing.T) {
	var answer atomic.Pointer[string]
	server := scripted(t, func(_ int, c net.Conn, r *bufio.Reader) {
		for { // a server that closes without a word may meet the next request.
			if _, err := head(r); err != nil {
				return
			}
			text := *answer.Load()
			_, _ = io.WriteString(c, text)
			if strings.Contains(text, "Connection: close") || strings.HasPrefix(text, "HTTP/1.0") {
				return
			}
		}
	})
	d := start(t, toOrigin(server, ""), "")
	for name, c := range map[string]struct{ version, sent, want string }{
		"date, order, duplicates": {
			"1.1",
			"HTTP/1.1 200 Fine\r\ndate: Thu, 01 Jan 1970 00:00:00 GMT\r\nSet-Cookie: a\r\nServer: s\r\nContent-Type: t\r\nContent-Encoding: x\r\nserver: u\r\nContent-Type: v\r\nX: y\r\nContent-Encoding: z\r\nSet-Cookie: b\r\nContent-Length: 2\r\n\r\nok",
			"HTTP/1.1 200 Fine\r\ndate: Thu, 01 Jan 1970 00:00:00 GMT\r\nSet-Cookie: a\r\nServer: s\r\nContent-Type: t\r\nContent-Encoding: x\r\nserver: u\r\nContent-Type: v\r\nX: y\r\nContent-Encoding: z\r\nSet-Cookie: b\r\nContent-Length: 2\r\n\r\nok",
		},
		"no date, server, or type": {"1.1", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"},
		"a server that closes":     {"1.1", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"},
		"an old server": {
			"1.1", "HTTP/1.0 200 OK\r\nX: y\r\n\r\nok",
			"HTTP/1.1 200 OK\r\nX: y\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
		},
		"interim answers": {
			"1.1", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
			"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
		},
		"an old client": {
			"1.0", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
			"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nok",
		},
	} {
		answer.Store(&c.sent)
		client := dial(t, d.web)
		_, _ = io.WriteString(client, "GET / HTTP/"+c.version+"\r\nHost: a\r\n\r\n")
		text := make([]byte, len(c.want))
		if _, err := io.ReadFull(client, text); err != nil || string(text) != c.want {
			t.Errorf("%s: the client got\n%q, %v\nwant\n%q", name, text, err, c.want)
		}
		if c.version == "1.1" { // and the connection goes on
			_, _ = io.WriteString(client, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
		}
		if rest, err := io.ReadAll(client); err != nil || strings.HasPrefix(string(rest), "HTTP/1.1 ") != (c.version == "1.1") {
			t.Errorf("%s: then the client got %q, %v", name, rest, err)
		}
	}
}

// TestClosingClientKeepsServer: a client's "close" is not the server's connection's.
func TestClosingClientKeepsServer(t *testing.T) {
	var conns atomic.Int64
	server := scripted(t, func(_ int, c net.Conn, r *bufio.Reader) {
		conns.Add(1)
		for {
			text, err := head(r)
			if err != nil {
				return
			}
			if strings.Contains(strings.ToLower(text), "connection:") {
				t.Errorf("the server got %q", text)
			}
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
	})
	d := start(t, toOrigin(server, ""), "")
	for range 10 {
		serves(t, d)
	}
	if got := conns.Load(); got != 1 {
		t.Errorf("ten clients that close took %d connections to the server; want 1", got)
	}
}

// TestBareLineFeeds: heads that end in them are judged at once, not when their time is up.
func TestBareLineFeeds(t *testing.T) {
	server := scripted(t, func(_ int, c net.Conn, r *bufio.Reader) {
		if _, err := head(r); err == nil {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\nContent-Length: 0\n\n")
			_, _ = io.Copy(io.Discard, r) // it waits for more.
		}
	})
	d := start(t, strings.Replace(toOrigin(server, ""), "address: WEB", "address: WEB, header_timeout: 1h", 1), "")
	for text, want := range map[string]string{
		"GET / HTTP/1.1\nHost: a\n\n":                            "HTTP/1.1 400 ",
		"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n":                    "HTTP/1.1 400 ",
		"GET / HTTP/1.1\r\nHost: a\r\n\n":                        "HTTP/1.1 400 ",
		"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n": "HTTP/1.1 502 ",
	} {
		if got := exchange(t, d.web, text); !strings.HasPrefix(got, want) {
			t.Errorf("%q: got %q; want %q", text, got, want)
		}
	}
}

// TestActiveStreams: no time-out bounds the whole of a body that comes steadily, in either
// direction.
func TestActiveStreams(t *testing.T) {
	const pieces = 20
	server := scripted(t, func(_ int, c net.Conn, r *bufio.Reader) {
		if _, err := head(r); err != nil {
			return
		}
		for range pieces {
			if line, err := r.ReadString('\n'); err != nil {
				t.Errorf("the upload ended at %q, %v", line, err)
				return
			}
		}
		_, _ = io.WriteString(c, fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", 2*pieces))
		steadily(c, "y\n", pieces)
	})
	const limits = "header_timeout: 500ms, body_idle_timeout: 500ms, write_idle_timeout: 500ms, keep_alive_timeout: 500ms"
	yaml := strings.Replace(toOrigin(server, ""), "address: WEB", "address: WEB, "+limits, 1)
	yaml = strings.Replace(yaml, "}] }]", "}], transport: { response_header_timeout: 500ms, body_idle_timeout: 500ms } }]", 1)
	d := start(t, yaml, "")
	client := dial(t, d.web)
	_, _ = io.WriteString(client, post(fmt.Sprintf("Content-Length: %d\r\nConnection: close\r\n", 2*pieces+9000), ""))
	steadily(client, "x\n", pieces)
	_, _ = io.WriteString(client, strings.Repeat("x", 9000))
	got, err := io.ReadAll(client)
	if err != nil || !strings.HasSuffix(string(got), "\r\n\r\n"+strings.Repeat("y\n", pieces)) {
		t.Errorf("got %q, %v; want all %d events", got, err, pieces)
	}
}

// steadily writes pieces over one second, which is twice the time-outs.
func steadily(to io.Writer, piece string, pieces int) {
	tick := time.NewTicker(time.Second / time.Duration(pieces))
	defer tick.Stop()
	for range pieces {
		<-tick.C
		_, _ = io.WriteString(to, piece)
	}
}

// TestClientLeaves: the server is told of a client that has gone, before the answer and
// within it.
func TestClientLeaves(t *testing.T) {
	for _, answer := range []string{"", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab"} {
		arrived, told := make(chan struct{}), make(chan error, 1)
		server := scripted(t, func(_ int, c net.Conn, r *bufio.Reader) {
			if _, err := head(r); err != nil {
				return
			}
			_, _ = io.WriteString(c, answer)
			close(arrived)
			_, err := r.ReadByte()
			told <- err
		})
		d := start(t, toOrigin(server, ""), "")
		client := dial(t, d.web)
		_, _ = io.WriteString(client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		<-arrived
		_ = client.Close()
		select {
		case err := <-told:
			if err == nil {
				t.Error("the server got more than the request")
			}
		case <-time.After(20 * time.Second):
			t.Errorf("answer %q: the server was not told", answer)
		}
	}
}

// TestSentOnce: a request that a server may have executed is not sent again by default,
// and one that meets a connection which the server had closed does not fail.
func TestSentOnce(t *testing.T) {
	var sent atomic.Int64
	silent := scripted(t, func(_ int, c net.Conn, r *bufio.Reader) {
		if _, err := head(r); err == nil {
			sent.Add(1)
			_, _ = r.ReadByte() // until drover gives up.
		}
	})
	closed := make(chan struct{}, 1) // which the loopback tells drover at the same time
	closing := scripted(t, func(_ int, c net.Conn, r *bufio.Reader) {
		if _, err := head(r); err == nil {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") // and no word of closing
			_ = c.Close()
			closed <- struct{}{}
		}
	})
	yaml := strings.Replace(toOrigin(silent, "[{ path: /closing, upstream: closing }, { upstream: u }]"), "}] }]",
		`}], transport: { response_header_timeout: 300ms } }, { name: closing, servers: [{ address: "`+closing+`" }] }]`, 1)
	d := start(t, yaml, "")
	for _, method := range []string{"GET", "HEAD", "PUT", "DELETE", "POST"} {
		before := sent.Load()
		if got := exchange(t, d.web, method+" / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 504 ") {
			t.Errorf("%s: got %q; want 504", method, got)
		}
		if n := sent.Load() - before; n != 1 {
			t.Errorf("%s was sent %d times; want once", method, n)
		}
		for range 10 {
			if got := exchange(t, d.web, method+" /closing HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 200 ") {
				t.Fatalf("%s on a connection that was closed: got %q; want 200", method, got)
			}
			<-closed
		}
	}
}

// TestPlaceIsHeldToTheEnd: an exchange counts until its answer is through, not until the
// answer's head is.
func TestPlaceIsHeldToTheEnd(t *testing.T) {
	finish := make(chan struct{})
	server := scripted(t, func(_ int, c net.Conn, r *bufio.Reader) {
		for {
			if _, err := head(r); err != nil {
				return
			}
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha")
			<-finish
			_, _ = io.WriteString(c, "lf")
		}
	})
	d := start(t, strings.Replace(toOrigin(server, ""), "}] }]", "}], limits: { max_requests: 1, queue: { size: 0 } } }]", 1), "")
	client := dial(t, d.web)
	_, _ = io.WriteString(client, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
	text := bufio.NewReader(client)
	if _, err := head(text); err != nil {
		t.Fatal(err)
	}
	if got := exchange(t, d.web, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 503 ") {
		t.Errorf("got %q while the first body is on its way; want 503", got)
	}
	close(finish)
	if rest, err := io.ReadAll(text); string(rest) != "half" || err != nil {
		t.Errorf("got %q, %v; want half", rest, err)
	}
	eventually(t, "the place is free", func() bool {
		return strings.HasPrefix(exchange(t, d.web, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"), "HTTP/1.1 200 ")
	})
}

// TestTLSServerSaysNothing: connect_timeout bounds the handshake too.
func TestTLSServerSaysNothing(t *testing.T) {
	server := scripted(t, func(_ int, _ net.Conn, r *bufio.Reader) { _, _ = io.Copy(io.Discard, r) })
	for _, protocol := range []string{"auto", "h1"} {
		yaml := strings.Replace(toOrigin("https://"+server, ""), "}] }]",
			"}], transport: { protocol: "+protocol+", connect_timeout: 300ms, response_header_timeout: 1h } }]", 1)
		d := start(t, yaml, "")
		if got := exchange(t, d.web, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 502 ") {
			t.Errorf("%s: got %q; want 502", protocol, got)
		}
	}
}
