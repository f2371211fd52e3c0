package proxy

import (
	"bytes"
	"strconv"

	"drover/exchange"
)

// HeaderOptions say how header lists are made ready to be sent on.
type HeaderOptions struct {
	// Forwarded adds RFC 7239's field beside the X-Forwarded- ones.
	Forwarded bool
	// Via names drover in Via (RFC 9110, section 7.6.3).
	Via bool
	// RequestID is the field that names the request, nil for none. It takes the place of
	// the client's, and of what some servers take for the same.
	RequestID []byte
	// Scratch, when given, is memory that new values are appended to in place of new
	// allocations. What was written stays valid until its owner cuts it back.
	Scratch *[]byte
}

// OutgoingHeader appends to dst the fields that a server gets for a request: the
// client's in their order and spelling, duplicates included, and then drover's own.
// The values are views of the request's, of opts.Scratch, or constants.
//
// Left out is what concerned the client's connection alone (RFC 9110, section 7.6.1):
// Connection and every field that it names, Keep-Alive, Proxy-Connection, Upgrade,
// HTTP2-Settings, TE; Expect, as drover answers it itself; and Proxy-Authorization,
// which was meant for a proxy of the client's (section 11.7.2). Connection cannot name
// away what frames or routes the message or what drover writes, see connectionProof.
//
// The body's framing stays in its place: Content-Length verbatim where the length is
// known, "Transfer-Encoding: chunked" and Trailer where it is not, neither without a
// body. There is one Host, with the value of ex.Request.Host.
//
// X-Forwarded-For is one field that holds the client's values, joined, and then the
// client's address: only the last element is drover's word. X-Forwarded-Proto and
// X-Forwarded-Host replace the client's, and all other X-Forwarded- fields, X-Real-IP and Forwarded are dropped: what a client
// says about itself there must not reach a server that takes it for drover's word.
// Forwarded gets an element of drover's behind the client's when opts ask for it. So
// is any field that equals one of these, or one of the framing, but for "_" in place
// of "-": servers that turn names into variables cannot tell them apart.
//
// Where ex.TrustedPeer says that a proxy sent the request, X-Forwarded-Proto, -Host and
// -Port and Forwarded stay as they are, and drover adds the first two only where they
// are missing. The address that ends X-Forwarded-For is then that proxy's.
//
// A request for an upgrade gets Connection and Upgrade again, and "TE: trailers" stays.
func OutgoingHeader(dst exchange.Header, ex *exchange.Exchange, opts HeaderOptions) exchange.Header {
	b := headerBuilder{out: dst, req: &ex.Request, named: connectionOptions{ex.Request.Header}, opts: opts, trusted: ex.TrustedPeer}
	b.filters = b.named.nameFields()
	if !ex.Request.Header.Has("Host") {
		b.append(nameHost, ex.Request.Host)
	}
	for i := range ex.Request.Header {
		b.request(&ex.Request.Header[i])
	}
	b.addFraming()
	b.addConnection()
	b.addForwarded(ex)
	if opts.RequestID != nil {
		b.append(opts.RequestID, ex.RequestID)
	}
	if opts.Via {
		b.append(nameVia, viaRequest[viaIndex(&ex.Request)])
	}
	return b.out
}

// ResponseHeader appends to dst the fields that a client gets for a server's response:
// the server's in their order and spelling, less those of the server's connection.
// Content-Length and Trailer stay, Transfer-Encoding goes, as the front decides the
// framing. Upgrade, for a 101 or a 426, keeps the Upgrade field and adds a Connection
// to go with it.
func ResponseHeader(dst, src exchange.Header, upgrade bool, opts HeaderOptions) exchange.Header {
	named := connectionOptions{src}
	filters := named.nameFields()
	for i := range src {
		f := &src[i]
		switch fieldKindOf(f.Name) {
		case fieldConnection, fieldTE, fieldTransferEncoding, fieldProxyAuthenticate:
		case fieldUpgrade:
			if upgrade {
				dst = append(dst, *f)
			}
		default:
			if !filters || connectionProof(f.Name) || !named.has(f.Name) {
				dst = append(dst, *f)
			}
		}
	}
	if upgrade {
		dst = append(dst, exchange.Field{Name: nameConnection, Value: valueUpgrade})
	}
	if opts.Via {
		dst = append(dst, exchange.Field{Name: nameVia, Value: viaResponse})
	}
	return dst
}

// Names and values of the fields that drover writes.
var (
	nameHost           = []byte("Host")
	nameConnection     = []byte("Connection")
	nameContentLength  = []byte("Content-Length")
	nameTE             = []byte("TE")
	nameTransfer       = []byte("Transfer-Encoding")
	nameUpgrade        = []byte("Upgrade")
	nameVia            = []byte("Via")
	nameForwarded      = []byte("Forwarded")
	nameForwardedFor   = []byte("X-Forwarded-For")
	nameForwardedHost  = []byte("X-Forwarded-Host")
	nameForwardedProto = []byte("X-Forwarded-Proto")

	valueChunked  = []byte("chunked")
	valueTrailers = []byte("trailers")
	valueTE       = []byte("TE")
	valueUpgrade  = []byte("Upgrade")
	valueBoth     = []byte("TE, Upgrade")
	valueHTTP     = []byte("http")
	valueHTTPS    = []byte("https")

	viaRequest  = [4][]byte{[]byte("1.0 drover"), []byte("1.1 drover"), []byte("2.0 drover"), []byte("3.0 drover")}
	viaResponse = []byte("1.1 drover")
)

// viaIndex finds the version that a request came in.
func viaIndex(req *exchange.Request) int {
	if req.ProtoMajor >= 2 {
		return min(req.ProtoMajor, 3)
	}
	return req.ProtoMinor & 1
}

// headerBuilder makes one outgoing list.
type headerBuilder struct {
	out     exchange.Header
	req     *exchange.Request
	named   connectionOptions
	filters bool // Connection names fields
	opts    HeaderOptions
	trusted bool // the peer's word about its client is kept

	host     bool // already written
	length   bool
	chunked  bool
	trailers bool // "TE: trailers" was there
	chain    bool // so was X-Forwarded-For
	proto    bool // and, from a trusted peer, X-Forwarded-Proto
	asked    bool // and X-Forwarded-Host
}

func (b *headerBuilder) append(name, value []byte) {
	b.out = append(b.out, exchange.Field{Name: name, Value: value})
}

// request takes over one of the client's fields, or not.
func (b *headerBuilder) request(f *exchange.Field) {
	switch fieldKindOf(f.Name) {
	case fieldHost:
		if !b.host {
			b.append(f.Name, b.req.Host)
		}
		b.host = true
	case fieldContentLength:
		if b.req.ContentLength >= 0 && !b.length {
			b.append(f.Name, f.Value)
		}
		b.length = true
	case fieldTransferEncoding:
		if b.req.ContentLength == exchange.LengthUnknown && !b.chunked {
			b.append(f.Name, valueChunked)
		}
		b.chunked = true
	case fieldTrailer:
		if b.req.ContentLength == exchange.LengthUnknown {
			b.append(f.Name, f.Value)
		}
	case fieldTE:
		b.trailers = b.trailers || hasTrailers(f.Value)
	case fieldForwardedFor:
		b.chain = true
	case fieldForwarding, fieldForwarded:
		b.keepForwarding(f)
	case fieldConnection, fieldUpgrade, fieldRequestHop, fieldDisguised:
	case fieldOther, fieldProxyAuthenticate:
		if b.opts.RequestID != nil && sameName(f.Name, b.opts.RequestID) {
			return
		}
		if !b.filters || connectionProof(f.Name) || !b.named.has(f.Name) {
			b.append(f.Name, f.Value)
		}
	}
}

// addFraming adds the framing that the client did not send: HTTP/2 needs none.
func (b *headerBuilder) addFraming() {
	switch n := b.req.ContentLength; {
	case n >= 0 && !b.length:
		b.append(nameContentLength, b.scratch(func(dst []byte) []byte { return strconv.AppendInt(dst, n, 10) }))
	case n == exchange.LengthUnknown && !b.chunked:
		b.append(nameTransfer, valueChunked)
	}
}

// addConnection adds the fields that concern the connection to the server. TE must be
// named in Connection (RFC 9110, section 10.1.4).
func (b *headerBuilder) addConnection() {
	upgrade := b.req.Upgrade != ""
	switch {
	case b.trailers && upgrade:
		b.append(nameConnection, valueBoth)
	case b.trailers:
		b.append(nameConnection, valueTE)
	case upgrade:
		b.append(nameConnection, valueUpgrade)
	}
	if b.trailers {
		b.append(nameTE, valueTrailers)
	}
	if upgrade {
		b.append(nameUpgrade, b.scratch(func(dst []byte) []byte { return append(dst, b.req.Upgrade...) }))
	}
}

// addForwarded says whom the request is from.
func (b *headerBuilder) addForwarded(ex *exchange.Exchange) {
	b.append(nameForwardedFor, b.scratch(func(dst []byte) []byte { return b.appendChain(dst, ex) }))
	proto := valueHTTP
	if ex.Secure {
		proto = valueHTTPS
	}
	if !b.proto {
		b.append(nameForwardedProto, proto)
	}
	if !b.asked && len(ex.Request.Host) > 0 {
		b.append(nameForwardedHost, ex.Request.Host)
	}
	if b.opts.Forwarded {
		b.append(nameForwarded, b.scratch(func(dst []byte) []byte { return appendForwarded(dst, ex) }))
	}
}

// appendChain appends the value of X-Forwarded-For.
func (b *headerBuilder) appendChain(dst []byte, ex *exchange.Exchange) []byte {
	from := len(dst)
	for i := range b.req.Header {
		if f := &b.req.Header[i]; b.chain && fieldKindOf(f.Name) == fieldForwardedFor {
			dst = appendListElement(dst, from, f.Value)
		}
	}
	if len(dst) > from {
		dst = append(dst, ", "...)
	}
	return appendPeerIP(dst, ex)
}

// scratch gives what fill appends, in the caller's memory where there is some.
func (b *headerBuilder) scratch(fill func(dst []byte) []byte) []byte {
	if b.opts.Scratch == nil {
		return fill(nil)
	}
	from := len(*b.opts.Scratch)
	*b.opts.Scratch = fill(*b.opts.Scratch)
	return (*b.opts.Scratch)[from:len(*b.opts.Scratch):len(*b.opts.Scratch)]
}

// appendListElement appends one field's value to a list that began at from.
func appendListElement(dst []byte, from int, value []byte) []byte {
	value = bytes.Trim(value, ", \t")
	if len(value) == 0 {
		return dst
	}
	if len(dst) > from {
		dst = append(dst, ", "...)
	}
	return append(dst, value...)
}

// hasTrailers reports whether a TE field says that its sender takes trailers.
func hasTrailers(value []byte) bool {
	for len(value) > 0 {
		var element []byte
		element, value = nextElement(value)
		if i := bytes.IndexByte(element, ';'); i >= 0 {
			element = bytes.TrimRight(element[:i], " \t")
		}
		if exchange.EqualFold(element, "trailers") {
			return true
		}
	}
	return false
}

// nextElement takes the first element off a comma-separated list.
func nextElement(list []byte) (element, rest []byte) {
	if i := bytes.IndexByte(list, ','); i >= 0 {
		list, rest = list[:i], list[i+1:]
	}
	return bytes.Trim(list, " \t"), rest
}
