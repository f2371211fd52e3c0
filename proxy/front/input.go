package front

import (
	"bytes"
	"errors"
	"fmt"
	"sync"

	"drover/exchange"
)

// input is what a connection has sent and nobody has taken yet. fasthttp gets the bytes
// of heads from it and no more, so that bodies are read here, and the next request
// begins where this one ends.
type input struct {
	unread []byte  // of memory, or of the connection's first byte
	memory *[]byte // nil for none: an idle connection has none
	heads  headEnd
}

// inputSize is the least room that reading ahead has.
const inputSize = 4 << 10

var inputs = sync.Pool{New: func() any { b := make([]byte, inputSize); return &b }}

// keep stores what was read ahead. Nothing may be unread.
func (in *input) keep(p []byte) {
	if len(p) == 0 {
		return
	}
	in.room(len(p))
	in.unread = (*in.memory)[:copy(*in.memory, p)]
}

// room provides memory for n bytes, and moves what is unread to its beginning.
func (in *input) room(n int) {
	if in.memory == nil {
		in.memory = inputs.Get().(*[]byte) //nolint:forcetypeassert,errcheck // the pool holds nothing else.
	}
	memory := *in.memory
	if len(memory) < n {
		memory = make([]byte, max(n, 2*len(memory)))
	}
	in.unread = memory[:copy(memory, in.unread)]
	*in.memory = memory
}

// skip takes bytes away. Memory with nothing in it goes back.
func (in *input) skip(n int) {
	in.unread = in.unread[n:]
	if len(in.unread) > 0 {
		return
	}
	in.unread = nil
	if in.memory != nil {
		if len(*in.memory) <= 16*inputSize {
			inputs.Put(in.memory)
		}
		in.memory = nil
	}
}

// receive reads from the stream: first its bytes, then how it ended.
func (c *conn) receive(p []byte) (int, error) {
	if err := c.pending; err != nil {
		c.pending, c.readErr = nil, err
		return 0, err
	}
	n, err := c.stream.Read(p)
	if n > 0 {
		// What they complete is complete, whatever follows.
		c.pending, err = err, nil
	}
	if err != nil {
		c.readErr = err
	}
	return n, err
}

// take reads what is unread, or else from the stream.
func (c *conn) take(p []byte) (int, error) {
	if len(c.in.unread) == 0 {
		return c.receive(p)
	}
	n := copy(p, c.in.unread)
	c.in.skip(n)
	return n, nil
}

// more reads on behind what is unread.
func (c *conn) more() error {
	had := len(c.in.unread)
	c.in.room(had + inputSize/2)
	n, err := c.receive((*c.in.memory)[had:])
	c.in.unread = (*c.in.memory)[:had+n]
	if had+n == 0 {
		c.in.skip(0)
	}
	return err
}

// nextLine gives the next line without its CRLF, to be skipped by the caller together with
// it.
func (c *conn) nextLine(limit int) ([]byte, error) {
	for searched := 0; ; {
		unread := c.in.unread
		if i := bytes.IndexByte(unread[searched:], '\n'); i >= 0 {
			end := searched + i
			if end == 0 || unread[end-1] != '\r' {
				return nil, fmt.Errorf("%w: a line ends in a bare LF", exchange.ErrBodyMalformed)
			}
			if end-1 > limit {
				break
			}
			return unread[:end-1], nil
		}
		if searched = len(unread); searched-1 > limit {
			break
		}
		if err := c.more(); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("%w: a line of more than %d bytes", exchange.ErrBodyMalformed, limit)
}

// skipLine takes a line away that nextLine has given.
func (c *conn) skipLine(line []byte) { c.in.skip(len(line) + len("\r\n")) }

// headEnd finds where heads end: behind an empty line. It takes one before a request for
// an end too, behind which fasthttp reads on.
type headEnd struct {
	used int // bytes of the line that has not ended
	cr   bool
	text bool // a line that is not empty has ended
	bare bool // and then a line feed alone
}

// errBareEnd is for a head that ends in a line feed alone, behind which fasthttp would
// wait for more.
var errBareEnd = errors.New("a head ends in a bare LF")

// cut gives how many bytes of p are up to and including the end of a head, or all.
func (h *headEnd) cut(p []byte) int {
	for off := 0; ; {
		i := bytes.IndexByte(p[off:], '\n')
		if i < 0 {
			h.used += len(p) - off
			h.cr = len(p) > 0 && p[len(p)-1] == '\r'
			return len(p)
		}
		length, cr := h.used+i, h.cr
		if i > 0 {
			cr = p[off+i-1] == '\r'
		}
		h.used = 0
		if off += i + 1; length == 0 || length == 1 && cr {
			h.bare = length == 0 && h.text
			return off
		}
		h.text = true
	}
}
