// Package discovery finds the servers of an upstream: in the configuration, in files,
// in DNS and in ZooKeeper. README.md has the contract of a source.
package discovery

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"drover/backend"
	"drover/discovery/format"
	"drover/discovery/zookeeper"

	"go.uber.org/zap"
)

// Source tells an upstream its servers. Run blocks until ctx ends; it gives emit the
// full set each time that it changes. It never gives a part of a set, and says nothing
// while it cannot know: the last set stays in use.
type Source interface {
	Run(ctx context.Context, emit func([]backend.Server)) error
}

// Deps is what sources need of the rest.
type Deps struct {
	ZooKeeper *zookeeper.Session // nil without a zookeeper block
	Logger    *zap.Logger
	Upstream  string
}

// Status is what a source knows of its set.
type Status struct {
	Kind      string
	Path      string
	LastSync  time.Time // when the set was last known to be right
	Servers   int
	Connected bool
	Stale     bool
	Fault     string // why the set is stale, "" when it is not
	Rejected  []format.Rejected
}

// sources is the one table of sources that a discover block can name.
var sources = map[string]func(Config, Deps) (Source, error){
	"zookeeper": newZooKeeper,
	"file":      func(c Config, d Deps) (Source, error) { return NewFile(*c.File, d.Logger), nil },
	"dns":       func(c Config, d Deps) (Source, error) { return NewDNS(*c.DNS, d.Logger) },
}

func sourceNames() []string { return slices.Sorted(maps.Keys(sources)) }

// New makes the source of a discover block. It starts nothing.
func New(cfg Config, deps Deps) (Source, error) {
	switch {
	case cfg.ZooKeeper != nil:
		return sources["zookeeper"](cfg, deps)
	case cfg.File != nil:
		return sources["file"](cfg, deps)
	case cfg.DNS != nil:
		return sources["dns"](cfg, deps)
	}
	return nil, errNoSource
}

var errNoEnsemble = errors.New("cannot discover in ZooKeeper: the configuration has no zookeeper block")

func newZooKeeper(cfg Config, deps Deps) (Source, error) {
	if deps.ZooKeeper == nil {
		return nil, errNoEnsemble
	}
	return zooKeeper{zookeeper.NewSource(deps.ZooKeeper, *cfg.ZooKeeper, deps.Logger)}, nil
}

// zooKeeper gives a ZooKeeper source the Status that all sources have.
type zooKeeper struct{ *zookeeper.Source }

// Status is the source's present status.
func (z zooKeeper) Status() Status { return Status(z.Source.Status()) }

// NewStatic makes the source of a fixed list.
func NewStatic(list []StaticServer) (Source, error) {
	var servers []backend.Server
	for i := range list {
		s, err := list[i].server()
		if err != nil {
			return nil, err
		}
		servers = append(servers, s)
	}
	return static(servers), nil
}

type static []backend.Server

// Run emits the list once.
func (s static) Run(ctx context.Context, emit func([]backend.Server)) error {
	emit(backend.Merge(s))
	<-ctx.Done()
	return nil
}

// Status is the source's present status.
func (s static) Status() Status {
	return Status{Kind: "static", Servers: len(s), Connected: true}
}
