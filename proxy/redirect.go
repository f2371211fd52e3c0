package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// redirectStatuses are the statuses that a client follows by Location alone
// (RFC 9110, section 15.4); 304, 300 and 305 are no redirects of that kind.
var redirectStatuses = []int{301, 302, 303, 307, 308}

// Redirect is a compiled redirect rule. It is immutable.
type Redirect struct {
	Status int
	to     *template
}

func compileRedirect(cfg *RedirectConfig) (*Redirect, error) {
	to, err := parseLocation(cfg.To)
	if err != nil {
		return nil, err
	}
	return &Redirect{Status: cfg.Status, to: to}, nil
}

// Location gives the address to redirect to. It is not ok when it needs the client's
// Host and that is missing or no host name, which is worth a 400.
//
// What variables stand for cannot change the host: every character that does not
// belong in an address is percent-encoded, "\" included, and an address that begins
// with "//", which browsers take for another host's, loses all but its first slash.
func (r *Redirect) Location(v Vars) (string, bool) {
	var location, value []byte
	for i := range r.to.parts {
		p := &r.to.parts[i]
		if p.expand == nil {
			location = appendAddress(location, p.literal, true)
			continue
		}
		value = p.expand(value[:0], v)
		switch p.name {
		case "host":
			if !isHostName(value) {
				return "", false
			}
		case "path":
			if string(value) == "*" {
				value = value[:0] // the whole server, for "OPTIONS *"
			}
			if len(value) == 0 || value[0] != '/' {
				location = append(location, '/') // or the path would prolong a host's name
			}
		}
		location = appendAddress(location, value, false)
	}
	if len(location) > 0 && location[0] == '/' {
		location = append(location[:1], bytes.TrimLeft(location, "/")...)
	}
	return string(location), true
}

// parseLocation reads a redirect's target and refuses those in which a variable that
// the client controls would choose the host.
func parseLocation(text string) (*template, error) {
	if text == "" {
		return nil, errors.New(`got nothing; want an address such as "https://{host}{path}{query}"`)
	}
	if i := strings.IndexFunc(text, func(r rune) bool { return r <= ' ' || r == 0x7f }); i >= 0 {
		return nil, fmt.Errorf("got %q; want an address without blanks and control characters", text)
	}
	t, err := parseTemplate(text)
	if err != nil {
		return nil, err
	}
	rest, absolute := cutScheme(t.parts)
	switch {
	case absolute:
		return t, checkAuthority(text, rest)
	case t.parts[0].name == "path":
		return t, nil
	case strings.HasPrefix(t.parts[0].literal, "/") && !strings.HasPrefix(t.parts[0].literal, "//"):
		return t, nil
	default:
		return nil, fmt.Errorf(`got %q; want it to begin with "/", "{path}", "http://", "https://" or "{scheme}://"`, text)
	}
}

// cutScheme takes "https://" or "{scheme}://" off the front.
func cutScheme(parts []templatePart) (rest []templatePart, ok bool) {
	rest = slices.Clone(parts)
	prefixes := []string{"http://", "https://"}
	if rest[0].name == "scheme" {
		prefixes, rest = []string{"://"}, rest[1:]
	}
	if len(rest) == 0 {
		return nil, false
	}
	for _, prefix := range prefixes {
		if cut, has := strings.CutPrefix(rest[0].literal, prefix); has {
			rest[0].literal = cut
			if cut == "" {
				rest = rest[1:]
			}
			return rest, true
		}
	}
	return nil, false
}

// checkAuthority wants a host, of literals and {host} only, in front of the path.
func checkAuthority(text string, parts []templatePart) error {
	host := false
	for _, p := range parts {
		switch p.name {
		case "":
			end := strings.IndexAny(p.literal, "/?#")
			if end > 0 {
				host = true
			}
			if end >= 0 {
				return wantHost(text, host)
			}
			host = true
		case "host":
			host = true
		case "path", "query":
			return wantHost(text, host)
		default:
			return fmt.Errorf("got {%s} in the host of %q; want only {host} there", p.name, text)
		}
	}
	return wantHost(text, host)
}

func wantHost(text string, host bool) error {
	if !host {
		return fmt.Errorf("got no host in %q; want one after ://, such as {host}", text)
	}
	return nil
}

// appendAddress appends text with everything percent-encoded that cannot stand in a
// URI (RFC 3986, section 2). A literal may hold a fragment; a value may not.
func appendAddress[T string | []byte](dst []byte, text T, fragment bool) []byte {
	for i := range len(text) {
		c := text[i]
		if inAddress(c) || c == '#' && fragment {
			dst = append(dst, c)
			continue
		}
		dst = appendPercent(dst, c)
	}
	return dst
}

func inAddress(c byte) bool {
	switch c {
	case '"', '<', '>', '\\', '^', '`', '{', '|', '}', '#':
		return false
	default:
		return c > ' ' && c < 0x7f
	}
}

const upperHex = "0123456789ABCDEF"

func appendPercent(dst []byte, c byte) []byte {
	return append(dst, '%', upperHex[c>>4], upperHex[c&15])
}

// isHostName reports whether text, without a port, can be a host name or an address
// in brackets, as far as the characters go.
func isHostName(text []byte) bool {
	if n := len(text); n > 2 && text[0] == '[' && text[n-1] == ']' {
		for _, c := range text[1 : n-1] {
			if !isHexDigit(c) && c != ':' && c != '.' {
				return false
			}
		}
		return true
	}
	for _, c := range text {
		if !isAlphanumeric(c) && c != '.' && c != '-' && c != '_' {
			return false
		}
	}
	return len(text) > 0
}

func isAlphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

func isHexDigit(c byte) bool {
	return 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F' || '0' <= c && c <= '9'
}
