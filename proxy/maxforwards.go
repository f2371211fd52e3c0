package proxy

import (
	"strconv"

	"drover/exchange"
)

// maxMaxForwards is the greatest Max-Forwards that is passed on; a greater one is made
// this.
const maxMaxForwards = 1<<31 - 1

var (
	nameMaxForwards = []byte("Max-Forwards")
	nameAllow       = []byte("Allow")
	valueAllow      = []byte("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
)

// limitsForwards reports whether Max-Forwards means something for a method (RFC 9110,
// section 7.6.2). The other such method, TRACE, never comes here.
func limitsForwards(method []byte) bool { return string(method) == "OPTIONS" }

// parseForwards reads Max-Forwards. What is no number means nothing.
func parseForwards(value []byte) (n int64, ok bool) {
	for _, c := range value {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = min(n*10+int64(c-'0'), maxMaxForwards+1)
	}
	return n, len(value) > 0
}

// lastHop reports whether drover is the recipient that the client asks.
func (rq *request) lastHop() bool {
	if !limitsForwards(rq.ex.Request.Method) {
		return false
	}
	for _, f := range rq.ex.Request.Header {
		if n, ok := parseForwards(f.Value); ok && n == 0 && equalFoldBytes(f.Name, nameMaxForwards) {
			return true
		}
	}
	return false
}

// countForwards takes one off Max-Forwards on the way to a server.
func (rq *request) countForwards() {
	if !limitsForwards(rq.ex.Request.Method) {
		return
	}
	for i := range rq.header {
		f := &rq.header[i]
		n, ok := parseForwards(f.Value)
		if !ok || !equalFoldBytes(f.Name, nameMaxForwards) {
			continue
		}
		from := len(rq.scratch)
		rq.scratch = strconv.AppendInt(rq.scratch, max(n-1, 0), 10)
		f.Value = rq.scratch[from:len(rq.scratch):len(rq.scratch)]
	}
}

// answerOptions answers an OPTIONS that goes no further: with what drover passes on.
func (rq *request) answerOptions() {
	rq.ruledAnswer(&exchange.Response{
		Status: 200,
		Header: exchange.Header{{Name: nameAllow, Value: valueAllow}, {Name: nameContentLength, Value: []byte("0")}},
	}, nil, exchange.ReasonMaxForwards)
}
