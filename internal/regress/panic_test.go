package regress

import (
	"io"
	"math/rand/v2"
	"testing"
)

// TestGarbageKillsNothing throws noise and broken requests at one process, which lives.
func TestGarbageKillsNothing(t *testing.T) {
	o := startOrigin(t, nil)
	d := start(t, toOrigin(o.address, ""), "")
	r := rand.New(rand.NewPCG(1, 2))
	base := []byte("POST /a?b=c HTTP/1.1\r\nHost: a\r\nCookie: x=y\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
	for range 500 {
		text := append([]byte(nil), base...)
		for range 1 + r.IntN(8) {
			text[r.IntN(len(text))] = byte(r.UintN(256))
		}
		c := dial(t, d.web)
		_, _ = c.Write(text)
		_, _ = io.WriteString(c, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00")
		_ = c.Close()
	}
	serves(t, d)
}
