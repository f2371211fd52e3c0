package front

import (
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"strings"

	"drover/invalid"
	"drover/proxy/front/acme"
)

// ACMEConfig has an authority such as Let's Encrypt issue certificates (RFC 8555). It
// looks at port 443 for the listener (TLS-ALPN-01, not with client_auth.required), or at
// port 80 for any listener of drover's without TLS (HTTP-01). Until there is a
// certificate, handshakes for its name fail.
type ACMEConfig struct {
	// Domains are the names to have certificates for, without wildcards. Required.
	Domains []string `yaml:"domains"`
	// Account is where they come from.
	Account acme.Config `yaml:",inline"`
}

// Validate reports what is wrong with the domains.
func (c *ACMEConfig) Validate() error {
	errs := []error{c.Account.Validate()}
	if len(c.Domains) == 0 {
		errs = append(errs, invalid.Fieldf("domains", "got none; want at least one"))
	}
	for i, d := range c.Domains {
		switch {
		case d != strings.ToLower(d) || !strings.Contains(strings.Trim(d, "."), ".") || strings.HasSuffix(d, ".") || !validHost([]byte(d)) || strings.ContainsAny(d, "*:["):
			errs = append(errs, invalid.Fieldf(fmt.Sprintf("domains[%d]", i), `got %q; want a name such as "www.example.com", in lower case, without wildcards`, d))
		case slices.Index(c.Domains, d) < i:
			errs = append(errs, invalid.Fieldf(fmt.Sprintf("domains[%d]", i), "got %q again; want each once", d))
		}
	}
	return errors.Join(errs...)
}

// alpnACME is what the authority offers when it tries TLS-ALPN-01 (RFC 8737).
const alpnACME = "acme-tls/1"

// issuedFor reports whether the authority's certificates have a hello's answer.
func (cs *certificates) issuedFor(hello *tls.ClientHelloInfo) bool {
	if cs.issued == nil || len(cs.domains) == 0 {
		return false
	}
	name := strings.ToLower(strings.TrimSuffix(hello.ServerName, "."))
	return slices.Contains(hello.SupportedProtos, alpnACME) || slices.Contains(cs.domains, name)
}
