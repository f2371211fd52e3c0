package healthcheck

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"drover/backend"
)

// httpChecker sends one request over a connection of its own and looks at the status
// and, if asked to, the body. HTTP/1.1 it writes and reads on the connection itself,
// which puts one deadline over everything and needs no pool. All of it is immutable.
type httpChecker struct {
	dialer   *dialer
	method   string
	target   *url.URL
	host     string // "" for the server's address
	protocol string // "" is auto
	headers  http.Header
	status   *statusSet
	want     string         // the statuses, for messages
	match    *regexp.Regexp // nil for any body
	text     []byte         // nil for any body
}

func newHTTPChecker(cfg *CheckConfig, d *dialer) (checker, error) {
	target, err := url.ParseRequestURI(cfg.Path)
	if err != nil {
		return nil, fmt.Errorf("cannot parse path %q: %w", cfg.Path, err)
	}
	status, err := parseStatuses(cfg.Statuses)
	if err != nil {
		return nil, err
	}
	c := &httpChecker{
		dialer: d, method: cfg.Method, target: target, host: cfg.Host, protocol: cfg.Protocol,
		status: status, want: strings.Join(cfg.Statuses, ", "), text: []byte(cfg.BodyContains),
	}
	if cfg.Body != "" {
		if c.match, err = regexp.Compile(cfg.Body); err != nil {
			return nil, fmt.Errorf("cannot compile body %q: %w", cfg.Body, err)
		}
	}
	c.headers = http.Header{"User-Agent": {"drover-check"}, "Accept": {"*/*"}}
	for _, h := range cfg.Headers {
		if name := http.CanonicalHeaderKey(h.Name); name == "User-Agent" || name == "Accept" {
			c.headers.Del(name)
		}
	}
	for _, h := range cfg.Headers {
		c.headers.Add(h.Name, h.Value)
	}
	return c, nil
}

func (c *httpChecker) check(ctx context.Context, id backend.ID) error {
	offers, err := c.offers(id)
	if err != nil {
		return err
	}
	conn, err := c.dialer.dial(ctx, id, offers...)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	response, err := c.ask(ctx, conn, id)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if !c.status.has(response.StatusCode) {
		return fmt.Errorf("got status %d; want %s", response.StatusCode, c.want)
	}
	if c.match == nil && len(c.text) == 0 {
		return nil
	}
	return c.checkBody(response.Body)
}

// ask sends the request and gives the answer's head.
func (c *httpChecker) ask(ctx context.Context, conn net.Conn, id backend.ID) (*http.Response, error) {
	h2, err := c.speaksH2(conn)
	switch {
	case err != nil:
		return nil, err
	case h2:
		return c.askH2(ctx, conn, id)
	}
	request := c.request(id)
	if err := request.Write(conn); err != nil {
		return nil, failed("sending the request", err)
	}
	return readHead(conn, request)
}

func (c *httpChecker) request(id backend.ID) *http.Request {
	host := c.host
	if host == "" {
		host = c.dialer.authority(id)
	}
	return &http.Request{Method: c.method, URL: c.target, Host: host, Header: c.headers, ProtoMajor: 1, ProtoMinor: 1, Close: true}
}

// maxInterim bounds the 1xx responses before the final one.
const maxInterim = 8

func readHead(conn io.Reader, request *http.Request) (*http.Response, error) {
	// The body's share leaves room for chunk framing; what is cut there is not matched.
	reader := bufio.NewReader(&capped{conn, 4 * answerLimit})
	for range maxInterim {
		response, err := http.ReadResponse(reader, request)
		switch {
		case err == nil && (response.StatusCode >= 200 || response.StatusCode == http.StatusSwitchingProtocols):
			return response, nil
		case err == nil:
			_ = response.Body.Close()
		case errors.Is(err, errLongAnswer), isTimeout(err), !isMalformed(err):
			return nil, failed("waiting for the response", err)
		default:
			return nil, &probeError{"the answer is no valid HTTP: " + err.Error(), err}
		}
	}
	return nil, fmt.Errorf("got %d interim responses; want a final one", maxInterim)
}

// isMalformed tells what http.ReadResponse made of the bytes from an error of the
// connection, which comes through as it was.
func isMalformed(err error) bool {
	var network interface{ Temporary() bool }
	return !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.As(err, &network)
}

func (c *httpChecker) checkBody(body io.Reader) error {
	data, err := io.ReadAll(io.LimitReader(body, answerLimit))
	if err != nil && !errors.Is(err, errLongAnswer) {
		return failed("reading the body", err)
	}
	if !bytes.Contains(data, c.text) {
		return fmt.Errorf("body does not contain %q; got %d bytes: %s", c.text, len(data), excerpt(data))
	}
	if c.match != nil && !c.match.Match(data) {
		return fmt.Errorf("body does not match %q; got %d bytes: %s", c.match, len(data), excerpt(data))
	}
	return nil
}
