package front

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"drover/invalid"
)

// ClientAuthConfig is the `client_auth` block of a listener's `tls`.
type ClientAuthConfig struct {
	// CAFile holds the authorities that clients' certificates must come from, in PEM.
	// Required.
	CAFile string `yaml:"ca_file"`
	// Required refuses clients without a certificate. With false they are served; a
	// certificate that is shown must be good all the same. Default true.
	Required bool `yaml:"required"`
	// AllowedNames are the clients that may come: one of a certificate's DNS, URI or
	// email names, or the common name of its subject, must be in the list.
	// "*.example.com" is every name with one label more. Default empty: whomever the
	// authorities vouch for.
	AllowedNames []string `yaml:"allowed_names"`
}

// SetDefaults fills in the defaults.
func (c *ClientAuthConfig) SetDefaults() { c.Required = true }

// Validate reports what is wrong with the block itself.
func (c *ClientAuthConfig) Validate() error {
	var errs []error
	if c.CAFile == "" {
		errs = append(errs, invalid.Fieldf("ca_file", "got nothing; want a file with the authorities' certificates in PEM"))
	}
	for i, name := range c.AllowedNames {
		if rest := strings.TrimPrefix(name, "*."); rest == "" || strings.Contains(rest, "*") {
			errs = append(errs, invalid.Fieldf("allowed_names["+strconv.Itoa(i)+"]", `got %q; want a name, or "*." in front of one`, name))
		}
	}
	return errors.Join(errs...)
}

// TicketsConfig is the `session_tickets` block of a listener's `tls`.
type TicketsConfig struct {
	// File holds the secrets that tickets are encrypted with, 32 bytes each in hex or
	// base64, one a line: the first encrypts, all decrypt. Drovers that share it resume
	// each other's sessions, on listeners with the same client_auth. Changes count at
	// once. Where it is missing drover makes it. Default none: secrets of the process's
	// own, a new one a day.
	File string `yaml:"file"`
	// ZooKeeper is a path in the ensemble of `zookeeper`, such as /drover/tickets, whose
	// znode holds the secrets instead, in the same form. Drover makes it, and what is
	// missing of its path, for its own zookeeper.auth alone, which the drovers that share
	// it must have in common. It is looked at every 2s. While ZooKeeper is away the
	// secrets in force stay, from a start on those of the process's own. Neither the
	// connection nor the disks of the ensemble are encrypted. At most one of file and
	// zookeeper. Default none.
	ZooKeeper string `yaml:"zookeeper"`
	// RotateEvery is how old file or znode may be before a new secret is put in front,
	// by one of the drovers that share it; the newest three stay. A file needs a folder
	// that drover may write to, a znode clocks that agree. 0s leaves it to others.
	// Default 12h.
	RotateEvery time.Duration `yaml:"rotate_every"`
	// Disabled has every connection make a whole handshake. Default false.
	Disabled bool `yaml:"disabled"`
}

// SetDefaults fills in the defaults.
func (c *TicketsConfig) SetDefaults() { c.RotateEvery = 12 * time.Hour }

// Validate reports what is wrong with the block itself.
func (c *TicketsConfig) Validate() error {
	var errs []error
	if c.RotateEvery != 0 && c.RotateEvery < minRotation {
		errs = append(errs, invalid.Fieldf("rotate_every", "got %v; want 0s for never, or at least %v", c.RotateEvery, minRotation))
	}
	if c.Disabled && c.File != "" {
		errs = append(errs, invalid.Fieldf("file", "got %q beside disabled: true; want one of the two", c.File))
	}
	switch {
	case c.ZooKeeper != "" && c.Disabled:
		errs = append(errs, invalid.Fieldf("zookeeper", "got %q beside disabled: true; want one of the two", c.ZooKeeper))
	case c.ZooKeeper != "" && c.File != "":
		errs = append(errs, invalid.Fieldf("zookeeper", "got %q beside file; want one of the two", c.ZooKeeper))
	}
	return errors.Join(errs...)
}

// minRotation keeps a secret long enough for its tickets to be of use.
const minRotation = time.Minute

// HSTSConfig is the `hsts` block of a listener's `tls`.
type HSTSConfig struct {
	// MaxAge is how long browsers use HTTPS alone for the host, in whole seconds. 0s
	// makes them forget it. Default 8760h, a year.
	MaxAge time.Duration `yaml:"max_age"`
	// IncludeSubdomains is for every host below it too. Default false.
	IncludeSubdomains bool `yaml:"include_subdomains"`
	// Preload agrees to stand in the lists that browsers ship with, which is hard to
	// take back: it needs include_subdomains and a year. Default false.
	Preload bool `yaml:"preload"`
}

const year = 365 * 24 * time.Hour

// SetDefaults fills in the defaults.
func (c *HSTSConfig) SetDefaults() { c.MaxAge = year }

// Validate reports what is wrong with the block itself.
func (c *HSTSConfig) Validate() error {
	var errs []error
	if c.MaxAge < 0 || c.MaxAge%time.Second != 0 {
		errs = append(errs, invalid.Fieldf("max_age", "got %v; want whole seconds, 0s or more", c.MaxAge))
	}
	if c.Preload && (!c.IncludeSubdomains || c.MaxAge < year) {
		errs = append(errs, invalid.Fieldf("preload", "got true; want it with include_subdomains: true and a max_age of at least %v", year))
	}
	return errors.Join(errs...)
}

// value gives the field's value, nil for a block that is absent.
func (c *HSTSConfig) value() []byte {
	if c == nil {
		return nil
	}
	v := strconv.AppendInt([]byte("max-age="), int64(c.MaxAge/time.Second), 10)
	if c.IncludeSubdomains {
		v = append(v, "; includeSubDomains"...)
	}
	if c.Preload {
		v = append(v, "; preload"...)
	}
	return v
}
