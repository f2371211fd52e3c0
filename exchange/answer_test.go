package exchange

import (
	"strconv"
	"testing"
)

func TestAnswer(t *testing.T) {
	f := func(status int, reason Reason, accept, wantType, wantBody, extra string) {
		t.Helper()
		r, body := Answer(status, reason, []byte(accept))
		if r.Status != status || string(body) != wantBody || r.ContentLength != int64(len(body)) {
			t.Errorf("got %d, %q of length %d; want %q", r.Status, body, r.ContentLength, wantBody)
		}
		if got := string(r.Header.Get("Content-Type")); got != wantType {
			t.Errorf("got type %q; want %q", got, wantType)
		}
		if got := string(r.Header.Get("Content-Length")); got != strconv.Itoa(len(body)) {
			t.Errorf("got length %q for %d bytes", got, len(body))
		}
		if extra != "" && !r.Header.Has(extra) {
			t.Errorf("%s is missing", extra)
		}
	}
	const text, json = "text/plain; charset=utf-8", "application/json"
	f(404, ReasonNoRoute, "", text, "404 Not Found\n", "Cache-Control")
	f(404, ReasonNoRoute, "text/html, application/json", text, "404 Not Found\n", "")
	f(404, ReasonNoRoute, "*/*", text, "404 Not Found\n", "")
	f(404, ReasonNoRoute, "image/png, */*;q=0.1, application/json", text, "404 Not Found\n", "")
	f(502, ReasonConnect, "application/json", json, "{\"status\":502,\"error\":\"Bad Gateway\"}\n", "")
	f(502, ReasonConnect, "image/png, Application/Problem+JSON ; q=0.5", json, "{\"status\":502,\"error\":\"Bad Gateway\"}\n", "")
	f(405, ReasonMethod, "", text, "405 Method Not Allowed\n", "Allow")
	f(503, ReasonOverload, "", text, "503 Service Unavailable\n", "Retry-After")
	f(599, ReasonReset, "application/json", json, "{\"status\":599,\"error\":\"Error\"}\n", "")
}
