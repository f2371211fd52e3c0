package healthcheck

import "drover/backend"

// streak counts a server's latest probes that ended alike.
type streak struct {
	passes, fails int // in a row; one of them is 0
}

// learn counts a probe and gives the verdict that follows from it. A server without a
// verdict is up with the first probe that passes, since nothing speaks against it; to
// be down, it too must fail as often as any other.
func (s *streak) learn(passed bool, verdict backend.Health, cfg *CheckConfig) backend.Health {
	if passed {
		s.passes, s.fails = s.passes+1, 0
		if verdict == backend.HealthUnknown || s.passes >= cfg.HealthyAfter {
			return backend.HealthUp
		}
		return verdict
	}
	s.passes, s.fails = 0, s.fails+1
	if s.fails >= cfg.UnhealthyAfter {
		return backend.HealthDown
	}
	return verdict
}

// onEdge reports whether the verdict may be about to change: there is none yet, or the
// last probe spoke against it.
func (s *streak) onEdge(verdict backend.Health) bool {
	switch verdict {
	case backend.HealthUp:
		return s.fails > 0
	case backend.HealthDown:
		return s.passes > 0
	default:
		return true
	}
}
