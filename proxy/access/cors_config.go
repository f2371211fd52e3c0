package access

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"drover/invalid"
)

// CORSConfig says which other origins' scripts may use a route, in browsers (the Fetch
// standard's CORS protocol). The server's own fields of that kind are replaced.
// Preflights are answered with 204 before any authentication, as browsers send none
// with them; every other request goes on, whatever its origin.
type CORSConfig struct {
	// Origins are "https://app.example.com", with a port where it is not the scheme's
	// own; "https://*.example.com" for every name below example.com at any depth; or
	// "*" alone for all. Required.
	Origins []string `yaml:"origins"`
	// Methods that a preflight allows, in capitals, or "*" alone for whichever it asks
	// for. Default GET, HEAD, POST.
	Methods []string `yaml:"methods"`
	// Headers are the request header fields that a preflight allows, or "*" alone for
	// whichever it asks for. Default none but those that need no permission.
	Headers []string `yaml:"headers"`
	// Expose are the response header fields that scripts may read. Default none but
	// those that need no permission.
	Expose []string `yaml:"expose"`
	// Credentials lets scripts send cookies and read the answer. Not with the origin
	// "*". Default false.
	Credentials bool `yaml:"credentials"`
	// MaxAge is how long a browser may remember a preflight's answer; whole seconds.
	// Default 0s: the browser's own bound, mostly 5 s.
	MaxAge time.Duration `yaml:"max_age"`
}

// SetDefaults implements the decoder's contract.
func (c *CORSConfig) SetDefaults() { c.Methods = []string{"GET", "HEAD", "POST"} }

const anything = "*"

// Validate implements the decoder's contract.
func (c *CORSConfig) Validate() error {
	var faults []error
	add := func(key, format string, args ...any) { faults = append(faults, invalid.Fieldf(key, format, args...)) }
	if len(c.Origins) == 0 {
		add("origins", `got none; want at least one, such as "https://app.example.com"`)
	}
	for i, text := range c.Origins {
		at := fmt.Sprintf("origins[%d]", i)
		switch _, err := parseOrigin(text); {
		case text == anything && len(c.Origins) > 1:
			add(at, `got "*" beside other origins; want it alone, since it takes all`)
		case text == anything && c.Credentials:
			add(at, `got "*" with credentials, which would let every site act as the user; want the origins by name`)
		case text != anything && err != nil:
			add(at, "%w", err)
		}
	}
	checkTokens(&faults, "methods", c.Methods)
	for i, m := range c.Methods {
		if m != strings.ToUpper(m) {
			add(fmt.Sprintf("methods[%d]", i), "got %q; want %q: methods are in capitals", m, strings.ToUpper(m))
		}
	}
	checkTokens(&faults, "headers", c.Headers)
	checkTokens(&faults, "expose", c.Expose)
	if c.Credentials && slices.Contains(c.Expose, anything) {
		add("expose", `got "*" with credentials, where browsers take it for a name; want the fields by name`)
	}
	if c.MaxAge < 0 || c.MaxAge%time.Second != 0 {
		add("max_age", "got %v; want 0s or more, in whole seconds", c.MaxAge)
	}
	return errors.Join(faults...)
}

// checkTokens wants names, or "*" alone, which is a token too.
func checkTokens(faults *[]error, key string, names []string) {
	for i, name := range names {
		switch {
		case !isToken(name):
			*faults = append(*faults, invalid.Fieldf(fmt.Sprintf("%s[%d]", key, i), "got %q; want a name", name))
		case name == anything && len(names) > 1:
			*faults = append(*faults, invalid.Fieldf(fmt.Sprintf("%s[%d]", key, i), `got "*" beside others; want it alone`))
		}
	}
}

// origin is a configured origin. With below set, host is a suffix that begins with ".".
type origin struct {
	exact  string // the whole, where below is false
	scheme string // with "://"
	suffix string // host suffix and port
	below  bool
}

func parseOrigin(text string) (origin, error) {
	wrong := fmt.Errorf(`got %q; want an origin such as "https://app.example.com" or "https://*.example.com:8443"`, text)
	u, err := url.Parse(strings.Replace(text, "://*.", "://", 1))
	if err != nil || u.Scheme == "" || u.Hostname() == "" || u.Path != "" || u.RawQuery != "" || u.ForceQuery ||
		u.Fragment != "" || u.User != nil || strings.HasSuffix(u.Host, ":") || strings.ContainsAny(u.Host, "*,% ") {
		return origin{}, wrong
	}
	lower := strings.ToLower(text)
	if port := u.Port(); u.Scheme == "http" && port == "80" || u.Scheme == "https" && port == "443" {
		return origin{}, fmt.Errorf("got %q; want %q: browsers leave the scheme's own port out", text, strings.TrimSuffix(lower, ":"+port))
	}
	scheme, host, _ := strings.Cut(lower, "://")
	if strings.HasPrefix(host, "*.") {
		return origin{scheme: scheme + "://", suffix: host[1:], below: true}, nil
	}
	return origin{exact: lower}, nil
}

// takes compares with an Origin field, which browsers write in lower case.
func (o *origin) takes(value []byte) bool {
	if !o.below {
		return string(value) == o.exact
	}
	if len(value) <= len(o.scheme)+len(o.suffix) || string(value[:len(o.scheme)]) != o.scheme {
		return false
	}
	rest := value[len(o.scheme):]
	name, end := rest[:len(rest)-len(o.suffix)], rest[len(rest)-len(o.suffix):]
	if string(end) != o.suffix || name[0] == '.' {
		return false
	}
	for _, c := range name {
		if !isHostByte(c) {
			return false
		}
	}
	return true
}

func isHostByte(c byte) bool {
	return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '.' || c == '_'
}

// isToken follows RFC 9110, section 5.6.2.
func isToken[T string | []byte](text T) bool {
	for i := range len(text) {
		c := text[i] | 0x20
		if !('a' <= c && c <= 'z' || '0' <= text[i] && text[i] <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", text[i]) >= 0) {
			return false
		}
	}
	return len(text) > 0
}
