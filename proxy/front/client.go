package front

import (
	"fmt"
	"io"
	"net"
	"sync"

	"drover/exchange"

	"github.com/valyala/fasthttp"
)

// outSize is how many bytes of an answer gather before they are sent.
const outSize = 16 << 10

// client is the front's part of one exchange. It implements exchange.Client and is
// reused.
type client struct {
	// immutable
	front   *Front
	trailer func() exchange.Header // body.fieldsAfter, made once

	// set for each exchange
	c    *conn
	ctx  *fasthttp.RequestCtx // nil when fasthttp read no request
	tun  net.Conn             // fasthttp's hijacked connection, nil without an upgrade
	exch exchange.Exchange
	req  request
	body body

	// under inviting, which orders a 100 and the answer for a client that expects one
	inviting sync.Mutex
	invited  bool // it got a 100
	answered bool

	// the handler's goroutine
	out     []byte // what waits to be sent
	resp    *exchange.Response
	framing framing
	left    int64 // body bytes to come, of a counted body
	started bool
	flushed bool // bytes of the answer went out
	tunnel  bool // Hijack gave the connection away
	closing bool // the connection ends with this exchange
	err     error
}

func newClient(f *Front) *client {
	cl := &client{front: f, out: make([]byte, 0, outSize)}
	cl.trailer = cl.body.fieldsAfter
	cl.body.forget() // there is none yet.
	return cl
}

func (f *Front) acquire() *client {
	return f.pool.Get().(*client) //nolint:forcetypeassert,errcheck // the pool holds nothing else.
}

// release ends an exchange. Nothing of it may be used any more.
func (f *Front) release(cl *client) {
	if cl.exch.Done != nil {
		cl.exch.Done()
	}
	cl.body.forget()
	clear(cl.req.fields)
	if cap(cl.out) > 4*outSize || cl.out == nil {
		cl.out = make([]byte, 0, outSize)
	}
	cl.c, cl.ctx, cl.tun, cl.resp, cl.err = nil, nil, nil, nil, nil
	cl.exch = exchange.Exchange{}
	cl.req = request{fields: cl.req.fields[:0], scratch: cl.req.scratch[:0]}
	cl.out, cl.framing, cl.left = cl.out[:0], framingNone, 0
	cl.started, cl.flushed, cl.tunnel, cl.closing = false, false, false, false
	cl.invited, cl.answered = false, false
	f.pool.Put(cl)
}

// begin fills the exchange from a request that fasthttp has read, or says how to
// refuse it.
func (cl *client) begin(c *conn, ctx *fasthttp.RequestCtx) refusal {
	cl.c, cl.ctx = c, ctx
	s := cl.front.settings.Load()
	no := cl.req.read(&ctx.Request.Header, s)
	if no == accepted && c.line.bare {
		no = badRequest
	}
	if no == accepted && c.misdirects(cl.req.host) {
		no = misdirected
	}
	c.address(&cl.exch)
	if no != accepted {
		h := &ctx.Request.Header
		cl.exch.Request = exchange.Request{
			Method: h.Method(), Target: h.RequestURI(), Host: cl.req.host, ProtoMinor: cl.req.minor, Header: cl.req.fields,
		}
		if no == badVersion {
			cl.exch.Request.ProtoMinor = -1
		}
		return no
	}
	cl.exch.Request = exchange.Request{
		Method:        ctx.Request.Header.Method(),
		Target:        cl.req.target,
		Host:          cl.req.host,
		ProtoMinor:    cl.req.minor,
		Header:        cl.req.fields,
		ContentLength: cl.req.length,
		Upgrade:       cl.req.switches(),
	}
	cl.exch.Client = cl
	return accepted
}

// takeBody attaches the body.
func (cl *client) takeBody() error {
	cl.body.start(cl, cl.front.settings.Load())
	if cl.req.length == exchange.NoBody {
		return nil
	}
	if err := cl.body.prefetch(); err != nil {
		return err
	}
	cl.exch.Request.Body = &cl.body
	cl.exch.Request.Buffered = cl.body.buffered
	cl.exch.Request.Trailer = cl.trailer
	return nil
}

// answer sends drover's own answer; the connection ends with it.
func (cl *client) answer(status int, reason exchange.Reason) {
	cl.closing = true
	r, body := exchange.Answer(status, reason, cl.req.fields.Get("Accept"))
	cl.exch.Result.Sent = 0
	if exchange.BodyAllowed(cl.exch.Request.Method, status) {
		cl.exch.Result.Sent = int64(len(body))
	}
	cl.front.reject(cl.c, &cl.exch, reason, status)
	if cl.Start(r) == nil {
		_, _ = cl.Write(body) // the flush tells.
	}
	_ = cl.Flush() // the connection closes in any case.
}

// Inform implements exchange.Client.
func (cl *client) Inform(r *exchange.Response) error {
	switch {
	case cl.started:
		return exchange.ErrStarted
	case r.Status < 100 || r.Status > 199 || r.Status == 101:
		return fmt.Errorf("cannot send status %d as an interim response; want 1xx, not 101", r.Status)
	case cl.req.minor == 0, r.Status == 100 && cl.req.expects:
		return nil // a client that waits for a 100 gets the front's own, see invite.
	}
	if cl.req.expects {
		cl.inviting.Lock()
		defer cl.inviting.Unlock()
	}
	cl.out = appendInterim(cl.out, r)
	return cl.Flush()
}

// invite asks a client for the body that waits for a 100 to send it (RFC 9110, section
// 10.1.1): when somebody wants to read the body, which may be another goroutine than the
// handler's. It is too late once there is an answer.
func (cl *client) invite() {
	cl.inviting.Lock()
	defer cl.inviting.Unlock()
	if !cl.answered {
		cl.invited = true
		_, _ = cl.c.stream.Write([]byte("HTTP/1.1 100 Continue\r\n\r\n")) // the next read fails too.
	}
}

// uninvited reports whether the client may or may not send the body, now that it gets an
// answer without having been asked for it.
func (cl *client) uninvited() bool {
	if !cl.req.expects {
		return false
	}
	cl.inviting.Lock()
	defer cl.inviting.Unlock()
	cl.answered = true
	return !cl.invited && cl.body.left() != 0
}

// Start implements exchange.Client. The head of a body of known length waits for its
// first bytes, so that both go out at once. One of unknown length may be an event
// stream, whose head must not wait for the first event.
func (cl *client) Start(r *exchange.Response) error {
	if err := exchange.CheckStart(r, cl.started, cl.tun != nil, cl.err); err != nil {
		return err
	}
	cl.started, cl.resp = true, r
	cl.framing = cl.frame(r)
	if cl.uninvited() || r.Status != 101 && cl.mustClose() {
		cl.closing = true
	}
	cl.out = cl.appendHead(cl.out, r)
	if cl.framing == framingChunked || cl.framing == framingEnd {
		return cl.Flush()
	}
	return nil
}

// mustClose decides whether the connection ends with this answer.
func (cl *client) mustClose() bool {
	return cl.closing || cl.body.hopeless() || cl.resp.CloseClient || cl.framing == framingEnd || cl.tun != nil ||
		cl.front.draining() || cl.c.wire.wasAborted() ||
		cl.ctx == nil || cl.ctx.Request.Header.ConnectionClose()
}

// Write implements exchange.Client.
func (cl *client) Write(p []byte) (int, error) {
	switch {
	case cl.err != nil:
		return 0, cl.err
	case !cl.started:
		return 0, exchange.ErrNoStart
	case len(p) == 0:
		return 0, nil
	}
	switch cl.framing {
	case framingNone:
		return len(p), nil // as for HEAD: the handler need not care.
	case framingLength:
		if int64(len(p)) > cl.left {
			cl.err = exchange.ErrTooLong
			return 0, cl.err
		}
		cl.left -= int64(len(p))
		cl.send(p)
	case framingChunked:
		cl.out = appendChunkSize(cl.out, len(p))
		cl.send(p)
		cl.out = append(cl.out, "\r\n"...)
	case framingEnd:
		cl.send(p)
	}
	if cl.err != nil {
		return 0, cl.err
	}
	return len(p), nil
}

// send sends p after what waits, or lets it wait too. It keeps its error in err.
func (cl *client) send(p []byte) {
	if len(cl.out)+len(p) <= outSize {
		cl.out = append(cl.out, p...)
		return
	}
	cl.flushed = true
	if !cl.c.secure {
		cl.err = cl.c.wire.writeTwo(cl.out, p)
		cl.out = cl.out[:0]
		return
	}
	// TLS copies what it encrypts in any case: fill one record after the other.
	n := max(0, outSize-len(cl.out))
	cl.out = append(cl.out, p[:n]...)
	if cl.Flush() == nil {
		_, cl.err = cl.c.stream.Write(p[n:])
	}
}

// Flush implements exchange.Client.
func (cl *client) Flush() error {
	if cl.err != nil || len(cl.out) == 0 {
		return cl.err
	}
	cl.flushed = cl.flushed || cl.started
	_, err := cl.c.stream.Write(cl.out)
	cl.out = cl.out[:0]
	if err != nil {
		cl.err = err
	}
	return err
}

// Gone implements exchange.Client.
func (cl *client) Gone() bool { return cl.c.wire.gone() }

// Broke implements exchange.Breaker.
func (cl *client) Broke() exchange.Reason { return cl.c.broke() }

// AbortBody implements exchange.Client. With the body complete there is nothing to
// abort, and the connection can stay.
func (cl *client) AbortBody() {
	if !cl.body.ended.Load() {
		cl.c.wire.abort()
	}
}

// Hijack implements exchange.Client.
func (cl *client) Hijack() (net.Conn, error) {
	if cl.tun == nil || !cl.started || cl.resp.Status != 101 {
		return nil, exchange.ErrNoUpgrade
	}
	if err := cl.Flush(); err != nil {
		return nil, err
	}
	cl.tunnel = true
	cl.c.tunnelled.Store(true)
	cl.out = nil // a tunnel may be long, and does not need it.
	return &tunnelConn{Conn: cl.c.stream, in: cl.tun, wire: cl.c.wire}, nil
}

// finish ends the response after the handler.
func (cl *client) finish() {
	switch {
	case cl.tunnel:
		cl.closing = true
		return
	case !cl.started && !cl.exch.Result.Aborted && cl.err == nil:
		// A handler must answer: the client must not wait for one that forgot.
		cl.front.opts.Logger.Error("a request was not answered, which is a bug", logRequest(cl)...)
		cl.answer(500, exchange.ReasonPanic)
	case cl.err == nil && !cl.exch.Result.Aborted:
		cl.end()
	}
	_ = cl.Flush() // its error is kept in err.
	if cl.err != nil || cl.exch.Result.Aborted {
		cl.cutOff()
	}
}

// end completes the body.
func (cl *client) end() {
	switch {
	case cl.framing == framingLength && cl.left > 0:
		cl.err = io.ErrUnexpectedEOF
	case cl.framing == framingChunked:
		var trailer exchange.Header
		if cl.resp.Trailer != nil {
			trailer = cl.resp.Trailer()
		}
		cl.out = appendLastChunk(cl.out, trailer)
	}
}

// cutOff makes the connection end in a way that shows the answer to be incomplete.
func (cl *client) cutOff() {
	if len(cl.out) > 0 {
		_, _ = cl.c.stream.Write(cl.out) // a cut answer may be short of a byte more.
		cl.out = cl.out[:0]
	}
	cl.closing = true
	cl.c.cut = cutClose
	if cl.framing == framingEnd {
		cl.c.cut = cutReset
	}
}

// unsend takes back an answer of which nothing went out.
func (cl *client) unsend() bool {
	if cl.flushed || cl.tunnel || cl.err != nil {
		return false
	}
	cl.out, cl.started, cl.framing = cl.out[:0], false, framingNone
	return true
}
