package proxy

import (
	"bytes"
	"net/netip"
	"unsafe"

	"drover/exchange"
)

// sourced decides whose request it is and what it is called, before anything asks.
func (p *Proxy) sourced(next handler) handler {
	return func(rq *request) {
		listener := rq.listener()
		setSource(rq.ex, listener.Trusted)
		rq.nameRequest(&listener.RequestID)
		next(rq)
	}
}

// setSource finds the client of an exchange. Each proxy appends the address of whom it
// got the request from to X-Forwarded-For. So the list is read from its end for as long
// as the one who wrote an element is trusted: what is before that, anyone may have
// written. An element that is no address ends the walk as well. It does not allocate.
func setSource(ex *exchange.Exchange, trusted []netip.Prefix) {
	source := ex.Remote.Addr().Unmap()
	ex.TrustedPeer = containsAddr(trusted, source.WithZone(""))
	ex.ClientAddr = source
	if !ex.TrustedPeer {
		return
	}
	for i := len(ex.Request.Header) - 1; i >= 0; i-- {
		f := &ex.Request.Header[i]
		if fieldKindOf(f.Name) != fieldForwardedFor {
			continue
		}
		for list := f.Value; len(list) > 0; {
			var element []byte
			if element, list = lastElement(list); len(element) == 0 {
				continue // lists may have empty elements (RFC 9110, section 5.6.1).
			}
			addr, ok := elementAddr(element)
			if !ok {
				return
			}
			ex.ClientAddr = addr
			if !containsAddr(trusted, addr) {
				return
			}
		}
	}
}

// lastElement takes the last element off a comma-separated list.
func lastElement(list []byte) (element, rest []byte) {
	if i := bytes.LastIndexByte(list, ','); i >= 0 {
		list, rest = list[i+1:], list[:i]
	}
	return bytes.Trim(list, " \t"), rest
}

// elementAddr reads an element of X-Forwarded-For: an address, which some proxies give
// with the port.
func elementAddr(element []byte) (netip.Addr, bool) {
	const longest = len("[ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255]:65535")
	if len(element) > longest {
		return netip.Addr{}, false
	}
	// A string of its own would be allocated for the error, which nobody reads. Nothing
	// keeps this one: a zone would be copied.
	text := unsafe.String(unsafe.SliceData(element), len(element)) //nolint:gosec // see above.
	if element[0] == '[' || bytes.Count(element, colon) == 1 {
		withPort, err := netip.ParseAddrPort(text)
		return withPort.Addr().Unmap(), err == nil && withPort.Addr().Zone() == ""
	}
	addr, err := netip.ParseAddr(text)
	return addr.Unmap(), err == nil && addr.Zone() == ""
}

var colon = []byte{':'}

// containsAddr reports whether one of the networks has the address.
func containsAddr(networks []netip.Prefix, addr netip.Addr) bool {
	for _, n := range networks {
		if n.Contains(addr) {
			return true
		}
	}
	return false
}

// keepForwarding takes over what a trusted peer says of its client, in the fields that
// proxies are known to set themselves. The others may be the client's own.
func (b *headerBuilder) keepForwarding(f *exchange.Field) {
	if !b.trusted {
		return
	}
	switch {
	case exchange.EqualFold(f.Name, "x-forwarded-proto"):
		b.proto = true
	case exchange.EqualFold(f.Name, "x-forwarded-host"):
		b.asked = true
	case exchange.EqualFold(f.Name, "x-forwarded-port"):
	case exchange.EqualFold(f.Name, "forwarded") && !b.opts.Forwarded: // else it gets an element more.
	default:
		return
	}
	b.append(f.Name, f.Value)
}
