// Package zookeeper reads an upstream's servers from ZooKeeper: one session for an
// ensemble (Session), any number of watched paths on it (Source). On the same session
// drovers share secrets (Store).
package zookeeper

import (
	"errors"
	"net"
	"strconv"
	"strings"
	"time"

	"drover/discovery/format"
	"drover/invalid"
)

// Bounds of settings whose extremes cannot work. ZooKeeper counts a session in
// milliseconds of 32 bits and a client that is quicker than a second only flaps.
const (
	minSessionTimeout = time.Second
	maxSessionTimeout = 10 * time.Minute
)

// Config is the `zookeeper` block: one ensemble and how to stay connected to it.
type Config struct {
	// Servers are the ensemble's members, host:port each. Names are resolved anew at
	// every connect, so one that cannot be resolved now costs nothing but its turn.
	Servers []string `yaml:"servers"`
	// SessionTimeout is how long the ensemble keeps our session without hearing from
	// us. The server may choose another value: it allows 2 to 20 of its ticks.
	// Default 15s.
	SessionTimeout time.Duration `yaml:"session_timeout"`
	// Chroot is a path that is put before every path, "" for none. Default "".
	Chroot string `yaml:"chroot"`
	// Auth names who we are. Absent: nobody, which reads what everybody may read.
	Auth *AuthConfig `yaml:"auth"`
	// AllowOpenSecrets lets drovers share secrets through the ensemble without auth, so
	// that whoever can connect to it reads and replaces them. Default false.
	AllowOpenSecrets bool `yaml:"allow_open_secrets"`
	// ConnectTimeout bounds one attempt on one member: name look-up, TCP connect and
	// ZooKeeper's handshake together. It is also how long a start waits for
	// ZooKeeper before it serves from a snapshot on disk. Default 2s.
	ConnectTimeout time.Duration `yaml:"connect_timeout"`
	// VerifyInterval is the mean time between two checks that no change was missed;
	// each wait is 50 to 150 percent of it. A check costs one small read for each
	// path and one for a tenth of its children. Default 60s.
	VerifyInterval time.Duration `yaml:"verify_interval"`
	// Debounce is how long changes of one path are gathered from the first one on,
	// before they are read together. A znode that is deleted and written again
	// within it is no change. Default 50ms.
	Debounce time.Duration `yaml:"debounce"`
	// MaxDebounce bounds how long changes are gathered when reading them takes long:
	// the wait grows with the time that the last reading took. Default 500ms.
	MaxDebounce time.Duration `yaml:"max_debounce"`
	// SnapshotDir is a directory for the last good set of every source, from which a
	// start without ZooKeeper serves. It is made if it does not exist. "", the
	// default, keeps none.
	SnapshotDir string `yaml:"snapshot_dir"`
}

// AuthConfig is the `auth` block of an ensemble.
type AuthConfig struct {
	// Scheme is ZooKeeper's authentication scheme; only digest is supported.
	// Kerberos and other SASL mechanisms are not. Default digest.
	Scheme string `yaml:"scheme"`
	// CredentialsFile holds user:password in its first line. It is read when the
	// session starts; a relative path is below the configuration file's directory.
	CredentialsFile string `yaml:"credentials_file"`
}

// SourceConfig is the `zookeeper` block under an upstream's `discover`.
type SourceConfig struct {
	// Path is the directory whose children are the servers, such as
	// /services/users. It need not exist yet. With the formats dubbo and auto, the
	// path of an interface, such as /dubbo/com.example.Users, stands for its child
	// "providers" wherever that exists.
	Path string `yaml:"path"`
	// Format is how the entries are written; see package format for the names.
	// Default auto.
	Format string `yaml:"format"`
}

// Files are the files that the settings name.
func (c *Config) Files() []string {
	if c.Auth == nil {
		return nil
	}
	return []string{c.Auth.CredentialsFile}
}

// SetDefaults fills in the defaults.
func (c *Config) SetDefaults() {
	c.SessionTimeout = 15 * time.Second
	c.ConnectTimeout = 2 * time.Second
	c.VerifyInterval = time.Minute
	c.Debounce = 50 * time.Millisecond
	c.MaxDebounce = 500 * time.Millisecond
}

// SetDefaults fills in the defaults.
func (c *AuthConfig) SetDefaults() { c.Scheme = "digest" }

// SetDefaults fills in the defaults.
func (c *SourceConfig) SetDefaults() { c.Format = "auto" }

// Validate reports what is wrong with the block.
func (c *Config) Validate() error {
	var errs []error
	if len(c.Servers) == 0 {
		errs = append(errs, invalid.Fieldf("servers", "got none; want at least one host:port"))
	}
	for i, server := range c.Servers {
		if err := validateServer(server); err != nil {
			errs = append(errs, invalid.In("servers["+strconv.Itoa(i)+"]", err))
		}
	}
	if c.SessionTimeout < minSessionTimeout || c.SessionTimeout > maxSessionTimeout {
		errs = append(errs, invalid.Fieldf("session_timeout", "got %v; want %v to %v", c.SessionTimeout, minSessionTimeout, maxSessionTimeout))
	}
	if c.Chroot != "" {
		if err := validatePath(c.Chroot); err != nil {
			errs = append(errs, invalid.In("chroot", err))
		}
	}
	errs = append(errs, positive("connect_timeout", c.ConnectTimeout), positive("verify_interval", c.VerifyInterval))
	if c.Debounce < 0 {
		errs = append(errs, invalid.Fieldf("debounce", "got %v; want 0 or more", c.Debounce))
	}
	if c.MaxDebounce < c.Debounce {
		errs = append(errs, invalid.Fieldf("max_debounce", "got %v; want at least debounce, %v", c.MaxDebounce, c.Debounce))
	}
	if c.Auth != nil {
		errs = append(errs, invalid.In("auth", c.Auth.Validate()))
	}
	if c.Auth != nil && c.AllowOpenSecrets {
		errs = append(errs, invalid.Fieldf("allow_open_secrets", "got true beside auth, under which nothing is open; want one of the two"))
	}
	return errors.Join(errs...)
}

// Validate reports what is wrong with the block.
func (c *AuthConfig) Validate() error {
	var errs []error
	if c.Scheme != "digest" {
		errs = append(errs, invalid.Fieldf("scheme", "got %q; want digest, the only one supported", c.Scheme))
	}
	if c.CredentialsFile == "" {
		errs = append(errs, invalid.Fieldf("credentials_file", "got nothing; want a file that holds user:password"))
	}
	return errors.Join(errs...)
}

// Validate reports what is wrong with the block.
func (c *SourceConfig) Validate() error {
	var errs []error
	if err := validatePath(c.Path); err != nil {
		errs = append(errs, invalid.In("path", err))
	}
	if _, err := format.Lookup(c.Format); err != nil {
		errs = append(errs, invalid.In("format", err))
	}
	return errors.Join(errs...)
}

// validateServer catches what ZooKeeper users are used to write and this client
// does not take: several servers in one string and a chroot behind the port.
func validateServer(server string) error {
	switch {
	case strings.ContainsAny(server, ", "):
		return errors.New("got \"" + server + "\"; want one host:port, further servers as further list items")
	case strings.Contains(server, "/"):
		return errors.New("got \"" + server + "\"; want host:port, with the path behind it as chroot")
	}
	host, port, err := net.SplitHostPort(server)
	if err != nil || host == "" {
		return errors.New("got \"" + server + "\"; want host:port such as zk1.example.com:2181 or [::1]:2181")
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return errors.New("got port \"" + port + "\"; want a number from 1 to 65535")
	}
	return nil
}

// ValidateSecretPath reports what is wrong with the path of something that a Store keeps.
func ValidateSecretPath(path string) error {
	if path == "/" {
		return errors.New(`got "/"; want a path below it, such as /drover/tickets`)
	}
	return validatePath(path)
}

func validatePath(path string) error {
	switch {
	case !strings.HasPrefix(path, "/"):
		return errors.New("got \"" + path + "\"; want an absolute path such as /services/users")
	case len(path) > 1 && strings.HasSuffix(path, "/"):
		return errors.New("got \"" + path + "\"; want no slash at the end")
	case strings.ContainsRune(path, 0):
		return errors.New("got a path with a null character; ZooKeeper allows none")
	}
	for _, name := range strings.Split(path[1:], "/") {
		if name == "." || name == ".." || (name == "" && path != "/") {
			return errors.New("got \"" + path + "\"; want no empty name, \".\" or \"..\" in it")
		}
	}
	return nil
}

func positive(field string, d time.Duration) error {
	if d <= 0 {
		return invalid.Fieldf(field, "got %v; want more than 0", d)
	}
	return nil
}
