package proxy

import "bytes"

// loggedTarget is a request's target as the log may tell it: a name and a password in
// an absolute one are left out (RFC 9110, section 4.2.4).
func loggedTarget(target []byte) []byte {
	scheme := bytes.Index(target, []byte("://"))
	if scheme < 0 || bytes.IndexByte(target[:scheme], '/') >= 0 {
		return target
	}
	return withoutUserinfo(target, scheme+len("://"))
}

// withoutUserinfo leaves the userinfo out of the authority that begins at from.
func withoutUserinfo(text []byte, from int) []byte {
	end := len(text)
	if i := bytes.IndexAny(text[from:], "/?#"); i >= 0 {
		end = from + i
	}
	at := bytes.LastIndexByte(text[from:end], '@')
	if at < 0 {
		return text
	}
	return append(text[:from:from], text[from+at+1:]...)
}
