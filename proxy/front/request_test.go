package front

import (
	"io"
	"strconv"
	"strings"
	"testing"

	"drover/exchange"
)

// seen is what a table row expects: what echo answers, or a refusal.
func seen(text string) string { return "200 " + text }

// Each row is bytes from a client, and what the handler saw or the client was told.
// A refused request also closes the connection, and nothing of it reaches a handler.
var requestRows = []struct {
	name, raw, want string
}{
	// targets, as they stand
	{"plain", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", seen("GET / 1.1 host=a | Host: a | length=-2")},
	{"double slash with scheme", "GET //p?u=http://z HTTP/1.1\r\nHost: a\r\n\r\n", seen("GET //p?u=http://z 1.1 host=a | Host: a | length=-2")},
	{"lone question mark", "GET /a? HTTP/1.1\r\nHost: a\r\n\r\n", seen("GET /a? 1.1 host=a | Host: a | length=-2")},
	{"fragment", "GET /a#f HTTP/1.1\r\nHost: a\r\n\r\n", seen("GET /a#f 1.1 host=a | Host: a | length=-2")},
	{"encoded slash and dots", "GET /a%2Fb/../c//d HTTP/1.1\r\nHost: a\r\n\r\n", seen("GET /a%2Fb/../c//d 1.1 host=a | Host: a | length=-2")},
	{"absolute", "GET http://B:81/x?y HTTP/1.1\r\nHost: b:81\r\n\r\n", seen("GET /x?y 1.1 host=B:81 | Host: B:81 | length=-2")},
	{"absolute https", "GET HTTPS://b HTTP/1.1\r\nHost: b:443\r\n\r\n", seen("GET / 1.1 host=b | Host: b | length=-2")},
	{"absolute with query only", "GET http://b?x=/ HTTP/1.1\r\nHost: b\r\n\r\n", seen("GET /?x=/ 1.1 host=b | Host: b | length=-2")},
	{"absolute, no Host in 1.0", "GET http://b/ HTTP/1.0\r\n\r\n", seen("GET / 1.0 host=b | length=-2")},
	{"absolute options", "OPTIONS http://b HTTP/1.1\r\nHost: b\r\n\r\n", seen("OPTIONS * 1.1 host=b | Host: b | length=-2")},
	{"absolute other scheme", "GET ftp://b/ HTTP/1.1\r\nHost: a\r\n\r\n", "400 BR"},
	{"absolute, of another host", "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", "400 BR"},
	{"absolute userinfo", "GET http://u@b/ HTTP/1.1\r\nHost: a\r\n\r\n", "400 BR"},
	{"absolute without host", "GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n", "400 BR"},
	{"absolute without Host field", "GET http://b/ HTTP/1.1\r\n\r\n", "400 BR"},
	{"options asterisk", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", seen("OPTIONS * 1.1 host=a | Host: a | length=-2")},
	{"get asterisk", "GET * HTTP/1.1\r\nHost: a\r\n\r\n", "400 BR"},
	{"relative target", "GET a HTTP/1.1\r\nHost: a\r\n\r\n", "400 BR"},
	{"control in target", "GET /a\x01b HTTP/1.1\r\nHost: a\r\n\r\n", "400 BR"},
	{"NUL in target", "GET /a\x00b HTTP/1.1\r\nHost: a\r\n\r\n", "400 BR"},
	{"tab in target", "GET /a\tb HTTP/1.1\r\nHost: a\r\n\r\n", "400 BR"},
	{"space in target", "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", "400 BR"},
	{"high bytes in target", "GET /\xc3\xa4 HTTP/1.1\r\nHost: a\r\n\r\n", seen("GET /\xc3\xa4 1.1 host=a | Host: a | length=-2")},

	// methods and versions
	{"connect", "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", "405 MN"},
	{"trace", "TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", "405 MN"},
	{"own method", "M-SEARCH / HTTP/1.1\r\nHost: a\r\n\r\n", seen("M-SEARCH / 1.1 host=a | Host: a | length=-2")},
	{"bad method", "GE(T / HTTP/1.1\r\nHost: a\r\n\r\n", "400 BR"},
	{"no method", " / HTTP/1.1\r\nHost: a\r\n\r\n", "400 BR"},
	{"tabs in request line", "GET\t/\tHTTP/1.1\r\nHost: a\r\n\r\n", "400 BR"},
	{"two spaces", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n", "400 BR"},
	{"space at the line's end", "GET / HTTP/1.1 \r\nHost: a\r\n\r\n", "400 BR"},
	{"no version", "GET /\r\nHost: a\r\n\r\n", "400 BR"},
	{"version 1.2", "GET / HTTP/1.2\r\nHost: a\r\n\r\n", seen("GET / 1.1 host=a | Host: a | length=-2")},
	{"version 1.2 without host", "GET / HTTP/1.2\r\n\r\n", "400 BR"},
	{"version 2.0", "GET / HTTP/2.0\r\nHost: a\r\n\r\n", "505 VN"},
	{"version 0.9", "GET / HTTP/0.9\r\nHost: a\r\n\r\n", "505 VN"},
	{"version 9.9", "GET / HTTP/9.9\r\nHost: a\r\n\r\n", "505 VN"},
	{"version malformed", "GET / HTTP/1\r\nHost: a\r\n\r\n", "400 BR"},
	{"version lower case", "GET / http/1.1\r\nHost: a\r\n\r\n", "400 BR"},
	{"nearly the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", "400 BR"},
	{"empty line before", "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", seen("GET / 1.1 host=a | Host: a | length=-2")},

	// hosts
	{"no host", "GET / HTTP/1.1\r\n\r\n", "400 BR"},
	{"no host in 1.0", "GET / HTTP/1.0\r\n\r\n", seen("GET / 1.0 host= | length=-2")},
	{"empty host", "GET / HTTP/1.1\r\nHost:\r\n\r\n", "400 BR"},
	{"two hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", "400 BR"},
	{"two hosts in 1.0", "GET / HTTP/1.0\r\nHost: a\r\nhost: b\r\n\r\n", "400 BR"},
	{"userinfo in host", "GET / HTTP/1.1\r\nHost: a:b@h\r\n\r\n", "400 BR"},
	{"slash in host", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", "400 BR"},
	{"space in host", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n", "400 BR"},
	{"bad port", "GET / HTTP/1.1\r\nHost: a:8x\r\n\r\n", "400 BR"},
	{"port too big", "GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n", "400 BR"},
	{"port only", "GET / HTTP/1.1\r\nHost: :80\r\n\r\n", "400 BR"},
	{"host case kept", "GET / HTTP/1.1\r\nHost: ExAmple.COM:80\r\n\r\n", seen("GET / 1.1 host=ExAmple.COM:80 | Host: ExAmple.COM:80 | length=-2")},
	{"IPv6", "GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", seen("GET / 1.1 host=[::1]:80 | Host: [::1]:80 | length=-2")},
	{"IPv6 open", "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", "400 BR"},

	// fields: order, spelling and duplicates stay
	{
		"fields as they are",
		"POST / HTTP/1.1\r\nx-b: 1\r\nETag: y\r\nUser-Agent: u\r\nHost: a\r\nuser-agent: v\r\nCookie: a=\"b c\"; d\r\nDNT: 1\r\nX-b:2\r\nEmpty:\r\nContent-Type: t\r\nContent-type: s\r\n\r\n",
		seen(`POST / 1.1 host=a | x-b: 1 | ETag: y | User-Agent: u | Host: a | user-agent: v | Cookie: a="b c"; d | DNT: 1 | X-b: 2 | Empty:  | Content-Type: t | Content-type: s | length=-2`),
	},
	{"padded value", "GET / HTTP/1.1\r\nHost: \t a \t\r\nX:\ta b\tc \r\n\r\n", seen("GET / 1.1 host=a | Host: a | X: a b\tc | length=-2")},
	{"obs-text", "GET / HTTP/1.1\r\nHost: a\r\nX: \xe4\r\n\r\n", seen("GET / 1.1 host=a | Host: a | X: \xe4 | length=-2")},
	{"hop-by-hop are seen", "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, x\r\nKeep-Alive: 5\r\nTE: trailers\r\n\r\n", seen("GET / 1.1 host=a | Host: a | Connection: keep-alive, x | Keep-Alive: 5 | TE: trailers | length=-2")},
	{"space in name", "GET / HTTP/1.1\r\nHost: a\r\nFoo Bar: x\r\n\r\n", "400 BR"},
	{"space before colon", "GET / HTTP/1.1\r\nHost: a\r\nFoo : x\r\n\r\n", "400 BR"},
	{"space before host's colon", "GET / HTTP/1.1\r\nHost : a\r\n\r\n", "400 BR"},
	{"tab before colon", "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n", "400 BR"},
	{"vertical tab in name", "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding\v: chunked\r\n\r\n0\r\n\r\n", "400 BR"},
	{"empty name", "GET / HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n", "400 BR"},
	{"no colon", "GET / HTTP/1.1\r\nHost: a\r\nfoo\r\n\r\n", "400 BR"},
	{"folded", "GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n", "400 BR"},
	{"folded first", "GET / HTTP/1.1\r\n Host: a\r\n\r\n", "400 BR"},
	{"bare LF in head", "GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", "400 BR"},
	{"bare LF after request line", "GET / HTTP/1.1\nHost: a\r\n\r\n", "400 BR"},
	{"bare LF before request line", "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "400 BR"},
	{"bare LF at the end", "GET / HTTP/1.1\r\nHost: a\r\n\n", "400 BR"},
	{"bare LF throughout", "GET / HTTP/1.1\nHost: a\n\n", "400 BR"},
	{"bare CR in value", "GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", "400 BR"},
	{"bare CR smuggles host", "GET / HTTP/1.1\r\nX: a\rHost: b\r\nHost: a\r\n\r\n", "400 BR"},
	{"NUL in value", "GET / HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n", "400 BR"},
	{"DEL in value", "GET / HTTP/1.1\r\nHost: a\r\nX: a\x7f\r\n\r\n", "400 BR"},
	{"NUL in name", "GET / HTTP/1.1\r\nHost: a\r\nX\x00: a\r\n\r\n", "400 BR"},
	{"too many fields", "GET / HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("X: y\r\n", 128) + "\r\n", "431 HL"},
	{"head too large", "GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("y", 33<<10) + "\r\n\r\n", "431 HL"},
	{"target too large", "GET /" + strings.Repeat("y", 33<<10) + " HTTP/1.1\r\nHost: a\r\n\r\n", "431 HL"},

	// framing
	{"length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", seen(`POST / 1.1 host=a | Host: a | Content-Length: 3 | length=3 body="abc"`)},
	{"length 1", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\na", seen(`POST / 1.1 host=a | Host: a | Content-Length: 1 | length=1 body="a"`)},
	{"length 0", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", seen(`POST / 1.1 host=a | Host: a | Content-Length: 0 | length=0 body=""`)},
	{"no length", "POST / HTTP/1.1\r\nHost: a\r\n\r\n", seen("POST / 1.1 host=a | Host: a | length=-2")},
	{"get with length", "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", seen(`GET / 1.1 host=a | Host: a | Content-Length: 3 | length=3 body="abc"`)},
	{"get chunked", "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", seen(`GET / 1.1 host=a | Host: a | Transfer-Encoding: chunked | length=-1 body="abc"`)},
	{"chunked in capitals", "POST / HTTP/1.1\r\nHost: a\r\ntransfer-encoding: CHUNKED\r\n\r\nA;x=\"y\"\r\n0123456789\r\n000\r\n\r\n", seen(`POST / 1.1 host=a | Host: a | transfer-encoding: CHUNKED | length=-1 body="0123456789"`)},
	{"trailer", "POST / HTTP/1.1\r\nHost: a\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-Sum: 7\r\n\r\n", seen(`POST / 1.1 host=a | Host: a | Trailer: X-Sum | Transfer-Encoding: chunked | length=-1 body="a" trailer X-Sum: 7`)},
	{"multipart is not touched", "POST / HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary=x\r\nContent-Length: 11\r\n\r\n--x  \r\nhey!", seen(`POST / 1.1 host=a | Host: a | Content-Type: multipart/form-data; boundary=x | Content-Length: 11 | length=11 body="--x  \r\nhey!"`)},
	{"length in 1.0", "POST / HTTP/1.0\r\nContent-Length: 1\r\n\r\na", seen(`POST / 1.0 host= | Content-Length: 1 | length=1 body="a"`)},
	{"two lengths", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc", "400 BR"},
	{"conflicting lengths", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\ncontent-length: 4\r\n\r\nabcd", "400 BR"},
	{"list of lengths", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\nabc", "400 BR"},
	{"signed length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc", "400 BR"},
	{"negative length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -3\r\n\r\nabc", "400 BR"},
	{"hex length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x3\r\n\r\nabc", "400 BR"},
	{"empty length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\nabc", "400 BR"},
	{"length overflows", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\nabc", "400 BR"},
	{"length overflows to 3", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551619\r\n\r\nabc", "400 BR"},
	{"length and coding", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400 BR"},
	{"coding and length", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n", "400 BR"},
	{"identity", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\nContent-Length: 3\r\n\r\nabc", "400 BR"},
	{"identity alone", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n", "400 BR"},
	{"gzip", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", "400 BR"},
	{"gzip, chunked", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "400 BR"},
	{"chunked, identity", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", "400 BR"},
	{"chunked twice", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400 BR"},
	{"xchunked", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", "400 BR"},
	{"quoted chunked", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n", "400 BR"},
	{"empty coding", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n", "400 BR"},
	{"chunked in 1.0", "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400 BR"},

	// expectations and upgrades
	{"other expectation", "POST / HTTP/1.1\r\nHost: a\r\nExpect: foo\r\nContent-Length: 3\r\n\r\n", "417 EF"},
	{"expectation in 1.0", "GET / HTTP/1.0\r\nExpect: foo\r\n\r\n", seen("GET / 1.0 host= | Expect: foo | length=-2")},
	{"expect without body", "GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n", seen("GET / 1.1 host=a | Host: a | Expect: 100-continue | length=-2")},
	{"h2c", "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n\r\n", seen("GET / 1.1 host=a | Host: a | Connection: Upgrade, HTTP2-Settings | Upgrade: h2c | HTTP2-Settings: x | length=-2")},
	{"upgrade not in connection", "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n", seen("GET / 1.1 host=a | Host: a | Upgrade: websocket | length=-2")},
	{"upgrade in 1.0", "GET / HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", seen("GET / 1.0 host= | Connection: upgrade | Upgrade: websocket | length=-2")},
	{"upgrade with body", "POST / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 1\r\n\r\nx", seen(`POST / 1.1 host=a | Host: a | Connection: upgrade | Upgrade: websocket | Content-Length: 1 | length=1 body="x"`)},
	{"upgrade", "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: h2c, WebSocket\r\n\r\n", seen("GET / 1.1 host=a | Host: a | Connection: keep-alive, Upgrade | Upgrade: h2c, WebSocket | length=-2 upgrade=WebSocket")},
}

func TestRequests(t *testing.T) {
	handled := make(chan struct{}, 1)
	tf := serveTest(t, nil, func(ex *exchange.Exchange) {
		handled <- struct{}{}
		echo(ex)
	})
	for _, row := range requestRows {
		t.Run(row.name, func(t *testing.T) {
			tf.mu.Lock()
			tf.rejects = nil
			tf.mu.Unlock()
			c := tf.dial(t).send(row.raw)
			head := c.head()
			status := strings.TrimPrefix(head, "HTTP/1.1 ")[:3]
			if status == "200" {
				<-handled
				body := c.exactly(contentLength(t, head))
				if got := "200 " + body; got != row.want {
					t.Errorf("got  %s\nwant %s", got, row.want)
				}
				return
			}
			body := c.rest()
			if got := tf.rejected(); got != row.want || !strings.HasPrefix(row.want, status) {
				t.Errorf("got %s, reported %q; want %s", head, got, row.want)
			}
			if !strings.Contains(head, "Connection: close") || len(body) != contentLength(t, head) {
				t.Errorf("got %s with %d bytes; want it to close the connection behind the body", head, len(body))
			}
			select {
			case <-handled:
				t.Error("a refused request reached the handler")
			default:
			}
		})
	}
}

// TestRefusedConnectionsEnd: behind a refusal drover ends the connection, whatever its
// client does: wait for more, or send more, of which nothing is heard.
func TestRefusedConnectionsEnd(t *testing.T) {
	handler := func(ex *exchange.Exchange) {
		if ex.Request.Body == nil {
			t.Errorf("%s %s was handled", ex.Request.Method, ex.Request.Target)
			return
		}
		if _, err := io.ReadAll(ex.Request.Body); err == nil {
			t.Error("a malformed body was whole")
		}
		if ex.Client.Start(&exchange.Response{Status: 400, ContentLength: exchange.NoBody}) != nil {
			t.Error("cannot answer")
		}
	}
	cert := writeCert(t, "a.test")
	dials := map[string]func(t *testing.T) (*testFront, *testConn){
		"plain": func(t *testing.T) (*testFront, *testConn) {
			tf := serveTest(t, nil, handler)
			return tf, tf.dial(t)
		},
		"TLS": func(t *testing.T) (*testFront, *testConn) {
			tf := serveTest(t, withTLS("1.2", cert), handler)
			return tf, tf.mustDialTLS(t)
		},
	}
	for what, raw := range map[string]string{
		"head": "GET / HTTP/1.1\r\nHost : a.test\r\n\r\n",
		"body": "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
	} {
		for wire, dial := range dials {
			t.Run(what+", silent, "+wire, func(t *testing.T) {
				t.Parallel()
				tf, c := dial(t)
				if got := c.send(raw).rest(); strings.Count(got, "HTTP/1.1 ") != 1 || !strings.HasPrefix(got, "HTTP/1.1 400 ") {
					t.Errorf("got %q; want 400 and the end", got)
				}
				tf.waitOpen(t, 0) // the client has closed nothing.
			})
			t.Run(what+", talking, "+wire, func(t *testing.T) {
				t.Parallel()
				tf, c := dial(t)
				c.send(raw)
				if head := c.head(); !strings.HasPrefix(head, "HTTP/1.1 400 ") {
					t.Fatalf("got %q; want 400", head)
				}
				sent, err := 0, error(nil)
				for more := strings.Repeat("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n", 1000); err == nil && sent < 1<<30; sent += len(more) {
					_, err = io.WriteString(c.Conn, more)
				}
				if isTimeout(err) || err == nil {
					t.Errorf("%d bytes were taken behind the refusal, then %v; want the connection ended", sent, err)
				}
				tf.waitOpen(t, 0)
			})
		}
	}
}

func contentLength(t *testing.T, head string) int {
	t.Helper()
	for field := range strings.SplitSeq(head, " | ") {
		if text, ok := strings.CutPrefix(field, "Content-Length: "); ok {
			n, err := strconv.Atoi(text)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("no Content-Length in %q", head)
	return 0
}
