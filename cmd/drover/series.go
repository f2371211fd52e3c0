package main

import "drover/config"

// forget removes the series of what only a configuration that is not in force has: the
// one before, or one that was refused. Either may be nil.
func (e *engine) forget(gone, inForce *config.Config) {
	if gone == nil {
		return
	}
	routes, upstreams, listeners := map[string]bool{}, map[string]bool{}, map[string]bool{}
	leads := map[[2]string]bool{}
	if inForce != nil {
		for _, r := range inForce.Routes {
			routes[r.Name] = true
			for _, u := range r.Upstreams() {
				leads[[2]string{r.Name, u}] = true
			}
		}
		for _, u := range inForce.Upstreams {
			upstreams[u.Name] = true
		}
		for _, l := range inForce.Listeners {
			listeners[l.Name] = true
		}
	}
	for _, r := range gone.Routes {
		if !routes[r.Name] {
			e.metrics.ForgetRoute(r.Name)
		}
		for _, u := range r.Upstreams() {
			if !leads[[2]string{r.Name, u}] {
				e.metrics.ForgetRouteUpstream(r.Name, u)
			}
		}
	}
	for _, u := range gone.Upstreams {
		if !upstreams[u.Name] {
			e.metrics.ForgetUpstream(u.Name)
		}
	}
	for _, l := range gone.Listeners {
		if !listeners[l.Name] {
			e.metrics.ForgetListener(l.Name)
		}
	}
}
