package front

import (
	"bytes"
	"encoding/binary"

	"drover/exchange"
)

// Classes of bytes in a head.
const (
	isToken = 1 << iota // RFC 9110, section 5.6.2
	isValue             // RFC 9110, section 5.5: all but controls; HTAB is none here
	isHost              // RFC 3986, section 3.2.2: reg-name, percent-encoding apart
	isHex
)

var byteClass = func() (table [256]uint8) {
	for c := range table {
		if c >= 0x20 && c != 0x7f || c == '\t' {
			table[c] |= isValue
		}
		switch {
		case '0' <= c && c <= '9', 'a' <= c && c <= 'f', 'A' <= c && c <= 'F':
			table[c] |= isToken | isHost | isHex
		case 'g' <= c && c <= 'z', 'G' <= c && c <= 'Z':
			table[c] |= isToken | isHost
		}
	}
	for _, c := range []byte("!#$%&'*+-.^_`|~") {
		table[c] |= isToken
	}
	for _, c := range []byte("-._~!$&'()*+,;=") {
		table[c] |= isHost
	}
	return table
}()

// scanVerdict is what a header block is.
type scanVerdict uint8

const (
	scanFine scanVerdict = iota
	scanMalformed
	scanTooMany
)

// scanFields appends the fields of a header or trailer section to dst as views into
// raw, which ends with the empty line, or is empty. It takes what RFC 9112 defines
// and nothing of what it lets a lenient server take: each line ends in CRLF, a
// name is a token with the colon right behind it, nothing is folded, and no value
// has a control but HTAB. Each leniency is one more way for the next server to read
// another message than the one before (RFC 9112, section 11.2).
func scanFields(dst exchange.Header, raw []byte, limit int) (exchange.Header, scanVerdict) {
	if len(raw) == 0 {
		return dst, scanFine
	}
	for n := 0; ; n++ {
		end := bytes.IndexByte(raw, '\n')
		if end < 1 || raw[end-1] != '\r' {
			return dst, scanMalformed
		}
		line := raw[:end-1]
		raw = raw[end+1:]
		if len(line) == 0 {
			if len(raw) != 0 {
				return dst, scanMalformed
			}
			return dst, scanFine
		}
		if n == limit {
			return dst, scanTooMany
		}
		colon := 0
		for colon < len(line) && byteClass[line[colon]]&isToken != 0 {
			colon++
		}
		if colon == 0 || colon == len(line) || line[colon] != ':' {
			return dst, scanMalformed
		}
		value := trimSpace(line[colon+1:])
		if !validValue(value) {
			return dst, scanMalformed
		}
		dst = append(dst, exchange.Field{Name: line[:colon:colon], Value: value})
	}
}

// trimSpace cuts optional whitespace off (RFC 9110, section 5.6.3).
func trimSpace(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b[:len(b):len(b)]
}

// validValue looks for controls, eight bytes at a time. See "Determine if a word has
// a byte less than n" in Anderson's Bit Twiddling Hacks; a byte over 0x7f, which the
// test can be wrong about, and HTAB are left to the table.
func validValue(b []byte) bool {
	const (
		ones  = 0x0101010101010101
		highs = 0x8080808080808080
	)
	for len(b) >= 8 {
		word := binary.LittleEndian.Uint64(b)
		del := word ^ 0x7f*ones
		if (word|(word-0x20*ones)|(del-ones))&highs != 0 && !validBytes(b[:8]) {
			return false
		}
		b = b[8:]
	}
	return validBytes(b)
}

func validBytes(b []byte) bool {
	for _, c := range b {
		if byteClass[c]&isValue == 0 {
			return false
		}
	}
	return true
}

// validTarget reports whether a request target has only visible bytes. Bytes over
// 0x7f are no valid URI, but clients send them and servers differ in nothing about
// them.
func validTarget(b []byte) bool {
	for _, c := range b {
		if c <= 0x20 || c == 0x7f {
			return false
		}
	}
	return len(b) > 0
}

// validHost reports whether b is uri-host [ ":" port ] (RFC 9110, section 7.2). User
// information, which that excludes, must not pass: servers take it for credentials.
func validHost(b []byte) bool {
	host, port := b, []byte(nil)
	if i := bytes.LastIndexByte(b, ':'); i >= 0 && i > bytes.LastIndexByte(b, ']') {
		host, port = b[:i], b[i+1:]
	}
	if !validPort(port) || len(host) == 0 {
		return false
	}
	if host[0] == '[' {
		return validLiteral(host)
	}
	for i := 0; i < len(host); i++ {
		switch {
		case byteClass[host[i]]&isHost != 0:
		case host[i] == '%' && i+2 < len(host) && byteClass[host[i+1]]&byteClass[host[i+2]]&isHex != 0:
			i += 2
		default:
			return false
		}
	}
	return true
}

// validLiteral checks the alphabet of an IP literal. Whether the address makes sense
// is for the router, which finds no route to it.
func validLiteral(host []byte) bool {
	if len(host) < 4 || host[len(host)-1] != ']' {
		return false
	}
	for _, c := range host[1 : len(host)-1] {
		if byteClass[c]&isHex == 0 && c != ':' && c != '.' {
			return false
		}
	}
	return true
}

func validPort(port []byte) bool {
	n := 0
	for _, c := range port {
		if c < '0' || c > '9' {
			return false
		}
		if n = n*10 + int(c-'0'); n > 65535 {
			return false
		}
	}
	return true
}
