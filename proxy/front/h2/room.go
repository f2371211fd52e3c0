package h2

import (
	"os"
	"time"
)

// room takes from the windows what may be sent of n bytes. With nothing to take it
// waits, unless that is not wanted.
func (s *stream) room(n int, wait bool) (int, error) {
	c := s.conn
	var alarm *time.Timer
	var began time.Time // of the wait
	for {
		c.mu.Lock()
		got := min(int64(n), c.sendWindow, s.sendWindow, c.peerMaxFrame)
		switch {
		case s.over:
			c.mu.Unlock()
			return 0, errReset
		case n > 0 && passed(s.writeBy):
			c.mu.Unlock()
			return 0, os.ErrDeadlineExceeded
		case got > 0:
			c.sendWindow -= got
			s.sendWindow -= got
			c.sentAt = time.Now()
			c.mu.Unlock()
			return int(got), nil
		case !wait:
			c.mu.Unlock()
			return 0, nil
		}
		if alarm == nil {
			began = time.Now()
		}
		limit, late := s.writeLimit(began)
		left := time.Until(limit)
		if left <= 0 {
			c.mu.Unlock()
			return 0, late
		}
		c.stall()
		c.mu.Unlock()
		if alarm == nil {
			alarm = time.NewTimer(left)
			defer alarm.Stop()
		} else {
			alarm.Reset(left)
		}
		select {
		case <-s.writable:
		case <-alarm.C:
		}
		c.mu.Lock()
		c.stalled--
		c.mu.Unlock()
	}
}

// writeLimit is when a write that waits from the given time on has waited for too long,
// and the error that it ends by. The caller holds mu.
func (s *stream) writeLimit(began time.Time) (time.Time, error) {
	limit := began.Add(s.conn.opts.Limits().WriteIdle)
	if s.writeBy.IsZero() || limit.Before(s.writeBy) {
		return limit, errSlowReader
	}
	return s.writeBy, os.ErrDeadlineExceeded
}

// passed reports whether a tunnel's deadline is over. As net.Conn has it, that comes
// before what could be read or written.
func passed(deadline time.Time) bool { return !deadline.IsZero() && !time.Now().Before(deadline) }
