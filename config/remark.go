package config

import (
	"fmt"

	"drover/proxy"
)

// remark keeps what is legal and probably not meant.
func (l *loader) remark(path, format string, args ...any) {
	at, local := l.find(path)
	l.remarks = append(l.remarks, &Error{Place: at, Path: local, Err: fmt.Errorf(format, args...)})
}

// warn tells the remarks.
func (l *loader) warn() {
	used := map[string]bool{}
	ensembleUsed := false
	for i := range l.cfg.Routes {
		used[l.cfg.Routes[i].Upstream] = true
		if auth := l.cfg.Routes[i].Access.ForwardAuth; auth != nil {
			used[auth.Upstream] = true
		}
		for _, s := range l.cfg.Routes[i].Split {
			used[s.Upstream] = true
		}
	}
	for i := range l.cfg.Upstreams {
		u := &l.cfg.Upstreams[i]
		ensembleUsed = ensembleUsed || u.Discover != nil && u.Discover.ZooKeeper != nil
		if !used[u.Name] {
			l.remark(indexed("upstreams", i)+".name", "got upstream %q that no route uses", u.Name)
		}
	}
	l.remarkRoutes()
	if len(l.cfg.Routes) == 0 {
		l.remark("routes", "got no route: every request is answered with 404")
	}
	for i := range l.cfg.Listeners {
		ensembleUsed = ensembleUsed || shares(&l.cfg.Listeners[i])
	}
	if l.cfg.ZooKeeper != nil && !ensembleUsed {
		l.remark("zookeeper", "got a zookeeper block that no upstream and no listener uses")
	}
	for _, r := range l.remarks {
		l.opts.Warn(r)
	}
}

// remarkRoutes finds routes that no request reaches, since an earlier one has the same
// conditions.
func (l *loader) remarkRoutes() {
	first := map[string]int{}
	for i := range l.cfg.Routes {
		r := &l.cfg.Routes[i]
		conditions := fmt.Sprintf("%q", []any{
			r.Listeners, r.Host, r.Hosts, r.Path, r.PathPrefix, r.PathRegexp, r.Methods,
			fields(r.Headers), fields(r.Query),
		})
		earlier, taken := first[conditions]
		if !taken {
			first[conditions] = i
			continue
		}
		l.remark(indexed("routes", i), "got the conditions of %s again: no request comes here", l.described(indexed("routes", earlier)))
	}
}

func fields(conditions []proxy.MatchField) []string {
	texts := make([]string, len(conditions))
	for i, c := range conditions {
		texts[i] = fmt.Sprintf("%+v", c)
	}
	return texts
}
