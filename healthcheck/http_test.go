package healthcheck

import (
	"bufio"
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func quiet() *log.Logger { return log.New(io.Discard, "", 0) }

func TestHTTPCheckStatus(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/moved":
			http.Redirect(w, r, "/", http.StatusFound)
		case "/not-modified":
			w.WriteHeader(http.StatusNotModified)
		case "/early":
			w.WriteHeader(http.StatusEarlyHints)
		case "/broken":
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
	defer s.Close()
	f := func(path string, statuses []string, want string) {
		t.Helper()
		cfg := withDefaults(t, func(c *CheckConfig) {
			c.Path, c.Timeout = path, 20*time.Second
			if statuses != nil {
				c.Statuses = statuses
			}
		})
		wantText(t, probe(t, cfg, serverID(t, "http", s.Listener.Addr().String())), want)
	}
	f("/", nil, "")
	f("/early", nil, "")
	f("/broken", nil, "got status 500; want 200-299")
	f("/broken", []string{"200-299", "500"}, "")
	f("/moved", nil, "got status 302; want 200-299")
	f("/moved", []string{"302"}, "")
	f("/not-modified", []string{"200-299", "304"}, "")
	f("/", []string{"204", "300-399"}, "got status 200; want 204, 300-399")
}

func TestHTTPCheckRequest(t *testing.T) {
	got := make(chan *http.Request, 1)
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got <- r }))
	defer s.Close()
	address := s.Listener.Addr().String()
	f := func(change func(*CheckConfig), want string) {
		t.Helper()
		cfg := withDefaults(t, func(c *CheckConfig) {
			c.Timeout = 20 * time.Second
			change(c)
		})
		wantText(t, probe(t, cfg, serverID(t, "http", address)), "")
		r := <-got
		if r.Header.Get("Connection") != "close" && !r.Close {
			t.Errorf("got a probe that keeps its connection")
		}
		text := strings.Join([]string{r.Method, r.RequestURI, r.Host, r.Header.Get("User-Agent"), strings.Join(r.Header["X-Probe"], "+")}, " ")
		if text != want {
			t.Errorf("got %q; want %q", text, want)
		}
	}
	f(func(*CheckConfig) {}, "GET / "+address+" drover-check ")
	f(func(c *CheckConfig) {
		c.Method, c.Path, c.Host = "HEAD", "/a%2Fb?x=1", "api.example.com"
		c.Headers = []Header{{"X-Probe", "a"}, {"x-probe", "b"}, {"User-Agent", "me"}}
	}, "HEAD /a%2Fb?x=1 api.example.com me a+b")
}

func TestHTTPCheckAuthority(t *testing.T) {
	f := func(scheme, address string, useTLS bool, want string) {
		t.Helper()
		d := &dialer{secure: useTLS}
		if got := d.authority(serverID(t, scheme, address)); got != want {
			t.Errorf("got %q; want %q", got, want)
		}
	}
	f("http", "10.0.0.1:80", false, "10.0.0.1")
	f("http", "10.0.0.1:443", false, "10.0.0.1:443")
	f("http", "10.0.0.1:443", true, "10.0.0.1")
	f("https", "10.0.0.1:443", false, "10.0.0.1")
	f("https", "[::1]:8443", false, "[::1]:8443")
	f("https", "[::1]:443", false, "[::1]")
}

func TestHTTPCheckBody(t *testing.T) {
	body := ""
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) }))
	defer s.Close()
	f := func(sent, contains, match, want string) {
		t.Helper()
		body = sent
		cfg := withDefaults(t, func(c *CheckConfig) { c.BodyContains, c.Body, c.Timeout = contains, match, 20*time.Second })
		wantText(t, probe(t, cfg, serverID(t, "http", s.Listener.Addr().String())), want)
	}
	f("all is ok here", "ok", "", "")
	f("all is ok here", "", "^all.*here$", "")
	f("all is ok here", "OK", "", `body does not contain "OK"; got 14 bytes: "all is ok here"`)
	f("all is ok here", "ok", "gone", `body does not match "gone"; got 14 bytes: "all is ok here"`)
	f("", "ok", "", `body does not contain "ok"; got 0 bytes: ""`)
	long := strings.Repeat("x", answerLimit-2)
	f(long+"ok", "ok", "", "")
	f(long+"-ok", "ok", "", `got 65536 bytes: "xxx`)
	f(strings.Repeat("x", 10*answerLimit), "", "x", "")
}

// TestHTTPCheckWire speaks the answers that no good server gives.
func TestHTTPCheckWire(t *testing.T) {
	f := func(answer, want string) {
		t.Helper()
		address := listen(t, func(c net.Conn) {
			if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
				_, _ = c.Write([]byte(answer))
			}
		})
		cfg := withDefaults(t, func(c *CheckConfig) { c.BodyContains, c.Timeout = "ok", 20*time.Second })
		wantText(t, probe(t, cfg, serverID(t, "http", address)), want)
	}
	f("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "")
	f("HTTP/1.0 200 OK\r\n\r\nok", "")
	f("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n", "")
	f("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "")
	f("", "connection closed by the server while waiting for the response")
	f("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n", "connection closed by the server while waiting for the response")
	f("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok", "connection closed by the server while reading the body")
	f("SSH-2.0-OpenSSH_9.2\r\n\r\n", "the answer is no valid HTTP: malformed HTTP response")
	f("HTTP/1.1 200 OK\r\nno colon\r\n\r\n", "the answer is no valid HTTP: malformed MIME header")
	f("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", "got status 101; want 200-299")
	f(strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", 20), "got 8 interim responses; want a final one")
	f("HTTP/1.1 200 OK\r\nX: "+strings.Repeat("x", 5*answerLimit), "the answer is longer than a check reads")
}

// TestHTTPCheckClientCertificate proves itself to a server that asks for it.
func TestHTTPCheckClientCertificate(t *testing.T) {
	a := newAuthority(t)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	s.Config.ErrorLog = quiet()
	s.TLS = &tls.Config{Certificates: []tls.Certificate{a.server}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: a.pool}
	s.StartTLS()
	defer s.Close()
	id := serverID(t, "https", s.Listener.Addr().String())
	with := withDefaults(t, func(c *CheckConfig) {
		c.CAFile, c.CertFile, c.KeyFile, c.Timeout = a.file, a.file, a.keyFile(t), 20*time.Second
	})
	wantText(t, probe(t, with, id), "")
	without := withDefaults(t, func(c *CheckConfig) { c.CAFile, c.Timeout = a.file, 20*time.Second })
	if got := probe(t, without, id); !strings.Contains(got, "certificate required") && !strings.Contains(got, "connection reset") {
		t.Errorf("got %q; want a refused handshake", got)
	}
}
