// Package transport is the wire to one server: its connection pool and the HTTP/1.1
// exchange on a net.Conn.
package transport

import (
	"errors"
	"slices"
	"time"

	"drover/backend"
	"drover/invalid"
	"drover/units"
)

// Config is the wire to an upstream's servers.
type Config struct {
	// ConnectTimeout bounds a new connection: name, TCP and TLS together. Default 3s.
	ConnectTimeout time.Duration `yaml:"connect_timeout"`
	// ResponseHeaderTimeout bounds the wait from the end of the request to the end of
	// the response's head. Default 60s.
	ResponseHeaderTimeout time.Duration `yaml:"response_header_timeout"`
	// BodyIdleTimeout bounds the wait for the next bytes of a body, in either
	// direction. A body may take any time in all. Default 60s.
	BodyIdleTimeout time.Duration `yaml:"body_idle_timeout"`
	// IdleConnections is how many unused connections are kept per server. Default 128.
	IdleConnections int `yaml:"idle_connections"`
	// IdleTimeout is how long an unused connection is kept. It should be shorter than
	// the servers' own. Default 60s.
	IdleTimeout time.Duration `yaml:"idle_timeout"`
	// MaxConnections is the most connections to one server; requests beyond wait as
	// `limits` says. With protocol h2 or h2c, many requests share a connection; those
	// for which none has room wait for connect_timeout. Default 0: no limit.
	MaxConnections int `yaml:"max_connections"`
	// MaxResponseHeaderSize bounds a response's head, and its trailers. Default 64KiB.
	MaxResponseHeaderSize units.Size `yaml:"max_response_header_size"`
	// Protocol is what servers are spoken to in: auto, h1, h2 or h2c. auto lets https
	// servers choose HTTP/2 or HTTP/1.1 by ALPN and speaks HTTP/1.1 to http servers; h2
	// wants HTTP/2 over TLS; h2c speaks HTTP/2 in clear text, unasked, to http servers.
	// Requests for an upgrade (WebSocket) need HTTP/1.1: auto and h1 have it. Default
	// auto.
	Protocol Protocol `yaml:"protocol"`
	// ProxyProtocol is the header that connections begin with: none, v1 or v2. It names
	// the client, so that a connection serves one request, and not over HTTP/2: auto is h1
	// then. Checks of the servers' own ports send one that names nobody. Default none.
	ProxyProtocol string `yaml:"proxy_protocol"`
	// HTTP2 holds what only HTTP/2 has.
	HTTP2 HTTP2Config `yaml:"http2"`
	// TLS applies to servers whose scheme is https.
	TLS TLSConfig `yaml:"tls"`

	// Addresses is held against what a server's host resolves to, at each connection.
	Addresses *backend.AddressRules `yaml:"-"`
}

// TLSConfig is how https servers are spoken to.
type TLSConfig struct {
	// CAFile holds the authorities to trust, PEM. Default: the system's.
	CAFile string `yaml:"ca_file"`
	// ServerName is the name to verify and to send. Default: the server's host.
	ServerName string `yaml:"server_name"`
	// InsecureSkipVerify accepts any certificate. Default false.
	InsecureSkipVerify bool `yaml:"insecure_skip_verify"`
	// CertFile and KeyFile are the certificate that drover shows, PEM. Default none.
	CertFile string `yaml:"cert_file"`
	KeyFile  string `yaml:"key_file"`
}

// SetDefaults implements the decoder's contract.
func (c *Config) SetDefaults() {
	*c = Config{
		ConnectTimeout:        3 * time.Second,
		ResponseHeaderTimeout: 60 * time.Second,
		BodyIdleTimeout:       60 * time.Second,
		IdleConnections:       128,
		IdleTimeout:           60 * time.Second,
		MaxResponseHeaderSize: 64 * units.KiB,
		Protocol:              ProtocolAuto,
		ProxyProtocol:         "none",
	}
	c.HTTP2.SetDefaults()
}

// Validate implements the decoder's contract.
func (c *Config) Validate() error {
	var faults []error
	for _, f := range []struct {
		key   string
		value time.Duration
	}{
		{"connect_timeout", c.ConnectTimeout},
		{"response_header_timeout", c.ResponseHeaderTimeout},
		{"body_idle_timeout", c.BodyIdleTimeout},
		{"idle_timeout", c.IdleTimeout},
	} {
		if f.value <= 0 {
			faults = append(faults, invalid.Fieldf(f.key, "got %s; want more than 0s", f.value))
		}
	}
	for _, f := range []struct {
		key   string
		value int
	}{{"idle_connections", c.IdleConnections}, {"max_connections", c.MaxConnections}} {
		if f.value < 0 {
			faults = append(faults, invalid.Fieldf(f.key, "got %d; want 0 or more", f.value))
		}
	}
	if c.MaxResponseHeaderSize < units.KiB || c.MaxResponseHeaderSize > 16*units.MiB {
		faults = append(faults, invalid.Fieldf("max_response_header_size", "got %s; want 1KiB to 16MiB", c.MaxResponseHeaderSize))
	}
	if !slices.Contains(protocols, c.Protocol) {
		faults = append(faults, invalid.Fieldf("protocol", "got %q; want auto, h1, h2 or h2c", c.Protocol))
	}
	return errors.Join(append(faults, c.checkProxyProtocol())...)
}

// Validate implements the decoder's contract. It reads the files.
func (c *TLSConfig) Validate() error {
	var faults []error
	if c.CAFile != "" {
		if _, _, err := loadCA(c.CAFile); err != nil {
			faults = append(faults, invalid.Fieldf("ca_file", "%w", err))
		}
	}
	switch {
	case (c.CertFile == "") != (c.KeyFile == ""):
		faults = append(faults, invalid.Fieldf("cert_file", "got only one of cert_file and key_file; want both"))
	case c.CertFile != "":
		if _, _, err := loadPair(c.CertFile, c.KeyFile); err != nil {
			faults = append(faults, invalid.Fieldf("cert_file", "%w", err))
		}
	}
	return errors.Join(faults...)
}
