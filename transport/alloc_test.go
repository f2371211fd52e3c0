//go:build !race

package transport

import (
	"bytes"
	"io"
	"testing"

	"drover/exchange"
)

// TestAllocRoundTrip: an exchange on a pooled connection allocates nothing.
func TestAllocRoundTrip(t *testing.T) {
	id := script(t, func(_ int, p *peer) {
		buf := make([]byte, 4096)
		reply := []byte(okAnswer)
		for n := 0; ; {
			m, err := p.Read(buf[n:])
			if err != nil {
				return
			}
			if n += m; bytes.HasSuffix(buf[:n], []byte("\r\n\r\n")) {
				_, _ = p.Write(reply)
				n = 0
			}
		}
	})
	pool := newPool(t, id)
	ex := &exchange.Exchange{Client: &fakeClient{}}
	req := get("GET")
	req.Header = exchange.Header{field("Host", "h"), field("Accept", "*/*")}
	var resp Response
	body := make([]byte, 16)
	if got := testing.AllocsPerRun(200, func() {
		if err := pool.RoundTrip(ex, req, noDeadline, &resp); err != nil {
			t.Fatal(err)
		}
		if _, err := resp.Body().Read(body); err != nil && err != io.EOF { //nolint:errorlint // io.Reader's contract.
			t.Fatal(err)
		}
		resp.Close()
	}); got != 0 {
		t.Errorf("%g allocations per exchange; want none", got)
	}
}
