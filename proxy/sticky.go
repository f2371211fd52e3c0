package proxy

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"drover/backend"
	"drover/exchange"

	"github.com/cespare/xxhash/v2"
)

// Sticky keeps clients on their servers by a cookie that says which one, and that only
// those who know the secret can write. It is immutable and safe for concurrent use.
//
// The cookie's value is base64url of the xxHash64 of backend.ID.String(), 8 bytes, and
// the first 16 bytes of an HMAC-SHA256 over the upstream's name and that hash. So a
// client learns no address, and can choose neither another server nor one of another
// upstream. Cookies that fail the test are as good as none.
type Sticky struct {
	cookie string
	before string // Set-Cookie up to the value
	after  string // and behind it

	macs sync.Pool // of *stickyMAC
}

const (
	stickyHashSize  = 8
	stickyTagSize   = 16
	stickyTokenSize = stickyHashSize + stickyTagSize
	stickyTextSize  = stickyTokenSize / 3 * 4

	// maxStickyCookies bounds the cookies of one request that are tried.
	maxStickyCookies = 4
	// minStickySecret is the fewest bytes of a secret, so that it cannot be guessed.
	minStickySecret = 16
	// maxStickySecret bounds what is read of a secret's file.
	maxStickySecret = 4096
)

// stickyMAC is a keyed hash with the memory it works in.
type stickyMAC struct {
	hash.Hash
	upstream []byte
	text     [stickyTextSize]byte
	token    [stickyTokenSize]byte
	sum      [sha256.Size]byte
}

// NewSticky makes the cookies of one upstream. It reads SecretFile, the only I/O.
func NewSticky(cfg *StickyConfig, upstream string) (*Sticky, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	secret, err := cfg.readSecret()
	if err != nil {
		return nil, err
	}
	s := &Sticky{cookie: cfg.Cookie, before: cfg.Cookie + "=", after: cfg.attributes()}
	label := []byte("drover sticky 1\x00" + upstream + "\x00") // a name holds no NUL
	s.macs.New = func() any {
		return &stickyMAC{Hash: hmac.New(sha256.New, secret), upstream: label}
	}
	return s, nil
}

func (c *StickyConfig) readSecret() ([]byte, error) {
	if c.SecretFile == "" {
		return []byte(c.Secret), nil
	}
	file, err := os.Open(c.SecretFile)
	if err != nil {
		return nil, fmt.Errorf("cannot read sticky secret: %w", err)
	}
	defer file.Close() //nolint:errcheck // it was only read.
	content, err := io.ReadAll(io.LimitReader(file, maxStickySecret+1))
	secret := bytes.TrimSpace(content)
	switch {
	case err != nil:
		return nil, fmt.Errorf("cannot read sticky secret: %w", err)
	case len(content) > maxStickySecret:
		return nil, fmt.Errorf("cannot read sticky secret %q: got more than %d bytes; want %d to %d",
			c.SecretFile, maxStickySecret, minStickySecret, maxStickySecret)
	case len(secret) < minStickySecret:
		return nil, fmt.Errorf("cannot read sticky secret %q: got %d bytes; want %d or more",
			c.SecretFile, len(secret), minStickySecret)
	}
	return secret, nil
}

// attributes gives what follows the value in Set-Cookie (RFC 6265, section 4.1).
func (c *StickyConfig) attributes() string {
	var text strings.Builder
	for _, attribute := range []struct {
		set  bool
		text string
	}{
		{c.Path != "", "Path=" + c.Path},
		{c.Domain != "", "Domain=" + c.Domain},
		{c.MaxAge > 0, "Max-Age=" + strconv.FormatInt(int64(c.MaxAge/time.Second), 10)},
		{c.Secure, "Secure"},
		{c.HTTPOnly, "HttpOnly"},
		{c.SameSite != "", "SameSite=" + sameSiteValues[c.SameSite]},
	} {
		if attribute.set {
			text.WriteString("; " + attribute.text)
		}
	}
	return text.String()
}

// Read gives the hash of the server that the client's cookie names, for the balancer
// to find. It is not ok without a cookie that this upstream's drovers signed.
func (s *Sticky) Read(ex *exchange.Exchange) (idHash uint64, ok bool) {
	cookies := cookieWalk{header: ex.Request.Header}
	for range maxStickyCookies {
		value, found := cookies.next(s.cookie)
		if !found {
			return 0, false
		}
		if len(value) != stickyTextSize {
			continue
		}
		if idHash, ok = s.open(value); ok {
			return idHash, true
		}
	}
	return 0, false
}

// Append adds the Set-Cookie that keeps the client on a server.
func (s *Sticky) Append(h *exchange.Header, id backend.ID) {
	value := make([]byte, 0, len(s.before)+stickyTextSize+len(s.after))
	value = append(value, s.before...)
	value = s.appendToken(value, xxhash.Sum64String(id.String()))
	value = append(value, s.after...)
	*h = append(*h, exchange.Field{Name: nameSetCookie, Value: value})
}

// Update adds the Set-Cookie unless the client's cookie names that server already. With
// max_age it always does, so that the cookie lives on while it is used.
func (s *Sticky) Update(ex *exchange.Exchange, h *exchange.Header, id backend.ID) {
	if !strings.Contains(s.after, "; Max-Age=") {
		if now, ok := s.Read(ex); ok && now == xxhash.Sum64String(id.String()) {
			return
		}
	}
	s.Append(h, id)
}

var nameSetCookie = []byte("Set-Cookie")

func (s *Sticky) open(value []byte) (idHash uint64, ok bool) {
	m := s.macs.Get().(*stickyMAC) //nolint:forcetypeassert,errcheck // the pool holds nothing else.
	defer s.macs.Put(m)
	copy(m.text[:], value)
	if n, err := base64.RawURLEncoding.Decode(m.token[:], m.text[:]); err != nil || n != stickyTokenSize {
		return 0, false
	}
	idHash = binary.BigEndian.Uint64(m.token[:])
	return idHash, hmac.Equal(m.token[stickyHashSize:], m.tag(idHash))
}

func (s *Sticky) appendToken(dst []byte, idHash uint64) []byte {
	m := s.macs.Get().(*stickyMAC) //nolint:forcetypeassert,errcheck // the pool holds nothing else.
	defer s.macs.Put(m)
	tag := m.tag(idHash)
	binary.BigEndian.PutUint64(m.token[:], idHash)
	copy(m.token[stickyHashSize:], tag)
	return base64.RawURLEncoding.AppendEncode(dst, m.token[:])
}

// tag signs a hash. The result is valid until the next call.
func (m *stickyMAC) tag(idHash uint64) []byte {
	binary.BigEndian.PutUint64(m.sum[:], idHash)
	m.Reset()
	_, _ = m.Write(m.upstream)
	_, _ = m.Write(m.sum[:stickyHashSize])
	return m.Sum(m.sum[:0])[:stickyTagSize]
}

// sameSiteValues are the values of SameSite by their names in the configuration.
var sameSiteValues = map[string]string{"": "", "lax": "Lax", "none": "None", "strict": "Strict"}

// Validate implements the decoder's contract. It does not read SecretFile.
func (c *StickyConfig) Validate() error {
	var faults faultList
	if !isToken(c.Cookie) {
		faults.add("cookie", "got %q; want the name of a cookie: letters, digits and !#$%%&'*+-.^_`|~", c.Cookie)
	}
	switch {
	case c.Secret == "" && c.SecretFile == "":
		faults.add("secret_file", "got no secret; want secret_file or secret, the same in all drovers, %d bytes or more "+
			"(such as from: openssl rand -hex 32)", minStickySecret)
	case c.Secret != "" && c.SecretFile != "":
		faults.add("secret", "got secret and secret_file; want one of them")
	case c.Secret != "" && len(c.Secret) < minStickySecret:
		faults.add("secret", "got %d bytes; want %d or more", len(c.Secret), minStickySecret)
	}
	if c.MaxAge < 0 || c.MaxAge%time.Second != 0 {
		faults.add("max_age", "got %v; want whole seconds, 0s for until the browser closes", c.MaxAge)
	}
	if c.Path != "" && c.Path[0] != '/' || !isCookieAttribute(c.Path) {
		faults.add("path", `got %q; want a path without ";" and control characters`, c.Path)
	}
	if c.Domain != "" && !isHostName([]byte(c.Domain)) {
		faults.add("domain", "got %q; want a host name", c.Domain)
	}
	if _, known := sameSiteValues[c.SameSite]; !known {
		faults.add("same_site", `got %q; want lax, none, strict or ""`, c.SameSite)
	}
	c.checkSecure(&faults)
	return errors.Join(faults...)
}

// checkSecure refuses cookies that browsers throw away.
func (c *StickyConfig) checkSecure(faults *faultList) {
	switch {
	case c.Secure:
	case c.SameSite == "none":
		faults.add("secure", "got false with same_site none; want true: browsers refuse the cookie otherwise")
	case strings.HasPrefix(c.Cookie, "__Secure-"), strings.HasPrefix(c.Cookie, "__Host-"):
		faults.add("secure", "got false with the cookie %q; want true: browsers refuse the cookie otherwise", c.Cookie)
	}
	if strings.HasPrefix(c.Cookie, "__Host-") && (c.Path != "/" || c.Domain != "") {
		faults.add("cookie", `got %q; want path "/" and no domain with it: browsers refuse the cookie otherwise`, c.Cookie)
	}
}

func isCookieAttribute(text string) bool {
	return strings.IndexFunc(text, func(r rune) bool { return r == ';' || r < ' ' || r == 0x7f }) < 0
}
