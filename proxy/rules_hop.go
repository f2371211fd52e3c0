package proxy

import "drover/exchange"

// fieldKind is what drover knows of a header field when it passes a message on.
type fieldKind uint8

const (
	fieldOther fieldKind = iota
	fieldConnection
	fieldContentLength
	fieldForwarded
	fieldForwardedFor
	fieldForwarding // says whom the request is from, dropped or replaced
	fieldHost
	fieldProxyAuthenticate // a proxy's word to its client, left out of responses
	fieldRequestHop        // left out of requests
	fieldTE
	fieldTrailer
	fieldTransferEncoding
	fieldUpgrade
	// fieldDisguised would be one of the above to a server that turns both "-" and "_"
	// into "_", as CGI and its heirs do.
	fieldDisguised
)

// fieldKinds holds the names, in lower case, of all fields that are not fieldOther.
var fieldKinds = map[string]fieldKind{
	"connection":                fieldConnection,
	"keep-alive":                fieldConnection,
	"proxy-connection":          fieldConnection,
	"content-length":            fieldContentLength,
	"forwarded":                 fieldForwarded,
	"x-forwarded-for":           fieldForwardedFor,
	"x-real-ip":                 fieldForwarding,
	"host":                      fieldHost,
	"proxy-authenticate":        fieldProxyAuthenticate,
	"proxy-authentication-info": fieldProxyAuthenticate,
	"expect":                    fieldRequestHop,
	"http2-settings":            fieldRequestHop,
	"proxy-authorization":       fieldRequestHop,
	"te":                        fieldTE,
	"trailer":                   fieldTrailer,
	"transfer-encoding":         fieldTransferEncoding,
	"upgrade":                   fieldUpgrade,
}

// forwardedPrefix begins the names of all fields about the client that no standard
// defines.
const forwardedPrefix = "x-forwarded-"

// maxKnownName bounds the names that are looked up; all in fieldKinds are shorter, and
// longer ones begin with forwardedPrefix or are fieldOther.
const maxKnownName = 26

// knownFirst has the bit of each letter, counted from "a", that a name in fieldKinds
// begins with. Most fields of most messages begin with others.
const knownFirst = 1<<('c'-'a') | 1<<('e'-'a') | 1<<('f'-'a') | 1<<('h'-'a') | 1<<('k'-'a') |
	1<<('p'-'a') | 1<<('t'-'a') | 1<<('u'-'a') | 1<<('x'-'a')

// fieldKindOf looks a name up. It does not allocate.
func fieldKindOf(name []byte) fieldKind {
	if len(name) == 0 || knownFirst>>((name[0]|0x20)-'a')&1 == 0 {
		return fieldOther
	}
	var buf [maxKnownName]byte
	known := buf[:min(len(name), len(buf))]
	disguised := false
	for i := range known {
		known[i] = lowerByte(name[i])
		if known[i] == '_' {
			known[i], disguised = '-', true
		}
	}
	kind := fieldOther
	if len(name) == len(known) {
		kind = fieldKinds[string(known)]
	}
	if kind == fieldOther && len(known) >= len(forwardedPrefix) && string(known[:len(forwardedPrefix)]) == forwardedPrefix {
		kind = fieldForwarding
	}
	if disguised && kind != fieldOther {
		return fieldDisguised
	}
	return kind
}

// connectionProof reports whether a field stays whatever Connection says: those about
// the content and its way are for all recipients (RFC 9110, section 7.6.1), and a
// client that names them is trying to take away what a proxy relies on.
func connectionProof(name []byte) bool {
	const content = "content-"
	if len(name) > len(content) && exchange.EqualFold(name[:len(content)], content) {
		return true
	}
	for _, proof := range [...]string{"authorization", "cache-control", "cookie", "date", "host", "set-cookie", "trailer", "via"} {
		if exchange.EqualFold(name, proof) {
			return true
		}
	}
	return false
}

// maxConnectionOptions is how many options of Connection are looked at. No honest
// message comes near it, and it bounds the work for the others.
const maxConnectionOptions = 128

// connectionOptions are what the Connection fields of a header name.
type connectionOptions struct {
	header exchange.Header
}

// nameFields reports whether any option may name a field, which most messages' do not.
func (c connectionOptions) nameFields() bool {
	return c.find(func(option []byte) bool {
		return len(option) > 0 && !exchange.EqualFold(option, "close") &&
			!exchange.EqualFold(option, "keep-alive") && !exchange.EqualFold(option, "upgrade")
	})
}

// has reports whether a field is named.
func (c connectionOptions) has(name []byte) bool {
	return c.find(func(option []byte) bool { return equalFoldBytes(option, name) })
}

func (c connectionOptions) find(wanted func(option []byte) bool) bool {
	left := maxConnectionOptions
	for i := range c.header {
		if !exchange.EqualFold(c.header[i].Name, "connection") {
			continue
		}
		for list := c.header[i].Value; len(list) > 0 && left > 0; left-- {
			var option []byte
			if option, list = nextElement(list); wanted(option) {
				return true
			}
		}
	}
	return false
}

// equalFoldBytes is exchange.EqualFold for two names from the wire.
func equalFoldBytes(a, b []byte) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if lowerByte(a[i]) != lowerByte(b[i]) {
			return false
		}
	}
	return true
}
