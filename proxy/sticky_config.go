package proxy

import "time"

// StickyConfig keeps a client on one server by a signed cookie. All drovers in front
// of an upstream need the same secret, and the upstream the same name in each.
type StickyConfig struct {
	// Cookie is the cookie's name. Default "drover".
	Cookie string `yaml:"cookie"`
	// Secret signs the cookie, 16 bytes or more. Exactly one of Secret and SecretFile.
	Secret string `yaml:"secret"`
	// SecretFile holds the secret; white space around it does not count. It is read
	// when the configuration is loaded.
	SecretFile string `yaml:"secret_file"`
	// MaxAge is how long the client keeps the cookie. Default 0s: until the browser
	// closes.
	MaxAge time.Duration `yaml:"max_age"`
	// Path that the cookie is for. Default "/".
	Path string `yaml:"path"`
	// Domain that the cookie is for. Default the request's host alone.
	Domain string `yaml:"domain"`
	// Secure sends the cookie over TLS only. Default false.
	Secure bool `yaml:"secure"`
	// HTTPOnly hides the cookie from scripts. Default true.
	HTTPOnly bool `yaml:"http_only"`
	// SameSite is lax, strict, none (with secure only), or "" to leave it out.
	// Default lax.
	SameSite string `yaml:"same_site"`
}

// SetDefaults implements the decoder's contract.
func (c *StickyConfig) SetDefaults() {
	c.Cookie, c.Path, c.HTTPOnly, c.SameSite = "drover", "/", true, "lax"
}
