package front

import (
	"errors"
	"net/textproto"
	"slices"
	"strings"

	"drover/invalid"
)

// RequestIDConfig gives each request a name that its log lines everywhere share.
type RequestIDConfig struct {
	// Header is the field that servers get it in. Default X-Request-ID.
	Header string `yaml:"header"`
	// Keep says when a name that the client sends is kept, if it is one to 128 visible
	// ASCII characters: trusted, from trusted_proxies alone; always; or never. Else a
	// new one of 32 hexadecimal digits takes its place. Default trusted.
	Keep string `yaml:"keep"`
	// Answer sends it to the client too, in the same field. Default false.
	Answer bool `yaml:"answer"`
}

// The values of keep.
const (
	KeepTrusted = "trusted"
	KeepAlways  = "always"
	KeepNever   = "never"
)

// reservedIDFields have a meaning of their own.
var reservedIDFields = []string{
	"Authorization", "Connection", "Content-Length", "Cookie", "Forwarded", "Host", "Set-Cookie", "Te", "Trailer",
	"Transfer-Encoding", "Upgrade", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-User",
}

// SetDefaults fills in the defaults.
func (c *RequestIDConfig) SetDefaults() { c.Header, c.Keep = "X-Request-ID", KeepTrusted }

// Validate reports what is wrong with the block itself.
func (c *RequestIDConfig) Validate() error {
	var errs []error
	token := c.Header != "" && !strings.ContainsFunc(c.Header, func(r rune) bool { return r > 0x7f || byteClass[byte(r)]&isToken == 0 })
	switch {
	case !token:
		errs = append(errs, invalid.Fieldf("header", "got %q; want a header field's name", c.Header))
	case slices.Contains(reservedIDFields, textproto.CanonicalMIMEHeaderKey(c.Header)):
		errs = append(errs, invalid.Fieldf("header", "got %q; want a field without a meaning of its own, such as X-Request-ID", c.Header))
	}
	if c.Keep != KeepTrusted && c.Keep != KeepAlways && c.Keep != KeepNever {
		errs = append(errs, invalid.Fieldf("keep", "got %q; want trusted, always or never", c.Keep))
	}
	return errors.Join(errs...)
}

// PathConfig is what is done about paths that servers read in more than one way. What
// is refused gets 400. By default paths pass as they are, and no route is found for one
// whose segments climb or hide: see the router.
type PathConfig struct {
	// MergeSlashes makes one slash of several in a row, for routes, servers and logs
	// alike. Default false.
	MergeSlashes bool `yaml:"merge_slashes"`
	// RejectEncodedSlash refuses a path with %2F, %5C or a backslash. Default false.
	RejectEncodedSlash bool `yaml:"reject_encoded_slash"`
	// DotSegments is keep, or reject for refusing a path with a segment "." or "..",
	// percent-encoded or with parameters ("..;x") as well. Default keep.
	DotSegments string `yaml:"dot_segments"`
}

// The values of dot_segments.
const (
	DotSegmentsKeep   = "keep"
	DotSegmentsReject = "reject"
)

// SetDefaults fills in the defaults.
func (c *PathConfig) SetDefaults() { c.DotSegments = DotSegmentsKeep }

// Validate reports what is wrong with the block itself.
func (c *PathConfig) Validate() error {
	if c.DotSegments != DotSegmentsKeep && c.DotSegments != DotSegmentsReject {
		return invalid.Fieldf("dot_segments", "got %q; want keep or reject", c.DotSegments)
	}
	return nil
}
