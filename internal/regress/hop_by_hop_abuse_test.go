package regress

import (
	"strings"
	"testing"
)

// TestHopByHopAbuse: a client cannot name away what drover sets.
func TestHopByHopAbuse(t *testing.T) {
	o := startOrigin(t, nil)
	d := start(t, toOrigin(o.address, `[{ upstream: u, request_headers: { set: [{ name: X-Real-IP, value: "{client_ip}" }] } }]`), "")
	got := exchange(t, d.web, "GET / HTTP/1.1\r\nHost: a\r\nX-Secret: s\r\nConnection: close, X-Forwarded-For, X-Forwarded-Proto, X-Real-IP, Host, X-Secret\r\n\r\n")
	if !strings.HasPrefix(got, "HTTP/1.1 200") {
		t.Fatalf("got %q; want the server's answer", got)
	}
	h := o.headers[0]
	if h.Get("X-Forwarded-For") != "127.0.0.1" || h.Get("X-Forwarded-Proto") != "http" || h.Get("X-Real-Ip") != "127.0.0.1" || h.Get("X-Secret") != "" {
		t.Errorf("the server got %v", h)
	}
}

// TestForwardedSpoof: nobody is believed who is not trusted.
func TestForwardedSpoof(t *testing.T) {
	o := startOrigin(t, nil)
	d := start(t, toOrigin(o.address, `[{ upstream: u, deny: [203.0.113.0/24], request_headers: { set: [{ name: X-Real-IP, value: "{client_ip}" }] } }]`), "")
	exchange(t, d.web, "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.7\r\nX-Real-IP: 203.0.113.7\r\nForwarded: for=203.0.113.7\r\nX-Forwarded-Proto: https\r\nConnection: close\r\n\r\n")
	if len(o.headers) != 1 {
		t.Fatalf("the server got %q; want the request: its peer is not denied", o.requests())
	}
	h := o.headers[0]
	if h.Get("X-Real-Ip") != "127.0.0.1" || !strings.HasSuffix(h.Get("X-Forwarded-For"), "127.0.0.1") || h.Get("X-Forwarded-Proto") != "http" {
		t.Errorf("the server got %v; want the peer's own address", h)
	}
	refuses(t, d, o, "PROXY TCP4 203.0.113.7 127.0.0.1 1 80\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n")
}
