package main

import (
	"drover/config"
	"drover/proxy/access"
)

// keySet fetches the keys that the routes of one jwks_url check tokens with.
type keySet struct {
	set  *access.KeySet
	task *task
}

// planKeySets makes the key sets that a configuration wants. What runs stays, with the
// keys that it has, where its settings are the same.
func (e *engine) planKeySets(cfg *config.Config) (map[access.KeySetConfig]*keySet, error) {
	sets := map[access.KeySetConfig]*keySet{}
	for i := range cfg.Routes {
		jwt := cfg.Routes[i].Access.JWT
		if jwt == nil || jwt.Keys.URL == "" || sets[jwt.Keys] != nil {
			continue
		}
		if running := e.keySets[jwt.Keys]; running != nil && !filesChanged(cfg, e.cfg, jwt.Keys.CAFile) {
			sets[jwt.Keys] = running
			continue
		}
		set, err := access.NewKeySet(jwt.Keys, e.logger.Named("jwks"))
		if err != nil {
			return nil, err
		}
		sets[jwt.Keys] = &keySet{set: set}
	}
	return sets, nil
}

// startKeySets starts those that do not run yet.
func (e *engine) startKeySets(sets map[access.KeySetConfig]*keySet) {
	for _, s := range sets {
		if s.task == nil {
			s.task = startTask("keys for tokens", e.logger, s.set.Run)
		}
	}
}

// retireKeySets stops those that the new configuration does not have.
func (e *engine) retireKeySets(next map[access.KeySetConfig]*keySet) {
	for cfg, s := range e.keySets {
		if next[cfg] != s {
			s.task.stop()
		}
	}
	e.keySets = next
}
