package proxy

import (
	"io"
	"net"
	"time"

	"drover/exchange"
)

// halfClosed is how long one direction of a tunnel may go on after the other has
// ended. A protocol that half-closes has its last word in that time; one that does
// not would otherwise keep two connections for ever.
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
	go func() { up <- pump(server, client) }()
	rq.ex.Result.Sent += pump(client, server)
	rq.ex.Result.Received += <-up
}

// pump copies one direction and passes its end on.
func pump(to, from net.Conn) int64 {
	n, err := io.Copy(to, from)
	if half, ok := to.(interface{ CloseWrite() error }); ok && err == nil {
		if half.CloseWrite() == nil {
			_ = to.SetReadDeadline(time.Now().Add(halfClosed))
			return n
		}
	}
	// The other direction cannot end well any more: unblock it.
	_ = to.SetReadDeadline(time.Unix(1, 0))
	_ = from.SetWriteDeadline(time.Unix(1, 0))
	return n
}
