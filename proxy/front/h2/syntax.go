package h2

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

// isName reports whether a field name is one, and in lower case.
func isName(name string) bool {
	for i := range len(name) {
		if c := name[i]; !isToken(c) || 'A' <= c && c <= 'Z' {
			return false
		}
	}
	return name != ""
}

// isFieldValue reports whether a value holds what HTTP/2 allows (RFC 9113, section
// 8.2.1): no controls, no blank at either end.
func isFieldValue(value string) bool {
	for i := range len(value) {
		if !isValue(value[i]) {
			return false
		}
	}
	n := len(value)
	return n == 0 || value[0] != ' ' && value[0] != '\t' && value[n-1] != ' ' && value[n-1] != '\t'
}
