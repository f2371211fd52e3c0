package proxy

import (
	"bytes"
	"encoding/binary"
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

// keyPart hashes one part of a request. It is not ok when the request lacks the part,
// or it is empty.
type keyPart func(ex *exchange.Exchange) (sum uint64, ok bool)

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

// Hash gives a request's number and does not allocate: the xxHash64 of the part, or of
// the parts' hashes if there are several. A missing part counts as empty; when all are
// missing, the client's address is hashed, so that requests without the key still
// spread.
func (k *Key) Hash(ex *exchange.Exchange) uint64 {
	var (
		all   xxhash.Digest
		bits  [8]byte
		found bool
		sum   uint64
	)
	all.Reset()
	for _, part := range k.parts {
		var ok bool
		sum, ok = part(ex)
		found = found || ok
		binary.BigEndian.PutUint64(bits[:], sum)
		_, _ = all.Write(bits[:])
	}
	switch {
	case !found:
		sum, _ = clientHash(ex)
		return sum
	case len(k.parts) == 1:
		return sum
	default:
		return all.Sum64()
	}
}

func headerKey(name string) keyPart {
	return func(ex *exchange.Exchange) (uint64, bool) { return textHash(ex.Request.Header.Get(name)) }
}

func cookieKey(name string) keyPart {
	return func(ex *exchange.Exchange) (uint64, bool) {
		cookies := cookieWalk{header: ex.Request.Header}
		value, _ := cookies.next(name)
		return textHash(value)
	}
}

func queryKey(name string) keyPart {
	return func(ex *exchange.Exchange) (uint64, bool) {
		_, query := splitTarget(ex.Request.Target)
		for rest := queryPairs(query); len(rest) > 0; {
			var parameter, value []byte
			parameter, value, rest = nextPair(rest)
			if decodesToQuery(parameter, name) {
				return queryTextHash(value)
			}
		}
		return textHash(nil)
	}
}

func pathKey(string) keyPart {
	return func(ex *exchange.Exchange) (uint64, bool) {
		path, _ := splitTarget(ex.Request.Target)
		return textHash(path)
	}
}

func hostKey(string) keyPart {
	return func(ex *exchange.Exchange) (uint64, bool) {
		var buf [maxHostLength]byte
		return textHash(appendHost(buf[:0], ex.Request.Host))
	}
}

func clientKey(string) keyPart { return clientHash }

// clientHash hashes an IPv4 address as the IPv6 one that it maps to.
func clientHash(ex *exchange.Exchange) (uint64, bool) {
	source := ex.Source()
	addr := source.As16()
	return xxhash.Sum64(addr[:]), source.IsValid()
}

func textHash(text []byte) (uint64, bool) { return xxhash.Sum64(text), len(text) > 0 }

// queryTextHash is textHash of what appendQueryText makes of text, piece by piece.
func queryTextHash(text []byte) (uint64, bool) {
	var (
		d   xxhash.Digest
		buf [64]byte
	)
	d.Reset()
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
	return d.Sum64(), len(text) > 0
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
