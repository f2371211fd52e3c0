package transport

import (
	"bytes"
	"math"

	"drover/exchange"
)

// maxFields bounds the fields of a response's head, and of its trailers.
const maxFields = 256

// tokenTable marks the bytes of a token (RFC 9110, section 5.6.2).
var tokenTable = func() (t [256]bool) {
	for c := '0'; c <= '9'; c++ {
		t[c] = true
	}
	for c := 'a'; c <= 'z'; c++ {
		t[c], t[c-'a'+'A'] = true, true
	}
	for _, c := range "!#$%&'*+-.^_`|~" {
		t[c] = true
	}
	return t
}()

// parseStatusLine reads "HTTP/1.1 200 OK" (RFC 9112, section 4).
func parseStatusLine(line []byte) (minor, status int, reason []byte, err error) {
	const shape = "HTTP/1.x NNN"
	if len(line) < len(shape) || !bytes.HasPrefix(line, []byte("HTTP/1.")) || line[8] != ' ' {
		return 0, 0, nil, protocolf("got status line %.64q; want HTTP/1.1 and a status", line)
	}
	minor = int(line[7] - '0')
	if minor > 1 || line[7] < '0' {
		return 0, 0, nil, protocolf("got protocol %q; want HTTP/1.0 or HTTP/1.1", line[:8])
	}
	for _, c := range line[9:12] {
		if c < '0' || c > '9' {
			return 0, 0, nil, protocolf("got status %q; want three digits", line[9:12])
		}
		status = status*10 + int(c-'0')
	}
	if status < 100 {
		return 0, 0, nil, protocolf("got status %d; want 100 to 999", status)
	}
	rest := line[12:]
	if len(rest) > 0 {
		if rest[0] != ' ' {
			return 0, 0, nil, protocolf("got status line %.64q; want a space behind the status", line)
		}
		reason = rest[1:]
	}
	if !validValue(reason) {
		return 0, 0, nil, protocolf("got control bytes in the reason phrase")
	}
	return minor, status, reason, nil
}

// parseField reads "Name: value" (RFC 9112, section 5).
func parseField(line []byte) (exchange.Field, error) {
	colon := bytes.IndexByte(line, ':')
	if colon <= 0 {
		return exchange.Field{}, protocolf("got header line %.64q; want a name and a colon", line)
	}
	name := line[:colon]
	for _, c := range name {
		if !tokenTable[c] {
			return exchange.Field{}, protocolf("got header name %.64q; want a token", name)
		}
	}
	value := bytes.Trim(line[colon+1:], " \t")
	if !validValue(value) {
		return exchange.Field{}, protocolf("got control bytes in header %q", name)
	}
	return exchange.Field{Name: name, Value: value}, nil
}

// validValue reports whether a field's value or a reason phrase holds no control bytes
// but tabs. A bare CR is among what it refuses.
func validValue(v []byte) bool {
	for _, c := range v {
		if c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// framing is how a response's body ends (RFC 9112, section 6.3).
type framing struct {
	length  int64 // or exchange.LengthUnknown, exchange.NoBody
	chunked bool
}

// parseFraming decides how the body ends. What is ambiguous is refused: two parties
// that read it differently would take one's body for the other's next message.
func parseFraming(h exchange.Header, minor int) (framing, error) {
	f := framing{length: exchange.LengthUnknown}
	lengths := 0
	for i := range h {
		switch {
		case exchange.EqualFold(h[i].Name, "Content-Length"):
			n, ok := parseLength(h[i].Value)
			if !ok {
				return f, protocolf("got Content-Length %.32q; want a number", h[i].Value)
			}
			if lengths++; lengths > 1 {
				return f, protocolf("got Content-Length more than once")
			}
			f.length = n
		case exchange.EqualFold(h[i].Name, "Transfer-Encoding"):
			if f.chunked || minor == 0 || !exchange.EqualFold(h[i].Value, "chunked") {
				return f, protocolf("got Transfer-Encoding %.32q in HTTP/1.%d; want chunked once, in HTTP/1.1", h[i].Value, minor)
			}
			f.chunked = true
		}
	}
	if f.chunked && lengths > 0 {
		return f, protocolf("got both Content-Length and Transfer-Encoding")
	}
	return f, nil
}

func parseLength(v []byte) (int64, bool) {
	if len(v) == 0 || len(v) > 19 {
		return 0, false
	}
	var n int64
	for _, c := range v {
		if c < '0' || c > '9' || n > (math.MaxInt64-int64(c-'0'))/10 {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}

// parseChunkSize reads a chunk's first line.
func parseChunkSize(line []byte) (int64, error) {
	n, ok := exchange.ParseChunkSize(line)
	if !ok {
		return 0, protocolf("got chunk size %.32q; want at most 15 hexadecimal digits", line)
	}
	return n, nil
}

// hasToken reports whether a list field such as Connection holds a token.
func hasToken(h exchange.Header, name, token string) bool {
	for i := range h {
		if !exchange.EqualFold(h[i].Name, name) {
			continue
		}
		rest := h[i].Value
		for len(rest) > 0 {
			item := rest
			if comma := bytes.IndexByte(rest, ','); comma >= 0 {
				item, rest = rest[:comma], rest[comma+1:]
			} else {
				rest = nil
			}
			if exchange.EqualFold(bytes.Trim(item, " \t"), token) {
				return true
			}
		}
	}
	return false
}
