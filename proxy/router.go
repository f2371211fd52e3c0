package proxy

import (
	"errors"
	"fmt"
	"sync"

	"drover/exchange"
	"drover/invalid"
)

// Router finds the route of a request. It is immutable, and one lookup costs the same
// with one route as with many thousands: hosts and path segments are looked up in
// maps; only regular expressions, and routes that share host and path, are tried one
// after the other.
//
// # Which route wins
//
// Routes are ranked, whatever their place in the file, by
//
//  1. host: an exact one, then wildcards from the longest to the shortest, then none;
//  2. path: an exact one, then prefixes from the longest to the shortest, then regular
//     expressions, then none;
//  3. place in the file.
//
// The first one in that order all of whose conditions hold is taken. A more specific
// route whose method, header, query or listener does not fit gives way to a less
// specific one, of the same host or of a less specific host, and so does a host
// without a route for the path: a route without host is everyone's last resort.
//
// # What is compared
//
// The host is compared in lower case, without port and without a trailing dot. One of
// more than 255 bytes matches only routes without host.
//
// The path is compared as pathReadings reads it: percent-decoded, slashes merged, dot
// segments resolved, while the server gets the bytes that the client sent. Where
// another program could read the path differently ("/public/../admin", "/a%2Fb",
// "/a;x/b"), all readings must lead to the same route; if they do not, or if the path
// hides dot segments, the request has no route. So whatever a server makes of the
// path, the request has passed the rules for it. Two things cannot be known here: a
// server that ignores case, and one that decodes twice; against those, let the rules
// be on the widest prefix.
//
// The target "*" (OPTIONS) matches only routes without a condition on the path.
type Router struct {
	routes []*Route // in the file's order

	exact       map[string]*hostRoutes
	wildcards   map[string]*hostRoutes // by what stands behind "*."
	maxWildcard int                    // length of the longest key of wildcards
	anyHost     hostRoutes

	scratch sync.Pool // of *matchScratch
}

// matchScratch is what one lookup needs when the path or the conditions are not
// plain. It belongs to one goroutine at a time.
type matchScratch struct {
	readings pathReadings
	value    []byte
}

// Compile checks routes and makes a router of them. Its errors are invalid.Field with
// paths such as "[3].path_regexp".
func Compile(routes []RouteConfig) (*Router, error) {
	r := &Router{
		exact:     map[string]*hostRoutes{},
		wildcards: map[string]*hostRoutes{},
	}
	r.scratch.New = func() any { return &matchScratch{} }
	var faults []error
	names := make(map[string]int, len(routes))
	for i := range routes {
		at := fmt.Sprintf("[%d]", i)
		route, err := compileRoute(&routes[i], i)
		if err != nil {
			faults = append(faults, invalid.In(at, err))
			continue
		}
		if first, taken := names[route.Name]; taken {
			faults = append(faults, invalid.In(at, invalid.Fieldf("name",
				"got %q, which is the name of route %d too; want a name of its own", route.Name, first+1)))
			continue
		}
		names[route.Name] = i
		r.add(route)
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	return r, nil
}

// Routes lists all routes in the order of the file.
func (r *Router) Routes() []*Route { return r.routes }

func (r *Router) add(route *Route) {
	r.routes = append(r.routes, route)
	if len(route.hosts) == 0 {
		r.anyHost.add(route)
	}
	for _, host := range route.hosts {
		table, key := r.exact, host
		if suffix, wildcard := wildcardSuffix(host); wildcard {
			table, key = r.wildcards, suffix
			r.maxWildcard = max(r.maxWildcard, len(suffix))
		}
		if table[key] == nil {
			table[key] = &hostRoutes{}
		}
		table[key].add(route)
	}
}

// Match gives the route of a request, nil when it has none, which is a 404. It reads
// nothing but the exchange's first group, and allocates nothing unless a regular
// expression does.
func (r *Router) Match(ex *exchange.Exchange) *Route {
	var buf [maxHostLength]byte
	host := appendHost(buf[:0], ex.Request.Host)
	l := lookup{router: r, ex: ex}
	path, _ := splitTarget(ex.Request.Target)
	if string(path) == "*" {
		return l.find(host, nil)
	}
	traits := traitsOf(path)
	switch {
	case traits == 0:
		return l.find(host, path)
	case traits&pathImpossible != 0:
		return nil
	}
	scratch := r.scratch.Get().(*matchScratch) //nolint:forcetypeassert,errcheck // the pool holds nothing else.
	defer r.scratch.Put(scratch)
	return scratch.readings.agree(path, traits, func(reading []byte) *Route { return l.find(host, reading) })
}

// lookup is one request's way through a router. It does not hold the host, so that the
// host's memory can be on the stack.
type lookup struct {
	router *Router
	ex     *exchange.Exchange
}

// find gives the first route in rank for a host, as hostRoutes are keyed, "" for none
// of them, and one reading of the path; nil stands for the target "*".
func (l *lookup) find(host, path []byte) *Route {
	if len(host) > 0 {
		if table := l.router.exact[string(host)]; table != nil {
			if route := table.find(path, l); route != nil {
				return route
			}
		}
		if route := l.findWildcard(host, path); route != nil {
			return route
		}
	}
	return l.router.anyHost.find(path, l)
}

// findWildcard tries the names above the host, the longest first.
func (l *lookup) findWildcard(host, path []byte) *Route {
	if l.router.maxWildcard == 0 {
		return nil
	}
	for i := 1; i < len(host); i++ {
		if host[i] != '.' || len(host)-i-1 > l.router.maxWildcard {
			continue
		}
		if table := l.router.wildcards[string(host[i+1:])]; table != nil {
			if route := table.find(path, l); route != nil {
				return route
			}
		}
	}
	return nil
}

// accepts reports whether a route's conditions other than host and path hold.
func (l *lookup) accepts(route *Route) bool { return route.conditions.hold(l) }
