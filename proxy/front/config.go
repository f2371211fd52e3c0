package front

import (
	"crypto/tls"
	"errors"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"drover/invalid"
	"drover/units"
)

// Config is one entry of `listeners`: an address that clients connect to.
type Config struct {
	// Name is what logs, metrics and routes call the listener. Required, unique.
	Name string `yaml:"name"`
	// Address is where it listens, host:port; an empty host is every address.
	// Required.
	Address string `yaml:"address"`
	// TLS makes it an HTTPS listener. Absent: plain HTTP.
	TLS *TLSConfig `yaml:"tls"`

	// HeaderTimeout bounds the whole request head, from its first byte; on a new
	// connection from its accept, and from there again for the TLS handshake. Over
	// HTTP/2 it bounds each frame, too, but for the data of a body. Default 10s.
	HeaderTimeout time.Duration `yaml:"header_timeout"`
	// BodyIdleTimeout is how long a client may send nothing in the middle of a
	// request body. See min_body_rate for one that goes on slowly. Default 30s.
	BodyIdleTimeout time.Duration `yaml:"body_idle_timeout"`
	// MinBodyRate is how many bytes a second a client must send, on average, of a request
	// body whose length it has announced; else 408. Only time that is spent waiting for
	// the client counts, and the first 10s of it do not. A body of unknown length may be
	// a stream, which has nothing to say at times: it is held to body_idle_timeout
	// alone. 0 is no limit. Default 100B.
	MinBodyRate units.Size `yaml:"min_body_rate"`
	// WriteIdleTimeout is how long a write to a client may be blocked without a
	// single byte being taken. Default 60s.
	WriteIdleTimeout time.Duration `yaml:"write_idle_timeout"`
	// KeepAliveTimeout is how long a connection may be idle between two requests.
	// Default 30s.
	KeepAliveTimeout time.Duration `yaml:"keep_alive_timeout"`

	// MaxHeaderSize bounds the request head, request line included; above it
	// drover answers 431. Each connection with a request holds a buffer of this
	// size. A reload with another size leaves connections alone until they are idle.
	// Default 32KiB.
	MaxHeaderSize units.Size `yaml:"max_header_size"`
	// MaxHeaderFields bounds the number of header fields, and that of trailer
	// fields; above it drover answers 431. Default 128.
	MaxHeaderFields int `yaml:"max_header_fields"`
	// MaxBodySize bounds a request body; above it drover answers 413. 0 is no
	// limit: bodies are streamed and take no memory. Default 0.
	MaxBodySize units.Size `yaml:"max_body_size"`
	// MaxConnections bounds the open connections of this listener, tunnels
	// included; above it drover answers 503 at once, or just closes under TLS. 0 is
	// no limit. Default 0.
	MaxConnections int `yaml:"max_connections"`

	// MaxConnectionsPerClient bounds the open connections of one client address, of an
	// IPv6 client those of its /64; above it drover answers 429 at once, or just closes
	// under TLS. Behind a load balancer all clients may have its address. 0 is no
	// limit. Default 0.
	MaxConnectionsPerClient int `yaml:"max_connections_per_client"`

	// HTTP2 says how HTTP/2 is spoken.
	HTTP2 HTTP2Config `yaml:"http2"`
	// HTTP3 has the listener speak HTTP/3 too, beside what it speaks over TCP. It needs
	// tls. Absent: it does not.
	HTTP3 *HTTP3Config `yaml:"http3"`

	// Forwarded also sends the Forwarded field (RFC 7239) to servers, beside
	// X-Forwarded-*. Default false.
	Forwarded bool `yaml:"forwarded"`
	// TrustedProxies are networks such as 10.0.0.0/8, or single addresses, of proxies
	// in front of drover. The client of a request from one is the last address in
	// X-Forwarded-For that is none of theirs, and what the proxy says in
	// X-Forwarded-Proto, -Host and -Port and in Forwarded goes on to servers. Logs,
	// hashes and {client_ip} take that address. An element that is no address ends the
	// search: the one after it counts. Default none: only the connection tells.
	TrustedProxies []string `yaml:"trusted_proxies"`
	// ProxyProtocol takes the client's address from PROXY headers. Absent: none is read.
	ProxyProtocol *ProxyProtocolConfig `yaml:"proxy_protocol"`
	// Via sends the Via field (RFC 9110, section 7.6.3) to servers and clients.
	// Default false.
	Via bool `yaml:"via"`
	// RequestID gives each request a name. Absent: none is sent.
	RequestID *RequestIDConfig `yaml:"request_id"`
	// Path says what is done about paths that servers read in more than one way.
	Path PathConfig `yaml:"path"`
}

// TLSConfig is the `tls` block of a listener.
type TLSConfig struct {
	// Certificates are chosen by the name that the client asks for: an exact name
	// first, then a wildcard, else the first in the list. At least one, unless there is
	// acme.
	Certificates []Certificate `yaml:"certificates"`
	// ACME has an authority issue certificates, beside those of files. Absent: none.
	ACME *ACMEConfig `yaml:"acme"`
	// MinVersion is the oldest protocol that is spoken, "1.2" or "1.3". Default
	// "1.2".
	MinVersion string `yaml:"min_version"`
	// ClientAuth asks clients for a certificate (mTLS). Absent: it is not asked for.
	ClientAuth *ClientAuthConfig `yaml:"client_auth"`
	// SessionTickets says how clients resume a session.
	SessionTickets TicketsConfig `yaml:"session_tickets"`
	// HSTS adds Strict-Transport-Security (RFC 6797) to every response that has none.
	// Absent: it is not added.
	HSTS *HSTSConfig `yaml:"hsts"`
}

// Certificate is a certificate and its key, both files in PEM. They are read when
// the configuration is loaded, and again when it is reloaded.
type Certificate struct {
	// CertFile holds the certificate, intermediate ones after it. Required.
	CertFile string `yaml:"cert_file"`
	// KeyFile holds its private key. Required.
	KeyFile string `yaml:"key_file"`
	// OCSPFile holds the authority's OCSP answer for it in DER, which is sent along
	// (stapled) while it is valid. One for another certificate, or one that does not
	// say "good", is refused. Default none.
	OCSPFile string `yaml:"ocsp_file"`
}

// tlsVersions are the names that min_version takes.
var tlsVersions = map[string]uint16{
	"1.2": tls.VersionTLS12,
	"1.3": tls.VersionTLS13,
}

// Bounds of what a listener may be set to.
const (
	minHeaderSize = 1 * units.KiB
	maxHeaderSize = 1 * units.MiB
	maxFields     = 10000
)

// SetDefaults fills in the defaults.
func (c *Config) SetDefaults() {
	c.HeaderTimeout = 10 * time.Second
	c.BodyIdleTimeout = 30 * time.Second
	c.WriteIdleTimeout = 60 * time.Second
	c.KeepAliveTimeout = 30 * time.Second
	c.MinBodyRate = 100
	c.MaxHeaderSize = 32 * units.KiB
	c.MaxHeaderFields = 128
	c.HTTP2.SetDefaults()
}

// SetDefaults fills in the defaults.
func (c *TLSConfig) SetDefaults() {
	c.MinVersion = "1.2"
	c.SessionTickets.SetDefaults()
}

// Validate reports what is wrong with the listener itself, its blocks apart.
func (c *Config) Validate() error {
	var errs []error
	if c.Name == "" {
		errs = append(errs, invalid.Fieldf("name", "got nothing; want a name that no other listener has"))
	}
	if err := checkAddress(c.Address); err != nil {
		errs = append(errs, err)
	}
	for _, timeout := range []struct {
		key   string
		value time.Duration
	}{
		{"header_timeout", c.HeaderTimeout},
		{"body_idle_timeout", c.BodyIdleTimeout},
		{"write_idle_timeout", c.WriteIdleTimeout},
		{"keep_alive_timeout", c.KeepAliveTimeout},
	} {
		if timeout.value <= 0 {
			errs = append(errs, invalid.Fieldf(timeout.key, "got %v; want more than 0s", timeout.value))
		}
	}
	if c.MaxHeaderSize < minHeaderSize || c.MaxHeaderSize > maxHeaderSize {
		errs = append(errs, invalid.Fieldf("max_header_size", "got %v; want %v to %v", c.MaxHeaderSize, minHeaderSize, maxHeaderSize))
	}
	if c.MaxHeaderFields < 1 || c.MaxHeaderFields > maxFields {
		errs = append(errs, invalid.Fieldf("max_header_fields", "got %d; want 1 to %d", c.MaxHeaderFields, maxFields))
	}
	if err := c.checkHTTP3(); err != nil {
		errs = append(errs, err)
	}
	if c.MaxBodySize < 0 {
		errs = append(errs, invalid.Fieldf("max_body_size", "got %v; want 0 for no limit, or more", c.MaxBodySize))
	}
	if _, err := units.ParsePrefixes(c.TrustedProxies); err != nil {
		errs = append(errs, invalid.Fieldf("trusted_proxies", "%v", err))
	}
	if c.MaxConnections < 0 {
		errs = append(errs, invalid.Fieldf("max_connections", "got %d; want 0 for no limit, or more", c.MaxConnections))
	}
	if c.MinBodyRate < 0 {
		errs = append(errs, invalid.Fieldf("min_body_rate", "got %d bytes; want 0 for no limit, or more", int64(c.MinBodyRate)))
	}
	if c.MaxConnectionsPerClient < 0 {
		errs = append(errs, invalid.Fieldf("max_connections_per_client", "got %d; want 0 for no limit, or more", c.MaxConnectionsPerClient))
	}
	return errors.Join(errs...)
}

func checkAddress(address string) error {
	const want = "want host:port such as 0.0.0.0:8080 or :8080"
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return invalid.Fieldf("address", "got %q; %s", address, want)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return invalid.Fieldf("address", "got port %q; want a number from 0 to 65535", port)
	}
	return nil
}

// Validate reports what is wrong with the block itself.
func (c *TLSConfig) Validate() error {
	var errs []error
	if len(c.Certificates) == 0 && c.ACME == nil {
		errs = append(errs, invalid.Fieldf("certificates", "got none; want at least one, such as { cert_file: site.pem, key_file: site.key }"))
	}
	if _, ok := tlsVersions[c.MinVersion]; !ok {
		errs = append(errs, invalid.Fieldf("min_version", "got %q; want one of %s",
			c.MinVersion, strings.Join(slices.Sorted(maps.Keys(tlsVersions)), ", ")))
	}
	return errors.Join(errs...)
}

// Validate reports what is missing.
func (c *Certificate) Validate() error {
	var errs []error
	if c.CertFile == "" {
		errs = append(errs, invalid.Fieldf("cert_file", "got nothing; want a file with a certificate in PEM"))
	}
	if c.KeyFile == "" {
		errs = append(errs, invalid.Fieldf("key_file", "got nothing; want a file with the certificate's private key in PEM"))
	}
	return errors.Join(errs...)
}

// SameSocket reports whether a running Front can take o by Update. What it cannot
// take needs a new Front: another name, another address, and TLS that comes or goes.
// What changes about TLS takes SetTLS.
func (c Config) SameSocket(o Config) bool {
	return c.Name == o.Name && c.Address == o.Address && (c.TLS == nil) == (o.TLS == nil)
}

// Files are the files that the settings name; nil ones name none.
func (c *TLSConfig) Files() []string {
	if c == nil {
		return nil
	}
	var files []string
	for _, pair := range c.Certificates {
		files = append(files, pair.CertFile, pair.KeyFile, pair.OCSPFile)
	}
	if c.ClientAuth != nil {
		files = append(files, c.ClientAuth.CAFile)
	}
	return files
}
