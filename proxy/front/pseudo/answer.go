package pseudo

import (
	"net/http"

	"drover/exchange"
)

// DeclaredLength is what the Content-Length of an answer shall say, -1 for nothing. With
// noBody, as for HEAD, it is what the server said of the body that is not sent.
func DeclaredLength(r *exchange.Response, noBody bool) int64 {
	switch {
	case r.Status < 200, r.Status == http.StatusNoContent:
		return -1 // RFC 9110, section 8.6.
	case r.ContentLength == exchange.NoBody && !noBody:
		return 0
	}
	return max(r.ContentLength, -1)
}
