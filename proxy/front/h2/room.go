package h2

import (
	"os"
	"time"
)

// Room implements exchange.Windows. Of the connection's window a stream has its share:
// what each of many would count on, most of them would not get.
func (s *stream) Room() int {
	c := s.conn
	c.mu.Lock()
	share := c.sendWindow / int64(max(len(c.streams), 1))
	room, over := min(max(share, min(c.sendWindow, 1)), s.sendWindow), s.over
	c.mu.Unlock()
	if over || s.noBody || s.err != nil {
		return maxWindow // what is written goes nowhere, and at once.
	}
	if s.buf != nil {
		room -= int64(len(*s.buf))
	}
	return max(int(room), 0)
}

// AwaitRoom implements exchange.Windows. Nothing is kept for the stream meanwhile.
func (s *stream) AwaitRoom() error {
	if err := s.Flush(); err != nil || s.noBody {
		return err
	}
	s.dropBuffer()
	_, err := s.room(0, true)
	s.note(err)
	return err
}

func (s *stream) dropBuffer() {
	if s.buf != nil {
		*s.buf = (*s.buf)[:0]
		buffers.Put(s.buf)
		s.buf = nil
	}
}

// room takes from the windows what may be sent of n bytes. Where they have nothing it
// waits, unless that is not wanted.
func (s *stream) room(n int, wait bool) (int, error) {
	c := s.conn
	var alarm *time.Timer
	var began time.Time // of the wait
	for {
		c.mu.Lock()
		switch open := min(c.sendWindow, s.sendWindow); {
		case s.over:
			c.mu.Unlock()
			return 0, errReset
		case n > 0 && passed(s.writeBy):
			c.mu.Unlock()
			return 0, os.ErrDeadlineExceeded
		case open > 0:
			got := min(int64(n), open, c.peerMaxFrame)
			c.sendWindow -= got
			s.sendWindow -= got
			if got > 0 {
				c.sentAt = time.Now()
			}
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
