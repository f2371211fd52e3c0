package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// targetRewrite changes the path of the target that servers see.
type targetRewrite struct {
	strip       []string // decoded segments to take off the front
	regexp      *regexp.Regexp
	replacement []byte
}

func compileTargetRewrite(cfg *RouteConfig) targetRewrite {
	t := targetRewrite{}
	if cfg.StripPrefix != "" {
		t.strip = strings.Split(strings.Trim(canonicalPath(cfg.StripPrefix), "/"), "/")
	}
	if cfg.Rewrite != nil {
		t.regexp = regexp.MustCompile(cfg.Rewrite.Regexp) // Validate has compiled it
		t.replacement = []byte(cfg.Rewrite.Replacement)
	}
	return t
}

// RewritesTarget reports whether RewriteTarget may change anything.
func (r *Route) RewritesTarget() bool { return r.rewrite.strip != nil || r.rewrite.regexp != nil }

// RewriteTarget appends to dst the target that servers see: the client's with
// strip_prefix and rewrite applied to its path. The query stays byte for byte, and so
// do the target "*" and every target of a route that rewrites nothing.
//
// Strip_prefix compares whole segments, percent-decoded, and counts a run of slashes
// as one: "/api" comes off "//%61pi/x%2Fy" and leaves "/x%2Fy". What is left keeps the
// client's spelling. A path that does not begin with the prefix stays whole. Then
// rewrite searches the path, percent-encoded as it is.
//
// A rewritten path begins with exactly one slash, so that no server takes its first
// segment for a host, and bytes that cannot stand in a path are percent-encoded. Dot
// segments are resolved first: a prefix taken off in front of ".." would change what
// the rest means.
func (r *Route) RewriteTarget(dst, target []byte) []byte {
	path, query := splitTarget(target)
	if !r.RewritesTarget() || len(path) == 0 || path[0] != '/' {
		return append(dst, target...)
	}
	if plain, disguised := dotSegments(path); plain || disguised {
		path = appendReading(nil, path, dotsResolved)
	}
	rest, stripped := r.rewrite.stripped(path)
	if stripped {
		path = rest
	}
	if r.rewrite.regexp != nil {
		if stripped {
			path = append([]byte{'/'}, bytes.TrimLeft(path, "/")...)
		}
		path = r.rewrite.regexp.ReplaceAll(path, r.rewrite.replacement)
	}
	dst = append(dst, '/')
	for _, c := range bytes.TrimLeft(path, "/") {
		if c <= ' ' || c == 0x7f || c == '?' || c == '#' {
			dst = appendPercent(dst, c)
			continue
		}
		dst = append(dst, c)
	}
	return append(dst, query...)
}

// stripped takes the prefix off where there is one and the path has it.
func (t *targetRewrite) stripped(path []byte) (rest []byte, ok bool) {
	rest = path
	for _, want := range t.strip {
		rest = bytes.TrimLeft(rest, "/")
		end := bytes.IndexByte(rest, '/')
		if end < 0 {
			end = len(rest)
		}
		if !decodesTo(rest[:end], want) {
			return nil, false
		}
		rest = rest[end:]
	}
	return rest, len(t.strip) > 0
}

// decodesTo reports whether a raw segment is a decoded one.
func decodesTo(raw []byte, segment string) bool {
	if bytes.IndexByte(raw, '%') < 0 {
		return string(raw) == segment
	}
	decoded, ok := appendDecoded(nil, raw)
	return ok && string(decoded) == segment
}

// checkReplacement wants a replacement that is part of a path and refers to groups
// that its regexp has.
func checkReplacement(re *regexp.Regexp, replacement string) error {
	if i := strings.IndexFunc(replacement, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '?' || r == '#' }); i >= 0 {
		return fmt.Errorf("got %q at byte %d; want a path, without query, blanks and control characters",
			replacement[i], i+1)
	}
	// As regexp.Expand reads them: the longest run of letters, digits and underscores.
	references := regexp.MustCompile(`\$\$|\$([\pL\p{Nd}_]+)|\$\{([\pL\p{Nd}_]+)\}|\$`)
	for _, match := range references.FindAllStringSubmatch(replacement, -1) {
		name := match[1] + match[2]
		switch {
		case match[0] == "$$":
		case name == "":
			return errors.New(`got a "$" without a group; want $1, ${name}, or $$ for a dollar sign`)
		case !hasGroup(re, name):
			hint := ""
			if match[1] != "" {
				hint = ` (${1}x is group 1 with an "x" behind it, $1x is a group of that name)`
			}
			return fmt.Errorf("got %s; want a group of the regexp, which has %d%s", match[0], re.NumSubexp(), hint)
		}
	}
	return nil
}

func hasGroup(re *regexp.Regexp, name string) bool {
	if n, err := strconv.Atoi(name); err == nil {
		return n <= re.NumSubexp()
	}
	return slices.Contains(re.SubexpNames(), name)
}
