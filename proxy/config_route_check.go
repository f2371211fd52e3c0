package proxy

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
	"time"

	"drover/invalid"
)

// faultList gathers what is wrong with a configuration block.
type faultList []error

func (l *faultList) add(path, format string, args ...any) {
	*l = append(*l, invalid.Fieldf(path, format, args...))
}

// put notes err, which may be nil, under a path.
func (l *faultList) put(path string, err error) {
	if err != nil {
		*l = append(*l, invalid.In(path, err))
	}
}

// Validate implements the decoder's contract. Whether listeners and upstreams exist is
// not known here.
func (c *RouteConfig) Validate() error {
	var faults faultList
	if i := strings.IndexFunc(c.Name, func(r rune) bool { return !isNameRune(r) }); i >= 0 {
		faults.add("name", `got %q; want letters, digits, "-", "_" and "." only`, c.Name)
	}
	c.checkMatch(&faults)
	c.checkAction(&faults)
	faults.put("strip_prefix", checkPath(c.StripPrefix))
	if c.Rewrite != nil {
		faults.put("rewrite", c.Rewrite.Validate())
	}
	faults.put("host_header", checkHostHeader(c.HostHeader))
	faults.put("request_headers", c.RequestHeaders.Validate())
	faults.put("response_headers", c.ResponseHeaders.Validate())
	faults.put("timeout", checkDuration(c.Timeout))
	if c.MaxBodySize < 0 {
		faults.add("max_body_size", "got %d bytes; want 0 (the listener's) or more", int64(c.MaxBodySize))
	}
	faults.put("retry", c.Retry.Validate())
	faults.put("tunnel", c.Tunnel.Validate())
	if c.Compress != nil {
		faults.put("compress", c.Compress.Validate())
	}
	faults = append(faults, c.Access.Validate())
	return errors.Join(faults...)
}

func isNameRune(r rune) bool {
	return r < 0x80 && (isAlphanumeric(byte(r)) || r == '-' || r == '_' || r == '.')
}

func (c *RouteConfig) checkMatch(faults *faultList) {
	if c.Host != "" {
		_, err := parseHost(c.Host)
		faults.put("host", err)
		if len(c.Hosts) > 0 {
			faults.add("hosts", "got host and hosts; want one of them")
		}
	}
	for i, text := range c.Hosts {
		_, err := parseHost(text)
		faults.put(fmt.Sprintf("hosts[%d]", i), err)
	}
	if set := setKeys("path", c.Path != "", "path_prefix", c.PathPrefix != "", "path_regexp", c.PathRegexp != ""); len(set) > 1 {
		faults.add(set[1], "got %s; want at most one of path, path_prefix and path_regexp", strings.Join(set, " and "))
	}
	faults.put("path", checkPath(c.Path))
	faults.put("path_prefix", checkPath(c.PathPrefix))
	if c.PathRegexp != "" {
		_, err := compileRegexp(c.PathRegexp)
		faults.put("path_regexp", err)
	}
	for i, name := range c.Listeners {
		if name == "" {
			faults.add(fmt.Sprintf("listeners[%d]", i), "got an empty name; want the name of a listener")
		}
	}
	checkMethods(faults, "methods", c.Methods)
	for i := range c.Headers {
		at := fmt.Sprintf("headers[%d]", i)
		if name := c.Headers[i].Name; name != "" && !isToken(name) {
			faults.add(at+".name", "got %q; want the name of a header field", name)
		}
		faults.put(at, c.Headers[i].Validate())
	}
	for i := range c.Query {
		faults.put(fmt.Sprintf("query[%d]", i), c.Query[i].Validate())
	}
}

// setKeys lists the keys, each followed by whether it is set, that are.
func setKeys(pairs ...any) []string {
	var set []string
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] == true {
			set = append(set, pairs[i].(string)) //nolint:forcetypeassert,errcheck // see the doc comment.
		}
	}
	return set
}

func (c *RouteConfig) checkAction(faults *faultList) {
	set := setKeys("upstream", c.Upstream != "", "split", len(c.Split) > 0,
		"redirect", c.Redirect != nil, "respond", c.Respond != nil)
	switch {
	case len(set) == 0:
		faults.add("", "got no action; want one of upstream, split, redirect and respond")
	case len(set) > 1:
		faults.add(set[1], "got %s; want exactly one of upstream, split, redirect and respond", strings.Join(set, " and "))
	}
	sum := 0
	for i, s := range c.Split {
		faults.put(fmt.Sprintf("split[%d]", i), s.Validate())
		sum += max(s.Weight, 0)
	}
	if len(c.Split) > 0 && sum == 0 {
		faults.add("split", "got weight 0 everywhere; want at least one weight above 0")
	}
	if c.Redirect != nil {
		faults.put("redirect", c.Redirect.Validate())
	}
	if c.Respond != nil {
		faults.put("respond", c.Respond.Validate())
	}
}

// Validate implements the decoder's contract.
func (c *MatchField) Validate() error {
	var faults faultList
	if c.Name == "" {
		faults.add("name", "got nothing; want a name")
	}
	switch set := setKeys("value", c.Value != "", "regexp", c.Regexp != "", "present", c.Present); {
	case len(set) == 0:
		faults.add("", `got no condition; want one of value, regexp and present: true ("^$" is a regexp for an empty value)`)
	case len(set) > 1:
		faults.add(set[1], "got %s; want exactly one of value, regexp and present", strings.Join(set, " and "))
	}
	if c.Regexp != "" {
		_, err := compileRegexp(c.Regexp)
		faults.put("regexp", err)
	}
	return errors.Join(faults...)
}

// Validate implements the decoder's contract.
func (c *SplitConfig) Validate() error {
	var faults faultList
	if c.Upstream == "" {
		faults.add("upstream", "got nothing; want the name of an upstream")
	}
	if c.Weight < 0 || c.Weight > maxSplitWeight {
		faults.add("weight", "got %d; want 0 to %d", c.Weight, maxSplitWeight)
	}
	return errors.Join(faults...)
}

// Validate implements the decoder's contract.
func (c *RedirectConfig) Validate() error {
	var faults faultList
	_, err := parseLocation(c.To)
	faults.put("to", err)
	if !slices.Contains(redirectStatuses, c.Status) {
		faults.add("status", "got %d; want 301, 302, 303, 307 or 308", c.Status)
	}
	return errors.Join(faults...)
}

// Validate implements the decoder's contract.
func (c *RespondConfig) Validate() error {
	var faults faultList
	switch {
	case c.Status < 200 || c.Status > 599:
		faults.add("status", "got %d; want 200 to 599", c.Status)
	case (c.Status == 204 || c.Status == 205 || c.Status == 304) && c.Body != "":
		faults.add("body", "got %d bytes for status %d, which has no body; want none", len(c.Body), c.Status)
	}
	faults.put("content_type", checkFieldValue(c.ContentType))
	return errors.Join(faults...)
}

// Validate implements the decoder's contract.
func (c *RewriteConfig) Validate() error {
	var faults faultList
	if c.Regexp == "" {
		faults.add("regexp", "got nothing; want what to search for in the path")
		return errors.Join(faults...)
	}
	re, err := compileRegexp(c.Regexp)
	faults.put("regexp", err)
	if err == nil {
		faults.put("replacement", checkReplacement(re, c.Replacement))
	}
	return errors.Join(faults...)
}

// Validate implements the decoder's contract.
func (c *RetryConfig) Validate() error {
	var faults faultList
	if c.Attempts < 0 || c.Attempts > maxAttempts {
		faults.add("attempts", "got %d; want 1 (no retry) to %d", c.Attempts, maxAttempts)
	}
	known := strings.Join(slices.Sorted(maps.Keys(retryConditions)), ", ")
	for i, name := range c.On {
		at := fmt.Sprintf("on[%d]", i)
		switch _, ok := retryConditions[name]; {
		case name == "body":
			faults.add(at, "got %q; want one of %s: a response whose body has begun is never retried", name, known)
		case !ok:
			faults.add(at, "got %q; want one of %s", name, known)
		}
	}
	checkMethods(&faults, "methods", c.Methods)
	faults.put("per_try_timeout", checkDuration(c.PerTryTimeout))
	if c.MaxBufferedBody < 0 {
		faults.add("max_buffered_body", "got %d bytes; want 0 or more", int64(c.MaxBufferedBody))
	}
	return errors.Join(faults...)
}

// Validate implements the decoder's contract.
func (c *HeaderOps) Validate() error {
	var faults faultList
	for i := range c.Set {
		faults.put(fmt.Sprintf("set[%d]", i), c.Set[i].Validate())
	}
	for i := range c.Add {
		faults.put(fmt.Sprintf("add[%d]", i), c.Add[i].Validate())
	}
	for i, name := range c.Remove {
		faults.put(fmt.Sprintf("remove[%d]", i), checkFieldName(name))
	}
	return errors.Join(faults...)
}

// Validate implements the decoder's contract.
func (c *HeaderValue) Validate() error {
	var faults faultList
	faults.put("name", checkFieldName(c.Name))
	if err := checkFieldValue(c.Value); err != nil {
		faults.put("value", err)
	} else if _, err := parseTemplate(c.Value); err != nil {
		faults.put("value", err)
	}
	return errors.Join(faults...)
}

// checkFieldName wants a field that a route may change.
func checkFieldName(name string) error {
	if !isToken(name) {
		return fmt.Errorf("got %q; want the name of a header field: letters, digits and !#$%%&'*+-.^_`|~", name)
	}
	kind := fieldKindOf([]byte(name))
	switch {
	case kind == fieldHost:
		return fmt.Errorf("got %q; want it in host_header", name)
	case strings.EqualFold(name, "Expect"):
		return fmt.Errorf("got %q; want no such field: drover answers it itself", name)
	case slices.Contains(droverFields, kind):
		return fmt.Errorf("got %q; want a field that is not drover's own to write: it frames the message or belongs to one connection", name)
	default:
		return nil
	}
}

// droverFields are the kinds of fields that no route may change.
var droverFields = []fieldKind{
	fieldConnection, fieldContentLength, fieldTE, fieldTrailer, fieldTransferEncoding, fieldUpgrade,
}

// checkFieldValue wants what can stand in one field (RFC 9110, section 5.5).
func checkFieldValue(value string) error {
	for i := range len(value) {
		if c := value[i]; isControl(c) && c != '\t' {
			return fmt.Errorf("got the control character %q at byte %d; want a value of one line", c, i+1)
		}
	}
	return nil
}

func checkMethods(faults *faultList, key string, methods []string) {
	for i, m := range methods {
		switch {
		case !isToken(m):
			faults.add(fmt.Sprintf("%s[%d]", key, i), "got %q; want a request method such as GET", m)
		case m != strings.ToUpper(m):
			faults.add(fmt.Sprintf("%s[%d]", key, i), "got %q; want %q: methods are in capitals", m, strings.ToUpper(m))
		}
	}
}

// checkPath wants a path that has one reading, so that what is configured is what
// requests are compared with. None is fine.
func checkPath(path string) error {
	if path == "" {
		return nil
	}
	if path[0] != '/' {
		return fmt.Errorf(`got %q; want it to begin with "/"`, path)
	}
	if i := strings.IndexAny(path, "?#"); i >= 0 {
		return fmt.Errorf("got %q; want a path without %q and what follows (parameters go to query)", path, path[i:i+1])
	}
	for i := range len(path) {
		if isControl(path[i]) {
			return fmt.Errorf("got the control character %q at byte %d; want a path of one line", path[i], i+1)
		}
		if path[i] == '%' && (i+2 >= len(path) || !isHexDigit(path[i+1]) || !isHexDigit(path[i+2])) {
			return fmt.Errorf(`got %q; want two hexadecimal digits after "%%"`, path)
		}
	}
	if strings.Contains(path, "//") {
		return fmt.Errorf("got %q; want single slashes: requests' slashes are merged before they are compared", path)
	}
	plain, disguised := dotSegments([]byte(path))
	if plain || disguised {
		return fmt.Errorf(`got %q; want a path without "." and ".." segments`, path)
	}
	decoded, possible := appendDecoded(nil, []byte(path))
	traits := pathEncoded
	for _, c := range decoded {
		switch c {
		case ';':
			traits |= pathParams
		case '\\':
			traits |= pathBackslash
		}
	}
	if !possible || len(waysOf(decoded, traits)) > 0 {
		return fmt.Errorf(`got %q; want a path without ";", "\", "%%2F", "%%3B", "%%5C" and "%%00", which servers read in different ways`, path)
	}
	return nil
}

func checkHostHeader(value string) error {
	if value == "" || value == hostHeaderPreserve || value == hostHeaderUpstream {
		return nil
	}
	host, port, found := value, "", false
	if bare := hostOnly([]byte(value)); len(bare) < len(value) {
		host = string(bare)
		_, port, found = strings.Cut(value[len(host):], ":")
	}
	badPort := found && (port == "" || len(port) > 5 || strings.Trim(port, "0123456789") != "")
	if !isHostName([]byte(host)) || badPort {
		return fmt.Errorf("got %q; want preserve, upstream, or a host with or without a port", value)
	}
	return nil
}

func checkDuration(d time.Duration) error {
	if d < 0 {
		return fmt.Errorf("got %v; want 0s (none) or more", d)
	}
	return nil
}

// compileRegexp says where a regular expression is wrong.
func compileRegexp(text string) (*regexp.Regexp, error) {
	re, err := regexp.Compile(text)
	var fault *syntax.Error
	switch {
	case err == nil:
		return re, nil
	case errors.As(err, &fault) && fault.Expr != "" && fault.Expr != text:
		return nil, fmt.Errorf("got %q; want an RE2 regular expression: %s at byte %d, %q",
			text, fault.Code, strings.Index(text, fault.Expr)+1, fault.Expr)
	case errors.As(err, &fault):
		return nil, fmt.Errorf("got %q; want an RE2 regular expression: %s", text, fault.Code)
	default:
		return nil, err
	}
}
