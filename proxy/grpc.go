package proxy

import (
	"strconv"
	"time"

	"drover/exchange"
)

// callGrace is how long after its deadline a call may go on: a server that keeps to the
// deadline has the last word, which says more than drover's.
const callGrace = 100 * time.Millisecond

// call is what a request of gRPC needs beyond others. Its answers end by a status in
// their trailers, so that one which breaks off can end by a status too.
type call struct {
	by    time.Time // its deadline, the zero time for none
	grace time.Duration
	told  time.Time // the deadline as the server has it, which is a little earlier

	ends   bool                   // drover may end its answer
	status int                    // of HTTP, as drover ends it; 0 as the server does
	reason exchange.Reason        // with status
	ending func() exchange.Header // the server's trailers
}

// beginCall finds a call's deadline. It does nothing for other requests.
func (rq *request) beginCall(grace time.Duration) {
	if !exchange.IsGRPC(&rq.ex.Request) {
		return
	}
	rq.call.grace = grace
	if limit, ok := grpcTimeout(rq.ex.Request.Header.Get(nameGRPCTimeout)); ok {
		rq.call.by = rq.ex.Start.Add(limit)
	}
}

// endAsGRPC lets an answer to a call end by a status of drover's.
func (rq *request) endAsGRPC(reply *exchange.Response) {
	if !rq.call.by.IsZero() {
		rq.resp.EndBy(rq.call.by.Add(rq.call.grace))
	}
	if reply.ContentLength != exchange.LengthUnknown {
		return // a body of another length than announced is cut, whatever comes behind it.
	}
	rq.call.ends, rq.call.ending = true, reply.Trailer
	reply.Trailer = func() exchange.Header {
		switch {
		case rq.call.status != 0:
			return exchange.GRPCStatus(rq.call.status, rq.call.reason)
		case rq.call.ending == nil:
			return nil
		}
		return rq.call.ending()
	}
}

// endCall ends a call in the middle of its answer. It reports false for other requests.
func (rq *request) endCall(status int, reason exchange.Reason) bool {
	rq.call.status, rq.call.reason = status, reason
	return rq.call.ends
}

// callOver reports whether the deadline that the server was told has passed.
func (rq *request) callOver() bool {
	return !rq.call.by.IsZero() && !time.Now().Before(rq.call.told)
}

// until is when the time for the response's head is over: the route's, and a call's own
// where that is shorter, put off by a grace.
func (rq *request) until(grace time.Duration) time.Time {
	var until time.Time
	if rq.route.Timeout > 0 {
		until = rq.ex.Start.Add(rq.route.Timeout)
	}
	if by := rq.call.by.Add(grace); !rq.call.by.IsZero() && (until.IsZero() || by.Before(until)) {
		return by
	}
	return until
}

const nameGRPCTimeout = "grpc-timeout"

// tellDeadline has the request tell a server what is left of the call's time, for part of
// it may have gone in a queue, or to another server. It reports false if that is nothing.
func (rq *request) tellDeadline(now time.Time) bool {
	if rq.call.by.IsZero() {
		return true
	}
	left := rq.call.by.Sub(now)
	rq.call.told = rq.call.by
	for i := range rq.header {
		f := &rq.header[i]
		if !exchange.EqualFold(f.Name, nameGRPCTimeout) {
			continue
		}
		limit, ok := grpcTimeout(f.Value)
		if ok && limit > left && left > 0 {
			from := len(rq.scratch)
			rq.scratch = appendGRPCTimeout(rq.scratch, left)
			f.Value = rq.scratch[from:len(rq.scratch):len(rq.scratch)]
			limit, _ = grpcTimeout(f.Value)
		}
		if told := now.Add(limit); ok && told.Before(rq.call.told) {
			rq.call.told = told
		}
	}
	return left > 0
}

// grpcUnits are the units of grpc-timeout (gRPC over HTTP/2, "Requests"), finest first.
var grpcUnits = []struct {
	name byte
	unit time.Duration
}{
	{'n', time.Nanosecond}, {'u', time.Microsecond}, {'m', time.Millisecond},
	{'S', time.Second}, {'M', time.Minute}, {'H', time.Hour},
}

// grpcTimeout reads a grpc-timeout: at most eight digits and a unit.
func grpcTimeout(value []byte) (time.Duration, bool) {
	n := len(value) - 1
	if n < 1 || n > 8 {
		return 0, false
	}
	count, err := strconv.ParseUint(string(value[:n]), 10, 32)
	if err != nil {
		return 0, false
	}
	for _, u := range grpcUnits {
		if u.name != value[n] {
			continue
		}
		if u.unit == time.Hour && count > 1e6 {
			count = 1e6 // beyond what a Duration holds, and any call.
		}
		return time.Duration(count) * u.unit, true //nolint:gosec // at most 32 bits.
	}
	return 0, false
}

// appendGRPCTimeout writes a grpc-timeout in the finest unit that eight digits suffice
// for. What is less than the unit is left out, so that it is never longer than what is left.
func appendGRPCTimeout(dst []byte, left time.Duration) []byte {
	const limit = 1e8
	for _, u := range grpcUnits {
		if n := left / u.unit; n < limit {
			return append(strconv.AppendInt(dst, int64(n), 10), u.name)
		}
	}
	return dst // no Duration has that many hours.
}
