package proxy

import "bytes"

// A request path can be read in more than one way: whether "..", "%2F", "\" or ";x"
// mean anything is up to the program that reads it. A router that reads it in one
// way in front of a server that reads it in another sends "/public/..%2fadmin" past
// the rules for /admin (CVE-2023-45539 is of that kind). So there is one primary
// reading, which regular expressions see, and further ones that must lead to the
// same route: a path that they lead apart has no route.
//
// The primary reading is the path without its query, percent-decoded but for the
// bytes that would change its structure (see staysEncoded), with runs of slashes
// merged and dot segments resolved (RFC 3986, sections 5.2.4 and 6.2.2). The further
// readings take each of these as a server might:
//
//   - dot segments left alone, or resolved before runs of slashes are merged;
//   - "%2F" as "/", or "\" and "%5C" as "/", or both;
//   - ";params" cut off each segment, as Java's servers do, before or after that, and
//     with or without those that begin with "%3B".
//
// Some paths have no reading, since no honest client sends them: those that do not
// begin with "/" or hold "#", a raw blank or control character, or an encoded NUL;
// those with a dot segment in disguise ("%2e%2e", "%252e", "..%2F", "..\", "..;x"); and
// those with both a dot segment and any of "%2F", "%5C", "\", ";" and "%3B".

// pathTraits says what a raw path holds that may be read in several ways.
type pathTraits uint8

const (
	pathEncoded    pathTraits = 1 << iota // a percent sign
	pathSlashes                           // a run of slashes
	pathDots                              // perhaps a dot segment
	pathParams                            // ";"
	pathBackslash                         // "\"
	pathImpossible                        // what no path may hold
)

// traitsOf looks at a raw path once. Most have no traits and are their own reading.
func traitsOf(path []byte) pathTraits {
	if len(path) == 0 || path[0] != '/' {
		return pathImpossible
	}
	var traits pathTraits
	previous := byte(0)
	for _, c := range path {
		switch {
		case c > ';' && c != '\\' && c != 0x7f:
		case c == '%':
			traits |= pathEncoded
		case c == '/' && previous == '/':
			traits |= pathSlashes
		case c == '.' && previous == '/':
			traits |= pathDots
		case c == ';':
			traits |= pathParams
		case c == '\\':
			traits |= pathBackslash
		case c <= ' ' || c == 0x7f || c == '#':
			return pathImpossible
		}
		previous = c
	}
	return traits
}

// pathReadings gives the readings of paths. It is scratch memory of one request at a
// time.
type pathReadings struct {
	decoded []byte
	primary []byte
	text    []byte
	swap    []byte
	reading []byte
}

// agree calls route for one reading after the other, the primary one first, and gives
// the route that all of them lead to, nil if there is none.
func (p *pathReadings) agree(path []byte, traits pathTraits, route func(reading []byte) *Route) *Route {
	plain, disguised := dotSegments(path)
	var possible bool
	if p.decoded, possible = appendDecoded(p.decoded[:0], path); !possible || disguised {
		return nil
	}
	ways := waysOf(p.decoded, traits)
	if plain && len(ways) > 0 {
		return nil
	}
	p.primary = appendReading(p.primary[:0], p.decoded, dotsResolved)
	chosen := route(p.primary)
	if chosen == nil {
		return nil
	}
	same := func(text []byte, dots dotTreatment) bool {
		p.reading = appendReading(p.reading[:0], text, dots)
		return bytes.Equal(p.reading, p.primary) || route(p.reading) == chosen
	}
	if plain && (!same(p.decoded, dotsKept) || !same(p.decoded, dotsBeforeSlashes)) {
		return nil
	}
	for _, way := range ways {
		if !same(p.translate(way), dotsKept) {
			return nil
		}
	}
	return chosen
}

// pathWay is one way of finding the segments of a decoded path: steps in order.
type pathWay []func(dst, path []byte) []byte

// The ways of reading a path in another than the primary way, by what the path holds.
// Servlet containers cut parameters off before they decode, others afterwards.
var (
	pathSlashWays = []pathWay{
		{readEncodedSlashes}, {readBackslashes}, {readEncodedSlashes, readBackslashes},
	}
	pathParamWays = []pathWay{
		{cutParams}, {cutDecodedParams},
	}
	pathMixedWays = append(append([]pathWay{
		{cutParams, readEncodedSlashes}, {cutParams, readBackslashes}, {cutParams, readEncodedSlashes, readBackslashes},
		{readEncodedSlashes, cutParams}, {readBackslashes, cutParams}, {readEncodedSlashes, readBackslashes, cutParams},
		{cutDecodedParams, readEncodedSlashes}, {cutDecodedParams, readBackslashes}, {cutDecodedParams, readEncodedSlashes, readBackslashes},
		{readEncodedSlashes, cutDecodedParams}, {readBackslashes, cutDecodedParams}, {readEncodedSlashes, readBackslashes, cutDecodedParams},
	}, pathSlashWays...), pathParamWays...)
)

// waysOf lists the ways in which a path may be read differently.
func waysOf(decoded []byte, traits pathTraits) []pathWay {
	slashes, params := traits&pathBackslash != 0, traits&pathParams != 0
	if traits&pathEncoded != 0 {
		slashes = slashes || bytes.Contains(decoded, encodedSlash) || bytes.Contains(decoded, encodedBackslash)
		params = params || bytes.Contains(decoded, encodedSemicolon)
	}
	switch {
	case slashes && params:
		return pathMixedWays
	case slashes:
		return pathSlashWays
	case params:
		return pathParamWays
	default:
		return nil
	}
}

// translate reads the decoded path in one way.
func (p *pathReadings) translate(way pathWay) []byte {
	p.text = append(p.text[:0], p.decoded...)
	for _, step := range way {
		p.swap = step(p.swap[:0], p.text)
		p.text, p.swap = p.swap, p.text
	}
	return p.text
}

// How the bytes that staysEncoded keeps are spelled in a decoded path.
var (
	encodedSlash     = []byte("%2F")
	encodedBackslash = []byte("%5C")
	encodedSemicolon = []byte("%3B")
)

func readEncodedSlashes(dst, path []byte) []byte {
	for i := 0; i < len(path); i++ {
		if bytes.HasPrefix(path[i:], encodedSlash) {
			dst = append(dst, '/')
			i += len(encodedSlash) - 1
			continue
		}
		dst = append(dst, path[i])
	}
	return dst
}

func readBackslashes(dst, path []byte) []byte {
	for i := 0; i < len(path); i++ {
		switch {
		case path[i] == '\\':
			dst = append(dst, '/')
		case bytes.HasPrefix(path[i:], encodedBackslash):
			dst = append(dst, '/')
			i += len(encodedBackslash) - 1
		default:
			dst = append(dst, path[i])
		}
	}
	return dst
}

// cutParams cuts what stands behind a ";" off each segment.
func cutParams(dst, path []byte) []byte {
	cut := false
	for _, c := range path {
		cut = c != '/' && (cut || c == ';')
		if !cut {
			dst = append(dst, c)
		}
	}
	return dst
}

// cutDecodedParams takes "%3B" for a ";" too.
func cutDecodedParams(dst, path []byte) []byte {
	cut := false
	for i, c := range path {
		cut = c != '/' && (cut || c == ';' || bytes.HasPrefix(path[i:], encodedSemicolon))
		if !cut {
			dst = append(dst, c)
		}
	}
	return dst
}

// dotSegments looks for dot segments in a raw path as the most liberal reader would.
// Plain ones stand between two literal slashes, disguised ones do not.
func dotSegments(path []byte) (plain, disguised bool) {
	segment := dotSegment{plain: true}
	for i := 0; i < len(path); {
		c, width := liberalByte(path[i:])
		literal := width == 1
		switch {
		case c == '/' || c == '\\':
			literal = literal && c == '/'
			plain, disguised = segment.end(literal, plain, disguised)
			segment = dotSegment{plain: literal}
		case segment.cut:
		case c == ';':
			segment.cut, segment.plain = true, false
		default:
			segment.add(c == '.', literal)
		}
		i += width
	}
	return segment.end(true, plain, disguised)
}

// dotSegment is what is known of one segment.
type dotSegment struct {
	length int
	other  bool // it holds something that is no dot
	cut    bool // its parameters have begun
	plain  bool // nothing of it is in disguise
}

func (s *dotSegment) add(dot, literal bool) {
	s.length++
	s.other = s.other || !dot
	s.plain = s.plain && literal
}

func (s *dotSegment) end(literal, plain, disguised bool) (nowPlain, nowDisguised bool) {
	dots := !s.other && (s.length == 1 || s.length == 2)
	unmasked := s.plain && literal
	return plain || dots && unmasked, disguised || dots && !unmasked
}

// liberalByte reads the first byte of a path, percent-decoded as often as it goes.
func liberalByte(path []byte) (c byte, width int) {
	c, width = path[0], 1
	for c == '%' && len(path) >= width+2 && isHexDigit(path[width]) && isHexDigit(path[width+1]) {
		c = unhex(path[width])<<4 | unhex(path[width+1])
		width += 2
	}
	return c, width
}

func unhex(c byte) byte {
	switch {
	case c <= '9':
		return c - '0'
	case c <= 'F':
		return c - 'A' + 10
	default:
		return c - 'a' + 10
	}
}

// appendDecoded percent-decodes a raw path, but for the bytes that must stay encoded:
// those are spelled with capitals, so that one byte has one spelling. A percent sign
// that begins no encoding becomes "%25". It is not ok with an encoded NUL.
func appendDecoded(dst, path []byte) (decoded []byte, ok bool) {
	for i := 0; i < len(path); i++ {
		c := path[i]
		if c != '%' {
			dst = append(dst, c)
			continue
		}
		if i+2 < len(path) && isHexDigit(path[i+1]) && isHexDigit(path[i+2]) {
			c = unhex(path[i+1])<<4 | unhex(path[i+2])
			i += 2
		}
		switch {
		case c == 0:
			return dst, false
		case staysEncoded(c):
			dst = appendPercent(dst, c)
		default:
			dst = append(dst, c)
		}
	}
	return dst, true
}

// staysEncoded reports whether a byte means something else in a path when it is not
// encoded (RFC 3986, section 2.2), or would break a line.
func staysEncoded(c byte) bool {
	switch c {
	case '/', '\\', '%', '?', '#', ';':
		return true
	default:
		return isControl(c)
	}
}

// dotTreatment is one way of treating dot segments.
type dotTreatment uint8

const (
	dotsResolved      dotTreatment = iota // after runs of slashes were merged
	dotsKept                              // not at all
	dotsBeforeSlashes                     // before runs of slashes are merged
)

// appendReading appends a path that begins with a slash with its runs of slashes
// merged and its dot segments treated. The result begins with a slash too; dst must
// be empty.
func appendReading(dst, path []byte, dots dotTreatment) []byte {
	for len(path) > 0 {
		segment := path[1:]
		end := bytes.IndexByte(segment, '/')
		last := end < 0
		if last {
			end = len(segment)
		}
		segment, path = segment[:end], segment[end:]
		switch {
		case len(segment) == 0 && dots != dotsBeforeSlashes,
			dots != dotsKept && string(segment) == ".":
		case dots != dotsKept && string(segment) == "..":
			dst = dst[:max(bytes.LastIndexByte(dst, '/'), 0)]
		default:
			dst = append(append(dst, '/'), segment...)
			continue
		}
		if last {
			dst = append(dst, '/')
		}
	}
	if dots == dotsBeforeSlashes {
		dst = mergeSlashes(dst)
	}
	return dst
}

// mergeSlashes works in place.
func mergeSlashes(path []byte) []byte {
	merged := path[:0]
	for i, c := range path {
		if c != '/' || i == 0 || path[i-1] != '/' {
			merged = append(merged, c)
		}
	}
	return merged
}
