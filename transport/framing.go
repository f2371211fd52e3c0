package transport

import (
	"net/http"

	"drover/exchange"
)

// frame decides how the body ends and whether the connection may live on.
func (r *Response) frame() error {
	f, err := parseFraming(r.Header, r.ProtoMinor)
	if err != nil {
		return err
	}
	r.ContentLength = f.length
	r.keep = !hasToken(r.Header, "Connection", "close") &&
		(r.ProtoMinor == 1 || hasToken(r.Header, "Connection", "keep-alive"))
	r.body = body{r: r}
	switch {
	case !r.hasContent():
		r.withoutContent(f)
	case f.chunked:
		r.body.kind = bodyChunked
		r.Trailer = r.body.trailers
	case f.length == exchange.LengthUnknown:
		r.body.kind, r.keep = bodyUntilClose, false
	default:
		r.body.kind, r.body.left = bodyLength, f.length
		r.body.done = f.length == 0
	}
	return nil
}

// hasContent reports whether the client is to get content with the answer. With a 205
// there must be none (RFC 9110, section 15.3.6), though it is framed as if there might:
// clients that take it to end with its head would read content as their next answer.
func (r *Response) hasContent() bool {
	return r.Status != http.StatusResetContent && exchange.BodyAllowed(r.method, r.Status)
}

// withoutContent ends an answer with its head. Some servers send the content all the
// same, and perhaps late, when the connection has its next request already, whose answer
// it would be. So a connection is kept only where none is announced.
func (r *Response) withoutContent(f framing) {
	unknown := f.length == exchange.LengthUnknown
	if f.chunked || f.length > 0 || unknown && exchange.BodyAllowed(nil, r.Status) {
		r.keep = false
	}
	if f.chunked || unknown || r.Status == http.StatusResetContent {
		r.ContentLength = exchange.NoBody
	}
	r.body.done = true
}
