package h2

import (
	"errors"
	"time"

	"drover/exchange"

	"golang.org/x/net/http2"
)

// next takes a frame. DATA is taken apart here, since its bytes are handed on as they
// come: a client is slow or not by the bytes of its body, however it cuts them into
// frames. The rest is the Framer's.
func (c *Conn) next() error {
	p, err := c.br.Peek(frameHead)
	if err != nil {
		return err
	}
	h := http2.FrameHeader{
		Length: uint32(p[0])<<16 | uint32(p[1])<<8 | uint32(p[2]), Type: http2.FrameType(p[3]), Flags: http2.Flags(p[4]),
		StreamID: (uint32(p[5])<<24 | uint32(p[6])<<16 | uint32(p[7])<<8 | uint32(p[8])) & (1<<31 - 1),
	}
	if h.Type == http2.FrameHeaders {
		c.heading = h.StreamID > c.lastID
	}
	if h.Type == http2.FrameData && c.greet && c.block.id == 0 && h.StreamID != 0 && h.Length <= minFrame {
		return c.data(h)
	}
	f, err := c.framer.ReadFrame()
	if err != nil {
		return err
	}
	return c.frame(f)
}

// data handles a DATA frame, of which nothing has been read.
func (c *Conn) data(h http2.FrameHeader) error {
	_, _ = c.br.Discard(frameHead) // it is there.
	body, padding := int(h.Length), 0
	if h.Flags.Has(http2.FlagDataPadded) {
		if body == 0 {
			return http2.ConnectionError(http2.ErrCodeFrameSize)
		}
		n, err := c.br.ReadByte()
		if err != nil {
			return err
		}
		padding = int(n)
		if body -= 1 + padding; body < 0 {
			return http2.ConnectionError(http2.ErrCodeProtocol)
		}
	}
	ended := h.Flags.Has(http2.FlagDataEndStream)
	switch {
	case ended:
		c.calm.earn(costFrame)
	case body == 0:
		c.calm.pay(costFrame)
	default:
		c.calm.earn(float64(min(body, bite)) / bite)
	}
	s, wrong := c.openData(h.StreamID, int64(h.Length), int64(body), ended)
	if conn := http2.ConnectionError(0); errors.As(wrong, &conn) {
		return wrong
	}
	for left := body; left > 0; {
		p, err := c.piece(left)
		if err != nil {
			return err
		}
		c.deliver(s, p)
		left -= len(p)
	}
	if _, err := c.br.Discard(padding); err != nil {
		return err
	}
	c.closeData(s, int64(h.Length), int64(body), ended)
	return wrong
}

// openData begins a DATA frame of that size in all. It gives the stream that takes it,
// nil for one whose bytes are of no use.
func (c *Conn) openData(id uint32, size, body int64, ended bool) (*stream, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.recvWindow -= size; c.recvWindow < 0 {
		return nil, http2.ConnectionError(http2.ErrCodeFlowControl)
	}
	s, err := c.find(id)
	if s == nil || err != nil {
		return nil, err
	}
	declared, received := s.head.length, s.received+body
	switch {
	case s.inEnded:
		return nil, http2.StreamError{StreamID: id, Code: http2.ErrCodeStreamClosed}
	case s.recvWindow < size:
		return nil, http2.StreamError{StreamID: id, Code: http2.ErrCodeFlowControl}
	case declared >= 0 && (received > declared || ended && received < declared):
		return nil, http2.StreamError{StreamID: id, Code: http2.ErrCodeProtocol}
	}
	s.recvWindow -= size
	s.received = received
	if limit := c.opts.Limits().MaxBody; limit > 0 && received > limit && s.inErr == nil {
		s.inErr = exchange.ErrBodyTooLarge
		wake(s.readable)
	}
	c.feeding = s
	c.enter(stateData)
	return s, nil
}

// piece reads up to n bytes of a frame. They are there until the next read.
func (c *Conn) piece(n int) ([]byte, error) {
	if c.br.Buffered() == 0 && n >= c.br.Size() {
		if c.scratch == nil {
			c.scratch = make([]byte, minFrame)
		}
		got, err := c.br.Read(c.scratch[:n]) // past the buffer
		return c.scratch[:got], err
	}
	if _, err := c.br.Peek(1); err != nil {
		return nil, err
	}
	p, err := c.br.Peek(min(n, c.br.Buffered()))
	_, _ = c.br.Discard(len(p)) // it is there.
	return p, err
}

// deliver gives bytes of a body to whoever reads it.
func (c *Conn) deliver(s *stream, p []byte) {
	if s == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.inErr != nil { // nobody reads on.
		s.credit(int64(len(p)))
		c.credit(int64(len(p)))
		return
	}
	s.in = append(s.in, p...)
	wake(s.readable)
}

// closeData ends a DATA frame.
func (c *Conn) closeData(s *stream, size, body int64, ended bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.feeding = nil
	if s == nil {
		c.credit(size)
		return
	}
	if padding := size - body; padding > 0 {
		s.credit(padding)
		c.credit(padding)
	}
	if ended && !s.over {
		c.endInput(s)
	}
}

// orphan bounds the rest of a DATA frame whose stream has ended, as that of any frame
// that leads nowhere is bounded. The caller holds mu.
func (c *Conn) orphan(s *stream) {
	if c.feeding == s {
		c.feeding = nil
		c.since.Store(time.Now().UnixNano())
		c.state.CompareAndSwap(int32(stateData), int32(stateFrame))
	}
}

// endInput notes that a client has said all. The caller holds mu.
func (c *Conn) endInput(s *stream) {
	s.inEnded = true
	if s.sentEnd {
		c.remove(s)
	}
	wake(s.readable)
}
