package front

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/crypto/ocsp"
)

// certificate is one that is served, with what its authority says of it.
type certificate struct {
	// immutable
	tls.Certificate // without the OCSP answer
	file            string
	with            *tls.Certificate // with it, nil for none
	until           time.Time        // when that ends to be valid; the zero time: never

	// atomic
	expired atomic.Bool // that it is was logged
}

// loadStaple reads the OCSP answer.
func (c *certificate) loadStaple() error {
	der, err := os.ReadFile(c.file)
	if err != nil {
		return err
	}
	answer, err := parseStaple(c.Leaf, c.Certificate.Certificate, der)
	if err != nil {
		return err
	}
	with := c.Certificate
	with.OCSPStaple = der
	c.with, c.until = &with, answer.NextUpdate
	return nil
}

// stapled gives the certificate with the OCSP answer while that is valid: clients take
// an expired one for an attack.
func (c *certificate) stapled(now time.Time, logger *zap.Logger) *tls.Certificate {
	switch {
	case c.with == nil:
	case c.until.IsZero(), now.Before(c.until):
		return c.with
	case c.expired.CompareAndSwap(false, true):
		logger.Warn("OCSP answer has expired and is not sent any more",
			zap.String("ocsp_file", c.file), zap.Time("expired", c.until))
	}
	return &c.Certificate
}

// CheckStaple reports why an OCSP answer in DER cannot go along with a certificate,
// the first of a chain in PEM. One that has expired can: it is not sent.
func CheckStaple(chain, der []byte) error {
	var raw [][]byte
	for {
		var block *pem.Block
		if block, chain = pem.Decode(chain); block == nil {
			break
		}
		if block.Type == "CERTIFICATE" {
			raw = append(raw, block.Bytes)
		}
	}
	if len(raw) == 0 {
		return errors.New("there is no certificate that it could be for")
	}
	leaf, err := x509.ParseCertificate(raw[0])
	if err != nil {
		return err
	}
	_, err = parseStaple(leaf, raw, der)
	return err
}

// parseStaple reads an OCSP answer and holds it against the certificate. The signature
// can be checked only where the chain has the issuer.
func parseStaple(leaf *x509.Certificate, chain [][]byte, der []byte) (*ocsp.Response, error) {
	issuer := leaf // of one that it signed itself
	if leaf.CheckSignatureFrom(leaf) != nil {
		issuer = nil
	}
	if len(chain) > 1 {
		next, err := x509.ParseCertificate(chain[1])
		if err != nil {
			return nil, err
		}
		issuer = next
	}
	answer, err := ocsp.ParseResponse(der, issuer)
	if err != nil {
		return nil, fmt.Errorf("got %w; want one in DER, of the certificate's authority", err)
	}
	if answer.SerialNumber.Cmp(leaf.SerialNumber) != 0 {
		return nil, fmt.Errorf("got one for the certificate with serial number %x; want %x", answer.SerialNumber, leaf.SerialNumber)
	}
	if answer.Status != ocsp.Good {
		return nil, fmt.Errorf("got one that says %q; want good", map[int]string{ocsp.Revoked: "revoked"}[answer.Status])
	}
	return answer, nil
}
