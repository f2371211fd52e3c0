// Package compress encodes responses on their way to the client: which ones, with what,
// and what it means for their header fields. It knows exchange and no more of drover;
// proxy calls it.
package compress

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"drover/invalid"
	"drover/units"
)

// Config says which responses are compressed on their way to the client, where its
// Accept-Encoding lets them. Never are those that are encoded already, those with
// "Cache-Control: no-transform" or a digest, parts (206), and any for HTTP/1.0 clients.
// A strong ETag becomes a weak one, since the bytes are others.
type Config struct {
	// Encodings are zstd, br and gzip, the one first that is taken when the client likes
	// several as well. Default zstd, br, gzip.
	Encodings []string `yaml:"encodings"`
	// Types are the media types that are compressed: "text/css", "text/*" for all of a
	// kind, "+json" for all with that suffix. text/event-stream, of which each event costs
	// a flush, and the types of gRPC, which compresses by itself, must be named in full.
	// Default the common types of text: text/*, +json, +xml, JavaScript, WebAssembly, SVG
	// and uncompressed fonts.
	Types []string `yaml:"types"`
	// MinSize is the length of a body from which compression is worth it. One whose
	// length is not known is compressed. Default 1KiB.
	MinSize units.Size `yaml:"min_size"`
	// Level is fast, default or best; best takes several times as long. Default default.
	Level string `yaml:"level"`
}

// SetDefaults implements the decoder's contract.
func (c *Config) SetDefaults() {
	c.Encodings = []string{"zstd", "br", "gzip"}
	c.Types = []string{
		"text/*", "+json", "+xml", "application/json", "application/javascript", "application/xml", "application/wasm",
		"application/x-ndjson", "application/manifest+json", "image/svg+xml", "font/ttf", "font/otf", "application/vnd.ms-fontobject",
	}
	c.MinSize, c.Level = units.KiB, "default"
}

// Validate implements the decoder's contract.
func (c *Config) Validate() error {
	var faults []error
	add := func(key, format string, args ...any) { faults = append(faults, invalid.Fieldf(key, format, args...)) }
	if len(c.Encodings) == 0 {
		add("encodings", "got none; want at least one of %s", known())
	}
	for i, name := range c.Encodings {
		switch _, ok := codings[name]; {
		case !ok:
			add(fmt.Sprintf("encodings[%d]", i), "got %q; want one of %s", name, known())
		case slices.Index(c.Encodings, name) < i:
			add(fmt.Sprintf("encodings[%d]", i), "got %q again; want each once", name)
		}
	}
	for i, text := range c.Types {
		kind, sub, ok := strings.Cut(text, "/")
		suffix := strings.HasPrefix(text, "+") && len(text) > 1 && !ok
		if !suffix && (!ok || kind == "" || sub == "" || strings.Contains(kind, "*") || strings.Contains(sub, "*") && sub != "*") ||
			strings.ContainsAny(text, " ;,\t") {
			add(fmt.Sprintf("types[%d]", i), `got %q; want a media type such as "text/css", "text/*" or "+json"`, text)
		}
	}
	if c.MinSize < 0 {
		add("min_size", "got %d bytes; want 0 or more", int64(c.MinSize))
	}
	if _, ok := levels[c.Level]; !ok {
		add("level", "got %q; want one of %s", c.Level, strings.Join(slices.Sorted(maps.Keys(levels)), ", "))
	}
	return errors.Join(faults...)
}

func known() string { return strings.Join(slices.Sorted(maps.Keys(codings)), ", ") }
