package access

import (
	"bytes"
	"strconv"
	"strings"
	"time"

	"drover/exchange"
)

// CORS is a compiled CORSConfig. It is immutable.
type CORS struct {
	all         bool // every origin
	origins     []origin
	anyMethod   bool
	anyHeader   bool
	credentials bool
	methods     []byte
	headers     []byte
	expose      []byte
	maxAge      []byte
}

// NewCORS compiles a valid configuration.
func NewCORS(cfg *CORSConfig) (*CORS, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	list := func(names []string) []byte { return []byte(strings.Join(names, ", ")) }
	c := &CORS{
		all: cfg.Origins[0] == anything, credentials: cfg.Credentials,
		methods: list(cfg.Methods), headers: list(cfg.Headers), expose: list(cfg.Expose),
	}
	c.anyMethod, c.anyHeader = string(c.methods) == anything, string(c.headers) == anything
	if cfg.MaxAge > 0 {
		c.maxAge = strconv.AppendInt(nil, int64(cfg.MaxAge/time.Second), 10)
	}
	for _, text := range cfg.Origins {
		if o, err := parseOrigin(text); err == nil {
			c.origins = append(c.origins, o)
		}
	}
	return c, nil
}

// IsPreflight reports whether a request is one of a browser that asks for permission.
// Other OPTIONS requests are the server's affair.
func IsPreflight(r *exchange.Request) bool {
	return string(r.Method) == "OPTIONS" && r.Header.Has("Origin") && r.Header.Has("Access-Control-Request-Method")
}

// Names and values of the fields that are written. Nothing changes them.
var (
	fieldOrigin      = []byte("Access-Control-Allow-Origin")
	fieldCredentials = []byte("Access-Control-Allow-Credentials")
	fieldMethods     = []byte("Access-Control-Allow-Methods")
	fieldHeaders     = []byte("Access-Control-Allow-Headers")
	fieldMaxAge      = []byte("Access-Control-Max-Age")
	fieldExpose      = []byte("Access-Control-Expose-Headers")
	fieldVary        = []byte("Vary")

	valueAll           = []byte("*")
	valueTrue          = []byte("true")
	valueVaryPreflight = []byte("Origin, Access-Control-Request-Method, Access-Control-Request-Headers")
)

// Preflight makes the answer to a preflight. One that is not allowed has the status of
// the others and none of the fields, which is how the browser knows.
func (c *CORS) Preflight(r *exchange.Request) *exchange.Response {
	answer := &exchange.Response{Status: 204, ContentLength: exchange.NoBody}
	h := &answer.Header
	if c.allowOrigin(h, r) {
		if asked := r.Header.Get("Access-Control-Request-Method"); !c.anyMethod {
			add(h, fieldMethods, c.methods)
		} else if isToken(asked) {
			add(h, fieldMethods, asked)
		}
		if asked := r.Header.Get("Access-Control-Request-Headers"); !c.anyHeader {
			add(h, fieldHeaders, c.headers)
		} else if isTokenList(asked) {
			add(h, fieldHeaders, asked)
		}
		add(h, fieldMaxAge, c.maxAge)
	}
	add(h, fieldVary, valueVaryPreflight)
	return answer
}

// Apply gives a response's fields those that its origin may have, in place of the
// server's own.
func (c *CORS) Apply(h *exchange.Header, r *exchange.Request) {
	for _, name := range [...]string{
		"Access-Control-Allow-Origin", "Access-Control-Allow-Credentials", "Access-Control-Allow-Methods",
		"Access-Control-Allow-Headers", "Access-Control-Max-Age", "Access-Control-Expose-Headers",
	} {
		h.Del(name)
	}
	if c.allowOrigin(h, r) {
		add(h, fieldExpose, c.expose)
	}
	if !c.all {
		// Also without an origin and for those that are refused: a cache must not give
		// one origin what another got.
		h.AddVary("Origin")
	}
}

func (c *CORS) allowOrigin(h *exchange.Header, r *exchange.Request) bool {
	value := r.Header.Get("Origin")
	if len(value) == 0 || r.Header.Count("Origin") > 1 {
		return false
	}
	if c.all {
		add(h, fieldOrigin, valueAll)
		return true
	}
	for i := range c.origins {
		if c.origins[i].takes(value) {
			add(h, fieldOrigin, value)
			if c.credentials {
				add(h, fieldCredentials, valueTrue)
			}
			return true
		}
	}
	return false
}

// add appends a field that has a value.
func add(h *exchange.Header, name, value []byte) {
	if len(value) > 0 {
		*h = append(*h, exchange.Field{Name: name, Value: value})
	}
}

func isTokenList(list []byte) bool {
	for element := range bytes.SplitSeq(list, []byte(",")) {
		if !isToken(bytes.Trim(element, " \t")) {
			return false
		}
	}
	return true
}
