package proxy

import (
	"bytes"
	"regexp"
	"slices"

	"drover/exchange"
)

// pathCondition is a route's condition on the path: at most one of its fields.
type pathCondition struct {
	exact  string // as appendReading spells paths
	prefix string // likewise
	regexp *regexp.Regexp
}

// conditions are what a request must fulfil beyond host and path. They are immutable.
type conditions struct {
	listeners []string
	methods   []string
	headers   []fieldCondition
	query     []fieldCondition
}

// fieldCondition is a condition on a header field or a query parameter.
type fieldCondition struct {
	name    string
	value   string
	regexp  *regexp.Regexp // instead of value
	present bool           // any value
}

func (f *fieldCondition) holds(value []byte) bool {
	switch {
	case f.present:
		return true
	case f.regexp != nil:
		return f.regexp.Match(value)
	default:
		return string(value) == f.value
	}
}

func (c *conditions) hold(l *lookup) bool {
	if len(c.listeners) > 0 && !slices.Contains(c.listeners, l.ex.Listener) {
		return false
	}
	if len(c.methods) > 0 && !containsText(c.methods, l.ex.Request.Method) {
		return false
	}
	for i := range c.headers {
		if !c.headers[i].holdsInHeader(l.ex.Request.Header) {
			return false
		}
	}
	return len(c.query) == 0 || l.queryHolds(c.query)
}

// containsText is slices.Contains for bytes.
func containsText(list []string, text []byte) bool {
	for _, s := range list {
		if s == string(text) {
			return true
		}
	}
	return false
}

func (f *fieldCondition) holdsInHeader(header exchange.Header) bool {
	for i := range header {
		if exchange.EqualFold(header[i].Name, f.name) && f.holds(header[i].Value) {
			return true
		}
	}
	return false
}

func (l *lookup) queryHolds(list []fieldCondition) bool {
	_, query := splitTarget(l.ex.Request.Target)
	scratch := l.router.scratch.Get().(*matchScratch) //nolint:forcetypeassert,errcheck // the pool holds nothing else.
	defer l.router.scratch.Put(scratch)
	for i := range list {
		if !list[i].holdsInQuery(query, scratch) {
			return false
		}
	}
	return true
}

func (f *fieldCondition) holdsInQuery(query []byte, scratch *matchScratch) bool {
	for rest := queryPairs(query); len(rest) > 0; {
		var name, value []byte
		name, value, rest = nextPair(rest)
		scratch.value = appendQueryText(scratch.value[:0], name)
		if string(scratch.value) != f.name {
			continue
		}
		scratch.value = appendQueryText(scratch.value[:0], value)
		if f.holds(scratch.value) {
			return true
		}
	}
	return false
}

// queryPairs gives what stands behind the "?".
func queryPairs(query []byte) []byte {
	if len(query) == 0 {
		return nil
	}
	return query[1:]
}

// nextPair takes the first parameter off a query. A parameter without "=" has an
// empty value.
func nextPair(query []byte) (name, value, rest []byte) {
	pair, rest, _ := bytes.Cut(query, pairSeparator)
	name, value, _ = bytes.Cut(pair, valueSeparator)
	return name, value, rest
}

// Separators in queries (WHATWG URL, section 5.1).
var (
	pairSeparator  = []byte("&")
	valueSeparator = []byte("=")
)

// appendQueryText decodes one side of a parameter: "+" is a blank, and a percent sign
// that begins no encoding is itself.
func appendQueryText(dst, text []byte) []byte {
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case c == '+':
			c = ' '
		case c == '%' && i+2 < len(text) && isHexDigit(text[i+1]) && isHexDigit(text[i+2]):
			c = unhex(text[i+1])<<4 | unhex(text[i+2])
			i += 2
		}
		dst = append(dst, c)
	}
	return dst
}
