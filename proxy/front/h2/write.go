package h2

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"

	"drover/exchange"
	"drover/proxy/front/pseudo"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

const (
	// outSize is how many bytes gather before they are written whoever else has more.
	outSize = 64 << 10
	// maxControl bounds the answers that wait for a client which does not read: to
	// pings, settings and broken streams.
	maxControl = 16 << 10
	// maxNames bounds the lower-case names that a connection remembers.
	maxNames  = 128
	frameHead = 9

	nameHSTS   = "strict-transport-security"
	nameAltSvc = "alt-svc"
)

var errNotReading = errors.New("the client makes work and does not read the answers")

// writer is the sending half of a connection. Handlers write their own frames: the
// last of those that wait flushes for all. The reader must never wait for the client
// to read, so its frames go by a queue.
type writer struct {
	waiting atomic.Int32

	// under wmu, held during writes
	wmu    sync.Mutex
	out    []byte
	enc    *hpack.Encoder
	fields bytes.Buffer
	names  map[string]string // lower-case names, by their spelling
	werr   error

	// under qmu, never held during writes
	qmu      sync.Mutex
	queue    []byte
	flushing bool
	mute     bool // nothing more is taken

	tableSize atomic.Int64 // the client's SETTINGS_HEADER_TABLE_SIZE plus one, 0 for no change
}

func (c *Conn) initWriter() {
	c.enc = hpack.NewEncoder(&c.fields)
	c.names = map[string]string{}
}

// lock begins to write frames to out.
func (c *Conn) lock() {
	c.waiting.Add(1)
	c.wmu.Lock()
	c.waiting.Add(-1)
	c.qmu.Lock()
	c.out = append(c.out, c.queue...)
	c.queue = c.queue[:0]
	c.qmu.Unlock()
	if size := c.tableSize.Swap(0); size > 0 {
		c.enc.SetMaxDynamicTableSize(uint32(size - 1)) //nolint:gosec // it was 32 bits.
	}
}

// unlock ends the writing of frames, and sends them unless somebody is about to.
func (c *Conn) unlock() error {
	if c.werr == nil && len(c.out) > 0 && (c.waiting.Load() == 0 || len(c.out) >= outSize) {
		_, c.werr = c.nc.Write(c.out)
		c.out = c.out[:0]
		if cap(c.out) > 2*outSize {
			c.out = nil
		}
	}
	if c.werr != nil {
		c.out = c.out[:0]
	}
	err := c.werr
	c.wmu.Unlock()
	if err != nil {
		c.fail(err)
	}
	return err
}

// control queues a frame that is not part of an answer. Any goroutine may call it; it
// never waits for the client.
func (c *Conn) control(add func(dst []byte) []byte) {
	c.qmu.Lock()
	if c.mute {
		c.qmu.Unlock()
		return
	}
	c.queue = add(c.queue)
	full := len(c.queue) > maxControl
	start := !c.flushing
	c.flushing = true
	if start {
		c.running.Add(1)
	}
	c.qmu.Unlock()
	if full {
		c.fail(errNotReading)
	}
	if start {
		go c.flushControl()
	}
}

// flushControl writes the queue until it is empty.
func (c *Conn) flushControl() {
	defer c.running.Done()
	for {
		c.lock()
		_ = c.unlock() // fail has been told.
		c.qmu.Lock()
		if len(c.queue) == 0 || c.mute {
			c.flushing = false
			c.qmu.Unlock()
			return
		}
		c.qmu.Unlock()
	}
}

// closeQueue takes no more frames.
func (c *Conn) closeQueue() {
	c.qmu.Lock()
	c.mute = true
	c.qmu.Unlock()
}

func appendFrame(dst []byte, kind http2.FrameType, flags http2.Flags, stream uint32, payload []byte) []byte {
	return append(appendFrameHead(dst, len(payload), kind, flags, stream), payload...)
}

func appendFrameHead(dst []byte, n int, kind http2.FrameType, flags http2.Flags, stream uint32) []byte {
	dst = append(dst, byte(n>>16), byte(n>>8), byte(n), byte(kind), byte(flags))
	return binary.BigEndian.AppendUint32(dst, stream)
}

func appendReset(dst []byte, stream uint32, code http2.ErrCode) []byte {
	dst = appendFrameHead(dst, 4, http2.FrameRSTStream, 0, stream)
	return binary.BigEndian.AppendUint32(dst, uint32(code))
}

func appendWindow(dst []byte, stream uint32, n int64) []byte {
	dst = appendFrameHead(dst, 4, http2.FrameWindowUpdate, 0, stream)
	return binary.BigEndian.AppendUint32(dst, uint32(n)) //nolint:gosec // windows have 31 bits.
}

func appendGoAway(dst []byte, last uint32, code http2.ErrCode) []byte {
	dst = appendFrameHead(dst, 8, http2.FrameGoAway, 0, 0)
	dst = binary.BigEndian.AppendUint32(dst, last)
	return binary.BigEndian.AppendUint32(dst, uint32(code))
}

// greetings sends our SETTINGS, and makes the connection's window larger.
func (c *Conn) greetings() {
	limits := c.opts.Limits()
	c.control(func(dst []byte) []byte {
		settings := []http2.Setting{
			{ID: http2.SettingMaxConcurrentStreams, Val: uint32(limits.MaxStreams)}, //nolint:gosec // validated.
			{ID: http2.SettingInitialWindowSize, Val: streamWindow},
			{ID: http2.SettingMaxHeaderListSize, Val: uint32(limits.MaxHeader)}, //nolint:gosec // validated.
			{ID: http2.SettingEnableConnectProtocol, Val: 1},                    // RFC 8441
		}
		dst = appendFrameHead(dst, 6*len(settings), http2.FrameSettings, 0, 0)
		for _, s := range settings {
			dst = binary.BigEndian.AppendUint16(dst, uint16(s.ID))
			dst = binary.BigEndian.AppendUint32(dst, s.Val)
		}
		return appendWindow(dst, 0, connWindow-initialWindow)
	})
}

// appendHead writes the frames of a header block to out, of trailers where there is no
// status. The caller holds wmu.
func (c *Conn) appendHead(id uint32, status int, header exchange.Header, length int64, end bool) {
	c.fields.Reset()
	if status > 0 {
		c.encode(":status", strconv.Itoa(status), false)
	}
	sure := c.opts.HSTS == nil || status < 200 // the field is there, or not ours to add
	var altSvc []byte
	if status >= 200 && c.opts.AltSvc != nil {
		altSvc = c.opts.AltSvc()
	}
	for i := range header {
		name, value := c.lower(header[i].Name), header[i].Value
		if c.opts.HSTS != nil && name == nameHSTS {
			if sure {
				continue // exactly one (RFC 6797, section 7.1)
			}
			sure = true
		}
		if name == nameAltSvc {
			altSvc = nil // the server knows of a better one.
		}
		if status == 0 && exchange.HeadOnly(header[i].Name) {
			continue
		}
		switch pseudo.KindOf(name) {
		case pseudo.FieldOurs, pseudo.FieldBad:
			continue
		case pseudo.FieldSecret:
			c.encode(name, pseudo.Clean(value), true)
		case pseudo.FieldPlain:
			c.encode(name, pseudo.Clean(value), false)
		}
	}
	if !sure {
		c.encode(nameHSTS, string(c.opts.HSTS), false)
	}
	if altSvc != nil {
		c.encode(nameAltSvc, string(altSvc), false)
	}
	if length >= 0 {
		c.encode("content-length", strconv.FormatInt(length, 10), false)
	}
	c.mu.Lock()
	most := int(c.peerMaxFrame)
	c.mu.Unlock()
	kind, flags := http2.FrameHeaders, http2.Flags(0)
	if end {
		flags = http2.FlagHeadersEndStream
	}
	for block := c.fields.Bytes(); ; {
		part := block[:min(len(block), most)]
		if block = block[len(part):]; len(block) == 0 {
			flags |= http2.FlagHeadersEndHeaders
		}
		c.out = appendFrame(c.out, kind, flags, id, part)
		if len(block) == 0 {
			return
		}
		kind, flags = http2.FrameContinuation, 0
	}
}

func (c *Conn) encode(name, value string, secret bool) {
	_ = c.enc.WriteField(hpack.HeaderField{Name: name, Value: value, Sensitive: secret}) // to memory
}

// lower gives a name in lower case, which HTTP/2 demands (RFC 9113, section 8.2).
func (c *Conn) lower(name []byte) string {
	if known, ok := c.names[string(name)]; ok {
		return known
	}
	lowered := string(bytes.ToLower(name))
	if len(c.names) < maxNames && len(name) < 64 {
		c.names[string(name)] = lowered
	}
	return lowered
}
