package config

import (
	"errors"
	"net"
	"strconv"

	"github.com/spf13/pflag"

	"drover/discovery"
	"drover/discovery/zookeeper"
	"drover/proxy"
	"drover/proxy/front"
)

// QuickOptions is the configuration that fits on a command line: one listener, one
// upstream, everything else at its default.
type QuickOptions struct {
	// From is the address to listen on, ":8080" or a bare port, "8080".
	From string
	// To are the servers, host:port each, with or without http:// or https://.
	To []string
	// ZooKeeper are the ensemble's members, host:port each, instead of To.
	ZooKeeper []string
	// Path is where the servers register in ZooKeeper.
	Path string
	// Format is how their entries are written. Default auto.
	Format string
	// Policy is how a server is picked. Default round_robin.
	Policy string
	// Flags are the parsed flags that RegisterFlags added, nil for none.
	Flags *pflag.FlagSet
}

// Quick makes the configuration of QuickOptions and validates it as Load does. The
// errors name the options as flags: --from, --to, --zookeeper, --path, --format, --policy.
func Quick(o QuickOptions) (*Config, error) {
	over, err := newOverrides(o.Flags)
	if err != nil {
		return nil, err
	}
	registered := len(o.ZooKeeper) > 0 || o.Path != ""
	if registered == (len(o.To) > 0) {
		return nil, &Errors{List: []*Error{{Err: errors.New(
			"got --to and --zookeeper, or none of them; want --to HOST:PORT, or --zookeeper HOST:PORT --path /PATH")}}}
	}
	l := newLoader(Options{})
	note := func(path, flag string) { l.main.places[path] = Place{Source: "flag --" + flag} }

	listener := WithDefaults[front.Config]()
	listener.Name, listener.Address = "main", quickAddress(o.From)
	note("listeners[0]", "from")
	l.cfg.Listeners = []front.Config{listener}

	upstream := WithDefaults[Upstream]()
	upstream.Name = "main"
	note("upstreams[0]", "to")
	for i, address := range o.To {
		server := WithDefaults[discovery.StaticServer]()
		server.Address = address
		upstream.Servers = append(upstream.Servers, server)
		note(indexed("upstreams[0].servers", i), "to")
	}
	if registered {
		quickZooKeeper(l.cfg, &upstream, o)
		note("zookeeper.servers", "zookeeper")
		note("upstreams[0].discover.zookeeper", "path")
		note("upstreams[0].discover.zookeeper.format", "format")
	}
	if o.Policy != "" {
		upstream.Balancer.Policy.Type = o.Policy
		note("upstreams[0].policy", "policy")
	}
	l.cfg.Upstreams = []Upstream{upstream}

	route := WithDefaults[proxy.RouteConfig]()
	route.Upstream = upstream.Name
	l.cfg.Routes = []proxy.RouteConfig{route}
	checkEnvironment(&l.faults)
	return l.finish(over)
}

func quickZooKeeper(cfg *Config, upstream *Upstream, o QuickOptions) {
	ensemble := WithDefaults[zookeeper.Config]()
	ensemble.Servers = o.ZooKeeper
	cfg.ZooKeeper = &ensemble
	source := WithDefaults[zookeeper.SourceConfig]()
	source.Path = o.Path
	if o.Format != "" {
		source.Format = o.Format
	}
	discover := WithDefaults[discovery.Config]()
	discover.ZooKeeper = &source
	upstream.Discover = &discover
}

// quickAddress lets a bare port stand for every address on it.
func quickAddress(from string) string {
	if _, err := strconv.ParseUint(from, 10, 16); err == nil {
		return net.JoinHostPort("", from)
	}
	return from
}
