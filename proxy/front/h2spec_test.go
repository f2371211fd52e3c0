package front

import (
	"context"
	"io"
	"net"
	"os/exec"
	"regexp"
	"testing"
	"time"

	"drover/exchange"
)

// h2spec is the conformance suite of HTTP/2; it is run from its module.
const h2spec = "github.com/summerwind/h2spec/cmd/h2spec@v2.2.1+incompatible"

// TestH2Spec runs every case of h2spec, in clear text and over TLS. The clear text is on
// a listener for HTTP/2 alone: one case wants a GOAWAY for what is no preface, which
// elsewhere is a bad request of HTTP/1.1 and answered as one.
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
			_, port, err := net.SplitHostPort(tf.addr)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
			defer cancel()
			args := []string{"run", h2spec, "-h", "127.0.0.1", "-p", port, "-o", "5"}
			if name == "TLS" {
				args = append(args, "-t", "-k")
			}
			out, err := exec.CommandContext(ctx, "go", args...).CombinedOutput()
			summary := regexp.MustCompile(`(\d+) tests, (\d+) passed, 0 skipped, 0 failed`).FindStringSubmatch(string(out))
			t.Log(summary)
			if err != nil || len(summary) == 0 || summary[1] != summary[2] || len(summary[1]) < 3 {
				t.Errorf("want all of well over 100 cases passed; got %v and\n%s", err, out)
			}
		})
	}
}
