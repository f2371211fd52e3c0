package front

import (
	"bytes"

	"drover/exchange"

	"github.com/valyala/fasthttp"
)

// refusal says why a request is answered before any handler sees it.
type refusal uint8

const (
	accepted refusal = iota
	badRequest
	badVersion
	badMethod
	headTooLarge
	bodyTooLarge
	badExpect
	clientTimeout
	misdirected
	overloaded // by all connections
	tooMany    // connections of one client
	badProxyHeader
	clientLost // there is nobody to answer
)

// refusals holds the answer for each refusal.
var refusals = [...]struct {
	status int
	reason exchange.Reason
}{
	badRequest:    {400, exchange.ReasonBadRequest},
	badVersion:    {505, exchange.ReasonVersion},
	badMethod:     {405, exchange.ReasonMethod},
	headTooLarge:  {431, exchange.ReasonHeaderTooLarge},
	bodyTooLarge:  {413, exchange.ReasonBodyTooLarge},
	badExpect:     {417, exchange.ReasonExpectation},
	clientTimeout: {408, exchange.ReasonClientTimeout},
	misdirected:   {421, exchange.ReasonMisdirected},
	overloaded:    {503, exchange.ReasonOverload},
	tooMany:       {429, exchange.ReasonClientConns},

	badProxyHeader: {400, exchange.ReasonProxyHeader},
}

// request is a request's head as far as drover itself must understand it.
type request struct {
	fields  exchange.Header
	scratch []byte // of a target in absolute-form

	target     []byte
	host       []byte
	minor      int
	length     int64 // as exchange.Request.ContentLength
	expects    bool
	upgrade    []byte // the first protocol that is offered and no h2c
	upgradable bool   // Connection names Upgrade

	// where fields stand, 0 for nowhere, else one more than the index
	hostAt, lengthAt, codingAt int
}

// read takes a head apart. fasthttp has read it with fewer scruples; what it has
// copied or normalised is not looked at.
func (r *request) read(h *fasthttp.RequestHeader, s *settings) refusal {
	*r = request{fields: r.fields[:0], scratch: r.scratch[:0], length: exchange.NoBody}
	version := h.Protocol() // fasthttp checked its form, HTTP/d.d.
	if version[5] != '1' {
		return badVersion
	}
	// A later minor version is compatible; we speak 1.1 (RFC 9110, section 6.2).
	r.minor = int(min(version[7]-'0', 1))
	var verdict scanVerdict
	switch r.fields, verdict = scanFields(r.fields, h.RawHeaders(), s.maxFields); verdict {
	case scanTooMany:
		return headTooLarge
	case scanMalformed:
		return badRequest
	case scanFine:
	}
	for i := range r.fields {
		if refused := r.field(i); refused != accepted {
			return refused
		}
	}
	if no := r.framing(); no != accepted {
		return no
	}
	if no := r.readTarget(h); no != accepted {
		return no
	}
	if s.maxBody > 0 && r.length > s.maxBody {
		return bodyTooLarge
	}
	return accepted
}

// field notes a field that matters here.
func (r *request) field(i int) refusal {
	name, value := r.fields[i].Name, r.fields[i].Value
	switch len(name) {
	case 4:
		if exchange.EqualFold(name, "Host") {
			return once(&r.hostAt, i)
		}
	case 6:
		// Of HTTP/1.0 clients it is to be ignored (RFC 9110, section 10.1.1).
		if exchange.EqualFold(name, "Expect") && r.minor > 0 {
			if !exchange.EqualFold(value, "100-continue") {
				return badExpect
			}
			r.expects = true
		}
	case 7:
		if exchange.EqualFold(name, "Upgrade") && r.upgrade == nil {
			r.upgrade = offered(value)
		}
	case 10:
		if exchange.EqualFold(name, "Connection") && listed(value, "upgrade") {
			r.upgradable = true
		}
	case 14:
		if exchange.EqualFold(name, "Content-Length") {
			return once(&r.lengthAt, i)
		}
	case 17:
		if exchange.EqualFold(name, "Transfer-Encoding") {
			return once(&r.codingAt, i)
		}
	}
	return accepted
}

func once(at *int, i int) refusal {
	if *at != 0 {
		return badRequest
	}
	*at = i + 1
	return accepted
}

// framing decides where the body ends. Whatever two readers might see differently
// is refused (RFC 9112, section 6.3).
func (r *request) framing() refusal {
	switch {
	case r.codingAt != 0 && r.lengthAt != 0:
		return badRequest
	case r.codingAt != 0:
		if r.minor == 0 || !exchange.EqualFold(r.fields[r.codingAt-1].Value, "chunked") {
			return badRequest
		}
		r.length = exchange.LengthUnknown
	case r.lengthAt != 0:
		n, ok := parseLength(r.fields[r.lengthAt-1].Value)
		if !ok {
			return badRequest
		}
		r.length = n
	}
	return accepted
}

// parseLength reads a Content-Length: digits only, and so many that no sum of them
// overflows.
func parseLength(value []byte) (int64, bool) {
	if len(value) == 0 || len(value) > 18 {
		return 0, false
	}
	var n int64
	for _, c := range value {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}

// readTarget checks method, target and host, and puts an absolute-form target into
// origin-form (RFC 9112, section 3.2.2).
func (r *request) readTarget(h *fasthttp.RequestHeader) refusal {
	switch method := h.Method(); {
	case string(method) == "CONNECT", string(method) == "TRACE":
		// A tunnel to anywhere, and an echo of fields the client must not see.
		return badMethod
	default:
		for _, c := range method {
			if byteClass[c]&isToken == 0 {
				return badRequest
			}
		}
	}
	if r.hostAt != 0 {
		r.host = r.fields[r.hostAt-1].Value
		if !validHost(r.host) {
			return badRequest
		}
	} else if r.minor > 0 {
		return badRequest
	}
	r.target = h.RequestURI()
	if !validTarget(r.target) {
		return badRequest
	}
	if r.target[0] == '/' || string(r.target) == "*" && string(h.Method()) == "OPTIONS" {
		return accepted
	}
	return r.absolute(string(h.Method()) == "OPTIONS")
}

// absolute takes a target such as http://host/path apart. Its host goes before the
// Host field.
func (r *request) absolute(options bool) refusal {
	scheme, rest, ok := bytes.Cut(r.target, []byte("://"))
	if !ok || !exchange.EqualFold(scheme, "http") && !exchange.EqualFold(scheme, "https") {
		return badRequest
	}
	end := bytes.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	r.host = rest[:end:end]
	if !validHost(r.host) {
		return badRequest
	}
	if r.hostAt != 0 {
		// RFC 9112, section 3.2.2 has the target win. Who sends two hosts means to be
		// read differently by two readers.
		port := ":80"
		if len(scheme) == len("https") {
			port = ":443"
		}
		if !sameHost(r.fields[r.hostAt-1].Value, r.host, port) {
			return badRequest
		}
		r.fields[r.hostAt-1].Value = r.host
	}
	switch rest = rest[end:]; {
	case len(rest) == 0 && options:
		r.scratch = append(r.scratch, '*')
		r.target = r.scratch
	case len(rest) == 0 || rest[0] != '/':
		r.scratch = append(append(r.scratch, '/'), rest...)
		r.target = r.scratch
	default:
		r.target = rest
	}
	return accepted
}

// sameHost compares two hosts, case and the scheme's own port apart.
func sameHost(a, b []byte, port string) bool {
	for _, own := range []string{port, ":"} {
		a, b = bytes.TrimSuffix(a, []byte(own)), bytes.TrimSuffix(b, []byte(own))
	}
	return bytes.EqualFold(a, b)
}

// switches gives the protocol that the client wants to switch to, "" for none. A
// body before the switch has no use, so a request with one is no upgrade.
func (r *request) switches() string {
	if r.upgrade == nil || !r.upgradable || r.minor == 0 || r.length > 0 || r.length == exchange.LengthUnknown {
		return ""
	}
	return string(r.upgrade)
}

// listed reports whether a comma-separated list has a token.
func listed(value []byte, token string) bool {
	for len(value) > 0 {
		var item []byte
		item, value, _ = bytes.Cut(value, []byte(","))
		if exchange.EqualFold(trimSpace(item), token) {
			return true
		}
	}
	return false
}

// offered gives the first protocol of an Upgrade field that drover can pass on. It
// ignores h2c as RFC 9113, section 3.1 wants it, which has withdrawn it: a tunnel
// for it would carry requests past every rule.
func offered(value []byte) []byte {
	for len(value) > 0 {
		var item []byte
		item, value, _ = bytes.Cut(value, []byte(","))
		item = trimSpace(item)
		if name, _, _ := bytes.Cut(item, []byte("/")); len(item) > 0 && !exchange.EqualFold(name, "h2c") {
			return item
		}
	}
	return nil
}
