package healthcheck

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"

	"drover/backend"
)

// checker probes one server once, in one protocol. It returns nil when the server
// passed, else what a person on call should read. The context's deadline covers the
// whole probe. It knows nothing of what came before; any goroutine may call it.
type checker interface {
	check(ctx context.Context, id backend.ID) error
}

// checkers is the one table of kinds of probes.
var checkers = map[string]func(*CheckConfig, *dialer) (checker, error){
	"http": newHTTPChecker,
	"tcp":  newTCPChecker,
	"grpc": newGRPCChecker,
}

// newChecker makes the checker that a valid configuration describes. It reads the TLS
// files that are named there, and nothing else.
func newChecker(cfg *CheckConfig) (checker, error) {
	build, ok := checkers[cfg.Type]
	if !ok {
		return nil, fmt.Errorf("got type %q; want one of %s", cfg.Type, strings.Join(checkerNames(), ", "))
	}
	d, err := newDialer(cfg)
	if err != nil {
		return nil, err
	}
	return build(cfg, d)
}

// answerLimit is how much of an answer a match looks at.
const answerLimit = 64 << 10

// probeError is a failure in words for people, with its cause for code.
type probeError struct {
	text  string
	cause error
}

func (e *probeError) Error() string { return e.text }

func (e *probeError) Unwrap() error { return e.cause }

// failed puts an error of the network into words. Stage says what was going on, as in
// "connecting".
func failed(stage string, err error) error {
	var known *probeError
	switch {
	case errors.As(err, &known):
		return known
	case errors.Is(err, syscall.ECONNREFUSED):
		return &probeError{"connect refused", err}
	case isTimeout(err):
		return &probeError{"timed out while " + stage, err}
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return &probeError{"connection reset while " + stage, err}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return &probeError{"connection closed by the server while " + stage, err}
	default:
		return &probeError{"failed while " + stage + ": " + err.Error(), err}
	}
}

// isTimeout also knows time-outs that wrap no standard error, such as a resolver's.
func isTimeout(err error) bool {
	var timeout interface{ Timeout() bool }
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) ||
		errors.As(err, &timeout) && timeout.Timeout()
}

// capped reads at most left bytes and then fails with errLongAnswer, unlike an
// io.LimitedReader, whose clean end would look as if the server had closed.
type capped struct {
	r    io.Reader
	left int
}

var errLongAnswer = errors.New("the answer is longer than a check reads")

func (c *capped) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, errLongAnswer
	}
	n, err := c.r.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}

// excerpt is the beginning of what a server sent, for a message.
func excerpt(data []byte) string {
	const most = 60
	if len(data) > most {
		return fmt.Sprintf("%q…", data[:most])
	}
	return fmt.Sprintf("%q", data)
}
