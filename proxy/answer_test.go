package proxy

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	"drover/exchange"
	"drover/transport"

	"go.uber.org/zap"
)

// TestOwnAnswers: drover's answers follow Accept, name the status, and tell nothing of
// what is behind.
func TestOwnAnswers(t *testing.T) {
	for _, fault := range []struct {
		what   string
		server script // nil: nobody listens
		none   bool
		route  func(*RouteConfig)
		status int
		reason exchange.Reason
	}{
		{"refused", nil, false, nil, 502, exchange.ReasonConnect},
		{"reset", resetAfter(-1), false, nil, 502, exchange.ReasonReset},
		{"no HTTP", answering("secret-banner\r\n\r\n"), false, nil, 502, exchange.ReasonProtocol},
		{"no server", nil, true, nil, 503, exchange.ReasonNoServer},
		{"no route", nil, true, func(c *RouteConfig) { c.Path = "/other" }, 404, exchange.ReasonNoRoute},
		{"body too large", nil, true, func(c *RouteConfig) { c.MaxBodySize = 1 }, 413, exchange.ReasonBodyTooLarge},
	} {
		var servers []string
		if !fault.none {
			address := refusing(t)
			if fault.server != nil {
				address = startServer(t, fault.server)
			}
			servers = append(servers, address)
		}
		b := startBed(t, setup{servers: servers, route: fault.route})
		for accept, wantJSON := range map[string]bool{
			"": false, "*/*": false, "text/html,application/json": false, "application/json": true,
			"application/json;q=0.9, text/plain": true, "application/problem+json": true,
			"APPLICATION/JSON": true, "image/png, application/json": true, "image/png": false,
		} {
			for _, method := range []string{"PUT", "HEAD"} {
				got := fmt.Sprintf("%s, %s, Accept %q", fault.what, method, accept)
				v := b.dial(t)
				v.send(method + " / HTTP/1.1\r\nHost: a\r\nAccept: " + accept + "\r\nContent-Length: 2\r\n\r\nxx")
				resp, err := http.ReadResponse(v.r, &http.Request{Method: method})
				if err != nil {
					t.Fatal(got, err)
				}
				body, err := io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				if err != nil || resp.StatusCode != fault.status || (len(body) == 0) != (method == "HEAD") {
					t.Errorf("%s: %d %q, %v; want %d", got, resp.StatusCode, body, err, fault.status)
				}
				if method != "HEAD" {
					checkOwnBody(t, got, resp, string(body), wantJSON)
				}
				if result := b.result(t); result.Reason != fault.reason || result.Status != fault.status || result.Sent != int64(len(body)) {
					t.Errorf("%s: result %d %q, %d sent; want %d %q, %d", got, result.Status, result.Reason, result.Sent, fault.status, fault.reason, len(body))
				}
				_ = v.Close()
			}
		}
	}
}

func checkOwnBody(t *testing.T, got string, resp *http.Response, body string, wantJSON bool) {
	t.Helper()
	want := fmt.Sprintf("%d %s\n", resp.StatusCode, http.StatusText(resp.StatusCode))
	contentType := "text/plain; charset=utf-8"
	if wantJSON {
		contentType = "application/json"
		var parsed struct {
			Status int
			Error  string
		}
		if err := json.Unmarshal([]byte(body), &parsed); err != nil {
			t.Errorf("%s: %v in %q", got, err, body)
		}
		body = fmt.Sprintf("%d %s\n", parsed.Status, parsed.Error)
	}
	if body != want || resp.Header.Get("Content-Type") != contentType || resp.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("%s: got %q, %v; want %q as %s, not to be stored", got, body, resp.Header, want, contentType)
	}
	for name, values := range resp.Header {
		for _, inner := range []string{"127.0.0.1", "app", "drover", "secret", "fasthttp"} {
			if strings.Contains(strings.ToLower(strings.ReplaceAll(name+": "+values[0], "application/json", "")), inner) {
				t.Errorf("%s: field %s: %s tells of the inside", got, name, values[0])
			}
		}
	}
}

// TestPanicCostsOneRequest: the connection's client gets an answer, and the places that
// the request held are free again.
func TestPanicCostsOneRequest(t *testing.T) {
	b := startBed(t, setup{
		servers:  []string{startServer(t, answering(ok200))},
		upstream: func(o *UpstreamOptions) { o.Limits.MaxRequests, o.Limits.MaxRequestsPerServer = 1, 1 },
	})
	conns := b.members[0].Conns
	b.members[0].Conns = nil // an attempt panics on it.
	b.logger = zap.NewNop()
	v := b.dial(t)
	v.send(get("/"))
	if resp, _ := v.answer(); resp.StatusCode != 500 {
		t.Errorf("status %d; want 500", resp.StatusCode)
	}
	if result := b.result(t); result.Reason != exchange.ReasonPanic {
		t.Errorf("reason %q; want PN", result.Reason)
	}
	b.members[0].Conns = conns
	v = b.dial(t)
	v.send(get("/"))
	if resp, body := v.answer(); resp.StatusCode != 200 || body != "ok" {
		t.Errorf("the next request: %d %q; want 200 ok", resp.StatusCode, body)
	}
}

// TestInterimAnswersPass: 1xx come through before the final answer.
func TestInterimAnswersPass(t *testing.T) {
	b := startBed(t, setup{servers: []string{startServer(t, func(c net.Conn, r *bufio.Reader) {
		_, _, _ = readRequest(r)
		_, _ = io.WriteString(c, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"+ok200)
	})}})
	v := b.dial(t)
	v.send(get("/"))
	for _, want := range []int{103, 200} {
		resp, err := http.ReadResponse(v.r, nil)
		if err != nil || resp.StatusCode != want {
			t.Fatalf("got %+v, %v; want status %d", resp, err, want)
		}
		_ = resp.Body.Close()
	}
}

// TestInterimRules: interim answers are held to the rules of answers, whatever the server
// speaks.
func TestInterimRules(t *testing.T) {
	fields := []string{"Link: </a>", "X-Own: 1", "TE: trailers", "Proxy-Authenticate: Basic", "Proxy-Authentication-Info: nextnonce=x", "X-Internal: secret", "Server: x/1.2.3"}
	h1 := startServer(t, func(c net.Conn, r *bufio.Reader) {
		for {
			if _, _, err := readRequest(r); err != nil {
				return
			}
			_, _ = io.WriteString(c, "HTTP/1.1 103 Early Hints\r\nConnection: X-Hop\r\nX-Hop: secret\r\nKeep-Alive: 5\r\n"+strings.Join(fields, "\r\n")+"\r\n\r\n"+ok200)
		}
	})
	h2 := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for _, f := range fields {
			name, value, _ := strings.Cut(f, ": ")
			w.Header().Set(name, value)
		}
		w.WriteHeader(103)
		clear(w.Header())
		_, _ = io.WriteString(w, "ok")
	}))
	h2.Config.Protocols = &http.Protocols{}
	h2.Config.Protocols.SetUnencryptedHTTP2(true)
	h2.Start()
	defer h2.Close()
	for protocol, address := range map[transport.Protocol]string{transport.ProtocolH1: h1, transport.ProtocolH2C: h2.Listener.Addr().String()} {
		b := startBed(t, setup{servers: []string{address}, transport: func(c *transport.Config) { c.Protocol = protocol }, route: func(c *RouteConfig) {
			c.ResponseHeaders = HeaderOps{
				Remove: []string{"X-Internal"},
				Set:    []HeaderValue{{"Server", "mine"}, {"X-Answer", "1"}},
				Add:    []HeaderValue{{"X-Own", "2"}},
			}
		}})
		for _, request := range []string{get("/"), "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"} {
			v := b.dial(t)
			v.send(request)
			resp, err := http.ReadResponse(v.r, nil)
			if err != nil {
				t.Fatal(err)
			}
			want := http.Header{"Link": {"</a>"}, "X-Own": {"1"}, "Server": {"mine"}}
			if resp.StatusCode != 103 || !reflect.DeepEqual(resp.Header, want) {
				t.Errorf("%s: got %d %v; want 103 %v", protocol, resp.StatusCode, resp.Header, want)
			}
			if resp, body := v.answer(); resp.StatusCode != 200 || body != "ok" || resp.Header.Get("X-Answer") != "1" || resp.Header.Get("X-Own") != "2" {
				t.Errorf("%s: then got %d %v %q", protocol, resp.StatusCode, resp.Header, body)
			}
		}
	}
}

// TestBodyThrough: a body is known to be read to its end before that is told to the
// server, who may answer at once.
func TestBodyThrough(t *testing.T) {
	for _, c := range []struct {
		length int64
		reads  int // of one byte, out of two
		want   bool
	}{{2, 0, false}, {2, 1, false}, {2, 2, true}, {2, 3, true}, {exchange.LengthUnknown, 2, false}, {exchange.LengthUnknown, 3, true}} {
		b := countedBody{reader: strings.NewReader("ab"), length: c.length}
		for range c.reads {
			_, _ = b.Read(make([]byte, 1)) // an end is what the last one is for.
		}
		if got := b.through.Load(); got != c.want {
			t.Errorf("length %d, read %d times: got %v; want %v", c.length, c.reads, got, c.want)
		}
	}
}
