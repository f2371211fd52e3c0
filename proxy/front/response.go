package front

import (
	"net/http"
	"strconv"

	"drover/exchange"
)

// framing is how a response's body ends.
type framing uint8

const (
	framingNone    framing = iota // no body
	framingLength                 // Content-Length
	framingChunked                // chunked, HTTP/1.1 clients only
	framingEnd                    // the end of the connection, HTTP/1.0 clients only
)

// frame decides the framing of a response (RFC 9112, section 6.3).
func (cl *client) frame(r *exchange.Response) framing {
	switch {
	case !exchange.BodyAllowed(cl.exch.Request.Method, r.Status):
		return framingNone
	case r.ContentLength >= 0:
		cl.left = r.ContentLength
		return framingLength
	case r.ContentLength == exchange.NoBody:
		cl.left = 0
		return framingLength
	case cl.req.minor > 0:
		return framingChunked
	default:
		return framingEnd
	}
}

// field kinds that the front decides on itself.
type fieldKind uint8

const (
	fieldPlain fieldKind = iota
	fieldHop             // never passed on
	fieldLength
	fieldCoding
	fieldTrailer
	fieldUpgrade
	fieldHSTS
	fieldAltSvc
)

// passesOn reports whether a kind of field is about more than one connection.
func (k fieldKind) passesOn() bool { return k == fieldPlain || k == fieldHSTS || k == fieldAltSvc }

// kindOf tells the fields that belong to one connection (RFC 9110, section 7.6.1)
// from those that are passed on.
func kindOf(name []byte) fieldKind {
	switch len(name) {
	case 7:
		if exchange.EqualFold(name, "Trailer") {
			return fieldTrailer
		}
		if exchange.EqualFold(name, "Upgrade") {
			return fieldUpgrade
		}
		if exchange.EqualFold(name, "Alt-Svc") {
			return fieldAltSvc
		}
	case 10:
		if exchange.EqualFold(name, "Connection") || exchange.EqualFold(name, "Keep-Alive") {
			return fieldHop
		}
	case 14:
		if exchange.EqualFold(name, "Content-Length") {
			return fieldLength
		}
	case 16:
		if exchange.EqualFold(name, "Proxy-Connection") {
			return fieldHop
		}
	case 17:
		if exchange.EqualFold(name, "Transfer-Encoding") {
			return fieldCoding
		}
	case 25:
		if exchange.EqualFold(name, "Strict-Transport-Security") {
			return fieldHSTS
		}
	}
	return fieldPlain
}

// appendHead appends the head of the final response.
func (cl *client) appendHead(dst []byte, r *exchange.Response) []byte {
	dst = appendStatusLine(dst, r)
	length, hasLength := cl.declaredLength(r)
	chunked := cl.framing == framingChunked
	secured := false // Strict-Transport-Security is there
	altSvc := cl.c.altSvc()
	for i := range r.Header {
		name := r.Header[i].Name
		switch kindOf(name) {
		case fieldPlain:
			dst = appendField(dst, name, r.Header[i].Value)
		case fieldLength:
			if hasLength {
				dst = appendNumber(dst, name, length)
				hasLength = false
			}
		case fieldCoding:
			if chunked {
				dst = appendField(dst, name, []byte("chunked"))
				chunked = false
			}
		case fieldTrailer:
			if cl.framing == framingChunked {
				dst = appendField(dst, name, r.Header[i].Value)
			}
		case fieldUpgrade:
			if r.Status == 101 || r.Status == 426 {
				dst = appendField(dst, name, r.Header[i].Value)
			}
		case fieldHSTS:
			// A listener with hsts sends exactly one (RFC 6797, section 7.1), the
			// server's before its own.
			if !secured || cl.c.hsts == nil {
				dst = appendField(dst, name, r.Header[i].Value)
			}
			secured = true
		case fieldAltSvc:
			dst = appendField(dst, name, r.Header[i].Value)
			altSvc = nil // the server knows of a better one.
		case fieldHop:
		}
	}
	if cl.c.hsts != nil && !secured {
		dst = appendField(dst, []byte("Strict-Transport-Security"), cl.c.hsts)
	}
	if altSvc != nil {
		dst = appendField(dst, []byte("Alt-Svc"), altSvc)
	}
	if hasLength && cl.framing == framingLength {
		dst = appendNumber(dst, []byte("Content-Length"), length)
	}
	if chunked {
		dst = append(dst, "Transfer-Encoding: chunked\r\n"...)
	}
	return append(cl.appendConnection(dst, r.Status), "\r\n"...)
}

// declaredLength gives the value of Content-Length, if there is to be one. Without a
// body it is what the server said of the body that is not sent, and only sent on
// where the server said it.
func (cl *client) declaredLength(r *exchange.Response) (int64, bool) {
	switch {
	case cl.framing == framingLength:
		return cl.left, true
	case cl.framing != framingNone, r.Status < 200, r.Status == 204:
		return 0, false // RFC 9110, section 8.6.
	default:
		return r.ContentLength, r.ContentLength >= 0
	}
}

func (cl *client) appendConnection(dst []byte, status int) []byte {
	switch {
	case status == 101:
		return append(dst, "Connection: Upgrade\r\n"...)
	case status == 426 && cl.closing:
		return append(dst, "Connection: Upgrade, close\r\n"...)
	case status == 426:
		return append(dst, "Connection: Upgrade\r\n"...)
	case cl.closing:
		return append(dst, "Connection: close\r\n"...)
	case cl.req.minor == 0:
		return append(dst, "Connection: keep-alive\r\n"...)
	default:
		return dst
	}
}

// appendInterim appends a 1xx response.
func appendInterim(dst []byte, r *exchange.Response) []byte {
	dst = appendStatusLine(dst, r)
	for i := range r.Header {
		if kindOf(r.Header[i].Name).passesOn() {
			dst = appendField(dst, r.Header[i].Name, r.Header[i].Value)
		}
	}
	return append(dst, "\r\n"...)
}

// appendStatusLine appends the status line. It always names HTTP/1.1, the version
// that drover speaks, and not the client's or the server's (RFC 9110, section 2.5).
func appendStatusLine(dst []byte, r *exchange.Response) []byte {
	dst = append(dst, "HTTP/1.1 "...)
	dst = strconv.AppendInt(dst, int64(r.Status), 10)
	dst = append(dst, ' ')
	if r.Reason == nil {
		dst = append(dst, http.StatusText(r.Status)...)
	} else {
		dst = appendValue(dst, r.Reason)
	}
	return append(dst, "\r\n"...)
}

// appendField appends a field. A name that is none is left out with its value, for
// no rule of whatever part of drover may write further lines into a head.
func appendField(dst, name, value []byte) []byte {
	for _, c := range name {
		if byteClass[c]&isToken == 0 {
			return dst
		}
	}
	if len(name) == 0 {
		return dst
	}
	dst = append(dst, name...)
	dst = append(dst, ": "...)
	dst = appendValue(dst, value)
	return append(dst, "\r\n"...)
}

// appendValue appends a value, controls made spaces (RFC 9110, section 5.5).
func appendValue(dst, value []byte) []byte {
	start := len(dst)
	dst = append(dst, value...)
	if validValue(value) {
		return dst
	}
	for i := start; i < len(dst); i++ {
		if byteClass[dst[i]]&isValue == 0 {
			dst[i] = ' '
		}
	}
	return dst
}

func appendNumber(dst, name []byte, n int64) []byte {
	dst = append(dst, name...)
	dst = append(dst, ": "...)
	dst = strconv.AppendInt(dst, n, 10)
	return append(dst, "\r\n"...)
}

func appendChunkSize(dst []byte, n int) []byte {
	return append(strconv.AppendInt(dst, int64(n), 16), "\r\n"...)
}

// appendLastChunk ends a chunked body. Fields that are about framing or routing have
// no place behind it (RFC 9110, section 6.5.1).
func appendLastChunk(dst []byte, trailer exchange.Header) []byte {
	dst = append(dst, "0\r\n"...)
	for i := range trailer {
		if !exchange.HeadOnly(trailer[i].Name) {
			dst = appendField(dst, trailer[i].Name, trailer[i].Value)
		}
	}
	return append(dst, "\r\n"...)
}
