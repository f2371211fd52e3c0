package proxy

import (
	"net/http"
	"strconv"
	"time"

	"drover/exchange"
)

// call is what a request of gRPC needs beyond others. Its answers end by a status in
// their trailers, so that one which breaks off can end by a status too.
type call struct {
	is     bool
	failed bool
	ending func() exchange.Header // the server's trailers
}

// endAsGRPC lets an answer to a call end by a status of drover's.
func (rq *request) endAsGRPC(reply *exchange.Response) {
	if reply.ContentLength != exchange.LengthUnknown {
		return // a body of another length than announced is cut, whatever comes behind it.
	}
	rq.call = call{is: true, ending: reply.Trailer}
	reply.Trailer = func() exchange.Header {
		switch {
		case rq.call.failed:
			return exchange.GRPCStatus(http.StatusBadGateway, exchange.ReasonBodyCut)
		case rq.call.ending == nil:
			return nil
		}
		return rq.call.ending()
	}
}

// callFailed ends a call whose server broke off. It reports false for other requests.
func (rq *request) callFailed() bool {
	rq.call.failed = rq.call.is
	return rq.call.is
}

// until is when the time for the response's head is over: the route's, and a call's own
// where that is shorter.
func (rq *request) until() time.Time {
	var until time.Time
	if rq.route.Timeout > 0 {
		until = rq.ex.Start.Add(rq.route.Timeout)
	}
	if !exchange.IsGRPC(&rq.ex.Request) {
		return until
	}
	if limit, ok := grpcTimeout(rq.ex.Request.Header.Get("grpc-timeout")); ok {
		if by := rq.ex.Start.Add(limit); until.IsZero() || by.Before(until) {
			return by
		}
	}
	return until
}

// grpcUnits are the units of grpc-timeout (gRPC over HTTP/2, "Requests").
var grpcUnits = map[byte]time.Duration{
	'H': time.Hour, 'M': time.Minute, 'S': time.Second,
	'm': time.Millisecond, 'u': time.Microsecond, 'n': time.Nanosecond,
}

// grpcTimeout reads a grpc-timeout: at most eight digits and a unit.
func grpcTimeout(value []byte) (time.Duration, bool) {
	n := len(value) - 1
	if n < 1 || n > 8 {
		return 0, false
	}
	unit, ok := grpcUnits[value[n]]
	count, err := strconv.ParseUint(string(value[:n]), 10, 32)
	if !ok || err != nil {
		return 0, false
	}
	if unit == time.Hour && count > 1e6 {
		count = 1e6 // beyond what a Duration holds, and any call.
	}
	return time.Duration(count) * unit, true //nolint:gosec // at most 32 bits.
}
