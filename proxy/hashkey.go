package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"drover/exchange"

	"github.com/cespare/xxhash/v2"
)

// Key makes of a request the number by which a hashing policy picks a server. It is
// immutable. Requests that are alike in what the key names get the same number, in
// every drover and after every restart.
type Key struct {
	parts []keyPart
}

// keyPart adds one part of a request to the hash. It reports whether the request has
// that part and it is not empty.
type keyPart func(d *xxhash.Digest, ex *exchange.Exchange) bool

// keyKind is one thing that a key may name.
type keyKind struct {
	named bool // written "kind:NAME"
	make  func(name string) keyPart
}

// keyKinds are the parts of a request that a key may be made of:
//
//	header:NAME  the first header field of that name
//	cookie:NAME  the first cookie of that name
//	query:NAME   the first parameter of that name, decoded
//	path         the path as the client sent it, without query
//	host         the host, in lower case and without port
//	client       the client's address, without port
var keyKinds = map[string]keyKind{
	"header": {true, headerKey},
	"cookie": {true, cookieKey},
	"query":  {true, queryKey},
	"path":   {false, pathKey},
	"host":   {false, hostKey},
	"client": {false, clientKey},
}

// ParseKey reads a key: one part, or several joined with "+", as in
// "host+header:X-User-ID". A name holds no "+".
func ParseKey(spec string) (*Key, error) {
	if spec == "" {
		return nil, errors.New(`got no key; want one such as "header:X-User-ID" or "client"`)
	}
	k := &Key{}
	for text := range strings.SplitSeq(spec, "+") {
		kind, name, named := strings.Cut(text, ":")
		known, ok := keyKinds[kind]
		switch {
		case !ok:
			return nil, fmt.Errorf("got %q in key %q; want %s, joined with +", text, spec, keyKindList())
		case known.named && !named || known.named && name == "":
			return nil, fmt.Errorf("got %q in key %q; want %s:NAME", text, spec, kind)
		case !known.named && named:
			return nil, fmt.Errorf("got %q in key %q; want %s without a name", text, spec, kind)
		case (kind == "header" || kind == "cookie") && !isToken(name):
			return nil, fmt.Errorf("got the name %q in key %q; want letters, digits and !#$%%&'*-.^_`|~", name, spec)
		}
		k.parts = append(k.parts, known.make(name))
	}
	return k, nil
}

func keyKindList() string {
	kinds := slices.Sorted(maps.Keys(keyKinds))
	for i, kind := range kinds {
		if keyKinds[kind].named {
			kinds[i] += ":NAME"
		}
	}
	return strings.Join(kinds, ", ")
}

// Hash gives a request's number, the xxHash64 of its parts, and does not allocate. A
// part that is missing or empty counts as empty; when all are, the client's address is
// hashed, so that requests without the key still spread.
func (k *Key) Hash(ex *exchange.Exchange) uint64 {
	var d xxhash.Digest
	d.Reset()
	found := false
	for _, part := range k.parts {
		found = part(&d, ex) || found
		_, _ = d.Write(keySeparator) // so that "a"+"bc" is not "ab"+"c"
	}
	if !found {
		d.Reset()
		clientHash(&d, ex)
	}
	return d.Sum64()
}

// keySeparator ends a part; no part of a request holds the byte.
var keySeparator = []byte{0}

func headerKey(name string) keyPart {
	return func(d *xxhash.Digest, ex *exchange.Exchange) bool {
		return hashPart(d, ex.Request.Header.Get(name))
	}
}

func cookieKey(name string) keyPart {
	return func(d *xxhash.Digest, ex *exchange.Exchange) bool {
		cookies := cookieWalk{header: ex.Request.Header}
		value, _ := cookies.next(name)
		return hashPart(d, value)
	}
}

func queryKey(name string) keyPart {
	return func(d *xxhash.Digest, ex *exchange.Exchange) bool {
		_, query := splitTarget(ex.Request.Target)
		for rest := queryPairs(query); len(rest) > 0; {
			var parameter, value []byte
			parameter, value, rest = nextPair(rest)
			if decodesToQuery(parameter, name) {
				return hashQueryText(d, value)
			}
		}
		return false
	}
}

func pathKey(string) keyPart {
	return func(d *xxhash.Digest, ex *exchange.Exchange) bool {
		path, _ := splitTarget(ex.Request.Target)
		return hashPart(d, path)
	}
}

func hostKey(string) keyPart {
	return func(d *xxhash.Digest, ex *exchange.Exchange) bool {
		var buf [maxHostLength]byte
		return hashPart(d, appendHost(buf[:0], ex.Request.Host))
	}
}

func clientKey(string) keyPart { return clientHash }

func clientHash(d *xxhash.Digest, ex *exchange.Exchange) bool {
	addr := ex.Remote.Addr().As16() // an IPv4 address is hashed as the IPv6 one it maps to
	_, _ = d.Write(addr[:])
	return ex.Remote.IsValid()
}

func hashPart(d *xxhash.Digest, part []byte) bool {
	_, _ = d.Write(part)
	return len(part) > 0
}

// hashQueryText hashes text as appendQueryText decodes it.
func hashQueryText(d *xxhash.Digest, text []byte) bool {
	var buf [64]byte
	for rest := text; len(rest) > 0; {
		n := min(len(rest), len(buf))
		if n < len(rest) { // do not cut an encoding in two
			if i := bytes.LastIndexByte(rest[n-2:n], '%'); i >= 0 {
				n += i - 2
			}
		}
		_, _ = d.Write(appendQueryText(buf[:0], rest[:n]))
		rest = rest[n:]
	}
	return len(text) > 0
}

// decodesToQuery reports whether appendQueryText makes name of text.
func decodesToQuery(text []byte, name string) bool {
	if bytes.IndexByte(text, '%') < 0 && bytes.IndexByte(text, '+') < 0 {
		return string(text) == name
	}
	if len(text) > 3*len(name) {
		return false
	}
	var buf [64]byte
	return string(appendQueryText(buf[:0], text)) == name
}

// cookieWalk finds cookies of one name in a request, one after the other.
type cookieWalk struct {
	header exchange.Header
	rest   []byte // of the Cookie field in front of header
}

// next gives the next value of that name. It reads as RFC 6265, section 5.4, writes;
// quotes belong to the value.
func (c *cookieWalk) next(name string) (value []byte, ok bool) {
	for {
		for len(c.rest) > 0 {
			var pair []byte
			pair, c.rest, _ = bytes.Cut(c.rest, cookieSeparator)
			pair = bytes.Trim(pair, " \t")
			if len(pair) > len(name) && pair[len(name)] == '=' && string(pair[:len(name)]) == name {
				return pair[len(name)+1:], true
			}
		}
		if len(c.header) == 0 {
			return nil, false
		}
		if exchange.EqualFold(c.header[0].Name, "Cookie") {
			c.rest = c.header[0].Value
		}
		c.header = c.header[1:]
	}
}

var cookieSeparator = []byte(";")
