package healthcheck

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"drover/backend"
)

// tcpChecker connects, and may say something and wait for an answer. All of it is
// immutable.
type tcpChecker struct {
	dialer *dialer
	send   []byte
	expect []byte
}

func newTCPChecker(cfg *CheckConfig, d *dialer) (checker, error) {
	return &tcpChecker{dialer: d, send: []byte(cfg.Send), expect: []byte(cfg.Expect)}, nil
}

func (c *tcpChecker) check(ctx context.Context, id backend.ID) error {
	conn, err := c.dialer.dial(ctx, id)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if len(c.send) > 0 {
		if _, err := conn.Write(c.send); err != nil {
			return failed("sending", err)
		}
	}
	if len(c.expect) == 0 {
		return nil
	}
	return c.await(conn)
}

// await reads until the expected text has come: most protocols keep the connection
// open after their answer.
func (c *tcpChecker) await(conn io.Reader) error {
	var (
		got    []byte
		reader = &capped{conn, answerLimit}
		chunk  = make([]byte, 4096)
	)
	for {
		n, err := reader.Read(chunk)
		// Only the new bytes, and what of the text may have come before them, need a look.
		from := max(0, len(got)-len(c.expect)+1)
		got = append(got, chunk[:n]...)
		switch {
		case bytes.Contains(got[from:], c.expect):
			return nil
		case err == nil:
		case errors.Is(err, errLongAnswer), errors.Is(err, io.EOF), isTimeout(err) && len(got) > 0:
			return &probeError{fmt.Sprintf("answer does not contain %q; got %d bytes: %s", c.expect, len(got), excerpt(got)), err}
		default:
			return failed("waiting for the answer", err)
		}
	}
}
