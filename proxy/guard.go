package proxy

import (
	"errors"
	"fmt"
	"net/netip"

	"drover/exchange"
	"drover/invalid"
	"drover/proxy/access"
)

// guard is a compiled AccessConfig. It is immutable.
type guard struct {
	allow, deny access.Addresses
	cors        *access.CORS
	basic       *access.Basic
	jwt         *access.JWT
	service     *forwardAuth
	// owned are the fields that nobody but access gives the server.
	owned [][]byte
	// hides says that the server is not to see the Authorization field.
	hides bool
}

// newGuard compiles who may use a route, nil for a route that everybody may use.
func newGuard(cfg *AccessConfig, o *TableOptions, slots access.Slots) (*guard, error) {
	g := &guard{}
	var err error
	if g.allow, _, err = access.ParseAddresses(cfg.Allow); err != nil {
		return nil, invalid.In("allow", err)
	}
	if g.deny, _, err = access.ParseAddresses(cfg.Deny); err != nil {
		return nil, invalid.In("deny", err)
	}
	if cfg.CORS != nil {
		if g.cors, err = access.NewCORS(cfg.CORS); err != nil {
			return nil, invalid.In("cors", err)
		}
	}
	if cfg.BasicAuth != nil {
		if g.basic, err = access.NewBasic(cfg.BasicAuth, slots); err != nil {
			return nil, invalid.In("basic_auth", err)
		}
		g.hides = !g.basic.Forward()
	}
	if cfg.JWT != nil {
		if err := g.addJWT(cfg.JWT, o); err != nil {
			return nil, invalid.In("jwt", err)
		}
	}
	if cfg.ForwardAuth != nil {
		if g.service, err = newForwardAuth(cfg.ForwardAuth, o); err != nil {
			return nil, invalid.In("forward_auth", err)
		}
		g.owned = append(g.owned, g.service.granted...)
	}
	if g.allow == nil && g.deny == nil && g.cors == nil && g.basic == nil && g.jwt == nil && g.service == nil {
		return nil, nil //nolint:nilnil // nothing to guard.
	}
	return g, nil
}

func (g *guard) addJWT(cfg *access.JWTConfig, o *TableOptions) (err error) {
	set := o.KeySets[cfg.Keys]
	if set == nil && cfg.JWKSFile == "" {
		return fmt.Errorf("cannot check tokens: nobody fetches the keys of %q", cfg.Keys.URL)
	}
	if g.jwt, err = access.NewJWT(cfg, set); err != nil {
		return err
	}
	g.hides = !g.jwt.Forward()
	for _, h := range g.jwt.ClaimHeaders() {
		g.owned = append(g.owned, []byte(h.Header))
	}
	return nil
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
	return g.authenticates(rq) && (g.service == nil || g.service.permits(rq))
}

// clientAddr is the address that access is decided by.
func clientAddr(ex *exchange.Exchange) netip.Addr { return ex.Source() }

// authenticates finds out who the user is.
func (g *guard) authenticates(rq *request) bool {
	switch {
	case g.basic != nil:
		user, err := g.basic.Check(&rq.ex.Request)
		if err != nil {
			rq.unauthenticated(err, g.basic.Challenge())
			return false
		}
		rq.ex.Result.User = user
	case g.jwt != nil:
		claims, err := g.jwt.Check(&rq.ex.Request, rq.ex.Start)
		if err != nil {
			rq.unauthenticated(err, g.jwt.Challenge(&rq.ex.Request))
			return false
		}
		rq.ex.Result.User, rq.granted = claims.User, claims.Headers
	}
	return true
}

var (
	nameForwardedUser = []byte("X-Forwarded-User")
	nameAuthenticate  = []byte("WWW-Authenticate")
)

func (rq *request) unauthenticated(err error, challenge []byte) {
	if errors.Is(err, access.ErrBusy) {
		rq.fail(503, exchange.ReasonAuthFailed)
		return
	}
	rq.fail(401, exchange.ReasonUnauthorized, exchange.Field{Name: nameAuthenticate, Value: challenge})
}

// outgoing gives the server what access has found out, and nothing that the client
// says in its place. OutgoingHeader has dropped the client's X-Forwarded-User.
func (g *guard) outgoing(rq *request) {
	if g.hides {
		rq.header.Del("Authorization")
	}
	for _, name := range g.owned {
		deleteAlike(&rq.header, name)
	}
	if user := rq.ex.Result.User; user != "" {
		rq.header = append(rq.header, exchange.Field{Name: nameForwardedUser, Value: []byte(user)})
	}
	rq.header = append(rq.header, rq.granted...)
}

// deleteAlike removes the fields that a server which turns both "-" and "_" into "_"
// would take for one of a name.
func deleteAlike(h *exchange.Header, name []byte) {
	kept := (*h)[:0]
	for _, f := range *h {
		if !alike(f.Name, name) {
			kept = append(kept, f)
		}
	}
	*h = kept
}

func alike(a, b []byte) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		x, y := lowerByte(a[i]), lowerByte(b[i])
		if x != y && !(x == '_' && y == '-' || x == '-' && y == '_') {
			return false
		}
	}
	return true
}
