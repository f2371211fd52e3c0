package h2

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

const (
	initialWindow = 65535 // RFC 9113, section 6.9.2
	minFrame      = 16384 // RFC 9113, section 6.5.2; what we take too
	maxWindow     = 1<<31 - 1
	streamWindow  = 128 << 10 // of request body that a stream may have unread
	connWindow    = 1 << 20   // that all streams of a connection may have unread

	// livenessAfter is how long a client with open streams may be silent before it is
	// asked for a sign of life, and then how long it has to give one.
	livenessAfter = 30 * time.Second
	// drainGrace is how long a client that was told to leave may still open streams: it
	// may not have heard.
	drainGrace = 500 * time.Millisecond
	// lastWords bounds the writing of a connection's last frames.
	lastWords = time.Second
)

type readState int32

const (
	statePreface  readState = iota // bounded like a head
	stateFrame                     // a frame or a header block is incomplete, and bounded like a head
	stateData                      // a DATA frame is incomplete that a stream takes
	stateBoundary                  // between two frames
	stateClosing                   // nothing more is wanted
)

// Conn is one client's HTTP/2 connection.
//
// It has more than 15 fields, since a connection's state is one thing; they are
// grouped by who may touch them.
type Conn struct {
	// immutable
	nc      net.Conn
	opts    Options
	started time.Time

	// the reader's goroutine
	br      *bufio.Reader
	framer  *http2.Framer
	dec     *hpack.Decoder
	block   block
	scratch []byte // what is read of DATA
	heading bool   // the head of a new request is incomplete
	pinged  bool   // asked for a sign of life
	greet   bool   // the first SETTINGS came
	calm    calm

	// atomic
	state   atomic.Int32 // readState
	since   atomic.Int64 // when state began, in Unix nanoseconds
	tunnels atomic.Int64
	active  atomic.Int64 // streams that are open or still have a handler
	idle    atomic.Int64 // when active became 0, in Unix nanoseconds
	broken  atomic.Pointer[error]

	// under mu, which is taken behind wmu and before qmu, and never held during I/O
	mu           sync.Mutex
	streams      map[uint32]*stream
	handlers     int
	sendWindow   int64
	peerInitial  int64
	peerMaxFrame int64
	recvWindow   int64 // what the client may still send
	unreported   int64 // what was read since the last WINDOW_UPDATE
	stalled      int   // streams that wait for room in the client's windows
	stallTimer   *time.Timer
	sentAt       time.Time // when such room was last used
	feeding      *stream   // takes the DATA frame that is being read
	lastID       uint32    // the highest stream that the client has opened; set by the reader
	closing      bool      // no new streams
	shutTimer    *time.Timer
	recent       recent // streams that we have reset

	writer
	running sync.WaitGroup // handlers
}

func (c *Conn) initReader() {
	c.br = bufio.NewReaderSize(c.nc, 4<<10)
	c.framer = http2.NewFramer(nil, c.br)
	c.framer.SetMaxReadFrameSize(minFrame)
	c.framer.SetReuseFrames()
	c.dec = hpack.NewDecoder(4096, nil)
	c.idle.Store(c.started.UnixNano())
}

// Serve reads until the connection ends, and returns when all its exchanges have. It
// leaves the closing to its caller.
func (c *Conn) Serve() error {
	err := c.read()
	if isTimeout(err) && c.heading && readState(c.state.Load()) != stateClosing {
		c.lateHead()
	}
	err = c.end(err)
	c.running.Wait()
	c.say(err)
	if errors.Is(err, errLeft) {
		return nil
	}
	return err
}

// errLeft ends a connection that has nothing more to do.
var errLeft = errors.New("the connection is at its end")

func (c *Conn) read() error {
	if err := c.readPreface(); err != nil {
		return err
	}
	c.greetings()
	for {
		if err := c.boundary(); err != nil {
			return err
		}
		err := c.next()
		if err == nil {
			err = c.flood()
		}
		var wrong http2.StreamError
		switch {
		case err == nil:
		case errors.As(err, &wrong):
			if err := c.streamWrong(wrong); err != nil {
				return err
			}
		case errors.Is(err, http2.ErrFrameTooLarge):
			return http2.ConnectionError(http2.ErrCodeFrameSize)
		default:
			return err
		}
	}
}

func (c *Conn) readPreface() error {
	var got [len(Preface)]byte
	if _, err := io.ReadFull(c.br, got[:]); err != nil {
		return err
	}
	if string(got[:]) != Preface {
		return http2.ConnectionError(http2.ErrCodeProtocol)
	}
	return nil
}

// boundary waits for the next frame's first byte.
func (c *Conn) boundary() error {
	if c.block.id == 0 && c.greet {
		c.enter(stateBoundary)
	}
	for {
		_, err := c.br.Peek(1)
		if err == nil {
			break
		}
		if !isTimeout(err) || readState(c.state.Load()) != stateBoundary {
			return err
		}
		if err := c.silent(); err != nil {
			return err
		}
	}
	c.pinged = false
	if c.block.id == 0 && c.greet {
		c.enter(stateFrame)
	}
	return nil
}

// silent decides what a client's silence means.
func (c *Conn) silent() error {
	now := time.Now()
	switch {
	case c.active.Load() == 0 && !now.Before(c.idleUntil()):
		return errLeft
	case c.active.Load() == 0:
		return nil // it became idle a moment ago.
	case c.pinged:
		return os.ErrDeadlineExceeded
	}
	c.pinged = true
	c.control(func(dst []byte) []byte { return appendFrame(dst, http2.FramePing, 0, 0, []byte("drover?!")) })
	return nil
}

func (c *Conn) idleUntil() time.Time {
	return time.Unix(0, c.idle.Load()).Add(c.opts.Limits().KeepAlive)
}

// enter begins a state of the reader. A connection that closes stays so.
func (c *Conn) enter(s readState) {
	for {
		old := c.state.Load()
		if readState(old) == stateClosing {
			return
		}
		if c.state.CompareAndSwap(old, int32(s)) {
			break
		}
	}
	if s != stateBoundary {
		c.since.Store(time.Now().UnixNano())
	}
}

// ReadLimit is when a read that began at the given time must have given something. It
// takes no lock.
func (c *Conn) ReadLimit(began time.Time) time.Time {
	limits := c.opts.Limits()
	since := time.Unix(0, c.since.Load())
	switch readState(c.state.Load()) {
	case statePreface, stateFrame:
		return since.Add(limits.HeaderTimeout)
	case stateData:
		return began.Add(limits.BodyIdle + lastWords) // the stream's own limit comes first, and has an answer.
	case stateBoundary:
		if c.active.Load() == 0 {
			return c.idleUntil()
		}
		return began.Add(livenessAfter)
	case stateClosing:
	}
	return time.Unix(1, 0)
}

// leave makes the reader stop.
func (c *Conn) leave() {
	c.state.Store(int32(stateClosing))
	c.opts.Hasten()
}

// Shutdown has the client go elsewhere: running streams finish, and for a moment also
// those that it opens before it has heard.
func (c *Conn) Shutdown() {
	c.control(func(dst []byte) []byte { return appendGoAway(dst, maxWindow, http2.ErrCodeNo) })
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.shutTimer == nil && !c.isBroken() {
		c.shutTimer = time.AfterFunc(drainGrace, c.shut)
	}
}

// HasTunnels reports whether a stream is a tunnel.
func (c *Conn) HasTunnels() bool { return c.tunnels.Load() > 0 }

// shut takes no further streams.
func (c *Conn) shut() {
	c.mu.Lock()
	last := c.lastID
	c.closing = true
	empty := len(c.streams) == 0 && c.handlers == 0
	c.mu.Unlock()
	c.control(func(dst []byte) []byte { return appendGoAway(dst, last, http2.ErrCodeNo) })
	if empty {
		c.leave()
	}
}

// end breaks every stream when the connection has ended. It gives the reason, which may
// be an earlier one than err.
func (c *Conn) end(err error) error {
	c.closeQueue()
	_ = c.nc.SetWriteDeadline(time.Now().Add(lastWords)) // if it fails, so does every write.
	c.broken.CompareAndSwap(nil, &err)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closing = true
	for _, timer := range []*time.Timer{c.stallTimer, c.shutTimer} {
		if timer != nil {
			timer.Stop()
		}
	}
	for _, s := range c.streams {
		s.breakOff(io.ErrUnexpectedEOF)
	}
	clear(c.streams)
	return *c.broken.Load()
}

// fail ends the connection. It takes no lock, for its callers may hold any of them:
// frames are queued under mu.
func (c *Conn) fail(err error) {
	c.broken.CompareAndSwap(nil, &err)
	c.leave()
}

// isBroken reports whether the connection ends for a reason that is not drover's wish.
func (c *Conn) isBroken() bool { return c.broken.Load() != nil }

// say writes the last frame: why the connection ends.
func (c *Conn) say(err error) {
	code := http2.ErrCodeNo
	var wrong http2.ConnectionError
	switch {
	case errors.As(err, &wrong):
		code = http2.ErrCode(wrong)
	case errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed), errors.Is(err, io.ErrUnexpectedEOF):
		return // nobody is there to hear it.
	}
	c.mu.Lock()
	last := c.lastID
	c.mu.Unlock()
	c.lock()
	c.out = appendGoAway(c.out, last, code)
	_ = c.unlock() // they were the last words.
}

func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }
