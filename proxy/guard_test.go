package proxy

import (
	"bufio"
	"net"
	"strings"
	"testing"

	"drover/exchange"
	"drover/proxy/access"
)

// fetch sends one request and gives the answer with what became of the exchange.
func (b *bed) fetch(t *testing.T, request string) (*answered, exchange.Result) {
	t.Helper()
	v := b.dial(t)
	defer v.Close()
	v.send(request)
	resp, body := v.answer()
	return &answered{resp.StatusCode, resp.Header, body}, b.result(t)
}

type answered struct {
	status int
	header map[string][]string
	body   string
}

func (a *answered) get(name string) string { return strings.Join(a.header[name], "; ") }

// with gives a GET with further lines.
func with(lines ...string) string {
	return "GET / HTTP/1.1\r\nHost: a\r\n" + strings.Join(append(lines, "", ""), "\r\n")
}

// unreachable is a server that no request may reach.
func unreachable(t *testing.T) script {
	return func(c net.Conn, r *bufio.Reader) {
		if _, _, err := readRequest(r); err == nil {
			t.Error("a request reached the server")
		}
	}
}

func TestAddressesDecide(t *testing.T) {
	for _, c := range []struct {
		allow, deny []string
		want        int
	}{
		{[]string{"127.0.0.0/8"}, nil, 200},
		{[]string{"10.0.0.0/8"}, nil, 403},
		{nil, []string{"127.0.0.1"}, 403},
		{nil, []string{"10.0.0.0/8"}, 200},
		{[]string{"127.0.0.1"}, []string{"127.0.0.0/8"}, 403},
	} {
		play := answering(ok200)
		if c.want != 200 {
			play = unreachable(t)
		}
		b := startBed(t, setup{servers: []string{startServer(t, play)}, route: func(r *RouteConfig) {
			r.Access.Allow, r.Access.Deny = c.allow, c.deny
		}})
		got, result := b.fetch(t, get("/"))
		if got.status != c.want || (result.Reason == exchange.ReasonForbidden) != (c.want == 403) {
			t.Errorf("allow %q, deny %q: got %d, reason %q; want %d", c.allow, c.deny, got.status, result.Reason, c.want)
		}
	}
}

// TestForbiddenWithBody has a client that goes on sending a body nobody reads: it gets
// the answer.
func TestForbiddenWithBody(t *testing.T) {
	b := startBed(t, setup{servers: []string{startServer(t, unreachable(t))}, route: func(r *RouteConfig) {
		r.Access.Deny = []string{"127.0.0.1"}
	}})
	got, _ := b.fetch(t, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n"+strings.Repeat("x", 100000))
	if got.status != 403 {
		t.Errorf("got %+v; want 403", got)
	}
}

func TestCORSOfRoute(t *testing.T) {
	server := startServer(t, answering("HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\nContent-Length: 2\r\n\r\nok"))
	route := func(r *RouteConfig) {
		r.Access.CORS = &access.CORSConfig{Origins: []string{"https://a.example"}, Methods: []string{"PUT"}}
	}
	b := startBed(t, setup{servers: []string{server}, route: route})
	const preflight = "OPTIONS / HTTP/1.1\r\nHost: a\r\nOrigin: https://a.example\r\nAccess-Control-Request-Method: PUT\r\n\r\n"
	got, result := b.fetch(t, preflight)
	if got.status != 204 || got.get("Access-Control-Allow-Methods") != "PUT" || result.Attempts != 0 || result.Reason != exchange.ReasonPreflight {
		t.Errorf("preflight: got %+v, %+v", got, result)
	}
	got, result = b.fetch(t, "OPTIONS / HTTP/1.1\r\nHost: a\r\nOrigin: https://a.example\r\n\r\n")
	if got.status != 200 || result.Attempts != 1 || got.get("Access-Control-Allow-Origin") != "https://a.example" {
		t.Errorf("OPTIONS that is no preflight: got %+v, %+v", got, result)
	}
	got, _ = b.fetch(t, with("Origin: https://b.example"))
	if got.status != 200 || got.get("Access-Control-Allow-Origin") != "" || got.get("Vary") != "Origin" {
		t.Errorf("refused origin: got %+v", got)
	}

	// The page must be able to read drover's own errors too.
	down := startBed(t, setup{servers: []string{refusing(t)}, route: route})
	got, _ = down.fetch(t, with("Origin: https://a.example"))
	if got.status != 502 || got.get("Access-Control-Allow-Origin") != "https://a.example" {
		t.Errorf("error of drover's: got %+v", got)
	}
}
