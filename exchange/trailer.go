package exchange

// headOnly are fields that mean something before a body alone: its framing, its way, who
// asks (RFC 9110, section 6.5.1).
var headOnly = []string{
	"authorization", "connection", "content-encoding", "content-length", "content-range", "content-type", "cookie",
	"expect", "forwarded", "host", "keep-alive", "max-forwards", "proxy-authenticate", "proxy-authorization",
	"proxy-connection", "range", "te", "trailer", "transfer-encoding", "upgrade", "x-real-ip",
}

// HeadOnly reports whether a field has no place in a trailer section. Whoever merges
// trailers into the head would believe it there; one that turns both "-" and "_" into
// "_", as CGI does, takes either spelling for it.
func HeadOnly(name []byte) bool {
	for _, known := range headOnly {
		if len(name) == len(known) && begins(name, known) {
			return true
		}
	}
	const forwarded = "x-forwarded-"
	return len(name) > len(forwarded) && begins(name, forwarded)
}

// begins compares the beginning of a name with one that has "-" and lower case.
func begins(name []byte, known string) bool {
	for i := range len(known) {
		c := lower(name[i])
		if c == '_' {
			c = '-'
		}
		if c != known[i] {
			return false
		}
	}
	return true
}
