package proxy

import (
	"io"
	"net"
	"sync/atomic"
	"time"

	"drover/exchange"
)

// halfClosed is how long one direction of a tunnel may be silent after the other has
// ended. A protocol that half-closes goes on speaking; one that does not would
// otherwise keep two connections for ever.
const halfClosed = 30 * time.Second

// tunnel joins the client's and the server's connection after a 101 until both
// directions have ended.
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
	up := make(chan int64, 1)
	var half atomic.Bool
	go func() { up <- pump(server, client, &half) }()
	rq.ex.Result.Sent += pump(client, server, &half)
	rq.ex.Result.Received += <-up
}

// pump copies one direction and passes its end on. Half is set when one has ended.
func pump(to, from net.Conn, half *atomic.Bool) int64 {
	n, err := copyTunnel(to, from, half)
	if closer, ok := to.(interface{ CloseWrite() error }); ok && err == nil {
		if closer.CloseWrite() == nil {
			half.Store(true)
			_ = to.SetReadDeadline(time.Now().Add(halfClosed))
			return n
		}
	}
	// The other direction cannot end well any more: unblock it.
	_ = to.SetReadDeadline(time.Unix(1, 0))
	_ = from.SetWriteDeadline(time.Unix(1, 0))
	return n
}

func copyTunnel(to, from net.Conn, half *atomic.Bool) (sum int64, err error) {
	buf := make([]byte, copyBufferSize)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if _, werr := to.Write(buf[:n]); werr != nil {
				return sum, werr
			}
			sum += int64(n)
		}
		switch {
		case err == io.EOF: //nolint:errorlint // net.Conn's contract is this very value.
			return sum, nil
		case err != nil:
			return sum, err
		case half.Load():
			_ = from.SetReadDeadline(time.Now().Add(halfClosed)) // if it fails, so does the next Read.
		}
	}
}
