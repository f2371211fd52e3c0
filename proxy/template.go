package proxy

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"drover/exchange"
)

// Vars are what the variables of templates stand for in one exchange.
type Vars struct {
	Exchange *exchange.Exchange
	Route    string
	Upstream string // "" for a redirect or a fixed response
	// Scratch, when given, is memory that values are appended to in place of new
	// allocations. What was written stays valid until its owner cuts it back.
	Scratch *[]byte
}

// templateVariables are the variables that configuration values may use:
//
//	{host}        the host that the client asked for, without port
//	{path}        the path as the client sent it, percent-encoded
//	{query}       the query as sent with its "?", nothing when there is none
//	{method}      the request method
//	{scheme}      http or https, as the client came, by the word of a trusted proxy
//	{client_ip}   the client's address without port
//	{request_id}  the request's name: 32 hexadecimal digits, unique, not secret; or the
//	              client's, where request_id keeps that
//	{route}       the route's name
//	{upstream}    the upstream's name
//	{user}        who basic_auth or jwt found the client to be
//
// {{ and }} stand for the braces themselves.
var templateVariables = map[string]func(dst []byte, v Vars) []byte{
	"host":       func(dst []byte, v Vars) []byte { return append(dst, hostOnly(v.Exchange.Request.Host)...) },
	"path":       appendPathVariable,
	"query":      appendQueryVariable,
	"method":     func(dst []byte, v Vars) []byte { return append(dst, v.Exchange.Request.Method...) },
	"scheme":     func(dst []byte, v Vars) []byte { return append(dst, clientScheme(v.Exchange)...) },
	"client_ip":  func(dst []byte, v Vars) []byte { return appendClientIP(dst, v.Exchange) },
	"request_id": appendRequestID,
	"route":      func(dst []byte, v Vars) []byte { return append(dst, v.Route...) },
	"upstream":   func(dst []byte, v Vars) []byte { return append(dst, v.Upstream...) },
	"user":       func(dst []byte, v Vars) []byte { return append(dst, v.Exchange.Result.User...) },
}

// template is a value with variables in it. The zero value is the empty text.
type template struct {
	parts []templatePart
}

// templatePart is a literal, or a variable where its name is not "".
type templatePart struct {
	literal string
	name    string
	expand  func(dst []byte, v Vars) []byte
}

// parseTemplate reads a template. Its errors say where, counted in bytes from 1.
func parseTemplate(text string) (*template, error) {
	t := &template{}
	var literal strings.Builder
	flush := func() {
		if literal.Len() > 0 {
			t.parts = append(t.parts, templatePart{literal: literal.String()})
			literal.Reset()
		}
	}
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case c != '{' && c != '}':
			literal.WriteByte(c)
		case i+1 < len(text) && text[i+1] == c:
			literal.WriteByte(c)
			i++
		case c == '}':
			return nil, fmt.Errorf("got a } without its { at byte %d of %q; want }} for the brace itself", i+1, text)
		default:
			end := strings.IndexByte(text[i:], '}')
			if end < 0 {
				return nil, fmt.Errorf("got a { without its } at byte %d of %q; want {{ for the brace itself", i+1, text)
			}
			name := text[i+1 : i+end]
			expand, known := templateVariables[name]
			if !known {
				return nil, fmt.Errorf("got the unknown variable {%s} at byte %d of %q; want one of %s, or {{ for the brace itself",
					name, i+1, text, templateVariableList())
			}
			flush()
			t.parts = append(t.parts, templatePart{name: name, expand: expand})
			i += end
		}
	}
	flush()
	return t, nil
}

func templateVariableList() string {
	return "{" + strings.Join(slices.Sorted(maps.Keys(templateVariables)), "}, {") + "}"
}

// constant gives the text of a template without variables.
func (t *template) constant() (text string, ok bool) {
	switch {
	case len(t.parts) == 0:
		return "", true
	case len(t.parts) == 1 && t.parts[0].name == "":
		return t.parts[0].literal, true
	default:
		return "", false
	}
}

// appendField appends the template's text as a field value. Control characters in
// what a variable stands for are left out, so that no client can end a field and
// begin another (RFC 9110, section 5.5).
func (t *template) appendField(dst []byte, v Vars) []byte {
	for i := range t.parts {
		p := &t.parts[i]
		if p.expand == nil {
			dst = append(dst, p.literal...)
			continue
		}
		from := len(dst)
		dst = p.expand(dst, v)
		dst = dst[:from+len(dropControls(dst[from:]))]
	}
	return dst
}

// dropControls removes control characters in place.
func dropControls(text []byte) []byte {
	return slices.DeleteFunc(text, isControl)
}

func isControl(c byte) bool { return c < 0x20 || c == 0x7f }

func appendPathVariable(dst []byte, v Vars) []byte {
	path, _ := splitTarget(v.Exchange.Request.Target)
	return append(dst, path...)
}

func appendQueryVariable(dst []byte, v Vars) []byte {
	_, query := splitTarget(v.Exchange.Request.Target)
	return append(dst, query...)
}

func schemeOf(ex *exchange.Exchange) string {
	if ex.Secure {
		return "https"
	}
	return "http"
}

// clientScheme is what the client speaks: a trusted proxy's word counts before what the
// proxy itself speaks.
func clientScheme(ex *exchange.Exchange) string {
	if ex.TrustedPeer {
		switch proto := ex.Request.Header.Get("X-Forwarded-Proto"); {
		case exchange.EqualFold(proto, "https"):
			return "https"
		case exchange.EqualFold(proto, "http"):
			return "http"
		}
	}
	return schemeOf(ex)
}

// appendClientIP appends the client's address, an IPv4 one always in dotted form.
func appendClientIP(dst []byte, ex *exchange.Exchange) []byte {
	return appendIP(dst, ex.Source())
}

// appendPeerIP appends the address that the connection came from, which is a proxy's
// where one is trusted.
func appendPeerIP(dst []byte, ex *exchange.Exchange) []byte {
	return appendIP(dst, ex.Remote.Addr())
}

func appendIP(dst []byte, addr netip.Addr) []byte {
	addr = addr.Unmap().WithZone("")
	if !addr.IsValid() {
		return append(dst, "unknown"...)
	}
	return addr.AppendTo(dst)
}

// appendRequestID names the request, on a listener without request_id too.
func appendRequestID(dst []byte, v Vars) []byte {
	if v.Exchange.RequestID == nil {
		v.Exchange.RequestID = appendNewID(nil)
	}
	return append(dst, v.Exchange.RequestID...)
}

// splitTarget cuts a request target into path and query; the query keeps its "?".
func splitTarget(target []byte) (path, query []byte) {
	for i, c := range target {
		if c == '?' {
			return target[:i], target[i:]
		}
	}
	return target, nil
}

// hostOnly gives an authority without its port and without a trailing dot.
func hostOnly(host []byte) []byte {
	for i := len(host) - 1; i >= 0 && host[i] != ']'; i-- {
		if host[i] == ':' {
			host = host[:i]
			break
		}
	}
	if n := len(host); n > 1 && host[n-1] == '.' {
		host = host[:n-1]
	}
	return host
}
