package healthcheck

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"drover/backend"
)

// dialer opens the connections of one upstream's probes. All of it is immutable.
type dialer struct {
	port   int  // 0 for the servers' own
	secure bool // TLS whatever the scheme
	// tls lacks ServerName when each server's own host is to be used.
	tls       *tls.Config
	addresses *backend.AddressRules
	header    string // of the PROXY protocol, "" for none
}

// proxyHeaders name no client.
var proxyHeaders = map[string]string{
	"v1": "PROXY UNKNOWN\r\n",
	"v2": "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00",
}

// errClientCert marks a fault of the client certificate.
var errClientCert = errors.New("cannot load the client certificate")

func newDialer(cfg *CheckConfig) (*dialer, error) {
	d := &dialer{port: cfg.Port, secure: cfg.TLS, addresses: cfg.Addresses, header: proxyHeaders[cfg.ProxyProtocol], tls: &tls.Config{
		MinVersion:         tls.VersionTLS12, // older versions are broken (RFC 8996)
		ServerName:         cfg.ServerName,
		InsecureSkipVerify: cfg.InsecureSkipVerify, //nolint:gosec // the operator asks for it.
	}}
	if cfg.CAFile != "" {
		pem, err := os.ReadFile(cfg.CAFile)
		if err != nil {
			return nil, fmt.Errorf("cannot read authorities: %w", err)
		}
		d.tls.RootCAs = x509.NewCertPool()
		if !d.tls.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("cannot use authorities %q: got no PEM certificate in it", cfg.CAFile)
		}
	}
	if cfg.CertFile != "" {
		cert, err := tls.LoadX509KeyPair(cfg.CertFile, cfg.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("%w %q: %w", errClientCert, cfg.CertFile, err)
		}
		d.tls.Certificates = []tls.Certificate{cert}
	}
	return d, nil
}

// target is the server's ID with the port that is probed.
func (d *dialer) target(id backend.ID) backend.ID {
	if d.port != 0 {
		id.Port = uint16(d.port) //nolint:gosec // validated to be at most 65535.
	}
	return id
}

// usesTLS reports whether the server is probed over TLS.
func (d *dialer) usesTLS(id backend.ID) bool { return d.secure || id.Scheme == "https" }

// authority is the probed address, less the scheme's usual port: some servers know
// themselves by the bare name only (RFC 9110, section 7.2).
func (d *dialer) authority(id backend.ID) string {
	address := d.target(id).Address()
	if d.usesTLS(id) {
		return strings.TrimSuffix(address, ":443")
	}
	return strings.TrimSuffix(address, ":80")
}

// dial connects to the server, and negotiates TLS when it is probed that way. The
// context governs the connection until it is closed. Protos are offered by ALPN.
func (d *dialer) dial(ctx context.Context, id backend.ID, protos ...string) (net.Conn, error) {
	conn, err := d.connect(ctx, id)
	if err != nil {
		return nil, err
	}
	if d.port == 0 && d.header != "" {
		if _, err := io.WriteString(conn, d.header); err != nil {
			_ = conn.Close()
			return nil, failed("connecting", err)
		}
	}
	if !d.usesTLS(id) {
		return conn, nil
	}
	secured, err := d.negotiate(ctx, conn, id, protos)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return secured, nil
}

func (d *dialer) connect(ctx context.Context, id backend.ID) (net.Conn, error) {
	conn, err := (&net.Dialer{ControlContext: d.addresses.Control}).DialContext(ctx, "tcp", d.target(id).Address())
	if err != nil {
		return nil, failed("connecting", err)
	}
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		_ = conn.Close()
		return nil, failed("connecting", err)
	}
	// A deadline in the past breaks off whatever the connection is waiting for.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	return &probeConn{Conn: conn, stop: stop}, nil
}

func (d *dialer) negotiate(ctx context.Context, conn net.Conn, id backend.ID, protos []string) (*tls.Conn, error) {
	cfg := d.tls.Clone()
	cfg.NextProtos = protos
	if cfg.ServerName == "" {
		cfg.ServerName = id.Host
	}
	secured := tls.Client(conn, cfg)
	if err := secured.HandshakeContext(ctx); err != nil {
		return nil, failed("negotiating TLS", err)
	}
	return secured, nil
}

// probeConn is a connection that its probe's context can break off.
type probeConn struct {
	net.Conn
	stop func() bool
}

func (c *probeConn) Close() error {
	c.stop()
	return c.Conn.Close()
}
