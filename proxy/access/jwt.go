package access

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"drover/exchange"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// JWT checks tokens. It is immutable.
type JWT struct {
	cfg        *JWTConfig
	set        *KeySet           // nil with keys
	keys       []jose.JSONWebKey // of the file
	algorithms []jose.SignatureAlgorithm
	expected   jwt.Expected
	missing    []byte // WWW-Authenticate without a token
	invalid    []byte // with a bad one
}

// NewJWT compiles a valid configuration. Set holds the keys of cfg.Keys; it is not
// used with a file, which is read here.
func NewJWT(cfg *JWTConfig, set *KeySet) (*JWT, error) {
	j := &JWT{
		cfg: cfg, set: set, expected: jwt.Expected{Issuer: cfg.Issuer, AnyAudience: cfg.Audiences},
		missing: []byte(`Bearer realm="` + cfg.Realm + `"`),
		invalid: []byte(`Bearer realm="` + cfg.Realm + `", error="invalid_token"`),
	}
	for _, name := range cfg.Algorithms {
		j.algorithms = append(j.algorithms, algorithms[name])
	}
	if cfg.JWKSFile != "" {
		var err error
		if j.keys, err = readKeys(cfg.JWKSFile); err != nil {
			return nil, err
		}
		j.set = nil
	}
	return j, nil
}

// Forward reports whether the server is to see the token.
func (j *JWT) Forward() bool { return j.cfg.Forward }

// ClaimHeaders are the fields that only drover may give the server.
func (j *JWT) ClaimHeaders() []ClaimHeader { return j.cfg.ClaimHeaders }

// Challenge is the value of WWW-Authenticate for a request that was denied (RFC 6750,
// section 3): one without a token has made no error.
func (j *JWT) Challenge(r *exchange.Request) []byte {
	if !r.Header.Has("Authorization") {
		return j.missing
	}
	return j.invalid
}

// Claims is what a valid token says.
type Claims struct {
	User string
	// Headers are the fields of ClaimHeaders whose claims there are.
	Headers exchange.Header
}

// maxTries bounds the keys that a token without a key id is held against.
const maxTries = 8

// Check gives the claims of a request's token, ErrDenied, or ErrBusy while no keys are
// known.
func (j *JWT) Check(r *exchange.Request, now time.Time) (Claims, error) {
	value, ok := authorization(r, "bearer")
	if !ok {
		return Claims{}, ErrDenied
	}
	token, err := jwt.ParseSigned(string(value), j.algorithms)
	if err != nil || len(token.Headers) != 1 {
		return Claims{}, ErrDenied
	}
	head := &token.Headers[0]
	keys := fitting(j.keys, head.KeyID, head.Algorithm)
	if j.set != nil {
		if keys, err = j.set.candidates(head.KeyID, head.Algorithm); err != nil {
			return Claims{}, err
		}
	}
	for i := range keys[:min(len(keys), maxTries)] {
		var registered jwt.Claims
		all := map[string]json.RawMessage{}
		// Only ever with drover's own keys: the token may bring one along.
		if token.Claims(keys[i].Key, &registered, &all) == nil {
			return j.judge(&registered, all, now)
		}
	}
	return Claims{}, ErrDenied
}

// judge decides about a token whose signature is right.
func (j *JWT) judge(registered *jwt.Claims, all map[string]json.RawMessage, now time.Time) (Claims, error) {
	if registered.ValidateWithLeeway(j.expected.WithTime(now), j.cfg.Leeway) != nil {
		return Claims{}, ErrDenied
	}
	for _, name := range j.cfg.RequiredClaims {
		if claimText(all[name]) == "" {
			return Claims{}, ErrDenied
		}
	}
	claims := Claims{User: claimText(all[j.cfg.UserClaim])}
	for _, c := range j.cfg.ClaimHeaders {
		if text := claimText(all[c.Claim]); text != "" {
			claims.Headers.Add(c.Header, text)
		}
	}
	return claims, nil
}

// claimText gives a claim as a field's value, "" for one that is missing, null or
// empty. Control characters, which could end the field, are left out.
func claimText(raw json.RawMessage) string {
	var text string
	var list []json.RawMessage
	switch {
	case len(raw) == 0 || string(raw) == "null":
		return ""
	case json.Unmarshal(raw, &text) == nil:
	case json.Unmarshal(raw, &list) == nil:
		var parts []string
		for _, element := range list {
			parts = append(parts, claimText(element))
		}
		text = strings.Join(parts, ",")
	default:
		text = string(raw)
	}
	return string(slices.DeleteFunc([]byte(text), func(c byte) bool { return c < ' ' || c == 0x7f }))
}
