package healthcheck

import (
	"math/rand/v2"
	"slices"
	"testing"

	"drover/backend"
)

// obviousVerdict judges a server by its whole history of probes, again each time.
func obviousVerdict(history []bool, first backend.Health, healthyAfter, unhealthyAfter int) backend.Health {
	verdict := first
	for n := range len(history) {
		seen := history[:n+1]
		ends := func(passed bool, times int) bool {
			return len(seen) >= times && !slices.Contains(seen[len(seen)-times:], !passed)
		}
		switch {
		case verdict == backend.HealthUnknown && seen[n]:
			verdict = backend.HealthUp
		case verdict != backend.HealthUp && ends(true, healthyAfter):
			verdict = backend.HealthUp
		case verdict != backend.HealthDown && ends(false, unhealthyAfter):
			verdict = backend.HealthDown
		}
	}
	return verdict
}

func TestStreakIsObvious(t *testing.T) {
	verdicts := []backend.Health{backend.HealthUnknown, backend.HealthUp, backend.HealthDown}
	for range 5000 {
		cfg := &CheckConfig{HealthyAfter: 1 + rand.IntN(4), UnhealthyAfter: 1 + rand.IntN(4)}
		first := verdicts[rand.IntN(3)]
		share := rand.Float64()
		var s streak
		var history []bool
		verdict := first
		for range 40 {
			passed := rand.Float64() < share
			history = append(history, passed)
			verdict = s.learn(passed, verdict, cfg)
			if want := obviousVerdict(history, first, cfg.HealthyAfter, cfg.UnhealthyAfter); verdict != want {
				t.Fatalf("got %s; want %s after %v, from %s, %d up, %d down", verdict, want, history, first, cfg.HealthyAfter, cfg.UnhealthyAfter)
			}
			edge := verdict == backend.HealthUnknown || passed != (verdict == backend.HealthUp)
			if s.onEdge(verdict) != edge {
				t.Fatalf("got onEdge %v; want %v after %v, which is %s", !edge, edge, history, verdict)
			}
		}
	}
}
