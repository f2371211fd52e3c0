package main

import (
	"fmt"
	"path/filepath"
	"testing"

	"drover/internal/h2spec"
)

// TestH2Spec runs every case of h2spec against the whole program with a server behind it,
// in clear text and over TLS. In clear text the listener is for HTTP/2 alone: see
// h2spec.Run.
func TestH2Spec(t *testing.T) {
	t.Parallel()
	a := startPeer(t, "a")
	dir := t.TempDir()
	writePair(t, dir, 7)
	for name, listener := range map[string]string{
		"clear text": "http2: { only: true }",
		"TLS":        fmt.Sprintf("tls: { certificates: [ { cert_file: %q, key_file: %q } ] }", filepath.Join(dir, "site.pem"), filepath.Join(dir, "site.key")),
	} {
		t.Run(name, func(t *testing.T) {
			s := newSetup(t, fmt.Sprintf(`admin: { address: "ADMIN" }
listeners: [ { name: web, address: "LISTEN", %s } ]
upstreams: [ { name: app, servers: [ { address: %q } ] } ]
routes: [ { upstream: app } ]
`, listener, a.address))
			s.run(t)
			before := a.requests.Load()
			h2spec.Run(t, s.listen, name == "TLS")
			if a.requests.Load() == before {
				t.Error("the server behind saw no request")
			}
		})
	}
}
