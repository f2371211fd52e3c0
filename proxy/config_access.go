package proxy

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"drover/proxy/access"
)

// AccessConfig says who may use a route. What is given is asked in this order: deny
// and allow, cors for preflights, basic_auth or jwt, forward_auth.
type AccessConfig struct {
	// Allow are the client addresses that may use the route, as ranges ("10.0.0.0/8")
	// or single addresses; the others get 403. Default all.
	Allow []string `yaml:"allow"`
	// Deny are those that may not, whatever allow says; they get 403. Default none.
	Deny []string `yaml:"deny"`
	// CORS says which other origins' scripts may use the route. Absent: the server's
	// own fields pass as they are.
	CORS *access.CORSConfig `yaml:"cors"`
	// BasicAuth asks for a user name and a password. At most one of BasicAuth and JWT.
	BasicAuth *access.BasicConfig `yaml:"basic_auth"`
	// JWT asks for a signed token.
	JWT *access.JWTConfig `yaml:"jwt"`
	// ForwardAuth asks another service about each request.
	ForwardAuth *ForwardAuthConfig `yaml:"forward_auth"`
}

// ForwardAuthConfig asks a service about each request with a GET that has
// X-Forwarded-Method, -Proto, -Host, -Uri and -For. A status of 2xx lets the request on.
// Any other below 500 is the client's answer, whole: a redirect to a login, say. When
// the service fails or answers with 5xx the client gets 503.
type ForwardAuthConfig struct {
	// Upstream names the upstream whose servers are asked. Required.
	Upstream string `yaml:"upstream"`
	// Path of the GET. It may have a query. Default "/".
	Path string `yaml:"path"`
	// RequestHeaders are the client's fields that the service gets. Default
	// Authorization and Cookie.
	RequestHeaders []string `yaml:"request_headers"`
	// ResponseHeaders are the fields of a 2xx that the server gets. What a client sends
	// under those names never reaches it. X-Forwarded-User names the user as basic_auth
	// and jwt do, and takes the place of theirs. Default none.
	ResponseHeaders []string `yaml:"response_headers"`
	// Timeout is the time until the head of the service's answer, over all attempts.
	// Default 5s.
	Timeout time.Duration `yaml:"timeout"`
}

// SetDefaults implements the decoder's contract.
func (c *ForwardAuthConfig) SetDefaults() {
	c.Path, c.RequestHeaders, c.Timeout = "/", []string{"Authorization", "Cookie"}, 5*time.Second
}

// Validate implements the decoder's contract.
func (c *AccessConfig) Validate() error {
	var faults faultList
	for _, list := range []struct {
		key   string
		texts []string
	}{{"allow", c.Allow}, {"deny", c.Deny}} {
		_, at, err := access.ParseAddresses(list.texts)
		faults.put(fmt.Sprintf("%s[%d]", list.key, at), err)
	}
	if c.CORS != nil {
		faults.put("cors", c.CORS.Validate())
	}
	if c.BasicAuth != nil {
		faults.put("basic_auth", c.BasicAuth.Validate())
	}
	if c.JWT != nil {
		if c.BasicAuth != nil {
			faults.add("jwt", "got it beside basic_auth; want one of them, since both are in Authorization")
		}
		faults.put("jwt", c.JWT.Validate())
		for i, h := range c.JWT.ClaimHeaders {
			faults.put(fmt.Sprintf("jwt.claim_headers[%d].header", i), checkGrantedField(h.Header))
		}
	}
	if c.ForwardAuth != nil {
		faults.put("forward_auth", c.ForwardAuth.Validate())
	}
	return errors.Join(faults...)
}

// checkGrantedField wants a field that access may give a server.
func checkGrantedField(name string) error {
	if !isToken(name) {
		return nil // said already.
	}
	switch kind := fieldKindOf([]byte(name)); {
	case kind != fieldOther && (kind != fieldForwarding || strings.EqualFold(name, string(nameForwardedUser))),
		strings.EqualFold(name, string(nameForwardedHost)), strings.EqualFold(name, string(nameForwardedProto)):
		return fmt.Errorf("got %q; want a field that is not drover's own to write", name)
	}
	return nil
}

// Validate implements the decoder's contract. Whether the upstream exists is not known
// here.
func (c *ForwardAuthConfig) Validate() error {
	var faults faultList
	if c.Upstream == "" {
		faults.add("upstream", "got nothing; want the name of an upstream")
	}
	if !strings.HasPrefix(c.Path, "/") || strings.ContainsFunc(c.Path, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '#' }) {
		faults.add("path", `got %q; want a path that begins with "/", percent-encoded`, c.Path)
	}
	for i, name := range c.RequestHeaders {
		at, err := fmt.Sprintf("request_headers[%d]", i), checkFieldName(name)
		faults.put(at, err)
		if err == nil && fieldKindOf([]byte(name)) != fieldOther {
			faults.add(at, "got %q; want a field of the client's that is not about its connection or its way", name)
		}
	}
	for i, name := range c.ResponseHeaders {
		at := fmt.Sprintf("response_headers[%d]", i)
		faults.put(at, checkFieldName(name))
		if checkFieldName(name) == nil && !strings.EqualFold(name, string(nameForwardedUser)) {
			faults.put(at, checkGrantedField(name))
		}
	}
	if c.Timeout <= 0 {
		faults.add("timeout", "got %v; want more than 0s", c.Timeout)
	}
	return errors.Join(faults...)
}
