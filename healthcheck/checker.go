package healthcheck

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"

	"drover/backend"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
)

// A checker probes a server once, on a new connection, so that a server that accepts
// no more is found out. It knows nothing of thresholds; nil means the server is well.
type checker interface {
	check(ctx context.Context, id backend.ID) error
}

// checkers is the one table of kinds of probes.
var checkers = map[string]func(*CheckConfig) (checker, error){
	"http": newHTTPChecker,
	"tcp":  func(c *CheckConfig) (checker, error) { return tcpChecker{c}, nil },
	"grpc": func(c *CheckConfig) (checker, error) { return grpcChecker{c}, nil },
}

func checkerNames() []string { return slices.Sorted(maps.Keys(checkers)) }

// address is where to probe a server.
func (c *CheckConfig) address(id backend.ID) string {
	if c.Port != 0 {
		return net.JoinHostPort(id.Host, strconv.Itoa(c.Port))
	}
	return id.Address()
}

func (c *CheckConfig) tlsConfig(host string) (*tls.Config, error) {
	cfg := &tls.Config{
		MinVersion: tls.VersionTLS12, ServerName: host,
		InsecureSkipVerify: c.InsecureSkipVerify, //nolint:gosec // the operator asks for it.
	}
	if c.ServerName != "" {
		cfg.ServerName = c.ServerName
	}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("cannot read authorities: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("cannot use authorities %q: got no PEM certificate in it", c.CAFile)
		}
	}
	return cfg, nil
}

// httpChecker asks for a path.
type httpChecker struct {
	cfg      *CheckConfig
	statuses *statusSet
	body     *regexp.Regexp // nil for any
}

func newHTTPChecker(cfg *CheckConfig) (checker, error) {
	statuses, err := parseStatuses(cfg.Statuses)
	if err != nil {
		return nil, err
	}
	h := &httpChecker{cfg: cfg, statuses: statuses}
	if cfg.Body != "" {
		if h.body, err = regexp.Compile(cfg.Body); err != nil {
			return nil, err
		}
	}
	return h, nil
}

// maxCheckBody bounds what is read of an answer.
const maxCheckBody = 64 << 10

func (h *httpChecker) check(ctx context.Context, id backend.ID) error {
	scheme := "http"
	if h.cfg.TLS || id.Scheme == "https" {
		scheme = "https"
	}
	req, err := http.NewRequestWithContext(ctx, h.cfg.Method, scheme+"://"+h.cfg.address(id)+h.cfg.Path, nil)
	if err != nil {
		return fmt.Errorf("cannot make the probe: %w", err)
	}
	req.Header.Set("User-Agent", "drover-check")
	for _, f := range h.cfg.Headers {
		req.Header.Set(f.Name, f.Value)
	}
	req.Host, req.Close = h.cfg.Host, true
	tlsConfig, err := h.cfg.tlsConfig(id.Host)
	if err != nil {
		return err
	}
	transport := &http.Transport{TLSClientConfig: tlsConfig, DisableKeepAlives: true, DisableCompression: true}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return plainError(err)
	}
	defer resp.Body.Close() //nolint:errcheck // the probe is over.
	if !h.statuses.has(resp.StatusCode) {
		return fmt.Errorf("got status %d; want %v", resp.StatusCode, h.cfg.Statuses)
	}
	if h.body == nil {
		return nil
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxCheckBody))
	if err != nil {
		return fmt.Errorf("cannot read the answer: %w", plainError(err))
	}
	if !h.body.Match(body) {
		return fmt.Errorf("got body %.80q; want a match of %q", bytes.TrimSpace(body), h.body)
	}
	return nil
}

// plainError leaves out what a person who reads of a failed probe knows already.
func plainError(err error) error {
	var op *net.OpError
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return errors.New("no answer in time")
	case errors.As(err, &op):
		return fmt.Errorf("%s: %w", op.Op, op.Err)
	}
	return err
}

// tcpChecker connects.
type tcpChecker struct{ cfg *CheckConfig }

func (t tcpChecker) check(ctx context.Context, id backend.ID) error {
	var dialer net.Dialer
	c, err := dialer.DialContext(ctx, "tcp", t.cfg.address(id))
	if err != nil {
		return plainError(err)
	}
	return c.Close()
}

// grpcChecker asks grpc.health.v1.
type grpcChecker struct{ cfg *CheckConfig }

func (g grpcChecker) check(ctx context.Context, id backend.ID) error {
	secure := insecure.NewCredentials()
	if g.cfg.TLS || id.Scheme == "https" {
		tlsConfig, err := g.cfg.tlsConfig(id.Host)
		if err != nil {
			return err
		}
		secure = credentials.NewTLS(tlsConfig)
	}
	conn, err := grpc.NewClient("passthrough:///"+g.cfg.address(id), grpc.WithTransportCredentials(secure))
	if err != nil {
		return fmt.Errorf("cannot make the probe: %w", err)
	}
	defer conn.Close() //nolint:errcheck // the probe is over.
	answer, err := grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: g.cfg.Service})
	if err != nil {
		return plainError(err)
	}
	if answer.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
		return fmt.Errorf("got %s; want SERVING", answer.GetStatus())
	}
	return nil
}
