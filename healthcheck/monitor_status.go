package healthcheck

import (
	"cmp"
	"slices"
	"time"
)

// CheckStatus is what the checks know of a server.
type CheckStatus struct {
	Server    string    `json:"server"` // scheme://host:port
	Verdict   string    `json:"verdict"`
	Passes    int       `json:"passes_in_a_row"`
	Fails     int       `json:"fails_in_a_row"`
	LastError string    `json:"last_error,omitempty"` // "" when the last probe passed
	LastAt    time.Time `json:"last_at"`              // when the last probe ended; zero before the first
	Took      string    `json:"took"`                 // the last probe's duration
}

// MonitorStats count from the Monitor's start.
type MonitorStats struct {
	Passed, Failed uint64 // probes that ended; those that panicked are among Failed
	Panicked       uint64
	Flips          uint64        // changes of a verdict, first verdicts among them
	Late           time.Duration // how long after its time the latest probe began
}

// Status lists what is known, by server.
func (m *Monitor) Status() []CheckStatus {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := make([]CheckStatus, 0, len(m.targets))
	for _, t := range m.targets {
		list = append(list, CheckStatus{
			Server: t.member.ID.String(), Verdict: t.member.Health().String(),
			Passes: t.streak.passes, Fails: t.streak.fails,
			LastError: t.lastError, LastAt: t.lastAt, Took: t.took.String(),
		})
	}
	slices.SortFunc(list, func(a, b CheckStatus) int { return cmp.Compare(a.Server, b.Server) })
	return list
}

// Stats gives the counters.
func (m *Monitor) Stats() MonitorStats {
	return MonitorStats{
		Passed: m.passed.Load(), Failed: m.failed.Load(), Panicked: m.panicked.Load(),
		Flips: m.flips.Load(), Late: time.Duration(m.late.Load()),
	}
}
