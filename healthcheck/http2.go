package healthcheck

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"

	"drover/backend"
)

// What http can be spoken in, in the words of transport.protocol.
const (
	protocolAuto = "auto"
	protocolH1   = "h1"
	protocolH2   = "h2"
	protocolH2C  = "h2c"
)

var protocols = []string{protocolAuto, protocolH1, protocolH2, protocolH2C}

// offers gives what is offered by ALPN to a server that is probed over TLS.
func (c *httpChecker) offers(id backend.ID) ([]string, error) {
	secure := c.dialer.usesTLS(id)
	switch {
	case c.protocol == protocolH2 && !secure:
		return nil, errors.New("got protocol h2 for a probe without TLS; want h2c")
	case c.protocol == protocolH2C && secure:
		return nil, errors.New("got protocol h2c for a probe over TLS; want h2")
	case c.protocol == protocolH1:
		return []string{"http/1.1"}, nil
	case c.protocol == protocolH2:
		return []string{"h2"}, nil
	default:
		return []string{"h2", "http/1.1"}, nil
	}
}

// speaksH2 reports whether HTTP/2 is spoken on a connection.
func (c *httpChecker) speaksH2(conn net.Conn) (bool, error) {
	secured, ok := conn.(*tls.Conn)
	if !ok {
		return c.protocol == protocolH2C, nil
	}
	h2 := secured.ConnectionState().NegotiatedProtocol == "h2"
	if !h2 && c.protocol == protocolH2 {
		return false, errNoHTTP2
	}
	return h2, nil
}

// askH2 sends the request over HTTP/2. The standard library's client is made for the
// one connection, which ends with the probe.
func (c *httpChecker) askH2(ctx context.Context, conn net.Conn, id backend.ID) (*http.Response, error) {
	given := func(context.Context, string, string) (net.Conn, error) { return conn, nil }
	client := &http.Transport{
		DialContext: given, DialTLSContext: given, Protocols: &http.Protocols{},
		DisableCompression: true, DisableKeepAlives: true, MaxResponseHeaderBytes: answerLimit,
	}
	client.Protocols.SetHTTP2(true)
	client.Protocols.SetUnencryptedHTTP2(true)
	request, target := c.request(id), *c.target
	target.Host = c.dialer.target(id).Address()
	if target.Scheme = "http"; c.dialer.usesTLS(id) {
		target.Scheme = "https"
	}
	request.URL = &target
	response, err := client.RoundTrip(request.WithContext(ctx))
	if err != nil {
		return nil, failed("waiting for the response", err)
	}
	return response, nil
}
