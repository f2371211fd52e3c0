package main

import (
	"crypto/tls"
	"fmt"

	"drover/config"
	"drover/proxy/front/acme"

	"go.uber.org/zap"
)

// issuer has the certificates of one account with an authority.
type issuer struct {
	manager *acme.Manager
	domains []string // that a change wants
	task    *task
}

// planIssuers makes the issuers that a configuration wants. What runs stays where its
// settings are the same.
func (e *engine) planIssuers(cfg *config.Config) (map[acme.Config]*issuer, error) {
	issuers, running := map[acme.Config]*issuer{}, e.secrets.Load().issuers
	for _, l := range cfg.Listeners {
		if l.TLS == nil || l.TLS.ACME == nil {
			continue
		}
		account := l.TLS.ACME.Account
		next := issuers[account]
		if next == nil {
			next = &issuer{}
			if r := running[account]; r != nil && !filesChanged(cfg, e.cfg, account.CAFile) {
				next.manager, next.task = r.manager, r.task
			} else {
				m, err := acme.New(account, e.acmeStorage(account), e.logger.Named("acme"))
				if err != nil {
					return nil, fmt.Errorf("listener %q: tls.acme: %w", l.Name, err)
				}
				for old, r := range running {
					if old.Directory == account.Directory { // another authority's certificates are not as good.
						m.Inherit(r.manager)
					}
				}
				next.manager = m
			}
			issuers[account] = next
		}
		next.domains = append(next.domains, l.TLS.ACME.Domains...)
	}
	return issuers, nil
}

// commitIssuers starts new issuers and stops those that are not wanted any more.
func (e *engine) commitIssuers(next, before map[acme.Config]*issuer) {
	for _, i := range next {
		i.manager.SetDomains(i.domains)
		if i.task == nil {
			i.task = startTask("certificates by ACME", e.logger, i.manager.Run)
		}
	}
	for account, old := range before {
		if kept := next[account]; kept == nil || kept.manager != old.manager {
			old.task.stop()
		}
	}
}

// issued gives the certificate for a client's hello by one account. A handshake may have
// begun before a change took that away: what another account has from the same authority
// is as good.
func (e *engine) issued(account acme.Config, hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	issuers := e.secrets.Load().issuers
	if i := issuers[account]; i != nil {
		return i.manager.Certificate(hello)
	}
	for other, i := range issuers {
		if other.Directory != account.Directory {
			continue
		}
		if cert, err := i.manager.Certificate(hello); err == nil {
			return cert, nil
		}
	}
	return nil, fmt.Errorf("there is no certificate for %q yet", hello.ServerName)
}

// challenged gives the answer to an authority's challenge by HTTP-01.
func (e *engine) challenged(host, path string) (answer []byte, ok bool) {
	for _, i := range e.secrets.Load().issuers {
		if answer, ok = i.manager.Answer(host, path); ok {
			e.logger.Info("answered an authority's challenge", zap.String("domain", host))
			return answer, true
		}
	}
	return nil, false
}
