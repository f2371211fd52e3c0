package front

import (
	"errors"
	"io"
	"math"
	"net"
	"runtime/debug"
	"time"

	"drover/exchange"

	"github.com/valyala/fasthttp"
	"go.uber.org/zap"
)

// newServer makes the fasthttp server that reads requests. Its own accept loop,
// time-outs, limits and writer are not used; see Front.accept, conn and client.
func newServer(f *Front, headSize int) *fasthttp.Server {
	return &fasthttp.Server{
		Handler:        f.serve,
		ErrorHandler:   f.unreadable,
		HeaderReceived: f.headRead,
		Logger:         quiet{},

		Concurrency:     math.MaxInt32, // admit bounds connections.
		ReadBufferSize:  headSize,
		WriteBufferSize: 512, // for answers that nobody gets to see.
		ReadTimeout:     markHead,
		IdleTimeout:     markIdle,

		StreamRequestBody: true, // or fasthttp would look for a body that it must not find.

		NoDefaultServerHeader: true,
		NoDefaultDate:         true, // its clock is a goroutine that never ends.
		NoDefaultContentType:  true,
		SecureErrorLogMessage: true, // else errors quote cookies.
	}
}

// quiet drops fasthttp's log: what is worth one is logged here.
type quiet struct{}

// Printf implements fasthttp.Logger.
func (quiet) Printf(string, ...any) {}

// headRead is called when fasthttp has read a head. Bodies are not fasthttp's: it takes
// one that is cut between two chunks for a whole one, reads trailers with few scruples,
// and waits for a first byte before it asks anybody.
func (f *Front) headRead(h *fasthttp.RequestHeader) fasthttp.RequestConfig {
	if version := h.Protocol(); version[5] == '1' && version[7] > '1' {
		h.SetProtocol("HTTP/1.1") // fasthttp takes a later minor version for 1.0.
	}
	if n := h.ContentLength(); n > 0 || n == exchange.LengthUnknown {
		h.SetContentLength(exchange.NoBody)
	}
	return fasthttp.RequestConfig{ReadTimeout: markBody}
}

// refuse answers a request that no handler sees.
func (f *Front) refuse(cl *client, no refusal) {
	answer := refusals[no]
	cl.c.linger = true
	cl.answer(answer.status, answer.reason)
	f.release(cl)
}

// serve handles a request that fasthttp has read.
func (f *Front) serve(ctx *fasthttp.RequestCtx) {
	c := ctx.Conn().(*conn) //nolint:forcetypeassert,errcheck // the front makes no other.
	cl := f.acquire()
	if no := cl.begin(c, ctx); no != accepted {
		ctx.SetConnectionClose()
		f.refuse(cl, no)
		return
	}
	cl.exch.Start = ctx.Time()
	if err := cl.takeBody(); err != nil {
		ctx.SetConnectionClose()
		f.refuse(cl, cl.body.refusal())
		return
	}
	if cl.exch.Request.Upgrade != "" {
		ctx.HijackSetNoResponse(true)
		ctx.Hijack(func(tunnel net.Conn) { f.serveUpgrade(cl, tunnel) })
		return
	}
	f.handle(cl)
	f.settle(cl)
}

// serveUpgrade handles a request that may become a tunnel, in the goroutine that
// fasthttp gives to one: there the connection and what was read ahead of it are
// within reach. The connection closes afterwards.
func (f *Front) serveUpgrade(cl *client, tunnel net.Conn) {
	cl.tun = tunnel
	c := cl.c
	c.phase = phaseOpen
	c.wire.open()
	f.handle(cl)
	c.linger = !cl.tunnel
	f.release(cl)
}

// handle runs the handler and completes its answer. A panic becomes an answer too,
// or cuts the one that has begun.
func (f *Front) handle(cl *client) {
	defer func() {
		cause := recover()
		if cause == nil {
			return
		}
		f.opts.Logger.Error("panic while handling a request", append(logRequest(cl),
			zap.Any("cause", cause), zap.ByteString("stack", debug.Stack()))...)
		if cl.unsend() {
			cl.answer(500, exchange.ReasonPanic)
		} else {
			f.reject(cl.c, &cl.exch, exchange.ReasonPanic, 500)
			cl.cutOff()
		}
	}()
	f.handler(&cl.exch)
	cl.finish()
}

// logRequest names a request in drover's own log, without what may be secret in it.
func logRequest(cl *client) []zap.Field {
	return []zap.Field{
		zap.Stringer("remote", cl.c.remote),
		zap.ByteString("method", cl.exch.Request.Method),
		zap.ByteString("host", cl.exch.Request.Host),
	}
}

// settle leaves the connection to fasthttp, to be closed or to carry the next
// request.
func (f *Front) settle(cl *client) {
	c := cl.c
	if cl.body.hopeless() || c.wire.wasAborted() {
		cl.closing = true
	}
	if cl.body.left() != 0 {
		c.linger = true
		c.enter(phaseRest, time.Now())
		cl.closing = cl.closing || !cl.body.drain()
	}
	if cl.closing {
		cl.ctx.SetConnectionClose()
	}
	f.release(cl)
}

// unreadable answers what fasthttp could not read.
func (f *Front) unreadable(ctx *fasthttp.RequestCtx, err error) {
	c := ctx.Conn().(*conn) //nolint:forcetypeassert,errcheck // the front makes no other.
	cl := f.acquire()
	cl.c = c
	cl.exch.Request.Method, cl.exch.Request.Target = c.line.request() // fasthttp has forgotten them.
	cl.exch.Request.ProtoMinor = -1
	if no := c.whyUnreadable(err); no != clientLost {
		f.refuse(cl, no)
		return
	}
	f.release(cl)
}

// whyUnreadable finds the answer for an error of fasthttp's.
func (c *conn) whyUnreadable(err error) refusal {
	var small *fasthttp.ErrSmallBuffer
	switch {
	case c.preface != nil:
		return clientLost // to HTTP/2.
	case errors.As(err, &small):
		return headTooLarge
	case isTimeout(c.readErr):
		if !c.heard {
			return clientLost // it never sent a thing.
		}
		return clientTimeout
	case c.readErr != nil && !errors.Is(c.readErr, io.EOF) && !errors.Is(c.readErr, io.ErrUnexpectedEOF):
		return clientLost
	default:
		return badRequest
	}
}
