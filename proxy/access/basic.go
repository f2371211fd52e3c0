package access

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	"drover/exchange"
	"drover/invalid"

	"golang.org/x/crypto/bcrypt"
)

// BasicConfig asks for a user name and a password (RFC 7617). Without a right one the
// client gets 401. The name goes to the server in X-Forwarded-User, and stands in the
// access log and for {user} in templates.
type BasicConfig struct {
	// UsersFile has a line "name:hash" for each user, as "htpasswd -B" writes them; only
	// bcrypt hashes are taken. It is read again when it changes. Required.
	UsersFile string `yaml:"users_file"`
	// Realm is what browsers show when they ask for the password. Default "restricted".
	Realm string `yaml:"realm"`
	// Forward passes the Authorization field on to the server, password and all. Default
	// false.
	Forward bool `yaml:"forward"`
}

// SetDefaults implements the decoder's contract.
func (c *BasicConfig) SetDefaults() { c.Realm = "restricted" }

// Validate implements the decoder's contract. It reads the file.
func (c *BasicConfig) Validate() error {
	var faults []error
	if c.UsersFile == "" {
		faults = append(faults, invalid.Fieldf("users_file", `got nothing; want a file that "htpasswd -B" has written`))
	} else if _, err := readUsers(c.UsersFile); err != nil {
		faults = append(faults, invalid.In("users_file", err))
	}
	return errors.Join(append(faults, checkRealm(c.Realm))...)
}

// checkRealm wants what stands between quotes as it is.
func checkRealm(realm string) error {
	for i := range len(realm) {
		if c := realm[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return invalid.Fieldf("realm", "got %q at byte %d; want printable ASCII without quotes and backslashes", c, i+1)
		}
	}
	return nil
}

// Faults of a request that Basic and JWT find.
var (
	// ErrDenied is a request without credentials, or with wrong ones.
	ErrDenied = errors.New("no or wrong credentials")
	// ErrBusy is one whose credentials could not be looked at in time.
	ErrBusy = errors.New("credentials could not be checked in time")
)

// Slots bound how many passwords are hashed at once, so that a flood of wrong ones
// leaves processors to the requests that pass. All routes share them.
type Slots chan struct{}

// NewSlots makes room for half of the processors, one at least.
func NewSlots() Slots { return make(Slots, max(1, runtime.GOMAXPROCS(0)/2)) }

// slotWait is how long a request waits for its turn.
const slotWait = 5 * time.Second

// Basic checks names and passwords.
type Basic struct {
	// immutable
	users     map[string]user
	stranger  []byte // a hash to compare with where there is no such user
	slots     Slots
	forward   bool
	challenge []byte
	key       [sha256.Size]byte // keeps digests from meaning anything elsewhere

	// under mu
	mu       sync.RWMutex
	verified map[[sha256.Size]byte]struct{} // digests of what was right
}

type user struct {
	name string
	hash []byte
}

// maxVerified bounds Basic.verified.
const maxVerified = 4096

// NewBasic reads the users of a valid configuration.
func NewBasic(cfg *BasicConfig, slots Slots) (*Basic, error) {
	users, err := readUsers(cfg.UsersFile)
	if err != nil {
		return nil, err
	}
	b := &Basic{
		users: users, slots: slots, forward: cfg.Forward, challenge: []byte(`Basic realm="` + cfg.Realm + `", charset="UTF-8"`),
		verified: map[[sha256.Size]byte]struct{}{},
	}
	for _, u := range users {
		b.stranger = u.hash
		break
	}
	if _, err := rand.Read(b.key[:]); err != nil {
		return nil, err
	}
	return b, nil
}

// Forward reports whether the server is to see the credentials.
func (b *Basic) Forward() bool { return b.forward }

// Challenge is the value of WWW-Authenticate.
func (b *Basic) Challenge() []byte { return b.challenge }

// Check gives the user of a request, ErrDenied or ErrBusy. A pair that was right is
// remembered for as long as the file stays the same; bcrypt takes too long to be paid
// by each request.
func (b *Basic) Check(r *exchange.Request) (string, error) {
	name, password, ok := credentials(r)
	if !ok {
		return "", ErrDenied
	}
	u, known := b.users[string(name)]
	if !known {
		u.hash = b.stranger // the time that it takes must not tell who exists.
	}
	digest := b.digest(name, password)
	if b.remembers(digest) {
		return u.name, nil
	}
	select {
	case b.slots <- struct{}{}:
	default:
		timer := time.NewTimer(slotWait)
		defer timer.Stop()
		select {
		case b.slots <- struct{}{}:
		case <-timer.C:
			return "", ErrBusy
		}
	}
	defer func() { <-b.slots }()
	if b.remembers(digest) {
		return u.name, nil // another request of the same client was first.
	}
	if bcrypt.CompareHashAndPassword(u.hash, password) != nil || !known {
		return "", ErrDenied
	}
	b.remember(digest)
	return u.name, nil
}

func (b *Basic) digest(name, password []byte) [sha256.Size]byte {
	var buf [256]byte
	text := append(append(append(buf[:0], b.key[:]...), name...), ':') // a name has no colon.
	return sha256.Sum256(append(text, password...))
}

func (b *Basic) remembers(digest [sha256.Size]byte) bool {
	b.mu.RLock()
	defer b.mu.RUnlock()
	_, ok := b.verified[digest]
	return ok
}

func (b *Basic) remember(digest [sha256.Size]byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.verified) >= maxVerified {
		for other := range b.verified { // any: it costs its owner one hash.
			delete(b.verified, other)
			break
		}
	}
	b.verified[digest] = struct{}{}
}

// credentials reads the one Authorization field.
func credentials(r *exchange.Request) (name, password []byte, ok bool) {
	value, ok := authorization(r, "basic")
	if !ok {
		return nil, nil, false
	}
	decoded, err := base64.StdEncoding.AppendDecode(nil, value)
	if err != nil {
		return nil, nil, false
	}
	return bytes.Cut(decoded, []byte(":"))
}

// authorization gives the credentials behind a scheme, of a request that has one
// Authorization field.
func authorization(r *exchange.Request, scheme string) ([]byte, bool) {
	value := r.Header.Get("Authorization")
	if len(value) <= len(scheme) || value[len(scheme)] != ' ' || !exchange.EqualFold(value[:len(scheme)], scheme) ||
		r.Header.Count("Authorization") > 1 {
		return nil, false
	}
	return bytes.Trim(value[len(scheme):], " "), true
}

// maxBcryptCost bounds what one wrong password costs: each step doubles it, and 14
// takes about a second.
const maxBcryptCost = 14

// readUsers reads a users file.
func readUsers(path string) (map[string]user, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read: %w", err)
	}
	users := map[string]user{}
	n := 0
	for line := range strings.Lines(string(content)) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		name, hash, _ := strings.Cut(line, ":")
		if err := checkUser(name, hash); err != nil {
			return nil, fmt.Errorf("line %d of %q: %w", n, path, err)
		}
		if _, twice := users[name]; twice {
			return nil, fmt.Errorf("line %d of %q: got user %q again; want each once", n, path, name)
		}
		users[name] = user{name, []byte(hash)}
	}
	if len(users) == 0 {
		return nil, fmt.Errorf("got no user in %q; want lines of name:hash", path)
	}
	return users, nil
}

// checkUser does not repeat what it finds: it may be a password.
func checkUser(name, hash string) error {
	if name == "" || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return errors.New("got no name before a colon; want name:hash")
	}
	cost, err := bcrypt.Cost([]byte(hash))
	switch {
	case err != nil:
		return fmt.Errorf(`got another hash than bcrypt for user %q; want one of "htpasswd -B", which begins with $2`, name)
	case cost > maxBcryptCost:
		return fmt.Errorf("got cost %d for user %q; want at most %d", cost, name, maxBcryptCost)
	}
	return nil
}
