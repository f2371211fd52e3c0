package exchange

import (
	"net/http"
	"strconv"
)

// IsGRPC reports whether a request is a call of gRPC: those have an answer of their own
// form to everything, errors of proxies included.
func IsGRPC(r *Request) bool {
	const kind = "application/grpc"
	if r.ProtoMajor < 2 {
		return false
	}
	value := r.Header.Get("Content-Type")
	if len(value) < len(kind) || !EqualFold(value[:len(kind)], kind) {
		return false
	}
	return len(value) == len(kind) || value[len(kind)] == '+' || value[len(kind)] == ';'
}

// AnswerTo makes the answer that drover gives a request itself: a call of gRPC gets the
// one of AnswerGRPC, and others the one of Answer.
func AnswerTo(req *Request, status int, reason Reason) (*Response, []byte) {
	if IsGRPC(req) {
		return AnswerGRPC(status, reason), nil
	}
	return Answer(status, reason, req.Header.Get("Accept"))
}

// AnswerGRPC makes the answer that a call of gRPC gets where another request would get
// the one of Answer: status 200 and the error in what stands for trailers.
func AnswerGRPC(status int, reason Reason) *Response {
	r := &Response{Status: http.StatusOK, ContentLength: NoBody}
	r.Header.Add("Content-Type", "application/grpc")
	r.Header = append(r.Header, GRPCStatus(status, reason)...)
	return r
}

// GRPCStatus gives the fields that end a call of gRPC with an error of drover's.
func GRPCStatus(status int, reason Reason) Header {
	var h Header
	h.Add("grpc-status", strconv.Itoa(grpcCode(status, reason)))
	h.Add("grpc-message", "drover: "+strconv.Itoa(status)+" "+http.StatusText(status))
	return h
}

// Codes of gRPC, from google.golang.org/grpc/codes.
const (
	grpcUnknown           = 2
	grpcDeadlineExceeded  = 4
	grpcPermissionDenied  = 7
	grpcResourceExhausted = 8
	grpcUnimplemented     = 12
	grpcInternal          = 13
	grpcUnavailable       = 14
	grpcUnauthenticated   = 16
)

// grpcCodes maps a status of HTTP as gRPC's own clients do (grpc.io's "HTTP to gRPC
// Status Code Mapping"), finer where drover knows more than the status says.
var grpcCodes = map[int]int{
	http.StatusBadRequest:                  grpcInternal,
	http.StatusUnauthorized:                grpcUnauthenticated,
	http.StatusForbidden:                   grpcPermissionDenied,
	http.StatusNotFound:                    grpcUnimplemented,
	http.StatusMethodNotAllowed:            grpcUnimplemented,
	http.StatusRequestTimeout:              grpcUnavailable,
	http.StatusRequestEntityTooLarge:       grpcResourceExhausted,
	http.StatusTooManyRequests:             grpcUnavailable,
	http.StatusRequestHeaderFieldsTooLarge: grpcResourceExhausted,
	http.StatusInternalServerError:         grpcInternal,
	http.StatusBadGateway:                  grpcUnavailable,
	http.StatusServiceUnavailable:          grpcUnavailable,
	http.StatusGatewayTimeout:              grpcDeadlineExceeded,
}

func grpcCode(status int, reason Reason) int {
	if reason == ReasonProtocol {
		return grpcInternal // to try again would not help.
	}
	if code, ok := grpcCodes[status]; ok {
		return code
	}
	return grpcUnknown
}
