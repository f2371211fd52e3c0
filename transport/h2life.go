package transport

import (
	"errors"
	"time"

	"golang.org/x/net/http2"
)

var (
	errUnused = errors.New("the connection was not needed any more")
	errSilent = errors.New("the server answered no PING")
)

const (
	// h2FreePings is how many PINGs in a row go out at the usual pace while the server
	// says nothing of its own. gRPC servers take more than that for abuse, unless they
	// are h2SlowPing apart.
	h2FreePings = 3
	h2SlowPing  = 310 * time.Second
)

// watch lets look come in time for a connection that was unused, under mu.
func (c *h2conn) watch() {
	if len(c.streams) == 1 {
		c.tick.Reset(c.pool.settings.Load().HTTP2.PingAfter)
	}
}

// look runs by a timer: it closes a connection that was unused for too long, and asks
// for a sign of life from a server that streams wait for.
func (c *h2conn) look() {
	cfg := c.pool.settings.Load()
	now := time.Now()
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return
	}
	var err error
	var next time.Duration
	if c.active == 0 && len(c.streams) == 0 {
		if next = c.usedAt.Add(cfg.IdleTimeout).Sub(now); next <= 0 {
			err = errUnused
			c.leaving = true
		}
	} else {
		next, err = c.checkLife(now, cfg)
	}
	if err == nil {
		c.tick.Reset(next)
	}
	c.mu.Unlock()
	if err != nil {
		c.die(err)
	}
}

// checkLife sends a PING when it is time, and gives the time to the next look, under
// mu.
func (c *h2conn) checkLife(now time.Time, cfg *settings) (time.Duration, error) {
	read := time.Unix(0, c.lastRead.Load())
	if c.pingedAt.After(read) {
		left := c.pingedAt.Add(cfg.HTTP2.PingTimeout).Sub(now)
		if left <= 0 {
			return 0, errSilent
		}
		return left, nil
	}
	due := read.Add(cfg.HTTP2.PingAfter)
	if slow := c.pingedAt.Add(h2SlowPing); c.pings >= h2FreePings && slow.After(due) {
		due = slow
	}
	if left := due.Sub(now); left > 0 {
		return left, nil
	}
	c.pings++
	c.pingedAt = now
	return cfg.HTTP2.PingTimeout, c.queue(c.control.WritePing(false, [8]byte{}))
}

// reserve takes a place for a stream, if the connection has one.
func (c *h2conn) reserve() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.nextID >= h2LastID-2*uint32(min(c.active, 1<<20))-2 { //nolint:gosec // bounded.
		c.leaving = true
		c.endIfUnused()
	}
	if c.usable() != nil || c.active >= c.maxStreams {
		return false
	}
	c.active++
	return true
}

// gone reports whether the connection takes no more streams.
func (c *h2conn) gone() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.usable() != nil
}

// unused reports whether no stream is on the connection.
func (c *h2conn) unused() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.active == 0 && len(c.streams) == 0
}

// retire lets no new streams on the connection, and closes it when it has none.
func (c *h2conn) retire() {
	c.mu.Lock()
	c.leaving = true
	now := c.active == 0 && len(c.streams) == 0
	c.mu.Unlock()
	if now {
		c.die(errUnused)
	}
}

// endIfUnused closes a connection that is leaving and has no stream, under mu.
func (c *h2conn) endIfUnused() {
	if c.leaving && c.err == nil && c.active == 0 && len(c.streams) == 0 {
		go c.die(errUnused)
	}
}

// die ends the connection with all its streams. Which of them the server cannot have
// seen is asked while the socket is still there.
func (c *h2conn) die(err error) {
	code, reason := h2Cause(err)
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return
	}
	c.err, c.leaving = reason, true
	for _, s := range c.streams {
		s.fail(reason, c.untouchedSince(s.sentAt, err))
	}
	c.tick.Stop()
	close(c.dead)
	c.mu.Unlock()
	c.pool.h2.forget(c)
	c.farewell(code)
	c.close()
}

// h2Cause gives what to tell the server and what to tell the exchanges.
func h2Cause(err error) (http2.ErrCode, error) {
	var code http2.ConnectionError
	switch {
	case errors.As(err, &code):
		return http2.ErrCode(code), protocolf("the server broke HTTP/2: %s", http2.ErrCode(code))
	case errors.Is(err, http2.ErrFrameTooLarge):
		return http2.ErrCodeFrameSize, protocolf("the server broke HTTP/2: %v", err)
	default:
		// A clean end of the connection is none of the streams on it.
		return http2.ErrCodeNo, eofIsCut(err)
	}
}

// farewellTime bounds the write of a last word.
const farewellTime = 100 * time.Millisecond

// farewell says why the connection ends, if that can be said at once.
func (c *h2conn) farewell(code http2.ErrCode) {
	select {
	case c.writing <- struct{}{}:
	default:
		return
	}
	defer c.unlock()
	c.mu.Lock()
	c.takeQueued()
	c.mu.Unlock()
	// Nothing was pushed: the server's last stream is none. Errors change nothing: the
	// connection is closed.
	_ = c.out.WriteGoAway(0, code, nil)
	_ = c.SetWriteDeadline(time.Now().Add(farewellTime))
	_, _ = c.Conn.Write(c.wbuf.Bytes())
	c.wbuf.Reset()
}
