package proxy

import (
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"

	"drover/exchange"
)

// halfClosed is how long one direction of a tunnel may be silent after the other has
// ended. A protocol that half-closes goes on speaking; one that does not would
// otherwise keep two connections for ever.
const halfClosed = 30 * time.Second

// tunnel joins the client's and the server's connection after a 101 until both
// directions have ended, or its time is up.
func (rq *request) tunnel() {
	server, err := rq.resp.Conn()
	if err != nil {
		rq.ex.Result.Aborted, rq.ex.Result.Reason = true, exchange.ReasonProtocol
		return
	}
	defer server.Close() //nolint:errcheck // nothing is left to lose.
	client, err := rq.ex.Client.Hijack()
	if err != nil {
		rq.gone()
		return
	}
	t := newTunnel(rq.route.Tunnel)
	up := make(chan int64, 1)
	go func() { up <- t.pump(server, client, exchange.ReasonTimeout) }()
	rq.ex.Result.Sent += t.pump(client, server, exchange.ReasonClientSlow)
	rq.ex.Result.Received += <-up
	if b, ok := rq.ex.Client.(exchange.Breaker); ok && b.Broke() == exchange.ReasonDrained {
		rq.ex.Result.Reason = exchange.ReasonDrained
	} else if why := t.why.Load(); why != nil {
		rq.ex.Result.Reason = *why
	}
}

// tunnel is what the two directions know of each other.
type tunnel struct {
	// immutable
	cfg   TunnelConfig
	start time.Time

	// atomic
	last   atomic.Int64 // when either side sent last, in nanoseconds from start
	half   atomic.Bool  // a direction has ended
	broken atomic.Bool  // neither can go on
	why    atomic.Pointer[exchange.Reason]
}

func newTunnel(cfg TunnelConfig) *tunnel { return &tunnel{cfg: cfg, start: time.Now()} }

// pump copies one direction and passes its end on. Slow is the reason code for a
// receiver that takes nothing.
func (t *tunnel) pump(to, from net.Conn, slow exchange.Reason) int64 {
	n, err := t.copy(to, from, slow)
	if closer, ok := to.(interface{ CloseWrite() error }); ok && err == nil {
		if closer.CloseWrite() == nil {
			t.half.Store(true)
			_ = to.SetReadDeadline(time.Now().Add(halfClosed))
			return n
		}
	}
	// The other direction cannot end well any more: unblock it.
	t.broken.Store(true)
	_ = to.SetReadDeadline(time.Unix(1, 0))
	_ = from.SetWriteDeadline(time.Unix(1, 0))
	return n
}

func (t *tunnel) copy(to, from net.Conn, slow exchange.Reason) (sum int64, err error) {
	buf := make([]byte, copyBufferSize)
	var armed time.Time
	for {
		n, err := t.read(from, buf, &armed)
		if n > 0 {
			t.last.Store(int64(time.Since(t.start)))
			if werr := t.write(to, buf[:n], slow); werr != nil {
				return sum, werr
			}
			t.last.Store(int64(time.Since(t.start))) // it was no idle time.
			sum += int64(n)
		}
		switch {
		case err == io.EOF: //nolint:errorlint // net.Conn's contract is this very value.
			return sum, nil
		case err != nil:
			return sum, err
		}
	}
}

// read reads until the tunnel's time is up. Armed is the deadline that is set: one
// that is too early stays where it is, and is moved when it fires.
func (t *tunnel) read(from net.Conn, buf []byte, armed *time.Time) (int, error) {
	began := time.Now()
	for again := false; ; again = true {
		half := t.half.Load()
		limit, _ := t.limit(began, half)
		if !limit.IsZero() && (again || half || armed.IsZero() || armed.After(limit)) {
			*armed = limit
			_ = from.SetReadDeadline(limit) // if it fails, so does the read.
		}
		if t.broken.Load() {
			// The other direction may have set its deadline before ours.
			_ = from.SetReadDeadline(time.Unix(1, 0))
		} else if t.half.Load() != half {
			continue
		}
		n, err := from.Read(buf)
		if n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) || t.broken.Load() {
			return n, err
		}
		limit, why := t.limit(began, t.half.Load())
		if !limit.IsZero() && !time.Now().Before(limit) {
			if why != exchange.ReasonNone {
				t.why.CompareAndSwap(nil, &why)
			}
			return n, err
		}
	}
}

// limit is when a read that began at the given time is over, zero for never, and the
// reason code for that.
func (t *tunnel) limit(began time.Time, half bool) (limit time.Time, why exchange.Reason) {
	if t.cfg.IdleTimeout > 0 {
		limit, why = t.start.Add(time.Duration(t.last.Load())+t.cfg.IdleTimeout), exchange.ReasonTunnelIdle
	}
	if half {
		if end := began.Add(halfClosed); limit.IsZero() || end.Before(limit) {
			limit, why = end, exchange.ReasonNone
		}
	}
	if t.cfg.MaxLifetime > 0 {
		if end := t.start.Add(t.cfg.MaxLifetime); limit.IsZero() || end.Before(limit) {
			limit, why = end, exchange.ReasonTunnelLifetime
		}
	}
	return limit, why
}

// write writes all of p as long as the receiver takes a byte now and then, and the
// tunnel lives.
func (t *tunnel) write(to net.Conn, p []byte, slow exchange.Reason) error {
	for {
		limit, why := time.Now().Add(t.cfg.WriteIdleTimeout), slow
		if t.cfg.MaxLifetime > 0 {
			if end := t.start.Add(t.cfg.MaxLifetime); end.Before(limit) {
				limit, why = end, exchange.ReasonTunnelLifetime
			}
		}
		_ = to.SetWriteDeadline(limit) // if it fails, so does the write.
		if t.broken.Load() {
			return os.ErrDeadlineExceeded // the other direction's deadline may have been before ours.
		}
		n, err := to.Write(p)
		p = p[n:]
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, os.ErrDeadlineExceeded) || t.broken.Load():
			return err
		case n == 0 || why != slow:
			t.why.CompareAndSwap(nil, &why)
			return err
		}
	}
}
