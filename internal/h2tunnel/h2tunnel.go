// Package h2tunnel is a client of tunnels in HTTP/2 (RFC 8441), for tests.
package h2tunnel

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"golang.org/x/net/http2"
)

// patience bounds the wait for an echo.
const patience = 20 * time.Second

// Tunnel is the client's end of a tunnel for WebSocket, on a connection of its own.
type Tunnel struct {
	conn net.Conn
	in   io.Reader
	out  *io.PipeWriter
}

// Dial opens a tunnel, over TLS unless cfg is nil, which needs no ALPN.
func Dial(ctx context.Context, address, path string, cfg *tls.Config) (*Tunnel, error) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("cannot open a tunnel: %w", err)
	}
	t, err := open(ctx, conn, address, path, cfg)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot open a tunnel: %w", err), conn.Close())
	}
	return t, nil
}

func open(ctx context.Context, conn net.Conn, address, path string, cfg *tls.Config) (*Tunnel, error) {
	url := "http://" + address + path
	if cfg != nil {
		cfg = cfg.Clone()
		cfg.NextProtos = []string{http2.NextProtoTLS}
		conn, url = tls.Client(conn, cfg), "https://"+address+path
	}
	client, err := (&http2.Transport{AllowHTTP: true}).NewClientConn(conn) //nolint:staticcheck // that of net/http takes no connection that is there already.
	if err != nil {
		return nil, err
	}
	body, out := io.Pipe()
	req, err := http.NewRequestWithContext(ctx, http.MethodConnect, url, body)
	if err != nil {
		return nil, err
	}
	req.Header[":protocol"] = []string{"websocket"}
	req.Header.Set("Sec-WebSocket-Version", "13")
	resp, err := client.RoundTrip(req) //nolint:bodyclose // the Tunnel closes it.
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("got status %d; want 200", resp.StatusCode)
	}
	return &Tunnel{conn: conn, in: resp.Body, out: out}, nil
}

// Read implements io.Reader.
func (t *Tunnel) Read(p []byte) (int, error) { return t.in.Read(p) }

// Write implements io.Writer.
func (t *Tunnel) Write(p []byte) (int, error) { return t.out.Write(p) }

// CloseWrite ends the client's direction.
func (t *Tunnel) CloseWrite() error { return t.out.Close() }

// Close breaks the connection.
func (t *Tunnel) Close() error {
	_ = t.out.Close() // never fails
	return t.conn.Close()
}

// Echoes sends a message of a WebSocket (RFC 6455, section 5) and reports that the same
// does not come back.
func (t *Tunnel) Echoes(text string) error {
	const final, masked = 0x81, 0x80 // a text that is whole; a mask of zeros follows.
	if len(text) > 125 {
		return fmt.Errorf("got a message of %d bytes; want at most 125", len(text))
	}
	if _, err := t.Write(append([]byte{final, masked | byte(len(text)), 0, 0, 0, 0}, text...)); err != nil {
		return fmt.Errorf("the WebSocket takes no more: %w", err)
	}
	defer time.AfterFunc(patience, func() { _ = t.Close() }).Stop()
	got := make([]byte, 2+len(text))
	if _, err := io.ReadFull(t, got); err != nil || got[0] != final || string(got[2:]) != text {
		return fmt.Errorf("the WebSocket gave %q, %w; want %q", got, err, text)
	}
	return nil
}
