package main

import (
	"cmp"
	"context"
	"reflect"
	"slices"

	"drover/backend"
	"drover/config"
	"drover/discovery"
	"drover/discovery/zookeeper"
	"drover/healthcheck"

	"go.uber.org/zap"
)

// zkSession is the one session of an ensemble, with what is needed to see whether a
// new configuration still wants it.
type zkSession struct {
	cfg     *zookeeper.Config
	session *zookeeper.Session
	task    *task
}

// planSession gives the session that a configuration wants: the running one when its
// settings are the same, a new one, or nil.
func (e *engine) planSession(cfg *config.Config) (*zkSession, error) {
	if cfg.ZooKeeper == nil {
		return nil, nil //nolint:nilnil // none is wanted.
	}
	if e.session != nil && reflect.DeepEqual(e.session.cfg, cfg.ZooKeeper) && !filesChanged(cfg, e.cfg, cfg.ZooKeeper.Files()...) {
		return e.session, nil
	}
	session, err := zookeeper.NewSession(*cfg.ZooKeeper, e.logger.Named("zookeeper"))
	if err != nil {
		return nil, err
	}
	return &zkSession{cfg: cfg.ZooKeeper, session: session}, nil
}

func usesZooKeeper(cfg config.Upstream) bool {
	return cfg.Discover != nil && cfg.Discover.ZooKeeper != nil
}

// checkOf gives an upstream's check, nil for none, with the settings of TLS and the
// protocol that it does not have itself: those of the wire that its servers' requests
// take.
func checkOf(cfg config.Upstream) *healthcheck.CheckConfig {
	if cfg.Check == nil {
		return nil
	}
	check, wire := *cfg.Check, cfg.Transport.TLS
	check.Addresses = cfg.Transport.Addresses
	// Authorities of its own say that the check is to verify.
	check.InsecureSkipVerify = check.InsecureSkipVerify || wire.InsecureSkipVerify && check.CAFile == ""
	check.CAFile = cmp.Or(check.CAFile, wire.CAFile)
	check.ServerName = cmp.Or(check.ServerName, wire.ServerName)
	if check.CertFile == "" {
		check.CertFile, check.KeyFile = wire.CertFile, wire.KeyFile
	}
	if check.Type == "http" {
		check.ProxyProtocol = cfg.Transport.ProxyProtocol
		check.Protocol = cmp.Or(check.Protocol, string(cfg.Transport.Protocol))
	}
	return &check
}

// newSource makes an upstream's source: its fixed servers, or what it discovers.
func newSource(cfg config.Upstream, session *zkSession, logger *zap.Logger) (discovery.Source, error) {
	deps := discovery.Deps{Logger: logger, Upstream: cfg.Name}
	if session != nil {
		deps.ZooKeeper = session.session
	}
	if cfg.Discover == nil {
		return discovery.NewStatic(cfg.Servers)
	}
	return discovery.New(*cfg.Discover, deps)
}

// discover runs a source into the upstream's group. The removal brake is for registries
// that lose their entries: it does not hold what the configuration lists, nor the first
// set of a source that the operator has put in the place of another.
func (u *upstream) discover(source discovery.Source, listed, decided bool) func(context.Context) error {
	return func(ctx context.Context) error {
		return source.Run(ctx, func(servers []backend.Server) {
			u.give(servers, listed || decided)
			decided = false
			u.seen.Do(func() { close(u.first) })
		})
	}
}

// filesChanged reports whether one of a part's certificates or secrets has other bytes
// than in the configuration in force.
func filesChanged(next, inForce *config.Config, files ...string) bool {
	return inForce != nil && slices.ContainsFunc(files, func(path string) bool {
		return path != "" && next.FileChanged(path, inForce)
	})
}
