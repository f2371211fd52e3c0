package front

import (
	"strings"
	"sync"
	"testing"

	"drover/exchange"
)

// TestH2Expect: a client that waits to be asked for its body is asked by whoever wants to
// read it, whatever its size, and never behind the answer.
func TestH2Expect(t *testing.T) {
	tf := serveTest(t, nil, func(ex *exchange.Exchange) {
		if string(ex.Request.Target) == "/refused" {
			_ = ex.Client.Inform(&exchange.Response{Status: 103})
			respond(ex, "no")
			return
		}
		said(ex)
	})
	for _, length := range []string{"content-length: 3", "content-length: 20000", "x: y"} {
		p := tf.dialH2(t)
		p.open(1, false, ":method: POST", ":scheme: http", ":authority: a.test", ":path: /refused", "expect: 100-Continue", length)
		p.expect("HEADERS :status: 103", "HEADERS :status: 200 | content-length: 2", "DATA END no", "RST NO_ERROR")
		if length == "content-length: 20000" {
			continue
		}
		p.open(3, false, postLines("expect: 100-continue", length)...)
		p.expect("HEADERS :status: 100")
		p.must(p.WriteData(3, true, []byte("abc")))
		if got := p.event(); !strings.HasPrefix(got, "HEADERS :status: 200") {
			t.Errorf("%s: got %q", length, got)
		}
		if got := p.event(); !strings.HasSuffix(got, "body=abc") {
			t.Errorf("%s: got %q", length, got)
		}
	}
	// Without a body there is nothing to wait for.
	p := tf.dialH2(t)
	p.open(1, false, postLines("expect: 100-continue", "content-length: 0")...)
	p.must(p.WriteData(1, true, nil))
	p.expect("HEADERS :status: 200 | content-length: 64",
		"DATA END POST / a.test | expect: 100-continue | content-length: 0 | body=")
}

// TestH2ExpectRace has one goroutine read a body as another answers.
func TestH2ExpectRace(t *testing.T) {
	tf := serveTest(t, nil, func(ex *exchange.Exchange) {
		var reading sync.WaitGroup
		reading.Go(func() { _, _ = ex.Request.Body.Read(make([]byte, 1)) }) // it is broken off.
		respond(ex, "no")
		_ = ex.Client.Flush() // the test sees what came.
		ex.Client.AbortBody()
		reading.Wait()
	})
	p := tf.dialH2(t)
	for i := range 200 {
		p.open(stream(i), false, postLines("expect: 100-continue")...)
		got := p.event()
		if got == "HEADERS :status: 100" {
			got = p.event()
		}
		if got != "HEADERS :status: 200 | content-length: 2" {
			t.Fatalf("got %q", got)
		}
		p.expect("DATA no", "DATA END ", "RST NO_ERROR")
	}
}
