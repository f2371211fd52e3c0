package pseudo

import "bytes"

// FieldKind tells what to do with a field of a response.
type FieldKind uint8

// The kinds of fields.
const (
	FieldPlain  FieldKind = iota
	FieldOurs             // about one connection, or written by drover itself
	FieldSecret           // never to be kept in a table (RFC 7541, section 7.1.3)
	FieldBad              // no name at all
)

// KindOf tells the kind of a field whose name is in lower case. RFC 9113, section 8.2.2
// and RFC 9114, section 4.2 name those about a connection.
func KindOf(name string) FieldKind {
	switch name {
	case "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "content-length":
		return FieldOurs
	case "set-cookie", "authorization", "cookie":
		return FieldSecret
	case "":
		return FieldBad
	}
	for i := range len(name) {
		if !isToken(name[i]) {
			return FieldBad
		}
	}
	return FieldPlain
}

// Clean gives a value without what HTTP does not allow in one.
func Clean(value []byte) string {
	for _, c := range value {
		if !isValue(c) {
			value = bytes.Clone(value)
			break
		}
	}
	for i, c := range value {
		if !isValue(c) {
			value[i] = ' ' // of the clone
		}
	}
	return string(value)
}

// isToken follows RFC 9110, section 5.6.2.
func isToken(c byte) bool {
	switch c {
	case '!', '#', '$', '%', '&', '\'', '*', '+', '-', '.', '^', '_', '`', '|', '~':
		return true
	}
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// isValue follows RFC 9110, section 5.5.
func isValue(c byte) bool { return c >= ' ' && c != 0x7f || c == '\t' }

// IsName reports whether a field name is one, and in lower case.
func IsName(name string) bool {
	for i := range len(name) {
		if c := name[i]; !isToken(c) || 'A' <= c && c <= 'Z' {
			return false
		}
	}
	return name != ""
}

// IsFieldValue reports whether a value holds what HTTP/2 allows (RFC 9113, section
// 8.2.1): no controls, no blank at either end.
func IsFieldValue(value string) bool {
	for i := range len(value) {
		if !isValue(value[i]) {
			return false
		}
	}
	n := len(value)
	return n == 0 || value[0] != ' ' && value[0] != '\t' && value[n-1] != ' ' && value[n-1] != '\t'
}
