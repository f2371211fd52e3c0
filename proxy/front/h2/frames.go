package h2

import (
	"io"
	"runtime"

	"golang.org/x/net/http2"
)

// frame handles one frame. It gives a http2.StreamError for what breaks one stream, and
// any other error for what ends the connection.
func (c *Conn) frame(f http2.Frame) error {
	if !c.greet {
		settings, ok := f.(*http2.SettingsFrame)
		if !ok || settings.IsAck() {
			return http2.ConnectionError(http2.ErrCodeProtocol)
		}
		c.greet = true
	}
	switch f := f.(type) {
	case *http2.HeadersFrame:
		return c.headers(f)
	case *http2.ContinuationFrame:
		return c.continuation(f)
	case *http2.SettingsFrame:
		return c.settings(f)
	case *http2.WindowUpdateFrame:
		return c.windowUpdate(f)
	case *http2.RSTStreamFrame:
		return c.rstStream(f)
	case *http2.PingFrame:
		return c.ping(f)
	case *http2.PriorityFrame:
		c.calm.pay(costFrame)
		if f.StreamDep == f.StreamID {
			return http2.StreamError{StreamID: f.StreamID, Code: http2.ErrCodeProtocol}
		}
	case *http2.GoAwayFrame:
		c.calm.pay(costFrame) // it will open no streams; those that it has go on.
	case *http2.PushPromiseFrame:
		return http2.ConnectionError(http2.ErrCodeProtocol)
	default:
		c.calm.pay(costFrame) // an extension: ignored (RFC 9113, section 5.5).
	}
	return nil
}

// streamWrong answers a fault that breaks one stream only.
func (c *Conn) streamWrong(wrong http2.StreamError) error {
	c.calm.pay(costBroken)
	c.mu.Lock()
	s := c.streams[wrong.StreamID]
	idle := wrong.StreamID > c.lastID
	known := s != nil
	if known {
		s.breakOff(io.ErrUnexpectedEOF)
		c.remove(s)
	}
	c.recent.add(wrong.StreamID)
	c.mu.Unlock()
	if idle && wrong.Code == http2.ErrCodeStreamClosed {
		return http2.ConnectionError(http2.ErrCodeProtocol)
	}
	c.control(func(dst []byte) []byte { return appendReset(dst, wrong.StreamID, wrong.Code) })
	return c.flood()
}

// find gives an open stream. For one that is not there it says how to take a frame on
// it: as an error, or not at all.
func (c *Conn) find(id uint32) (s *stream, err error) {
	switch s = c.streams[id]; {
	case s != nil:
		return s, nil
	case id%2 == 0 || id > c.lastID:
		return nil, http2.ConnectionError(http2.ErrCodeProtocol) // idle (RFC 9113, section 5.1)
	case c.recent.has(id):
		return nil, nil //nolint:nilnil // to be ignored.
	default:
		return nil, http2.StreamError{StreamID: id, Code: http2.ErrCodeStreamClosed}
	}
}

func (c *Conn) settings(f *http2.SettingsFrame) error {
	if f.IsAck() {
		return nil
	}
	c.calm.pay(costFrame)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := f.ForeachSetting(c.apply); err != nil {
		return err
	}
	// It is queued under mu, so that nothing which makes use of the settings goes out
	// before it.
	c.control(func(dst []byte) []byte {
		return appendFrame(dst, http2.FrameSettings, http2.FlagSettingsAck, 0, nil)
	})
	return nil
}

// apply takes one setting of the client's. The caller holds mu.
func (c *Conn) apply(setting http2.Setting) error {
	if err := setting.Valid(); err != nil {
		return err
	}
	switch setting.ID {
	case http2.SettingInitialWindowSize:
		return c.resizeWindows(int64(setting.Val))
	case http2.SettingMaxFrameSize:
		c.peerMaxFrame = min(int64(setting.Val), outSize)
	case http2.SettingHeaderTableSize:
		c.tableSize.Store(int64(min(setting.Val, 4096)) + 1)
	}
	return nil
}

// resizeWindows applies a new initial size (RFC 9113, section 6.9.2). The caller holds mu.
func (c *Conn) resizeWindows(initial int64) error {
	delta := initial - c.peerInitial
	c.peerInitial = initial
	for _, s := range c.streams {
		if s.sendWindow += delta; s.sendWindow > maxWindow {
			return http2.ConnectionError(http2.ErrCodeFlowControl)
		}
		wake(s.writable)
	}
	return nil
}

func (c *Conn) windowUpdate(f *http2.WindowUpdateFrame) error {
	c.calm.pay(costFrame)
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.StreamID == 0 {
		if c.sendWindow += int64(f.Increment); c.sendWindow > maxWindow {
			return http2.ConnectionError(http2.ErrCodeFlowControl)
		}
		for _, s := range c.streams {
			wake(s.writable)
		}
		return nil
	}
	s := c.streams[f.StreamID]
	if s == nil {
		if f.StreamID > c.lastID || f.StreamID%2 == 0 {
			return http2.ConnectionError(http2.ErrCodeProtocol)
		}
		return nil // the client has not heard yet that it is closed.
	}
	if s.sendWindow += int64(f.Increment); s.sendWindow > maxWindow {
		return http2.StreamError{StreamID: f.StreamID, Code: http2.ErrCodeFlowControl}
	}
	wake(s.writable)
	return nil
}

func (c *Conn) rstStream(f *http2.RSTStreamFrame) error {
	// The handlers go first: those of streams that are given up in numbers must not
	// pile up behind this reader.
	defer runtime.Gosched()
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.streams[f.StreamID]
	known := c.recent.forget(f.StreamID)
	switch {
	case s != nil:
		c.calm.pay(costReset)
		s.breakOff(io.ErrUnexpectedEOF)
		c.remove(s)
	case f.StreamID > c.lastID || f.StreamID%2 == 0:
		return http2.ConnectionError(http2.ErrCodeProtocol)
	case known:
		c.calm.pay(costFrame)
	default:
		c.calm.pay(costAnswered)
	}
	return nil
}

func (c *Conn) ping(f *http2.PingFrame) error {
	if f.IsAck() {
		return nil
	}
	c.calm.pay(costFrame)
	c.control(func(dst []byte) []byte {
		return appendFrame(dst, http2.FramePing, http2.FlagPingAck, 0, f.Data[:])
	})
	return nil
}
