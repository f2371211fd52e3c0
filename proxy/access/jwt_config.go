package access

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"drover/invalid"

	"github.com/go-jose/go-jose/v4"
)

// KeySetConfig says where signers' public keys are fetched from (a JWK set, RFC 7517).
// Routes with the same settings share them.
type KeySetConfig struct {
	// URL is where the keys are. They are fetched in the background, again and again,
	// and at once when a token names a key that is not there; the last good ones stay
	// while it does not answer. Exactly one of JWKSURL and JWKSFile.
	URL string `yaml:"jwks_url"`
	// CAFile holds the authorities, in PEM, that vouch for the URL's server. Default
	// those of the system.
	CAFile string `yaml:"ca_file"`
	// Refresh is how often the keys are fetched. Default 10m.
	Refresh time.Duration `yaml:"refresh"`
	// Timeout is how long a fetch may take. Default 10s.
	Timeout time.Duration `yaml:"timeout"`
}

// JWTConfig asks for a signed token (RFC 7519) in "Authorization: Bearer". Without a
// valid one the client gets 401. While no keys are known at all it gets 503.
type JWTConfig struct {
	// Keys says where the keys are fetched from.
	Keys KeySetConfig `yaml:",inline"`
	// JWKSFile holds the keys instead. It is read again when it changes.
	JWKSFile string `yaml:"jwks_file"`
	// Algorithms that a signature may have: RS256, RS384, RS512, PS256, PS384, PS512,
	// ES256, ES384, ES512 and EdDSA. Shared secrets are not taken. Default RS256, ES256,
	// EdDSA.
	Algorithms []string `yaml:"algorithms"`
	// Issuer is what the claim iss must be. Required.
	Issuer string `yaml:"issuer"`
	// Audiences are what the claim aud must name one of. Default: it is not looked at,
	// and tokens that the issuer made for other services are taken too.
	Audiences []string `yaml:"audiences"`
	// RequiredClaims must be there. exp and nbf are heeded in any case where they are.
	// Default exp.
	RequiredClaims []string `yaml:"required_claims"`
	// Leeway is how far the issuer's clock may be off. Default 30s.
	Leeway time.Duration `yaml:"leeway"`
	// UserClaim names the user, for X-Forwarded-User, the access log, and {user} in
	// templates. Default sub.
	UserClaim string `yaml:"user_claim"`
	// ClaimHeaders are claims that the server gets as header fields. What a client sends
	// under those names never reaches it.
	ClaimHeaders []ClaimHeader `yaml:"claim_headers"`
	// Realm stands in the 401. Default "restricted".
	Realm string `yaml:"realm"`
	// Forward passes the Authorization field on to the server, which may want to read
	// the token itself. Default true.
	Forward bool `yaml:"forward"`
}

// ClaimHeader is a claim as a header field.
type ClaimHeader struct {
	// Claim is the claim's name. Lists become values with commas; other values than
	// texts are as they stand in the token.
	Claim string `yaml:"claim"`
	// Header is the field's name.
	Header string `yaml:"header"`
}

// SetDefaults implements the decoder's contract.
func (c *KeySetConfig) SetDefaults() { c.Refresh, c.Timeout = 10*time.Minute, 10*time.Second }

// SetDefaults implements the decoder's contract.
func (c *JWTConfig) SetDefaults() {
	c.Algorithms = []string{"RS256", "ES256", "EdDSA"}
	c.RequiredClaims = []string{"exp"}
	c.Leeway, c.UserClaim, c.Realm, c.Forward = 30*time.Second, "sub", "restricted", true
}

// algorithms are the signatures that a token may have: those that a public key checks.
var algorithms = map[string]jose.SignatureAlgorithm{
	"RS256": jose.RS256, "RS384": jose.RS384, "RS512": jose.RS512,
	"PS256": jose.PS256, "PS384": jose.PS384, "PS512": jose.PS512,
	"ES256": jose.ES256, "ES384": jose.ES384, "ES512": jose.ES512,
	"EdDSA": jose.EdDSA,
}

// Validate implements the decoder's contract.
func (c *KeySetConfig) Validate() error {
	var faults []error
	if c.URL != "" {
		if u, err := url.Parse(c.URL); err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
			faults = append(faults, invalid.Fieldf("jwks_url", `got %q; want a URL such as "https://login.example.com/jwks.json"`, c.URL))
		}
	}
	if c.Refresh < time.Second {
		faults = append(faults, invalid.Fieldf("refresh", "got %v; want 1s or more", c.Refresh))
	}
	if c.Timeout <= 0 {
		faults = append(faults, invalid.Fieldf("timeout", "got %v; want more than 0s", c.Timeout))
	}
	return errors.Join(faults...)
}

// Validate implements the decoder's contract. It reads the file.
func (c *JWTConfig) Validate() error {
	faults := []error{c.Keys.Validate(), checkRealm(c.Realm)}
	add := func(key, format string, args ...any) { faults = append(faults, invalid.Fieldf(key, format, args...)) }
	switch {
	case (c.Keys.URL == "") == (c.JWKSFile == ""):
		add("jwks_url", "got both or neither of jwks_url and jwks_file; want one of them")
	case c.JWKSFile != "":
		if _, err := readKeys(c.JWKSFile); err != nil {
			faults = append(faults, invalid.In("jwks_file", err))
		}
	}
	if len(c.Algorithms) == 0 {
		add("algorithms", "got none; want at least one")
	}
	for i, name := range c.Algorithms {
		if _, ok := algorithms[name]; !ok {
			add(fmt.Sprintf("algorithms[%d]", i), "got %q; want one of %s", name, strings.Join(slices.Sorted(maps.Keys(algorithms)), ", "))
		}
	}
	if c.Issuer == "" {
		add("issuer", "got nothing; want what the claim iss must be")
	}
	if c.Leeway < 0 || c.Leeway > maxLeeway {
		add("leeway", "got %v; want 0s to %v", c.Leeway, maxLeeway)
	}
	for i := range c.ClaimHeaders {
		faults = append(faults, invalid.In(fmt.Sprintf("claim_headers[%d]", i), c.ClaimHeaders[i].Validate()))
	}
	return errors.Join(faults...)
}

// maxLeeway bounds how long a token that has expired is taken.
const maxLeeway = 10 * time.Minute

// Validate implements the decoder's contract. Which fields are drover's own to write
// is proxy's to say.
func (c *ClaimHeader) Validate() error {
	if c.Claim == "" {
		return invalid.Fieldf("claim", "got nothing; want a claim's name")
	}
	if !isToken(c.Header) {
		return invalid.Fieldf("header", "got %q; want the name of a header field", c.Header)
	}
	return nil
}
