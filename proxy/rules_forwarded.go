package proxy

import "drover/exchange"

// appendForwarded appends the value of Forwarded (RFC 7239): the client's elements,
// if they are well-formed, and drover's own. Ill-formed ones are left out, since an
// open quote would swallow what comes after it.
func appendForwarded(dst []byte, ex *exchange.Exchange) []byte {
	from := len(dst)
	for i := range ex.Request.Header {
		f := &ex.Request.Header[i]
		if fieldKindOf(f.Name) != fieldForwarded {
			continue
		}
		if !isForwarded(f.Value) {
			dst = dst[:from]
			break
		}
		dst = appendListElement(dst, from, f.Value)
	}
	if len(dst) > from {
		dst = append(dst, ", "...)
	}
	dst = appendForwardedFor(append(dst, "for="...), ex)
	if host := ex.Request.Host; len(host) > 0 {
		dst = appendTokenOrQuoted(append(dst, ";host="...), host)
	}
	dst = append(dst, ";proto="...)
	return append(dst, schemeOf(ex)...)
}

// appendForwardedFor appends a node: an IPv6 address goes in brackets and quotes (RFC
// 7239, section 6).
func appendForwardedFor(dst []byte, ex *exchange.Exchange) []byte {
	if addr := ex.Remote.Addr().Unmap(); !addr.Is6() {
		return appendPeerIP(dst, ex)
	}
	dst = appendPeerIP(append(dst, `"[`...), ex)
	return append(dst, `]"`...)
}

// appendTokenOrQuoted appends a value, as a quoted string if it is no token (RFC 9110,
// section 5.6). Control characters, which cannot be quoted, are left out.
func appendTokenOrQuoted(dst, value []byte) []byte {
	if isToken(value) {
		return append(dst, value...)
	}
	dst = append(dst, '"')
	for _, c := range value {
		if isControl(c) {
			continue
		}
		if c == '"' || c == '\\' {
			dst = append(dst, '\\')
		}
		dst = append(dst, c)
	}
	return append(dst, '"')
}

// isForwarded reports whether a value is a list of elements, each of pairs of a token
// and a token or quoted string (RFC 7239, section 4). Empty elements and pairs are
// fine.
func isForwarded(value []byte) bool {
	for {
		value = skipBlanks(value)
		if len(value) > 0 && value[0] != ',' && value[0] != ';' {
			name := tokenPrefix(value)
			if name == 0 || name >= len(value) || value[name] != '=' {
				return false
			}
			value = value[name+1:]
			end := valuePrefix(value)
			if end == 0 {
				return false
			}
			value = skipBlanks(value[end:])
		}
		switch {
		case len(value) == 0:
			return true
		case value[0] != ',' && value[0] != ';':
			return false
		}
		value = value[1:]
	}
}

func skipBlanks(value []byte) []byte {
	for len(value) > 0 && (value[0] == ' ' || value[0] == '\t') {
		value = value[1:]
	}
	return value
}

// valuePrefix gives the length of the token or quoted string that value begins with, 0
// for neither.
func valuePrefix(value []byte) int {
	if len(value) == 0 || value[0] != '"' {
		return tokenPrefix(value)
	}
	for i := 1; i < len(value); i++ {
		switch c := value[i]; {
		case c == '"':
			return i + 1
		case c == '\\':
			i++
		case isControl(c) && c != '\t':
			return 0
		}
	}
	return 0
}

// tokenPrefix gives the length of the token that value begins with.
func tokenPrefix[T string | []byte](value T) int {
	for i := range len(value) {
		if !isTokenByte(value[i]) {
			return i
		}
	}
	return len(value)
}

func isToken[T string | []byte](value T) bool {
	return len(value) > 0 && tokenPrefix(value) == len(value)
}

// isTokenByte follows RFC 9110, section 5.6.2.
func isTokenByte(c byte) bool {
	switch c {
	case '!', '#', '$', '%', '&', '\'', '*', '+', '-', '.', '^', '_', '`', '|', '~':
		return true
	default:
		return isAlphanumeric(c)
	}
}
