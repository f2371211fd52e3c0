package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// stalledWithin is what the defaults promise of a connection that has gone quiet;
// stalledSlack is for a busy machine that sees it late.
const (
	stalledWithin = 30 * time.Second
	stalledSlack  = 8 * time.Second
)

const (
	h2Preface  = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	h2Settings = "\x00\x00\x00\x04\x00\x00\x00\x00\x00"
	// h2Ack acknowledges drover's settings, as a client does that then says no more.
	h2Ack = "\x00\x00\x00\x04\x01\x00\x00\x00\x00"
)

// TestStalledConnections: however a client goes quiet, a drover that is configured with
// nothing about it closes the connection within 30 s.
func TestStalledConnections(t *testing.T) {
	t.Parallel() // it does nothing but wait
	dir, p := t.TempDir(), startPeer(t, "a")
	writePair(t, dir, 1)
	secure := freeAddress(t)
	s := newSetup(t, secureToo(dir, secure, p.address))
	s.run(t)
	plain := func(text string) func(*testing.T) net.Conn {
		return func(t *testing.T) net.Conn { return say(t, dialed(t, s.listen), text) }
	}
	tlsHalfHello := "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" // of a record of 512 bytes
	for _, row := range []struct {
		name string
		open func(*testing.T) net.Conn
	}{
		{"connect only", plain("")},
		{"half a head", plain("GET / HTTP/1.1\r\nHost: a\r\nX-Ha")},
		{"half a body", plain("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nhalf")},
		{"half a chunk", plain("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n400\r\nhalf")},
		{"idle after a request", plain("GET / HTTP/1.1\r\nHost: a\r\n\r\n")},
		{"TLS: connect only", func(t *testing.T) net.Conn { return dialed(t, secure) }},
		{"TLS: half a hello", func(t *testing.T) net.Conn { return say(t, dialed(t, secure), tlsHalfHello) }},
		{"TLS: no request", func(t *testing.T) net.Conn { return dialedTLS(t, secure) }},
		{"HTTP/2: idle", func(t *testing.T) net.Conn { return say(t, dialedTLS(t, secure, "h2"), h2Preface+h2Settings+h2Ack) }},
		{"HTTP/2: half a preface", func(t *testing.T) net.Conn { return say(t, dialedTLS(t, secure, "h2"), h2Preface[:12]) }},
		{"HTTP/2: half a frame", func(t *testing.T) net.Conn {
			return say(t, dialedTLS(t, secure, "h2"), h2Preface+h2Settings+"\x00\x00\x20\x01\x04\x00\x00\x00\x01half")
		}},
		{"h2c: idle", plain(h2Preface + h2Settings + h2Ack)},
		{"h2c: half a preface", plain(h2Preface[:20])},
		{"h2c: half a frame", plain(h2Preface + h2Settings + "\x00\x00\x20\x01")},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			c := row.open(t)
			begun := time.Now()
			if err := c.SetReadDeadline(begun.Add(stalledWithin + stalledSlack)); err != nil {
				t.Fatal(err)
			}
			_, err := io.Copy(io.Discard, c)
			took := time.Since(begun)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatalf("still open after %.0fs; want it closed within %v", took.Seconds(), stalledWithin)
			}
			if took < time.Second {
				t.Errorf("closed after %v; want a time-out, not a refusal", took)
			}
			t.Logf("closed after %.1fs", took.Seconds())
		})
	}
}

// secureToo is a configuration with a plain listener and one with TLS, every setting of
// which is its default.
func secureToo(dir, secure, server string) string {
	return fmt.Sprintf(`admin: { address: "ADMIN" }
listeners:
  - { name: web, address: "LISTEN" }
  - { name: secure, address: %q, tls: { certificates: [ { cert_file: %q, key_file: %q } ] } }
upstreams: [ { name: app, servers: [ { address: %q } ] } ]
routes: [ { upstream: app } ]
`, secure, filepath.Join(dir, "site.pem"), filepath.Join(dir, "site.key"), server)
}

func dialed(t *testing.T, address string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func dialedTLS(t *testing.T, address string, protocols ...string) net.Conn {
	t.Helper()
	c := tls.Client(dialed(t, address), &tls.Config{InsecureSkipVerify: true, NextProtos: protocols})
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	return c
}

func say(t *testing.T, c net.Conn, text string) net.Conn {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	return c
}
