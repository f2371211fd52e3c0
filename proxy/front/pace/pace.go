// Package pace holds clients to a least rate at which the body of a request comes in.
package pace

import "time"

// Grace is how long a client may be waited for in sum before the rate counts.
const Grace = 10 * time.Second

// Pace is how a body comes in. What the server makes it wait for is no fault of the
// client's: only the time counts that reads wait for it. The zero value is for a body
// that is held to no rate.
type Pace struct {
	on     bool
	taken  int64         // bytes
	waited time.Duration // for them
}

// Start gives the pace of a body that has announced its length, none of which has come.
func Start() Pace { return Pace{on: true} }

// On reports whether the body is held to a rate, and so whether Count is of use.
func (p *Pace) On() bool { return p.on }

// Limit is when a read of the body that began at the given time must have succeeded:
// within idle, and within what the bytes so far have earned at the rate, in bytes a
// second, 0 for none.
func (p *Pace) Limit(began time.Time, idle time.Duration, rate int64) time.Time {
	if p.on && rate > 0 {
		// In seconds first: a duration overflows at less than what a body may hold.
		if earned := float64(p.taken) / float64(rate); earned < (p.waited + idle).Seconds() {
			left := Grace + time.Duration(earned*float64(time.Second)) - p.waited
			idle = min(idle, max(left, 0))
		}
	}
	return began.Add(idle)
}

// Count counts a read that gave n bytes, and waited for them.
func (p *Pace) Count(waited time.Duration, n int) {
	p.taken += int64(n)
	p.waited += waited
}
