package front

import (
	"io"
	"testing"

	"drover/exchange"
	"drover/internal/h2spec"
)

// TestH2Spec runs every case of h2spec, in clear text and over TLS.
func TestH2Spec(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"clear text": func(c *Config) { c.HTTP2.Only = true },
		"TLS":        withTLS("1.2", writeCert(t, "localhost")),
	} {
		t.Run(name, func(t *testing.T) {
			tf := serveTest(t, change, func(ex *exchange.Exchange) {
				if ex.Request.Body != nil {
					_, _ = io.Copy(io.Discard, ex.Request.Body) // an earlier answer would end the stream under test.
				}
				r, body := exchange.Answer(200, exchange.ReasonNone, nil)
				if err := ex.Client.Start(r); err == nil {
					_, _ = ex.Client.Write(body) // the suite breaks most connections.
				}
			})
			h2spec.Run(t, tf.addr, name == "TLS")
		})
	}
}
