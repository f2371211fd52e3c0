package healthcheck

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// TestHTTPCheckProtocol: the probe speaks what the setting and the server's ALPN say.
func TestHTTPCheckProtocol(t *testing.T) {
	serve := func(secure bool, protocols func(*http.Protocols)) string {
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusEarlyHints)
			_, _ = io.WriteString(w, strings.Join([]string{r.Proto, r.Host, r.Header.Get("User-Agent"), r.Header.Get("Accept-Encoding"), r.RequestURI}, " "))
		}))
		s.Config.ErrorLog, s.Config.Protocols = quiet(), &http.Protocols{}
		protocols(s.Config.Protocols)
		if secure {
			s.EnableHTTP2 = s.Config.Protocols.HTTP2()
			s.StartTLS()
		} else {
			s.Start()
		}
		t.Cleanup(s.Close)
		return s.Listener.Addr().String()
	}
	h1 := serve(true, func(p *http.Protocols) { p.SetHTTP1(true) })
	both := serve(true, func(p *http.Protocols) { p.SetHTTP1(true); p.SetHTTP2(true) })
	clear := serve(false, func(p *http.Protocols) { p.SetHTTP1(true); p.SetUnencryptedHTTP2(true) })
	only := serve(false, func(p *http.Protocols) { p.SetUnencryptedHTTP2(true) })
	f := func(scheme, address, protocol, proto, want string) {
		t.Helper()
		cfg := withDefaults(t, func(c *CheckConfig) {
			c.Path, c.Protocol, c.InsecureSkipVerify, c.Timeout = "/up?x=%2F", protocol, true, 20*time.Second
			if proto != "" {
				c.Body = "^" + proto + " " + address + " drover-check  /up\\?x=%2F$"
			}
		})
		wantText(t, probe(t, cfg, serverID(t, scheme, address)), want)
	}
	f("https", h1, "", "HTTP/1.1", "")
	f("https", h1, "auto", "HTTP/1.1", "")
	f("https", h1, "h2", "", "no application protocol")
	f("https", both, "", "HTTP/2.0", "")
	f("https", both, "h1", "HTTP/1.1", "")
	f("https", both, "h2", "HTTP/2.0", "")
	f("https", both, "h2c", "", "got protocol h2c for a probe over TLS")
	f("http", clear, "", "HTTP/1.1", "")
	f("http", clear, "h1", "HTTP/1.1", "")
	f("http", clear, "h2", "", "got protocol h2 for a probe without TLS")
	f("http", clear, "h2c", "HTTP/2.0", "")
	f("http", only, "h2c", "HTTP/2.0", "")
	f("http", only, "h2c", "nothing like it", "body does not match")
	f("http", only, "auto", "", "waiting for the response")
}

// TestHTTP2CheckWithoutALPN: a server that chooses nothing has not chosen HTTP/2.
func TestHTTP2CheckWithoutALPN(t *testing.T) {
	ca := newAuthority(t)
	address := listen(t, func(c net.Conn) {
		_, _ = io.Copy(io.Discard, tls.Server(c, &tls.Config{Certificates: []tls.Certificate{ca.server}}))
	})
	cfg := withDefaults(t, func(c *CheckConfig) { c.Protocol, c.CAFile, c.Timeout = "h2", ca.file, 20*time.Second })
	wantText(t, probe(t, cfg, serverID(t, "https", address)), "does not offer HTTP/2")
}

// TestHTTP2CheckFailures: a server that speaks something else, or nothing, is told in
// words, and in time.
func TestHTTP2CheckFailures(t *testing.T) {
	f := func(say string, timeout time.Duration, want string) {
		t.Helper()
		address := listen(t, func(c net.Conn) {
			_, _ = io.WriteString(c, say)
			if say == "" {
				_, _ = io.Copy(io.Discard, c)
			}
		})
		cfg := withDefaults(t, func(c *CheckConfig) { c.Protocol, c.Timeout = "h2c", timeout })
		wantText(t, probe(t, cfg, serverID(t, "http", address)), want)
	}
	f("HTTP/1.1 400 Bad Request\r\n\r\n", 20*time.Second, "waiting for the response")
	f("", 50*time.Millisecond, "timed out while waiting for the response")
}
