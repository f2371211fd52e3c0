package proxy

import (
	"net/netip"

	"drover/exchange"
	"drover/proxy/access"
)

// guard is a compiled AccessConfig. It is immutable.
type guard struct {
	allow, deny access.Addresses
	cors        *access.CORS
}

// newGuard compiles who may use a route, nil for a route that everybody may use.
func newGuard(cfg *AccessConfig) (*guard, error) {
	g := &guard{}
	var err error
	if g.allow, _, err = access.ParseAddresses(cfg.Allow); err != nil {
		return nil, err
	}
	if g.deny, _, err = access.ParseAddresses(cfg.Deny); err != nil {
		return nil, err
	}
	if cfg.CORS != nil {
		if g.cors, err = access.NewCORS(cfg.CORS); err != nil {
			return nil, err
		}
	}
	if g.allow == nil && g.deny == nil && g.cors == nil {
		return nil, nil //nolint:nilnil // nothing to guard.
	}
	return g, nil
}

// guarded lets a request on that its route's access settings permit.
func (p *Proxy) guarded(next handler) handler {
	return func(rq *request) {
		if g := rq.guard; g == nil || g.permits(rq) {
			next(rq)
		}
	}
}

// permits answers the client itself where it gives false.
func (g *guard) permits(rq *request) bool {
	if !access.Permits(g.allow, g.deny, clientAddr(rq.ex)) {
		rq.fail(403, exchange.ReasonForbidden)
		return false
	}
	if g.cors != nil && access.IsPreflight(&rq.ex.Request) {
		rq.started = true
		rq.ex.Result.Status, rq.ex.Result.Reason = 204, exchange.ReasonPreflight
		rq.send(g.cors.Preflight(&rq.ex.Request), nil)
		return false
	}
	return true
}

// clientAddr is the address that access is decided by.
func clientAddr(ex *exchange.Exchange) netip.Addr { return ex.Remote.Addr() }
