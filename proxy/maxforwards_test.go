package proxy

import (
	"bufio"
	"io"
	"net"
	"testing"
)

// TestMaxForwards: RFC 9110, section 7.6.2.
func TestMaxForwards(t *testing.T) {
	seen := make(chan []string, 16)
	b := startBed(t, setup{servers: []string{startServer(t, func(c net.Conn, r *bufio.Reader) {
		for {
			req, _, err := readRequest(r)
			if err != nil {
				return
			}
			seen <- req.Header["Max-Forwards"]
			if _, err := io.WriteString(c, ok200); err != nil {
				return
			}
		}
	})}})
	for _, c := range []struct {
		method, field string
		want          string // what the server gets, "" where drover answers
	}{
		{"OPTIONS", "Max-Forwards: 10", "9"},
		{"OPTIONS", "max-forwards: 1", "0"},
		{"OPTIONS", "Max-Forwards: 0", ""},
		{"OPTIONS", "MAX-FORWARDS: 000", ""},
		{"OPTIONS", "Max-Forwards: 5\r\nMax-Forwards: 0", ""},
		{"OPTIONS", "Max-Forwards: 99999999999999999999999", "2147483647"},
		{"OPTIONS", "Max-Forwards: -1", "-1"},
		{"OPTIONS", "Max-Forwards: many", "many"},
		{"GET", "Max-Forwards: 0", "0"},
		{"GET", "Max-Forwards: 3", "3"},
	} {
		v := b.dial(t)
		v.send(c.method + " /a HTTP/1.1\r\nHost: a\r\n" + c.field + "\r\n\r\n")
		resp, body := v.answer()
		result := b.result(t)
		if c.want == "" {
			if resp.StatusCode != 200 || resp.Header.Get("Allow") == "" || body != "" || result.Reason != "MF" || result.Attempts != 0 {
				t.Errorf("%s with %q: got %d %q %v, reason %q after %d attempts; want drover's own 200",
					c.method, c.field, resp.StatusCode, body, resp.Header, result.Reason, result.Attempts)
			}
			continue
		}
		if got := receive(t, seen, "the request"); len(got) != 1 || got[0] != c.want || resp.StatusCode != 200 || body != "ok" {
			t.Errorf("%s with %q: the server got %q; want %q", c.method, c.field, got, c.want)
		}
	}
}
