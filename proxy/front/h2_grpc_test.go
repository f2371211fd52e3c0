package front

import (
	"net"
	"strings"
	"testing"

	"drover/exchange"
	"drover/units"
)

// TestH2GRPCRefused: what the front itself refuses of a call is refused in gRPC's own
// form.
func TestH2GRPCRefused(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tf := serveOn(t, ln, func(c *Config) {
		c.MaxBodySize, c.MaxHeaderFields, c.MaxHeaderSize, c.BodyIdleTimeout = 100, 8, 2*units.KiB, short
	}, func(ex *exchange.Exchange) {
		if string(ex.Request.Target) == "/panic" {
			panic("of the test")
		}
	}, quietLogger())
	call := func(path string, more ...string) []string {
		return append([]string{":method: POST", ":scheme: http", ":authority: a.test", ":path: " + path}, more...)
	}
	const kind = "content-type: application/grpc+proto"
	many := strings.Split(strings.Repeat("x: y,", 7)+"x: y", ",")
	for name, c := range map[string]struct {
		lines      []string
		code, text string
		reject     string
	}{
		"large body":             {call("/", kind, "content-length: 101"), "8", "413 Request Entity Too Large", "413 BL"},
		"many fields":            {call("/", append([]string{kind}, many...)...), "8", "431 Request Header Fields Too Large", "431 HL"},
		"many fields before":     {call("/", append(many, kind)...), "8", "431 Request Header Fields Too Large", "431 HL"},
		"large field":            {call("/", "x: "+strings.Repeat("y", 3000), kind), "8", "431 Request Header Fields Too Large", "431 HL"},
		"slow body":              {call("/", kind, "content-length: 10"), "14", "408 Request Timeout", "408 CT"},
		"malformed":              {call("/", kind, "host: b.test"), "13", "400 Bad Request", "400 BR"},
		"panic":                  {call("/panic", kind), "13", "500 Internal Server Error", "500 PN"},
		"forgotten":              {call("/forgotten", kind), "13", "500 Internal Server Error", "500 PN"},
		"a type of another name": {call("/", "content-type: application/grpc-web", "content-length: 101"), "", "413", "413 BL"},
	} {
		t.Run(name, func(t *testing.T) {
			before := len(tf.rejected())
			p := tf.dialH2(t)
			p.open(1, false, c.lines...)
			want := "HEADERS END :status: 200 | content-type: application/grpc | grpc-status: " + c.code + " | grpc-message: drover: " + c.text + " | content-length: 0"
			if c.code == "" {
				want = "HEADERS :status: " + c.text
			}
			if got := p.event(); !strings.HasPrefix(got, want) {
				t.Errorf("got %q; want %q", got, want)
			}
			if got := tf.rejected()[before:]; !strings.HasSuffix(got, c.reject) {
				t.Errorf("reported %q; want %q", got, c.reject)
			}
		})
	}
}
