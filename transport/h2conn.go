package transport

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

const (
	// h2ConnWindow is the connection's receive window. It is given back as bytes
	// arrive, so that a client that reads slowly holds up its own stream alone; what
	// waits in memory is bounded by the streams' windows.
	h2ConnWindow = 4 << 20
	// h2FirstWindow is every window's size before anybody says otherwise (RFC 9113,
	// section 6.9.2), and h2FirstFrame the largest frame's (section 6.5.2).
	h2FirstWindow = 65535
	// h2SmallWindow is what a server may send of each answer before it is told that the
	// client has room for more.
	h2SmallWindow = 2 << 10
	h2FirstFrame  = 16 << 10
	h2MaxWindow   = math.MaxInt32
	h2LastID      = math.MaxInt32

	// h2MaxQuiet is how many frames a server may send that bring no answer on, such as
	// PING, SETTINGS or empty DATA, before it is taken for a flood (CVE-2019-9512 and
	// its kin).
	h2MaxQuiet = 1000
	// h2MaxQueued bounds the control frames that wait to be written.
	h2MaxQueued = 64 << 10
)

// h2conn is one HTTP/2 connection to a server (RFC 9113), shared by many exchanges.
// One goroutine reads it. Writers take turns by the write lock.
type h2conn struct {
	*conn

	// the reader's
	in     *http2.Framer
	fields *hpack.Decoder
	block  h2block
	quiet  int

	// under the write lock, a channel so that waiting for it can end
	writing chan struct{}
	out     *http2.Framer // into wbuf
	wbuf    bytes.Buffer
	encoder *hpack.Encoder // into hbuf
	hbuf    bytes.Buffer
	scratch []byte

	lastRead atomic.Int64 // Unix nanoseconds of the last frame
	dead     chan struct{}

	// under mu, which is never held during I/O
	mu         sync.Mutex
	err        error // why it died
	streams    map[uint32]*h2stream
	active     int // reserved and open streams, as the server counts them
	opened     int // streams ever
	nextID     uint32
	maxStreams int
	sendWindow int64
	recvWindow int64
	firstSend  int64 // a new stream's send window
	maxFrame   int
	leaving    bool // takes no new streams
	queued     bytes.Buffer
	control    *http2.Framer // into queued
	flushing   bool
	usedAt     time.Time // when the last stream ended
	tick       *time.Timer
	pings      int // since the server's last HEADERS or DATA
	uploaded   int // body bytes since the server's last WINDOW_UPDATE
	pingedAt   time.Time
}

// newH2 speaks the preface on a fresh connection and waits for the server's.
func newH2(ctx context.Context, c *conn) (*h2conn, error) {
	h := &h2conn{
		conn: c, dead: make(chan struct{}), writing: make(chan struct{}, 1), streams: map[uint32]*h2stream{},
		nextID: 1, maxStreams: math.MaxInt32, sendWindow: h2FirstWindow, recvWindow: h2ConnWindow,
		firstSend: h2FirstWindow, maxFrame: h2FirstFrame,
	}
	h.in = http2.NewFramer(io.Discard, bufio.NewReaderSize(c.Conn, bufferSize))
	h.in.SetMaxReadFrameSize(h2FirstFrame)
	h.in.SetReuseFrames()
	h.out, h.control = http2.NewFramer(&h.wbuf, nil), http2.NewFramer(&h.queued, nil)
	h.encoder = hpack.NewEncoder(&h.hbuf)
	// One client's fields must not show in the size of another's: nothing is indexed.
	h.encoder.SetMaxDynamicTableSize(0)
	h.fields = hpack.NewDecoder(4<<10, h.block.emit)

	h.flushing = true // not before there is all that a flush may need
	until, _ := ctx.Deadline()
	if err := c.SetDeadline(until); err != nil {
		return nil, err
	}
	if err := h.greet(); err != nil {
		return nil, fmt.Errorf("cannot begin HTTP/2: %w", err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.usedAt = time.Now()
	h.lastRead.Store(h.usedAt.UnixNano())
	h.tick = time.AfterFunc(c.settings.IdleTimeout, h.look)
	go h.read()
	go h.flush()
	return h, nil
}

// greet exchanges the prefaces (RFC 9113, section 3.4). A server that speaks something
// else is found out here, before it has got a request.
func (c *h2conn) greet() error {
	hello := http2.NewFramer(&c.wbuf, nil)
	c.wbuf.WriteString(http2.ClientPreface)
	err := errors.Join(
		hello.WriteSettings(
			http2.Setting{ID: http2.SettingEnablePush, Val: 0},
			http2.Setting{ID: http2.SettingInitialWindowSize, Val: h2SmallWindow},
			http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: uint32(c.settings.MaxResponseHeaderSize)}), //nolint:gosec // validated.
		hello.WriteWindowUpdate(0, h2ConnWindow-h2FirstWindow))
	if err != nil {
		return err
	}
	_, err = c.Conn.Write(c.wbuf.Bytes())
	c.wbuf.Reset()
	if err != nil {
		return err
	}
	frame, err := c.in.ReadFrame()
	if err != nil {
		return fmt.Errorf("got no SETTINGS: %w", err)
	}
	settings, ok := frame.(*http2.SettingsFrame)
	if !ok || settings.IsAck() {
		return protocolf("got %s; want SETTINGS first", frame.Header().Type)
	}
	c.mu.Lock()
	err = c.apply(settings)
	c.mu.Unlock()
	if err != nil {
		return err
	}
	return c.SetDeadline(time.Time{})
}

// read takes frames until the connection ends.
func (c *h2conn) read() {
	for {
		frame, err := c.in.ReadFrame()
		if err == nil {
			c.lastRead.Store(time.Now().UnixNano())
			err = c.take(frame)
		}
		var stream http2.StreamError
		switch {
		case err == nil:
		case errors.As(err, &stream):
			c.lastRead.Store(time.Now().UnixNano())
			if err := c.breakStream(stream); err != nil {
				c.die(err)
				return
			}
		default:
			c.die(err)
			return
		}
	}
}

// take acts on one frame. An http2.StreamError concerns one stream, another error the
// connection.
func (c *h2conn) take(frame http2.Frame) error {
	if c.quiet++; c.quiet > h2MaxQuiet {
		return http2.ConnectionError(http2.ErrCodeEnhanceYourCalm)
	}
	switch f := frame.(type) {
	case *http2.DataFrame:
		return c.takeData(f)
	case *http2.HeadersFrame:
		c.block.begin(f.StreamID, f.StreamEnded(), int(c.settings.MaxResponseHeaderSize))
		return c.takeFragment(f.HeaderBlockFragment(), f.HeadersEnded())
	case *http2.ContinuationFrame:
		return c.takeFragment(f.HeaderBlockFragment(), f.HeadersEnded())
	case *http2.PushPromiseFrame:
		return http2.ConnectionError(http2.ErrCodeProtocol) // it was switched off
	case *http2.RSTStreamFrame:
		return c.takeReset(f)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch f := frame.(type) {
	case *http2.SettingsFrame:
		return c.takeSettings(f)
	case *http2.WindowUpdateFrame:
		return c.takeWindow(f)
	case *http2.GoAwayFrame:
		c.takeGoAway(f)
	case *http2.PingFrame:
		if !f.IsAck() {
			return c.queue(c.control.WritePing(true, f.Data))
		}
	}
	return nil
}

// takeFragment decodes a piece of a header block and, behind its last, hands it on.
func (c *h2conn) takeFragment(fragment []byte, last bool) error {
	if c.block.coded += len(fragment); c.block.coded > 2*c.block.limit+h2FirstFrame {
		return http2.ConnectionError(http2.ErrCodeEnhanceYourCalm)
	}
	if _, err := c.fields.Write(fragment); err != nil {
		return http2.ConnectionError(http2.ErrCodeCompression)
	}
	if !last {
		return nil
	}
	if err := c.fields.Close(); err != nil {
		return http2.ConnectionError(http2.ErrCodeCompression)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s, err := c.streamOf(c.block.id)
	if s == nil {
		return err
	}
	c.quiet, c.pings = 0, 0
	return s.takeHead(&c.block)
}

// streamOf finds the stream of a frame, nil for one that is over. One that was never
// opened breaks the connection (RFC 9113, section 5.1).
func (c *h2conn) streamOf(id uint32) (*h2stream, error) {
	if s := c.streams[id]; s != nil {
		return s, nil
	}
	if id%2 == 0 || id >= c.nextID {
		return nil, http2.ConnectionError(http2.ErrCodeProtocol)
	}
	return nil, nil //nolint:nilnil // documented.
}

func (c *h2conn) takeData(f *http2.DataFrame) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	size := int64(f.Length)
	if c.recvWindow -= size; c.recvWindow < 0 {
		return http2.ConnectionError(http2.ErrCodeFlowControl)
	}
	if c.recvWindow < h2ConnWindow/2 {
		credit := h2ConnWindow - c.recvWindow
		c.recvWindow = h2ConnWindow
		if err := c.queue(c.control.WriteWindowUpdate(0, uint32(credit))); err != nil { //nolint:gosec // at most h2ConnWindow.
			return err
		}
	}
	s, err := c.streamOf(f.StreamID)
	if s == nil {
		return err
	}
	if len(f.Data()) > 0 || f.StreamEnded() {
		c.quiet, c.pings = 0, 0
	}
	return s.takeData(f.Data(), size, f.StreamEnded())
}

// takeReset ends a stream (RFC 9113, section 5.4.2).
func (c *h2conn) takeReset(f *http2.RSTStreamFrame) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, err := c.streamOf(f.StreamID)
	if s == nil {
		return err
	}
	s.wasReset = true
	if s.remoteEnded {
		// The answer is whole: the server wants no more of the request (section 8.1).
		s.stopUpload()
		s.release()
		return nil
	}
	refused := f.ErrCode == http2.ErrCodeRefusedStream // section 8.7: nothing was done
	s.fail(fmt.Errorf("the server reset the stream: %s", f.ErrCode), refused)
	return nil
}

// breakStream ends a stream on which the server broke the protocol.
func (c *h2conn) breakStream(broken http2.StreamError) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, err := c.streamOf(broken.StreamID)
	if s == nil {
		return err
	}
	var reason protocolError
	if !errors.As(broken.Cause, &reason) {
		reason = protocolError(broken.Error())
	}
	s.fail(reason, false)
	return s.reset(broken.Code)
}

func (c *h2conn) takeSettings(f *http2.SettingsFrame) error {
	if f.IsAck() {
		return nil
	}
	return c.apply(f)
}

// apply takes over the server's settings and acknowledges them (RFC 9113, section
// 6.5).
func (c *h2conn) apply(f *http2.SettingsFrame) error {
	err := f.ForeachSetting(func(s http2.Setting) error {
		if err := s.Valid(); err != nil {
			return err
		}
		switch s.ID {
		case http2.SettingMaxConcurrentStreams:
			c.maxStreams = int(min(s.Val, math.MaxInt32))
		case http2.SettingMaxFrameSize:
			c.maxFrame = int(s.Val)
		case http2.SettingInitialWindowSize:
			return c.resizeWindows(int64(s.Val))
		default: // of a push, or of tables and lists that are smaller than any limit.
		}
		return nil
	})
	if err != nil {
		return err
	}
	return c.queue(c.control.WriteSettingsAck())
}

func (c *h2conn) resizeWindows(first int64) error {
	grown := first - c.firstSend
	c.firstSend = first
	for _, s := range c.streams {
		if s.sendWindow += grown; s.sendWindow > h2MaxWindow {
			return http2.ConnectionError(http2.ErrCodeFlowControl)
		}
		signal(s.room)
	}
	return nil
}

func (c *h2conn) takeWindow(f *http2.WindowUpdateFrame) error {
	if c.uploaded > 0 {
		c.uploaded, c.quiet = 0, 0
	}
	if f.StreamID == 0 {
		if c.sendWindow += int64(f.Increment); c.sendWindow > h2MaxWindow {
			return http2.ConnectionError(http2.ErrCodeFlowControl)
		}
		for _, s := range c.streams {
			if s.starved {
				signal(s.room)
			}
		}
		return nil
	}
	s, err := c.streamOf(f.StreamID)
	if s == nil {
		return err
	}
	if s.sendWindow += int64(f.Increment); s.sendWindow > h2MaxWindow {
		return http2.StreamError{StreamID: f.StreamID, Code: http2.ErrCodeFlowControl}
	}
	signal(s.room)
	return nil
}

// takeGoAway ends the streams that the server has not taken and will not (RFC 9113,
// section 6.8). The others run on.
func (c *h2conn) takeGoAway(f *http2.GoAwayFrame) {
	c.leaving = true
	for id, s := range c.streams {
		if id > f.LastStreamID {
			s.fail(fmt.Errorf("the server goes away: %s %.64q", f.ErrCode, f.DebugData()), true)
		}
	}
	c.endIfUnused()
}

// signal wakes whoever waits on a channel of capacity 1.
func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
