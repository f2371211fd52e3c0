package healthcheck

import (
	"context"
	"time"

	"drover/backend"

	"go.uber.org/zap"
)

// checkPoll is how often the active checks' verdicts on ejected servers are looked at,
// where they matter (readmit_on_check).
const checkPoll = 100 * time.Millisecond

// Run ejects servers, re-admits them and compares success rates until ctx ends.
func (o *Outlier) Run(ctx context.Context) error {
	var windows <-chan time.Time
	if o.cfg.SuccessRate.Enabled {
		ticker := time.NewTicker(o.cfg.SuccessRate.Window)
		defer ticker.Stop()
		windows = ticker.C
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		changed := false
		select {
		case <-ctx.Done():
			return nil
		case <-o.synced:
		case <-timer.C:
		case <-windows:
			changed = o.compare()
		case m := <-o.tripped:
			if changed = o.ejectTripped(m); !changed {
				continue // nothing to plan; a storm of suppressed ejections ends here
			}
		}
		readmitted, next := o.tend(time.Now())
		if changed || readmitted {
			o.onChange()
		}
		if next.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(time.Until(next))
		}
	}
}

// ejectTripped deals with a server that reached a limit and all that wait behind it:
// counting what may be ejected is done once for them.
func (o *Outlier) ejectTripped(first *backend.Member) (changed bool) {
	view := o.view.Load()
	room := o.room(view)
	for m := first; ; {
		if r := view.records[m.Live]; r != nil {
			reason := r.trip.Load()
			// A success since then has cleared the streak: the server has recovered.
			if reason != reasonNone && r.failures.Load() > 0 && o.eject(m, r, reason, &room) {
				changed = true
			}
			r.forget()
		}
		select {
		case m = <-o.tripped:
		default:
			return changed
		}
	}
}

// room is what an upstream has left to eject. Draining servers are left aside.
type room struct{ members, ejected, available int }

func (o *Outlier) room(view *outlierView) room {
	var c room
	for _, m := range view.members {
		if m.Weight == 0 {
			continue
		}
		c.members++
		if m.Ejected() {
			c.ejected++
		}
		if m.Available() {
			c.available++
		}
	}
	return c
}

// allows reports whether the server may be ejected: no more than the given percentage,
// but always one, and never the last that is available, short of 100 percent.
func (c *room) allows(m *backend.Member, percent int) bool {
	switch {
	case percent == 100, m.Weight == 0:
		return true
	case m.Available() && c.available <= 1:
		return false
	default:
		return c.ejected == 0 || (c.ejected+1)*100 <= percent*c.members
	}
}

// take counts the ejection of a server that is still in.
func (c *room) take(m *backend.Member) {
	if m.Weight == 0 {
		return
	}
	c.ejected++
	if m.Available() {
		c.available--
	}
}

// eject takes a server out, if the room allows it. Fields are added to its log line.
func (o *Outlier) eject(m *backend.Member, r *record, reason uint32, room *room, fields ...zap.Field) bool {
	if m.Ejected() {
		return false
	}
	if !room.allows(m, o.cfg.MaxEjectedPercent) {
		o.suppressed.Add(1)
		if !o.full {
			o.full = true
			o.logger.Warn("server fails but is not ejected: too many are out already", zap.Stringer("server", m.ID),
				zap.String("reason", reasonNames[reason]), zap.String("last_failure", r.lastFailure()),
				zap.Int("ejected", room.ejected), zap.Int("available", room.available), zap.Int("servers", room.members))
		}
		return false
	}
	room.take(m)
	// Min first: the product must not overflow after years of ejections.
	times := min(time.Duration(m.Ejections())+1, o.cfg.MaxEjectFor/o.cfg.EjectFor+1)
	length := min(o.cfg.EjectFor*times, o.cfg.MaxEjectFor)
	r.wasDown = false
	m.Eject(time.Now().Add(length))
	o.full = false
	o.ejections[reason].Add(1)
	o.logger.Warn("server is ejected", append([]zap.Field{
		zap.Stringer("server", m.ID), zap.String("reason", reasonNames[reason]), zap.String("last_failure", r.lastFailure()),
		zap.Duration("for", length), zap.Int("ejections", m.Ejections()),
	}, fields...)...)
	return true
}

// tend re-admits the servers whose time is over and forgives those that behave. It
// gives the time at which there is something to do next, zero for never.
func (o *Outlier) tend(now time.Time) (changed bool, next time.Time) {
	plan := func(at time.Time) {
		if next.IsZero() || at.Before(next) {
			next = at
		}
	}
	view := o.view.Load()
	for _, m := range view.members {
		r := view.records[m.Live]
		switch {
		case m.Ejected():
			r.forgiveAt = time.Time{}
			if cause := o.readmitCause(m, r, now); cause != "" {
				o.readmit(m, r, now, cause)
				changed = true
				r.forgiveAt = now.Add(o.cfg.EjectFor)
				plan(r.forgiveAt)
				continue
			}
			plan(m.EjectedUntil())
			if o.cfg.ReadmitOnCheck {
				plan(now.Add(checkPoll))
			}
		case m.Ejections() > 0:
			o.forgive(m, r, now)
			plan(r.forgiveAt)
		}
	}
	return changed, next
}

// readmitCause says why an ejection ends now, "" when it does not.
func (o *Outlier) readmitCause(m *backend.Member, r *record, now time.Time) string {
	if !m.EjectedUntil().After(now) {
		return "time is over"
	}
	if !o.cfg.ReadmitOnCheck {
		return ""
	}
	switch m.Health() {
	case backend.HealthDown:
		r.wasDown = true
	case backend.HealthUp:
		if r.wasDown {
			return "check passes again"
		}
	case backend.HealthUnknown:
	}
	return ""
}

// readmit lets a server in on probation, which must stand before its first request.
func (o *Outlier) readmit(m *backend.Member, r *record, now time.Time, cause string) {
	r.window.Store(0)
	r.readmitted.Store(now.UnixNano())
	r.probation.Store(true)
	m.Readmit()
	o.full = false
	o.readmissions.Add(1)
	o.logger.Info("server is re-admitted on probation", zap.Stringer("server", m.ID), zap.String("cause", cause),
		zap.Int("ejections", m.Ejections()), zap.Stringer("health", m.Health()))
}

// forgive takes one from the count of ejections for each EjectFor in service, unless
// no request has shown yet that the server does well.
func (o *Outlier) forgive(m *backend.Member, r *record, now time.Time) {
	switch {
	case r.forgiveAt.IsZero():
	case now.Before(r.forgiveAt):
		return
	case !r.probation.Load():
		m.ForgiveEjection()
	}
	r.forgiveAt = now.Add(o.cfg.EjectFor)
}
