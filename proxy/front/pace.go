package front

import "time"

// paceGrace is how long a client may be waited for in sum before min_body_rate counts.
const paceGrace = 10 * time.Second

// pace is how a body of known length comes in. What the server makes it wait for is no
// fault of the client's: only the time counts that reads wait for it.
type pace struct {
	on     bool
	taken  int64         // bytes
	waited time.Duration // for them
}

// limit is when a read of a body that began at the given time must have succeeded.
func (p *pace) limit(began time.Time, s *settings) time.Time {
	idle := s.bodyIdle
	if p.on && s.minBodyRate > 0 {
		// In seconds first: a duration overflows at less than what a body may hold.
		if earned := float64(p.taken) / float64(s.minBodyRate); earned < (p.waited + idle).Seconds() {
			left := paceGrace + time.Duration(earned*float64(time.Second)) - p.waited
			idle = min(idle, max(left, 0))
		}
	}
	return began.Add(idle)
}

// startPace holds the body that is being read to min_body_rate.
func (w *wire) startPace() {
	w.mu.Lock()
	w.pace = pace{on: true}
	w.mu.Unlock()
}

// keepPace counts a read that began at the given time.
func (w *wire) keepPace(began time.Time, n int) {
	w.mu.Lock()
	if w.pace.on {
		w.pace.taken += int64(n)
		w.pace.waited += time.Since(began)
	}
	w.mu.Unlock()
}
