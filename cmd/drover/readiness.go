package main

import "errors"

// errDraining and errCold are why drover is not ready.
var (
	errDraining = errors.New("draining")
	errCold     = errors.New("the first servers are not known yet")
)

// ready tells whether drover should get traffic. Once it has, an upstream that a reload
// adds and whose source says nothing costs that upstream's requests only: it must not
// take all drovers with the same configuration out at once.
func (e *engine) ready() error {
	v := e.view.Load()
	switch {
	case e.draining.Load():
		return errDraining
	case e.warm.Load():
		return nil
	case v.cfg == nil:
		return errCold
	}
	for _, u := range v.upstreams {
		select {
		case <-u.first:
		default:
			return errCold
		}
	}
	e.warm.Store(true)
	return nil
}
