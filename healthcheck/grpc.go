package healthcheck

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"drover/backend"
)

// grpcChecker asks grpc.health.v1.Health about a service, over HTTP/2 in clear (with
// prior knowledge) or over TLS. Source: the gRPC Health Checking Protocol. All of it
// is immutable.
type grpcChecker struct {
	dialer  *dialer
	service string
	host    string // "" for the server's address
}

func newGRPCChecker(cfg *CheckConfig, d *dialer) (checker, error) {
	return &grpcChecker{dialer: d, service: cfg.Service, host: cfg.Host}, nil
}

func (c *grpcChecker) check(ctx context.Context, id backend.ID) error {
	wire := &grpcWire{dialer: c.dialer, id: id, probe: ctx, stage: "connecting"}
	conn, err := c.client(wire)
	if err != nil {
		return fmt.Errorf("cannot make a gRPC client: %w", err)
	}
	defer func() { _ = conn.Close() }()
	answer, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{Service: c.service})
	if err != nil {
		return c.explain(err, wire)
	}
	if got := answer.GetStatus(); got != healthpb.HealthCheckResponse_SERVING {
		return fmt.Errorf("got %s for service %q; want SERVING", got, c.service)
	}
	return nil
}

func (c *grpcChecker) client(wire *grpcWire) (*grpc.ClientConn, error) {
	host := c.host
	if host == "" {
		host = c.dialer.authority(wire.id)
	}
	security := insecure.NewCredentials()
	if c.dialer.usesTLS(wire.id) {
		security = wire
	}
	return grpc.NewClient("passthrough:///"+c.dialer.target(wire.id).Address(),
		grpc.WithAuthority(host),
		grpc.WithUserAgent("drover-check"),
		grpc.WithTransportCredentials(security),
		grpc.WithContextDialer(wire.dial),
		grpc.WithDisableServiceConfig(),
		grpc.WithDisableRetry(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(answerLimit)))
}

// explain prefers what went wrong on the wire: gRPC wraps it in words of its own.
func (c *grpcChecker) explain(err error, wire *grpcWire) error {
	stage, onWire := wire.state()
	if onWire != nil {
		return onWire
	}
	got := status.Convert(err)
	if wire.late() && got.Code() == codes.Unavailable {
		// gRPC's own connection deadline and ours race; the time-out is what happened.
		return &probeError{"timed out while " + stage, err}
	}
	switch got.Code() {
	case codes.NotFound:
		return &probeError{fmt.Sprintf("the server's health service does not know service %q", c.service), err}
	case codes.Unimplemented:
		return &probeError{"the server has no grpc.health.v1.Health service", err}
	case codes.DeadlineExceeded:
		return &probeError{"timed out while " + stage, err}
	default:
		return &probeError{fmt.Sprintf("got gRPC status %s: %s", got.Code(), got.Message()), err}
	}
}

// grpcWire is one probe's way to its server: it dials, and stands in for gRPC's
// transport credentials, so that certificates are checked and errors are worded as in
// every other check.
type grpcWire struct {
	// Immutable.
	dialer *dialer
	id     backend.ID
	probe  context.Context //nolint:containedctx // gRPC's own context ends with the handshake.

	// Under mu: gRPC dials on goroutines of its own.
	mu    sync.Mutex
	stage string
	err   error
}

// late reports whether the probe's time is over, or all but.
func (w *grpcWire) late() bool {
	deadline, ok := w.probe.Deadline()
	return ok && time.Until(deadline) < 10*time.Millisecond
}

func (w *grpcWire) dial(context.Context, string) (net.Conn, error) {
	w.enter("connecting")
	conn, err := w.dialer.connect(w.probe, w.id)
	if err != nil {
		return nil, w.fail(err)
	}
	w.enter("waiting for the answer")
	return conn, nil
}

// ClientHandshake implements credentials.TransportCredentials.
func (w *grpcWire) ClientHandshake(_ context.Context, _ string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	w.enter("negotiating TLS")
	conn, err := w.dialer.negotiate(w.probe, raw, w.id, []string{"h2"})
	if err != nil {
		return nil, nil, w.fail(err)
	}
	state := conn.ConnectionState()
	if state.NegotiatedProtocol != "h2" {
		return nil, nil, w.fail(errNoHTTP2)
	}
	w.enter("waiting for the answer")
	return conn, credentials.TLSInfo{State: state}, nil
}

var errNoHTTP2 = &probeError{text: "the server does not offer HTTP/2 over TLS (ALPN h2)"}

// ServerHandshake implements credentials.TransportCredentials.
func (w *grpcWire) ServerHandshake(net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("cannot serve: a check is a client")
}

// Info implements credentials.TransportCredentials.
func (w *grpcWire) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}

// Clone implements credentials.TransportCredentials. The one probe keeps the one
// wire.
func (w *grpcWire) Clone() credentials.TransportCredentials { return w }

// OverrideServerName implements credentials.TransportCredentials, as a deprecated
// no-op.
func (w *grpcWire) OverrideServerName(string) error { return nil }

func (w *grpcWire) enter(stage string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stage = stage
}

func (w *grpcWire) fail(err error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.err = err
	return err
}

// state gives what the probe is, or was, doing and what went wrong on the wire.
func (w *grpcWire) state() (stage string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.stage, w.err
}
