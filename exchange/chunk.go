package exchange

// ParseChunkSize reads a chunk's first line, without its CRLF: at most 15 hexadecimal
// digits and, ignored, extensions (RFC 9112, section 7.1). It takes no controls in them.
func ParseChunkSize(line []byte) (size int64, ok bool) {
	digits := 0
	for ; digits < len(line); digits++ {
		v := hexValue(line[digits])
		if v < 0 {
			break
		}
		if digits >= 15 {
			return 0, false
		}
		size = size<<4 | int64(v)
	}
	rest := line[digits:]
	for len(rest) > 0 && (rest[0] == ' ' || rest[0] == '\t') {
		rest = rest[1:]
	}
	if digits == 0 || len(rest) > 0 && rest[0] != ';' {
		return 0, false
	}
	for _, c := range rest {
		if c < ' ' && c != '\t' || c == 0x7f {
			return 0, false
		}
	}
	return size, true
}

func hexValue(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	default:
		return -1
	}
}
