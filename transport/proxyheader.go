package transport

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"

	"drover/exchange"
	"drover/invalid"

	proxyproto "github.com/pires/go-proxyproto"
)

// proxyVersions are the values of proxy_protocol.
var proxyVersions = map[string]byte{"none": 0, "v1": 1, "v2": 2}

func (c *Config) checkProxyProtocol() error {
	if _, ok := proxyVersions[c.ProxyProtocol]; !ok {
		return invalid.Fieldf("proxy_protocol", "got %q; want one of %s", c.ProxyProtocol, strings.Join(slices.Sorted(maps.Keys(proxyVersions)), ", "))
	}
	if c.sendsProxy() && (c.Protocol == ProtocolH2 || c.Protocol == ProtocolH2C) {
		return invalid.Fieldf("proxy_protocol", "got %s with protocol %s, whose connections clients share; want protocol h1", c.ProxyProtocol, c.Protocol)
	}
	return nil
}

// sendsProxy reports whether connections begin with a PROXY header. They then belong
// to one client, and serve one request.
func (c *Config) sendsProxy() bool { return proxyVersions[c.ProxyProtocol] != 0 }

// proxyHeader is the header that names the client of an exchange, by the word of
// trusted proxies, and the listener that it came by.
func proxyHeader(version byte, ex *exchange.Exchange) ([]byte, error) {
	client := netip.AddrPortFrom(ex.Source(), ex.Remote.Port())
	local := ex.Local
	if client.Addr().Unmap().Is4() != local.Addr().Unmap().Is4() {
		// One family must do for both: IPv6, which has a form for IPv4.
		client = netip.AddrPortFrom(netip.AddrFrom16(client.Addr().As16()), client.Port())
		local = netip.AddrPortFrom(netip.AddrFrom16(local.Addr().As16()), local.Port())
	}
	h := &proxyproto.Header{Version: version, Command: proxyproto.LOCAL}
	if client.Addr().IsValid() && ex.Local.Addr().IsValid() {
		h.Command, h.TransportProtocol = proxyproto.PROXY, proxyproto.TCPv4
		if !client.Addr().Unmap().Is4() || !local.Addr().Unmap().Is4() || client.Addr().Is4In6() {
			h.TransportProtocol = proxyproto.TCPv6
		}
		h.SourceAddr, h.DestinationAddr = net.TCPAddrFromAddrPort(client), net.TCPAddrFromAddrPort(local)
	}
	text, err := h.Format()
	if err != nil {
		return nil, fmt.Errorf("cannot write a PROXY header for client %v: %w", client, err)
	}
	return text, nil
}
