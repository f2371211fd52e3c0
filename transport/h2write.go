package transport

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/net/http2"

	"drover/exchange"
)

// queue lets the control frame that was just put into queued be written, under mu. The
// reader never writes itself: a server that does not read before it has written would
// wait for drover as drover waits for it. err is that of making the frame.
func (c *h2conn) queue(err error) error {
	switch {
	case err != nil:
		return err
	case c.queued.Len() > h2MaxQueued:
		return http2.ConnectionError(http2.ErrCodeEnhanceYourCalm)
	case !c.flushing && c.err == nil:
		c.flushing = true
		go c.flush()
	}
	return nil
}

// flush writes the queued frames.
func (c *h2conn) flush() {
	for {
		if c.lock(nil, time.Time{}) != nil {
			return // it is dead; flushing stays set, as nothing more is to be written.
		}
		c.mu.Lock()
		empty := c.queued.Len() == 0
		c.flushing = !empty
		c.takeQueued()
		c.mu.Unlock()
		if empty {
			c.unlock()
			return
		}
		err := c.send()
		c.unlock()
		if err != nil {
			c.die(err)
			return
		}
	}
}

// lock takes the write lock. It gives up when the connection dies, at until if that is
// not the zero time, and when the stream's upload is to stop.
func (c *h2conn) lock(s *h2stream, until time.Time) error {
	select {
	case c.writing <- struct{}{}:
		return nil
	default:
	}
	var late <-chan time.Time
	if !until.IsZero() {
		timer := time.NewTimer(time.Until(until))
		defer timer.Stop()
		late = timer.C
	}
	for {
		var stop chan struct{}
		if s != nil {
			stop = s.room
		}
		select {
		case c.writing <- struct{}{}:
			return nil
		case <-c.dead:
			return c.death()
		case <-late:
			return errTimeout
		case <-stop:
			c.mu.Lock()
			stopped := s.stopped
			c.mu.Unlock()
			if stopped {
				return errAbandoned
			}
		}
	}
}

func (c *h2conn) unlock() { <-c.writing }

// death gives the error that the connection died of.
func (c *h2conn) death() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// takeQueued puts the queued frames before what is written next, under both locks.
func (c *h2conn) takeQueued() {
	c.wbuf.Write(c.queued.Bytes())
	c.queued.Reset()
	if c.queued.Cap() > h2MaxQueued {
		c.queued = bytes.Buffer{}
	}
}

// send writes wbuf, under the write lock. A server that takes nothing for the time
// that it has to answer a PING is as good as gone.
func (c *h2conn) send() error {
	defer c.wbuf.Reset()
	if err := c.SetWriteDeadline(time.Now().Add(c.pool.settings.Load().HTTP2.PingTimeout)); err != nil {
		return err
	}
	_, err := c.Conn.Write(c.wbuf.Bytes())
	return err
}

// open writes a request's head, and a small body that is in memory with it. It reports
// whether that was all of the request. An error before the stream has an id means that
// nothing was sent.
func (s *h2stream) open(req *exchange.Request, until time.Time) (whole bool, err error) {
	c := s.c
	if err := c.lock(nil, until); err != nil {
		return false, err
	}
	defer c.unlock()
	body, room := req.Body != nil, s.clientRoom()
	c.mu.Lock()
	if err := c.usable(); err != nil {
		c.mu.Unlock()
		return false, err
	}
	s.id = c.nextID
	c.nextID += 2
	c.opened++
	s.reused = c.opened > 1
	s.sentAt = c.wire.sent.Load()
	s.sendWindow, s.recvWindow, s.width = c.firstSend, h2SmallWindow, h2SmallWindow
	wider := s.widen(room)
	c.streams[s.id] = s
	inline := body && len(req.Buffered) > 0 && len(req.Buffered) <= min(maxInline, c.maxFrame) &&
		int64(len(req.Buffered)) <= min(c.sendWindow, s.sendWindow) && req.Trailer == nil
	if inline {
		c.sendWindow -= int64(len(req.Buffered))
	}
	s.localEnded = !body || inline
	maxFrame := c.maxFrame
	c.takeQueued()
	c.watch()
	c.mu.Unlock()

	c.encode(req, c.pool.id)
	err = c.writeBlock(s.id, maxFrame, !body)
	if err == nil && wider > 0 {
		err = c.out.WriteWindowUpdate(s.id, uint32(wider)) //nolint:gosec // at most the window.
	}
	if err == nil && inline {
		err = c.out.WriteData(s.id, true, req.Buffered)
	}
	if err == nil {
		err = c.send()
	}
	if err != nil {
		c.die(err)
	}
	return !body || inline, err
}

// usable reports whether a stream may be opened, under mu.
func (c *h2conn) usable() error {
	switch {
	case c.err != nil:
		return c.err
	case c.leaving:
		return errors.New("the server goes away")
	}
	return nil
}

// writeBlock frames hbuf as HEADERS and what CONTINUATION it needs.
func (c *h2conn) writeBlock(id uint32, maxFrame int, end bool) error {
	block := c.hbuf.Bytes()
	first := block[:min(len(block), maxFrame)]
	block = block[len(first):]
	err := c.out.WriteHeaders(http2.HeadersFrameParam{
		StreamID: id, BlockFragment: first, EndStream: end, EndHeaders: len(block) == 0,
	})
	for err == nil && len(block) > 0 {
		part := block[:min(len(block), maxFrame)]
		block = block[len(part):]
		err = c.out.WriteContinuation(id, len(block) == 0, part)
	}
	return err
}

// upload copies the request's body to the server.
func (s *h2stream) upload(req *exchange.Request) error {
	buf := copyBuffers.Get().(*[]byte) //nolint:forcetypeassert,errcheck // the pool holds nothing else.
	defer copyBuffers.Put(buf)
	var body io.Reader = req.Body
	if req.Buffered != nil {
		body = bytes.NewReader(req.Buffered)
	}
	left, known := req.ContentLength, req.ContentLength >= 0
	for {
		n, err := body.Read(*buf)
		if left -= int64(n); known && left < 0 {
			return fmt.Errorf("%w: more bytes than Content-Length said", errBodySource)
		}
		end := err == io.EOF && (!known || left == 0) //nolint:errorlint // io.Reader's contract is this very value.
		switch {
		case err != nil && !end:
			if err == io.EOF { //nolint:errorlint // see above.
				err = io.ErrUnexpectedEOF
			}
			return fmt.Errorf("%w: %w", errBodySource, err)
		case n > 0 || end:
			var trailer exchange.Header
			if end && req.Trailer != nil {
				trailer = req.Trailer()
			}
			if werr := s.writeBody((*buf)[:n], end, trailer); werr != nil {
				return werr
			}
		}
		if end {
			return nil
		}
	}
}

// writeBody sends a part of the body as the windows allow.
func (s *h2stream) writeBody(p []byte, end bool, trailer exchange.Header) error {
	last := end && len(trailer) == 0
	for first := true; len(p) > 0 || first && last; first = false {
		n, err := s.writeData(p, last)
		if err != nil {
			return err
		}
		p = p[n:]
	}
	if end && !last {
		return s.writeTrailer(trailer)
	}
	return nil
}

// writeData sends one DATA frame. The idle time-out runs anew whenever the server
// makes room for something.
func (s *h2stream) writeData(p []byte, last bool) (int, error) {
	c := s.c
	until := time.Now().Add(s.settings.BodyIdleTimeout)
	for {
		if err := c.lock(s, until); err != nil {
			return 0, err
		}
		n, err := s.grant(len(p))
		if err != nil {
			c.unlock()
			return 0, err
		}
		if n == 0 && len(p) > 0 {
			c.unlock()
			if err := s.awaitRoom(until); err != nil {
				return 0, err
			}
			continue
		}
		err = c.out.WriteData(s.id, last && n == len(p), p[:n])
		return n, s.finishWrite(err, last && n == len(p))
	}
}

// grant takes room for at most n bytes from both windows, under the write lock, and
// puts what is queued before them.
func (s *h2stream) grant(n int) (int, error) {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := s.sendable(); err != nil {
		return 0, err
	}
	room := max(min(s.sendWindow, c.sendWindow), 0)
	granted := int(min(int64(n), room, int64(c.maxFrame)))
	s.starved = granted == 0 && n > 0
	if s.starved {
		return 0, nil
	}
	s.sendWindow -= int64(granted)
	c.sendWindow -= int64(granted)
	c.uploaded += granted
	c.takeQueued()
	return granted, nil
}

// sendable reports whether the stream takes more of the request, under mu.
func (s *h2stream) sendable() error {
	switch {
	case s.c.err != nil:
		return s.c.err
	case s.stopped:
		return errAbandoned
	}
	return nil
}

// awaitRoom waits for a window to open.
func (s *h2stream) awaitRoom(until time.Time) error {
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case <-s.room:
		return nil
	case <-s.c.dead:
		return s.c.death()
	case <-timer.C:
		return errTimeout
	}
}

// writeTrailer ends the request with fields (RFC 9113, section 8.1).
func (s *h2stream) writeTrailer(trailer exchange.Header) error {
	c := s.c
	if err := c.lock(s, time.Now().Add(s.settings.BodyIdleTimeout)); err != nil {
		return err
	}
	if _, err := s.grant(0); err != nil {
		c.unlock()
		return err
	}
	c.mu.Lock()
	maxFrame := c.maxFrame
	c.mu.Unlock()
	c.encodeTrailer(trailer)
	return s.finishWrite(c.writeBlock(s.id, maxFrame, true), true)
}

// finishWrite writes what was framed, gives the write lock back and notes the
// request's end.
func (s *h2stream) finishWrite(err error, last bool) error {
	c := s.c
	if err == nil {
		err = c.send()
	}
	c.unlock()
	if err != nil {
		c.die(err)
		return err
	}
	if last {
		c.mu.Lock()
		s.localEnded = true
		if s.remoteEnded {
			s.release()
		}
		c.mu.Unlock()
	}
	return nil
}
