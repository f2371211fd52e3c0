package front

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"

	"drover/invalid"
	"drover/units"

	proxyproto "github.com/pires/go-proxyproto"
	"go.uber.org/zap"
)

// ProxyProtocolConfig takes the client's address from the header that a load balancer
// in front begins each connection with: the PROXY protocol, version 1 or 2.
type ProxyProtocolConfig struct {
	// Trusted are the networks, such as 10.0.0.0/8, or single addresses, of those who
	// must send the header; it has to come within header_timeout. Whoever else connects
	// is served as the client that it is, and a header of theirs is no valid request.
	// Required.
	Trusted []string `yaml:"trusted"`
}

// Validate reports what is wrong with the block itself.
func (c *ProxyProtocolConfig) Validate() error {
	if len(c.Trusted) == 0 {
		return invalid.Fieldf("trusted", `got none; want the load balancers' addresses, such as "10.0.0.0/8"`)
	}
	if _, err := units.ParsePrefixes(c.Trusted); err != nil {
		return invalid.Fieldf("trusted", "%v", err)
	}
	return nil
}

// senders gives Trusted of a valid configuration.
func (c *ProxyProtocolConfig) senders() []netip.Prefix {
	if c == nil {
		return nil
	}
	list, _ := units.ParsePrefixes(c.Trusted) // Validate has seen that it works.
	return list
}

// sendsHeader reports whether a peer must begin with a PROXY header.
func (s *settings) sendsHeader(peer netip.Addr) bool {
	for _, network := range s.senders {
		if network.Contains(peer.WithZone("")) {
			return true
		}
	}
	return false
}

const (
	// maxProxyLine is the longest header of version 1, CRLF included, and maxProxyBlock
	// what we take in one of version 2 behind its first 16 bytes: addresses, and whatever
	// else the sender has to say.
	maxProxyLine  = 107
	proxyStart    = 16
	maxProxyBlock = 4 << 10
)

var (
	proxySignature = []byte("\r\n\r\n\x00\r\nQUIT\n")
	errProxyHeader = errors.New("no valid PROXY header")
)

// takeProxyHeader reads the header, and makes its client the connection's. What came
// behind it is left to be read.
func (f *Front) takeProxyHeader(c *conn) refusal {
	text := make([]byte, 0, 256)
	for {
		size, err := proxyHeaderSize(text)
		if err == nil && (size == 0 || len(text) < size) {
			if len(text) == cap(text) {
				text = append(make([]byte, 0, proxyStart+maxProxyBlock), text...)
			}
			var n int
			if n, err = c.wire.Read(text[len(text):cap(text)]); n > 0 {
				text = text[:len(text)+n]
				continue
			}
			if len(text) == 0 && errors.Is(err, io.EOF) {
				return clientLost // it only looked whether somebody is there.
			}
		}
		var client netip.AddrPort
		if err == nil {
			client, err = parseProxyHeader(text[:size])
		}
		if err != nil {
			f.opts.Logger.Info("connection closed for its PROXY header", zap.Stringer("remote", c.remote), zap.Error(err))
			return badProxyHeader
		}
		c.wire.ahead = text[size:]
		if !client.IsValid() {
			return accepted // a connection of the sender's own
		}
		return f.readmit(c, client)
	}
}

// proxyHeaderSize gives the size of the header that text begins with, 0 while that is
// not known.
func proxyHeaderSize(text []byte) (int, error) {
	switch {
	case bytes.HasPrefix(text, proxySignature):
		if len(text) < proxyStart {
			return 0, nil
		}
		n := int(binary.BigEndian.Uint16(text[proxyStart-2:]))
		if n > maxProxyBlock {
			return 0, fmt.Errorf("%w: got a block of %d bytes; want at most %d", errProxyHeader, n, maxProxyBlock)
		}
		return proxyStart + n, nil
	case bytes.HasPrefix(proxySignature, text), bytes.HasPrefix([]byte("PROXY "), text):
		return 0, nil
	case !bytes.HasPrefix(text, []byte("PROXY ")):
		return 0, fmt.Errorf("%w: got %.16q", errProxyHeader, text)
	}
	i := bytes.IndexByte(text[:min(len(text), maxProxyLine)], '\n')
	if i < 0 && len(text) >= maxProxyLine {
		return 0, fmt.Errorf("%w: got a line of more than %d bytes", errProxyHeader, maxProxyLine)
	}
	return i + 1, nil
}

// parseProxyHeader gives the client that a header names, the zero value for none.
func parseProxyHeader(text []byte) (netip.AddrPort, error) {
	h, err := proxyproto.Read(bufio.NewReaderSize(bytes.NewReader(text), len(text)))
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("%w: %w", errProxyHeader, err)
	}
	if h.Command.IsLocal() || h.TransportProtocol == proxyproto.UNSPEC {
		return netip.AddrPort{}, nil
	}
	tcp, ok := h.SourceAddr.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("%w: got %T; want a TCP address", errProxyHeader, h.SourceAddr)
	}
	client := addrPort(tcp)
	if !client.IsValid() {
		return netip.AddrPort{}, fmt.Errorf("%w: got address %q", errProxyHeader, tcp)
	}
	return client, nil
}
