// Package config reads drover's configuration: it finds the file, decodes it strictly
// with the place of everything that is wrong, lets flags and environment override
// single values, and checks that the parts fit together. Each part owns its own
// block; this package only composes them.
package config

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"drover/admin"
	"drover/balancer"
	"drover/discovery"
	"drover/discovery/zookeeper"
	"drover/healthcheck"
	"drover/invalid"
	"drover/metrics"
	"drover/proxy"
	"drover/proxy/front"
	"drover/transport"
)

// Config is a whole configuration. Nothing changes it once it is loaded, and two that
// are reflect.DeepEqual mean the same to every part, down to the bytes of their
// certificates and secrets; comments and layout of the files do not count. All paths
// in it are absolute.
type Config struct {
	// Listeners are the addresses that clients connect to. At least one.
	Listeners []front.Config `yaml:"listeners"`
	// Admin is the operator's interface.
	Admin admin.Config `yaml:"admin"`
	// Log is drover's own log.
	Log LogConfig `yaml:"log"`
	// AccessLog has a line for each request.
	AccessLog proxy.AccessLogConfig `yaml:"access_log"`
	// Metrics are what /metrics serves on the admin address.
	Metrics MetricsConfig `yaml:"metrics"`
	// DrainTimeout is how long running requests and tunnels may take to finish after a
	// stop was asked for. Where a reload removes a listener, or changes its name, its
	// address, or whether it has TLS, its connections close between two requests, the
	// requests that run have as long, and tunnels go on. Default 30s.
	DrainTimeout time.Duration `yaml:"drain_timeout"`
	// Include names a directory, or a list of files and directories, with further
	// listeners, upstreams and routes, relative to this file. Of a directory, *.yaml
	// and *.yml are read in name order. Default: none.
	Include Include `yaml:"include"`
	// ZooKeeper is the ensemble that upstreams discover their servers in. Absent:
	// none.
	ZooKeeper *zookeeper.Config `yaml:"zookeeper"`
	// Upstreams are the named groups of servers.
	Upstreams []Upstream `yaml:"upstreams"`
	// Routes say which requests go where. The first match in the order of host, path
	// and further conditions wins; see the routes' own keys.
	Routes []proxy.RouteConfig `yaml:"routes"`

	files []file // everything that was read, by path
}

// file is a file that belongs to the configuration.
type file struct {
	path string
	// sum is the digest of a certificate or a secret, zero for YAML, whose meaning is
	// in the Config's fields.
	sum [sha256.Size]byte
}

// LogConfig is drover's own log: starts, reloads, servers that come and go.
type LogConfig struct {
	// Level is the least severe level that is logged: debug, info, warn or error.
	// Default info.
	Level string `yaml:"level"`
	// Format is console, for people, or json. A reload does not change it; level and
	// output it does. Default console.
	Format string `yaml:"format"`
	// Output is stderr, stdout or a file's path, reopened on SIGUSR1. Default stderr.
	Output string `yaml:"output"`
}

// MetricsConfig bounds the metrics.
type MetricsConfig struct {
	// MaxSeries is how many series one metric may have; what would exceed it is
	// counted under the label value "other". A reload does not change it. Default 10000.
	MaxSeries int `yaml:"max_series"`
}

// Upstream is a named group of servers that can answer the same requests.
type Upstream struct {
	// Name is what routes, logs and metrics call it: letters, digits, "_", "-" and
	// ".". Required, unique.
	Name string `yaml:"name"`
	// Servers is a fixed list of servers. Exactly one of servers and discover.
	Servers []discovery.StaticServer `yaml:"servers"`
	// Discover says where the servers are found instead. Absent: servers.
	Discover *discovery.Config `yaml:"discover"`
	// Addresses says which addresses the servers may have.
	Addresses discovery.AddressConfig `yaml:"addresses"`
	// Balancer holds policy, zone, slow_start, panic_threshold and removal_brake.
	Balancer balancer.Config `yaml:",inline"`
	// Check probes the servers. Absent: no probes, every server counts as up.
	Check *healthcheck.CheckConfig `yaml:"check"`
	// Outlier takes servers out that fail on real requests, unless it is disabled.
	Outlier healthcheck.OutlierConfig `yaml:"outlier"`
	// Transport is the wire to the servers.
	Transport transport.Config `yaml:"transport"`
	// Limits bound the requests that run at once.
	Limits proxy.LimitConfig `yaml:"limits"`
	// RetryBudget bounds retries over all routes to this upstream.
	RetryBudget proxy.BudgetConfig `yaml:"retry_budget"`
	// Sticky keeps a client on its server by a cookie. Absent: off.
	Sticky *proxy.StickyConfig `yaml:"sticky"`
}

// SetDefaults fills in the defaults.
func (c *Config) SetDefaults() { c.DrainTimeout = 30 * time.Second }

// SetDefaults fills in the defaults.
func (c *LogConfig) SetDefaults() { c.Level, c.Format, c.Output = "info", "console", "stderr" }

// SetDefaults fills in the defaults.
func (c *MetricsConfig) SetDefaults() { c.MaxSeries = metrics.DefaultMaxSeries }

// Validate reports what is wrong at the top level itself.
func (c *Config) Validate() error {
	var errs []error
	if len(c.Listeners) == 0 {
		errs = append(errs, invalid.Fieldf("listeners", `got none; want at least one, such as { name: web, address: ":8080" }`))
	}
	if c.DrainTimeout <= 0 {
		errs = append(errs, invalid.Fieldf("drain_timeout", "got %v; want more than 0s", c.DrainTimeout))
	}
	return errors.Join(errs...)
}

// Validate reports what is wrong with the block.
func (c *LogConfig) Validate() error {
	var errs []error
	oneOf := func(key, got string, known ...string) {
		if !slices.Contains(known, got) {
			errs = append(errs, invalid.Fieldf(key, "got %q; want one of %s", got, strings.Join(known, ", ")))
		}
	}
	oneOf("level", c.Level, "debug", "info", "warn", "error")
	oneOf("format", c.Format, "console", "json")
	if c.Output == "" {
		errs = append(errs, invalid.Fieldf("output", "got nothing; want stderr, stdout or a file's path"))
	}
	return errors.Join(errs...)
}

// Validate reports what is wrong with the block.
func (c *MetricsConfig) Validate() error {
	if c.MaxSeries < 100 {
		return invalid.Fieldf("max_series", "got %d; want 100 or more", c.MaxSeries)
	}
	return nil
}

// Validate reports what is wrong with the upstream itself, its blocks apart.
func (u *Upstream) Validate() error {
	var errs []error
	if err := validName(u.Name); err != nil {
		errs = append(errs, invalid.In("name", err))
	}
	switch {
	case u.Discover != nil && len(u.Servers) > 0:
		errs = append(errs, invalid.Fieldf("discover", "got it beside servers; want one of the two"))
	case u.Discover == nil && len(u.Servers) == 0:
		errs = append(errs, invalid.Fieldf("", "got neither servers nor discover; want one of the two"))
	}
	return errors.Join(errs...)
}

// validName keeps names fit for file names, log lines and metrics.
func validName(name string) error {
	if !regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$`).MatchString(name) {
		return fmt.Errorf(`got %s; want 1 to 100 letters, digits, "_", "-" or ".", a letter or digit first`, quote(name))
	}
	return nil
}

// Files gives the absolute paths of everything that the configuration was read from:
// its files, include directories, certificates and secrets, in order.
func (c *Config) Files() []string {
	paths := make([]string, len(c.files))
	for i, f := range c.files {
		paths[i] = f.path
	}
	return paths
}

// FileChanged reports whether a certificate or a secret has other content in this
// configuration than it had in an older one, so that a part whose block is the same
// knows that it must read it again.
func (c *Config) FileChanged(path string, since *Config) bool {
	return c.file(path).sum != since.file(path).sum
}

func (c *Config) file(path string) file {
	i, found := slices.BinarySearchFunc(c.files, path, func(f file, path string) int { return cmp.Compare(f.path, path) })
	if !found {
		return file{}
	}
	return c.files[i]
}

// addFile remembers a file, once.
func (c *Config) addFile(path string, content []byte) {
	added := file{path: path}
	if content != nil {
		added.sum = sha256.Sum256(content)
	}
	i, found := slices.BinarySearchFunc(c.files, path, func(f file, path string) int { return cmp.Compare(f.path, path) })
	if !found {
		c.files = slices.Insert(c.files, i, added)
	}
}

// nameRoutes gives routes without a name one of their position, counted from 1.
func (c *Config) nameRoutes() {
	taken := map[string]bool{}
	for i := range c.Routes {
		taken[c.Routes[i].Name] = true
	}
	for i := range c.Routes {
		if c.Routes[i].Name != "" {
			continue
		}
		name := "route-" + strconv.Itoa(i+1)
		for taken[name] {
			name += "-"
		}
		taken[name] = true
		c.Routes[i].Name = name
	}
}
