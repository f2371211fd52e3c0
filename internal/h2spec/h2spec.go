// Package h2spec runs the conformance suite of HTTP/2 that other people wrote, for tests.
package h2spec

import (
	"context"
	"net"
	"os/exec"
	"regexp"
	"testing"
	"time"
)

// module is the suite; it is run from its module.
const module = "github.com/summerwind/h2spec/cmd/h2spec@v2.2.1+incompatible"

// Run has every case of the suite pass at an address, over TLS if it is secure.
//
// A listener that speaks HTTP/1.1 too in clear text leaves one case undecidable: it wants
// a GOAWAY for what is no preface, which there is a bad request of HTTP/1.1 and answered
// as one. So clear text wants a listener for HTTP/2 alone.
func Run(t *testing.T, address string, secure bool) {
	t.Helper()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	args := []string{"run", module, "-h", host, "-p", port, "-o", "5"}
	if secure {
		args = append(args, "-t", "-k")
	}
	out, err := exec.CommandContext(ctx, "go", args...).CombinedOutput()
	summary := regexp.MustCompile(`(\d+) tests, (\d+) passed, 0 skipped, 0 failed`).FindStringSubmatch(string(out))
	t.Log(summary)
	if err != nil || len(summary) == 0 || summary[1] != summary[2] || len(summary[1]) < 3 {
		t.Errorf("want all of well over 100 cases passed; got %v and\n%s", err, out)
	}
}
