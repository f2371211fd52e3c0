package front

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"strings"
	"testing"
	"time"

	"drover/exchange"
	"drover/proxy/front/h3"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// http3Front is a Front whose UDP side is served too.
type http3Front struct {
	*testFront
	endpoint *h3.Endpoint
	udp      string
}

// serveHTTP3 starts a Front with an endpoint, and ends both with the test.
func serveHTTP3(t *testing.T, change func(*Config), handler Handler) *http3Front {
	t.Helper()
	site := writeCert(t, "a.test", "localhost")
	tf := serveTest(t, func(c *Config) {
		withTLS("1.2", site)(c)
		c.HTTP3 = &HTTP3Config{}
		c.HTTP3.SetDefaults()
		if change != nil {
			change(c)
		}
	}, handler)
	pc, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	hf := &http3Front{testFront: tf, endpoint: h3.NewEndpoint(pc), udp: pc.LocalAddr().String()}
	hf.endpoint.Use(tf.HTTP3())
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- hf.endpoint.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ran; err != nil {
			t.Errorf("endpoint: %v", err)
		}
	})
	return hf
}

func quicTLS() *tls.Config {
	return &tls.Config{InsecureSkipVerify: true, ServerName: "a.test", NextProtos: []string{"h3"}} //nolint:gosec // the test's own certificate.
}

// client is quic-go's.
func (hf *http3Front) client(t *testing.T) *http.Client {
	t.Helper()
	tr := &http3.Transport{TLSClientConfig: quicTLS()}
	t.Cleanup(func() { _ = tr.Close() })
	return &http.Client{Transport: tr, Timeout: patience}
}

// dialQUIC connects for tests that go below requests.
func (hf *http3Front) dialQUIC(t *testing.T, change func(*tls.Config)) (*quic.Conn, error) {
	t.Helper()
	cfg := quicTLS()
	if change != nil {
		change(cfg)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	qc, err := quic.DialAddr(ctx, hf.udp, cfg, &quic.Config{MaxIdleTimeout: 2 * patience})
	if err == nil {
		t.Cleanup(func() { _ = qc.CloseWithError(0, "") })
	}
	return qc, err
}

func (hf *http3Front) mustDialQUIC(t *testing.T) *quic.Conn {
	t.Helper()
	qc, err := hf.dialQUIC(t, nil)
	if err != nil {
		t.Fatal(err)
	}
	return qc
}

// open begins a request on a connection.
func open(t *testing.T, qc *quic.Conn, req *http.Request) *http3.RequestStream {
	t.Helper()
	cc := (&http3.Transport{}).NewClientConn(qc)
	str, err := cc.OpenRequestStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := str.SendRequestHeader(req); err != nil {
		t.Fatal(err)
	}
	_ = str.SetReadDeadline(time.Now().Add(patience)) // reads tell.
	return str
}

func makeRequest(t *testing.T, method, url string, body io.Reader) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

// makeOpen makes a request that the client library leaves open, of a method for which it
// adds no length.
func makeOpen(t *testing.T, url string) *http.Request { return makeRequest(t, "REPORT", url, nil) }

// TestHTTP3Bodies sends bodies of many sizes back and forth, trailers behind them.
func TestHTTP3Bodies(t *testing.T) {
	hf := serveHTTP3(t, nil, mirror)
	cl := hf.client(t)
	for _, size := range []int{0, 1, 8 << 10, 8<<10 + 1, 100000, 3 << 20} {
		body := bytes.Repeat([]byte("x"), size)
		for _, known := range []bool{true, false} {
			req := makeRequest(t, http.MethodPut, "https://"+hf.udp+"/p", io.NopCloser(bytes.NewReader(body)))
			req.ContentLength = int64(size)
			if !known {
				req.ContentLength = -1
				req.Trailer = http.Header{"X-Sum": {"42"}}
			}
			resp, err := cl.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if err != nil || !bytes.Equal(got, body) || resp.ProtoMajor != 3 {
				t.Errorf("size %d, known %v: got %d bytes over HTTP/%d, %v", size, known, len(got), resp.ProtoMajor, err)
			}
			if !known && resp.Trailer.Get("X-Sum") != "42" {
				t.Errorf("size %d: got trailer %v", size, resp.Trailer)
			}
		}
	}
	hf.waitOpen(t, 1)
}

// TestHTTP3Requests: what the handler sees.
func TestHTTP3Requests(t *testing.T) {
	hf := serveHTTP3(t, nil, echo)
	cl := hf.client(t)
	ask := func(method, target string, body io.Reader, fields ...string) string {
		t.Helper()
		req := makeRequest(t, method, "https://"+hf.udp, body)
		req.URL.Opaque, req.Host = target, "a.test"
		for _, f := range fields {
			name, value, _ := strings.Cut(f, ": ")
			req.Header[name] = append(req.Header[name], value)
		}
		req.Header["User-Agent"] = nil
		resp, err := cl.Do(req)
		if err != nil {
			return err.Error()
		}
		defer resp.Body.Close()
		got, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(resp.StatusCode, " ", string(got))
	}
	const gzip = "accept-encoding: gzip"
	for _, c := range []struct{ got, want string }{
		{ask("GET", "/a//b?x=%2F&y", nil), "200 GET /a//b?x=%2F&y 1.0 host=a.test | " + gzip + " | length=-2"},
		{ask("GET", "/", nil, "X-B: 2", "X-B: 1", "X-A: 3"), "200 GET / 1.0 host=a.test | " + gzip + " | x-a: 3 | x-b: 2 | x-b: 1 | length=-2"},
		{ask("GET", "/", nil, "Cookie: a=1", "Cookie: b=2"), "200 GET / 1.0 host=a.test | " + gzip + " | cookie: a=1; b=2 | length=-2"},
		{ask("POST", "/", strings.NewReader("four")), "200 POST / 1.0 host=a.test | " + gzip + ` | content-length: 4 | length=4 body="four"`},
		{ask("POST", "/", struct{ io.Reader }{strings.NewReader("some")}), "200 POST / 1.0 host=a.test | " + gzip + ` | length=-1 body="some"`},
		{ask("DELETE", "/", struct{ io.Reader }{strings.NewReader("some")}), "200 DELETE / 1.0 host=a.test | " + gzip + ` | length=-1 body="some"`},
		{ask("TRACE", "/", nil), "405 405 Method Not Allowed\n"},
		{ask("GET", "/", nil, "X-Long: "+strings.Repeat("x", 40<<10)), "431 431 Request Header Fields Too Large\n"},
		{ask("GET", "/", nil, "Expect: the best"), "417 417 Expectation Failed\n"},
	} {
		if c.got != c.want {
			t.Errorf("got  %q\nwant %q", c.got, c.want)
		}
	}
	if got, want := hf.rejected(), "405 MN, 431 HL, 417 EF"; got != want {
		t.Errorf("rejected: got %q; want %q", got, want)
	}
}

// TestHTTP3Answers: heads as the handler gave them, and nothing that it did not.
func TestHTTP3Answers(t *testing.T) {
	hf := serveHTTP3(t, func(c *Config) {
		c.TLS.HSTS = &HSTSConfig{MaxAge: time.Hour}
		c.HTTP3.AdvertisePort = 443
	}, func(ex *exchange.Exchange) {
		r := &exchange.Response{Status: 200, ContentLength: 3}
		switch string(ex.Request.Target) {
		case "/204":
			r.Status, r.ContentLength = 204, exchange.NoBody
		case "/304":
			r.Status, r.ContentLength = 304, 77
		case "/fields":
			for _, f := range [][2]string{
				{"Set-Cookie", "b"}, {"x-odd_Name", "1"}, {"Set-Cookie", "a"}, {"Connection", "X-Gone"}, {"Transfer-Encoding", "chunked"},
				{"Bad Name", "x"}, {"X-Value", "a\r\nb"}, {"Date", "today"}, {"Alt-Svc", "clear"}, {"Strict-Transport-Security", "max-age=1"},
				{"Strict-Transport-Security", "max-age=2"},
			} {
				r.Header.Add(f[0], f[1])
			}
		case "/hints":
			hint := &exchange.Response{Status: 103}
			hint.Header.Add("Link", "</a>")
			if err := ex.Client.Inform(hint); err != nil {
				t.Error(err)
			}
		}
		if err := ex.Client.Start(r); err != nil {
			t.Error(err)
		}
		if _, err := io.WriteString(ex.Client, "abc"[:max(0, min(3, int(r.ContentLength)))]); err != nil && r.Status == 200 {
			t.Error(err)
		}
	})
	tr := hf.client(t).Transport.(*http3.Transport)
	tr.DisableCompression = true
	cl := &http.Client{Transport: tr, Timeout: patience}
	var hints []string
	trace := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
		hints = append(hints, fmt.Sprint(code, h))
		return nil
	}})
	const own = " Alt-Svc:[h3=\":443\"; ma=86400]"
	const sts = " Strict-Transport-Security:[max-age=3600]"
	for _, c := range []struct{ method, target, want string }{
		{"GET", "/", "200 map[" + own[1:] + " Content-Length:[3]" + sts + "] abc"},
		{"HEAD", "/", "200 map[" + own[1:] + " Content-Length:[3]" + sts + "] "},
		{"GET", "/204", "204 map[" + own[1:] + sts + "] "},
		{"GET", "/304", "304 map[" + own[1:] + " Content-Length:[77]" + sts + "] "},
		{"GET", "/hints", "200 map[" + own[1:] + " Content-Length:[3]" + sts + "] abc"},
		{"GET", "/fields", "200 map[Alt-Svc:[clear] Content-Length:[3] Date:[today] Set-Cookie:[b a] Strict-Transport-Security:[max-age=1] X-Odd_name:[1] X-Value:[a  b]] abc"},
	} {
		resp, err := cl.Do(makeRequest(t, c.method, "https://"+hf.udp+c.target, nil).WithContext(trace))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if seen := fmt.Sprint(resp.StatusCode, " ", resp.Header, " ", string(got)); seen != c.want || err != nil {
			t.Errorf("%s %s: got %q, %v; want %q", c.method, c.target, seen, err, c.want)
		}
	}
	if got, want := fmt.Sprint(hints), "[103 map[Link:[</a>]]]"; got != want {
		t.Errorf("hints: got %s; want %s", got, want)
	}
}

// TestAltSvc: answers over TCP tell of HTTP/3, on the port that they came from.
func TestAltSvc(t *testing.T) {
	hf := serveHTTP3(t, nil, reply("ok"))
	tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, Protocols: &http.Protocols{}} //nolint:gosec // its own certificate.
	defer tr.CloseIdleConnections()
	_, port, _ := net.SplitHostPort(hf.addr)
	for _, h2 := range []bool{false, true} {
		tr.Protocols.SetHTTP1(!h2)
		tr.Protocols.SetHTTP2(h2)
		for _, want := range []string{`h3=":` + port + `"; ma=86400`, ""} {
			if want == "" {
				hf.Update(hf.without(func(c *Config) { c.HTTP3 = nil }))
			} else {
				hf.Update(hf.cfg)
			}
			resp, err := tr.RoundTrip(makeRequest(t, "GET", "https://"+hf.addr+"/", nil))
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if got := resp.Header.Get("Alt-Svc"); got != want {
				t.Errorf("HTTP/%d: got %q; want %q", resp.ProtoMajor, got, want)
			}
		}
		tr.CloseIdleConnections()
	}
}

func (tf *testFront) without(change func(*Config)) Config {
	cfg := tf.cfg
	change(&cfg)
	return cfg
}

// TestHTTP3Cut: an answer that breaks off never looks whole.
func TestHTTP3Cut(t *testing.T) {
	hf := serveHTTP3(t, nil, func(ex *exchange.Exchange) {
		r := &exchange.Response{Status: 200, ContentLength: exchange.LengthUnknown}
		short := string(ex.Request.Target) == "/short"
		if short {
			r.ContentLength = 10
		}
		if ex.Client.Start(r) == nil {
			_, _ = io.WriteString(ex.Client, "part") // the test sees what came.
			_ = ex.Client.Flush()
		}
		if string(ex.Request.Target) == "/panic" {
			panic("on purpose")
		}
		ex.Result.Aborted = !short
	})
	hf.opts.Logger = quietLogger()
	cl := hf.client(t)
	for _, target := range []string{"/short", "/aborted", "/panic"} {
		resp, err := cl.Get("https://" + hf.udp + target)
		if err != nil {
			continue // the reset has overtaken the head.
		}
		got, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err == nil {
			t.Errorf("%s: got %q as a whole answer", target, got)
		}
	}
}

// TestHTTP3Panic: a panic before the answer becomes one; behind its beginning it cuts it.
func TestHTTP3Panic(t *testing.T) {
	hf := serveHTTP3(t, nil, func(ex *exchange.Exchange) {
		if string(ex.Request.Target) == "/begun" && ex.Client.Start(&exchange.Response{Status: 200, ContentLength: 3}) == nil {
			_, _ = io.WriteString(ex.Client, "abc") // it waits.
		}
		panic("on purpose")
	})
	hf.opts.Logger = quietLogger()
	cl := hf.client(t)
	resp, err := cl.Get("https://" + hf.udp + "/")
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if resp.StatusCode != 500 || string(got) != "500 Internal Server Error\n" || err != nil {
		t.Errorf("got %d %q, %v; want 500", resp.StatusCode, got, err)
	}
	if resp, err = cl.Get("https://" + hf.udp + "/begun"); err == nil {
		got, err = io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err == nil {
			t.Errorf("got %d %q as a whole answer", resp.StatusCode, got)
		}
	}
}

// TestHTTP3EarlyAnswer: the answer need not wait for the body.
func TestHTTP3EarlyAnswer(t *testing.T) {
	hf := serveHTTP3(t, func(c *Config) { c.MaxBodySize = 100 << 10 }, reply("enough"))
	cl := hf.client(t)
	body, w := io.Pipe()
	defer w.Close()
	resp, err := cl.Post("https://"+hf.udp+"/", "text/plain", body)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if string(got) != "enough" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	resp, err = cl.Post("https://"+hf.udp+"/", "text/plain", bytes.NewReader(make([]byte, 200<<10)))
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("got %d; want 413", resp.StatusCode)
	}
}

// TestHTTP3Continue: the body is asked for when it is wanted.
func TestHTTP3Continue(t *testing.T) {
	hf := serveHTTP3(t, nil, func(ex *exchange.Exchange) {
		if string(ex.Request.Target) == "/refuse" {
			respond(ex, "no")
			return
		}
		got, err := io.ReadAll(ex.Request.Body)
		if err != nil {
			t.Error(err)
		}
		respond(ex, string(got))
	})
	for target, want := range map[string]string{"/read": "100 200 body", "/refuse": "200 no"} {
		body, w := io.Pipe()
		req := makeRequest(t, "POST", "https://a.test"+target, body)
		req.Header.Set("Expect", "100-continue")
		var seen []string
		req = req.WithContext(httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{Got1xxResponse: func(code int, _ textproto.MIMEHeader) error {
			seen = append(seen, fmt.Sprint(code))
			return nil
		}}))
		go func() {
			_, _ = io.WriteString(w, "body") // the answer tells.
			_ = w.Close()
		}()
		resp, err := (&http3.Transport{}).NewClientConn(hf.mustDialQUIC(t)).RoundTrip(req)
		_ = body.Close() // where nobody read it.
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		seen = append(seen, fmt.Sprint(resp.StatusCode), string(got))
		if strings.Join(seen, " ") != want || err != nil {
			t.Errorf("%s: got %v, %v; want %q", target, seen, err, want)
		}
	}
}

// TestHTTP3WebSocket opens a tunnel by RFC 9220 and uses it both ways.
func TestHTTP3WebSocket(t *testing.T) {
	hf := serveHTTP3(t, nil, func(ex *exchange.Exchange) {
		q := &ex.Request
		if q.Upgrade != "websocket" || string(q.Method) != "GET" || len(q.Header.Get("Sec-WebSocket-Key")) != 24 {
			t.Errorf("got %q, upgrade %q, key %q", q.Method, q.Upgrade, q.Header.Get("Sec-WebSocket-Key"))
		}
		r := &exchange.Response{Status: 101, ContentLength: exchange.NoBody}
		r.Header.Add("Upgrade", "websocket")
		r.Header.Add("Sec-WebSocket-Accept", "x")
		r.Header.Add("Sec-WebSocket-Protocol", "chat")
		if err := ex.Client.Start(r); err != nil {
			t.Error(err)
		}
		tunnel, err := ex.Client.Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = io.Copy(tunnel, tunnel) // the test sees what came.
		if err := tunnel.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
			t.Error(err)
		}
	})
	req := makeRequest(t, http.MethodConnect, "https://a.test/chat", nil)
	req.Proto = "websocket"
	str := open(t, hf.mustDialQUIC(t), req)
	resp, err := str.ReadResponse()
	if err != nil || resp.StatusCode != 200 || resp.Header.Get("Sec-Websocket-Protocol") != "chat" || resp.Header.Get("Sec-Websocket-Accept") != "" {
		t.Fatalf("got %+v, %v", resp, err)
	}
	for _, word := range []string{"hello", "again"} {
		if _, err := io.WriteString(str, word); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(word))
		if _, err := io.ReadFull(str, got); err != nil || string(got) != word {
			t.Fatalf("got %q, %v; want %q", got, err, word)
		}
	}
	_ = str.Close()
	if rest, err := io.ReadAll(str); len(rest) > 0 || err != nil {
		t.Errorf("got %q, %v; want a clean end", rest, err)
	}
}

// waitClosed gives the error that a connection was closed by.
func waitClosed(t *testing.T, qc *quic.Conn) error {
	t.Helper()
	select {
	case <-qc.Context().Done():
		return context.Cause(qc.Context())
	case <-time.After(patience):
		t.Fatal("the connection stays open")
		return nil
	}
}

// TestHTTP3Stalled: whoever says nothing is closed, also within a head.
func TestHTTP3Stalled(t *testing.T) {
	hf := serveHTTP3(t, func(c *Config) {
		c.KeepAliveTimeout, c.BodyIdleTimeout = 100*time.Millisecond, 100*time.Millisecond
	}, mirror)
	for name, stall := range map[string]func(*quic.Conn){
		"silent": func(*quic.Conn) {},
		"half a head": func(qc *quic.Conn) {
			str, err := qc.OpenStream()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := str.Write([]byte{1, 0x40, 0x80, 0}); err != nil { // HEADERS of 128 bytes, one of them
				t.Fatal(err)
			}
		},
		"half a body": func(qc *quic.Conn) {
			req := makeRequest(t, "POST", "https://a.test/", nil)
			req.Header.Set("Content-Length", "1000")
			resp, err := open(t, qc, req).ReadResponse()
			if err != nil || resp.StatusCode != http.StatusRequestTimeout {
				t.Errorf("got %+v, %v; want 408", resp, err)
			}
		},
	} {
		qc := hf.mustDialQUIC(t)
		stall(qc)
		var closed *quic.ApplicationError
		if err := waitClosed(t, qc); !errors.As(err, &closed) || closed.ErrorCode != quic.ApplicationErrorCode(http3.ErrCodeNoError) {
			t.Errorf("%s: got %v; want H3_NO_ERROR", name, err)
		}
	}
}

// TestHTTP3MinBodyRate: a body that goes on slowly is given up, after its grace.
func TestHTTP3MinBodyRate(t *testing.T) {
	t.Parallel() // it does nothing but wait.
	hf := serveHTTP3(t, func(c *Config) { c.MinBodyRate, c.BodyIdleTimeout = 1<<20, time.Hour }, func(ex *exchange.Exchange) {
		_, err := io.Copy(io.Discard, ex.Request.Body)
		respond(ex, fmt.Sprint(err))
	})
	body, w := io.Pipe()
	go func() { _, _ = io.WriteString(w, "slow") }() // and nothing more.
	req := makeRequest(t, "POST", "https://"+hf.udp+"/", body)
	req.ContentLength = 1 << 20
	resp, err := hf.client(t).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	_ = body.Close()
	if string(got) != exchange.ErrBodyTimeout.Error() || err != nil {
		t.Errorf("got %q, %v; want %q", got, err, exchange.ErrBodyTimeout)
	}
}

// TestHTTP3Refused: what the front itself answers to a call of gRPC has gRPC's form, and
// trailers that only a head may have are as good as a cut.
func TestHTTP3Refused(t *testing.T) {
	hf := serveHTTP3(t, func(c *Config) { c.MaxBodySize = 10 }, func(ex *exchange.Exchange) {
		_, err := io.Copy(io.Discard, ex.Request.Body)
		respond(ex, fmt.Sprint(err))
	})
	cl := hf.client(t)
	call := makeRequest(t, "POST", "https://"+hf.udp+"/s/m", strings.NewReader("more than ten"))
	call.Header.Set("Content-Type", "application/grpc")
	resp, err := cl.Do(call)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != 200 || resp.Header.Get("Grpc-Status") != "8" {
		t.Errorf("got %d %v; want 200 with grpc-status 8", resp.StatusCode, resp.Header)
	}
	req := makeRequest(t, "POST", "https://"+hf.udp+"/", struct{ io.Reader }{strings.NewReader("few")})
	req.Trailer = http.Header{"X-Forwarded-For": {"10.0.0.1"}}
	if resp, err = cl.Do(req); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if string(got) != io.ErrUnexpectedEOF.Error() || err != nil {
		t.Errorf("got %q, %v; want %q", got, err, io.ErrUnexpectedEOF)
	}
}

// TestHTTP3RapidReset: a client that asks and takes back does not go on for long
// (CVE-2023-44487).
func TestHTTP3RapidReset(t *testing.T) {
	hf := serveHTTP3(t, nil, func(ex *exchange.Exchange) {
		if string(ex.Request.Target) == "/wait" {
			_ = ex.Client.Start(&exchange.Response{Status: 200, ContentLength: exchange.LengthUnknown})
			_ = ex.Client.Flush()
			_, _ = io.Copy(io.Discard, ex.Request.Body) // until the client gives up.
			return
		}
		respond(ex, "ok")
	})
	qc := hf.mustDialQUIC(t)
	cc := (&http3.Transport{}).NewClientConn(qc)
	const limit = 2000
	asked := 0
	for ; asked < limit && qc.Context().Err() == nil; asked++ {
		str, err := cc.OpenRequestStream(t.Context())
		if err != nil {
			break
		}
		if str.SendRequestHeader(makeOpen(t, "https://a.test/wait")) != nil {
			break
		}
		if _, err := io.WriteString(str, "b"); err != nil {
			break
		}
		if _, err := str.ReadResponse(); err != nil {
			break
		}
		str.CancelRead(quic.StreamErrorCode(http3.ErrCodeRequestCanceled))
		str.CancelWrite(quic.StreamErrorCode(http3.ErrCodeRequestCanceled))
	}
	var closed *quic.ApplicationError
	if err := waitClosed(t, qc); !errors.As(err, &closed) || closed.ErrorCode != quic.ApplicationErrorCode(http3.ErrCodeExcessiveLoad) {
		t.Errorf("after %d requests: got %v; want H3_EXCESSIVE_LOAD", asked, err)
	}
	if asked == limit {
		t.Errorf("%d requests went through", asked)
	}
	resp, err := hf.client(t).Get("https://" + hf.udp + "/")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
}

// TestHTTP3Drain: what runs is finished, what comes later goes elsewhere.
func TestHTTP3Drain(t *testing.T) {
	begun, finish := make(chan struct{}), make(chan struct{})
	hf := serveHTTP3(t, nil, func(ex *exchange.Exchange) {
		close(begun)
		<-finish
		respond(ex, "done")
	})
	type answer struct {
		text string
		err  error
	}
	answered := make(chan answer, 1)
	cl := hf.client(t)
	go func() {
		resp, err := cl.Get("https://" + hf.udp + "/")
		if err != nil {
			answered <- answer{err: err}
			return
		}
		text, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		answered <- answer{string(text), err}
	}()
	<-begun
	idle := hf.mustDialQUIC(t)
	hf.endpoint.StopAccepting()
	drained := make(chan error, 1)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	go func() { drained <- hf.Drain(ctx) }()
	waitClosed(t, idle)
	select {
	case err := <-drained:
		t.Fatalf("drained while a request ran: %v", err)
	default:
	}
	close(finish)
	if got := <-answered; got.text != "done" || got.err != nil {
		t.Errorf("got %q, %v", got.text, got.err)
	}
	if err := <-drained; err != nil {
		t.Error(err)
	}
}

// TestHTTP3DrainCut: at the end of patience what is left is cut, and counted.
func TestHTTP3DrainCut(t *testing.T) {
	begun, broke := make(chan struct{}), make(chan exchange.Reason, 1)
	hf := serveHTTP3(t, nil, func(ex *exchange.Exchange) {
		close(begun)
		_, _ = io.Copy(io.Discard, ex.Request.Body) // until the connection breaks.
		broke <- ex.Client.(exchange.Breaker).Broke()
	})
	str := open(t, hf.mustDialQUIC(t), makeOpen(t, "https://a.test/"))
	if _, err := io.WriteString(str, "b"); err != nil { // without it there may be no body
		t.Fatal(err)
	}
	<-begun
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := hf.RetireHTTP3(ctx, ctx); err == nil || !strings.Contains(err.Error(), "are left") {
		t.Errorf("got %v", err)
	}
	if got := <-broke; got != exchange.ReasonDrained {
		t.Errorf("got %q; want %q", got, exchange.ReasonDrained)
	}
}

// TestHTTP3ClientAuth: over QUIC clients are held to the same certificates and names.
func TestHTTP3ClientAuth(t *testing.T) {
	ca := newAuthority(t, "ours")
	hf := serveHTTP3(t, func(c *Config) {
		c.TLS.ClientAuth = &ClientAuthConfig{CAFile: ca.file, Required: true, AllowedNames: []string{"one.test"}}
	}, reply("in"))
	for _, c := range []struct {
		name   string
		client *tls.Certificate
		host   string
		want   string // "" for no connection
	}{
		{"none", nil, "a.test", ""},
		{"another name", ca.client(t, "two.test"), "a.test", ""},
		{"allowed", ca.client(t, "one.test"), "a.test", "200"},
		{"for another host", ca.client(t, "one.test"), "b.test", "421"},
	} {
		qc, err := hf.dialQUIC(t, func(cfg *tls.Config) {
			cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				if c.client == nil {
					return &tls.Certificate{}, nil
				}
				return c.client, nil
			}
		})
		if err != nil {
			t.Fatal(err) // TLS 1.3 has the client believe that all is well.
		}
		resp, err := (&http3.Transport{}).NewClientConn(qc).RoundTrip(makeRequest(t, "GET", "https://"+c.host+"/", nil))
		switch {
		case c.want == "" && err == nil:
			t.Errorf("%s: got %d; want no answer", c.name, resp.StatusCode)
		case c.want == "":
		case err != nil:
			t.Errorf("%s: %v", c.name, err)
		case fmt.Sprint(resp.StatusCode) != c.want:
			t.Errorf("%s: got %d; want %s", c.name, resp.StatusCode, c.want)
		}
		_ = qc.CloseWithError(0, "")
	}
	hf.waitOpen(t, 0)
	if got, want := hf.rejected(), "495 CF, 495 CF, 421 MD"; got != want {
		t.Errorf("rejected: got %q; want %q", got, want)
	}
}

// TestHTTP3Sessions: a session that was made over TCP is resumed over QUIC.
func TestHTTP3Sessions(t *testing.T) {
	hf := serveHTTP3(t, nil, reply("ok"))
	cache := tls.NewLRUClientSessionCache(1)
	if _, err := hf.visit(t, &tls.Config{InsecureSkipVerify: true, ClientSessionCache: cache}, nil); err != nil { //nolint:gosec // its own certificate.
		t.Fatal(err)
	}
	qc, err := hf.dialQUIC(t, func(cfg *tls.Config) { cfg.ClientSessionCache = cache })
	if err != nil {
		t.Fatal(err)
	}
	if !qc.ConnectionState().TLS.DidResume {
		t.Error("the session was not resumed")
	}
}

// TestHTTP3Limits: connections over QUIC count with the others.
func TestHTTP3Limits(t *testing.T) {
	hf := serveHTTP3(t, func(c *Config) { c.MaxConnections = 2 }, reply("ok"))
	tcp := hf.mustDialTLS(t)
	first := hf.mustDialQUIC(t)
	hf.waitOpen(t, 2)
	if _, err := hf.dialQUIC(t, nil); err == nil {
		t.Error("got a third connection; want two")
	}
	_ = first.CloseWithError(0, "")
	hf.waitOpen(t, 1)
	next := hf.mustDialQUIC(t)
	hf.Update(hf.without(func(c *Config) { c.MaxConnections, c.MaxConnectionsPerClient = 0, 2 }))
	if _, err := hf.dialQUIC(t, nil); err == nil {
		t.Error("got a third connection of one client; want two")
	}
	_ = next.CloseWithError(0, "")
	_ = tcp.Close()
	// A client that was refused may try again, and is refused and counted again.
	got := strings.Split(hf.rejected(), ", ")
	if got = slices.Compact(got); !slices.Equal(got, []string{"503 OL", "429 CC"}) {
		t.Errorf("rejected: got %q; want 503 OL, then 429 CC", got)
	}
}

// TestHTTP3NewFront: an endpoint goes to another Front, and its connections stay.
func TestHTTP3NewFront(t *testing.T) {
	hf := serveHTTP3(t, nil, reply("old"))
	next, err := New(hf.cfg, reply("new"), Options{Logger: quietLogger()})
	if err != nil {
		t.Fatal(err)
	}
	ask := func(qc *http3.ClientConn) string {
		t.Helper()
		resp, err := qc.RoundTrip(makeRequest(t, "GET", "https://a.test/", nil))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(got)
	}
	before := (&http3.Transport{}).NewClientConn(hf.mustDialQUIC(t))
	if got := ask(before); got != "old" {
		t.Errorf("got %q; want the old Front's answer", got)
	}
	hf.endpoint.Use(next.HTTP3())
	after := (&http3.Transport{}).NewClientConn(hf.mustDialQUIC(t))
	if got := ask(before) + " " + ask(after); got != "old new" {
		t.Errorf("got %q; want that connections stay with their Front", got)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := next.Drain(ctx); err != nil {
		t.Error(err)
	}
}
