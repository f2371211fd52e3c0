package discovery

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"drover/backend"
	"drover/discovery/format"
	"drover/discovery/zookeeper"
	"drover/invalid"
)

// Config is the `discover` block: exactly one source.
type Config struct {
	// ZooKeeper follows the children of a znode.
	ZooKeeper *zookeeper.SourceConfig `yaml:"zookeeper"`
	// File follows a file, or the files of a directory.
	File *FileConfig `yaml:"file"`
	// DNS asks for a name again and again.
	DNS *DNSConfig `yaml:"dns"`
}

// FileConfig is the source `file`.
type FileConfig struct {
	// Path is a directory whose files are entries, as znodes are, or a file with an
	// entry on each line. It need not exist yet. Relative to the configuration file.
	// Required.
	Path string `yaml:"path"`
	// Format is how entries are written. Default auto.
	Format string `yaml:"format"`
}

// DNSConfig is the source `dns`.
type DNSConfig struct {
	// Name is the name to ask for. Required.
	Name string `yaml:"name"`
	// Type is A, AAAA, IP (both) or SRV. SRV gives ports, weights and priorities.
	// Default A.
	Type string `yaml:"type"`
	// Port is the servers' port, for every type but SRV.
	Port int `yaml:"port"`
	// Scheme is http or https. Default http.
	Scheme string `yaml:"scheme"`
	// Resolver is the DNS server to ask, host:port. Default: those of
	// /etc/resolv.conf.
	Resolver string `yaml:"resolver"`
	// MinTTL and MaxTTL bound how long an answer is used, whatever its TTL says.
	// Defaults 1s and 5m.
	MinTTL time.Duration `yaml:"min_ttl"`
	MaxTTL time.Duration `yaml:"max_ttl"`
}

// StaticServer is one of an upstream's `servers`.
type StaticServer struct {
	// Address is host:port, with http:// (the default) or https:// before it.
	// Required.
	Address string `yaml:"address"`
	// Weight is the share relative to the others; 0 drains. Default 1.
	Weight int `yaml:"weight"`
	// Priority: servers of a higher number get traffic only when none of a lower one
	// can. Default 0.
	Priority int `yaml:"priority"`
	// Zone is the failure domain. Default none.
	Zone string `yaml:"zone"`
	// Tags are free text. Default none.
	Tags []string `yaml:"tags"`
}

// SetDefaults implements the decoder's contract.
func (c *FileConfig) SetDefaults() { c.Format = "auto" }

// SetDefaults implements the decoder's contract.
func (c *DNSConfig) SetDefaults() {
	*c = DNSConfig{Type: "A", Scheme: "http", MinTTL: time.Second, MaxTTL: 5 * time.Minute}
}

// SetDefaults implements the decoder's contract.
func (c *StaticServer) SetDefaults() { c.Weight = backend.DefaultWeight }

// Validate implements the decoder's contract.
func (c *Config) Validate() error {
	n := 0
	for _, set := range [...]bool{c.ZooKeeper != nil, c.File != nil, c.DNS != nil} {
		if set {
			n++
		}
	}
	if n != 1 {
		return invalid.Fieldf("", "got %d sources; want exactly one of %s", n, strings.Join(sourceNames(), ", "))
	}
	return nil
}

// Validate implements the decoder's contract.
func (c *FileConfig) Validate() error {
	var faults []error
	if c.Path == "" {
		faults = append(faults, invalid.Fieldf("path", "got nothing; want a directory or a file"))
	}
	if _, err := format.Lookup(c.Format); err != nil {
		faults = append(faults, invalid.In("format", err))
	}
	return errors.Join(faults...)
}

// Validate implements the decoder's contract.
func (c *DNSConfig) Validate() error {
	var faults []error
	fault := func(key, text string, args ...any) { faults = append(faults, invalid.Fieldf(key, text, args...)) }
	if c.Name == "" || len(c.Name) > 253 || strings.ContainsAny(c.Name, " /:@") {
		fault("name", "got %q; want a DNS name", c.Name)
	}
	if _, ok := queryTypes[c.Type]; !ok {
		fault("type", "got %q; want A, AAAA, IP or SRV", c.Type)
	}
	if c.Type == "SRV" && c.Port != 0 {
		fault("port", "got %d with type SRV, which gives ports; want none", c.Port)
	}
	if c.Type != "SRV" && (c.Port < 1 || c.Port > 65535) {
		fault("port", "got %d; want 1 to 65535", c.Port)
	}
	if c.Scheme != "http" && c.Scheme != "https" {
		fault("scheme", "got %q; want http or https", c.Scheme)
	}
	if _, _, err := net.SplitHostPort(c.Resolver); c.Resolver != "" && err != nil {
		fault("resolver", "got %q; want host:port", c.Resolver)
	}
	if c.MinTTL <= 0 || c.MaxTTL < c.MinTTL {
		fault("min_ttl", "got %s, and max_ttl %s; want more than 0s, and max_ttl no less", c.MinTTL, c.MaxTTL)
	}
	return errors.Join(faults...)
}

// Validate implements the decoder's contract.
func (c *StaticServer) Validate() error {
	_, err := c.server()
	return err
}

func (c *StaticServer) server() (backend.Server, error) {
	decode, err := format.Lookup("plain")
	if err != nil {
		return backend.Server{}, err
	}
	if strings.TrimSpace(c.Address) == "" || strings.ContainsAny(c.Address, " \t") {
		return backend.Server{}, invalid.Fieldf("address", "got %q; want host:port", c.Address)
	}
	servers, err := decode("", []byte(c.Address))
	if err != nil {
		return backend.Server{}, invalid.Fieldf("address", "%w", err)
	}
	if c.Weight < 0 || c.Weight > backend.MaxWeight {
		return backend.Server{}, invalid.Fieldf("weight", "got %d; want 0 to %d", c.Weight, backend.MaxWeight)
	}
	if c.Priority < 0 {
		return backend.Server{}, invalid.Fieldf("priority", "got %d; want 0 or more", c.Priority)
	}
	s := servers[0]
	s.Weight, s.Priority, s.Zone, s.Tags, s.Origin = c.Weight, c.Priority, c.Zone, c.Tags, "configuration"
	return s, nil
}

var errNoSource = fmt.Errorf("got no source; want one of zookeeper, file, dns")
