package front

import (
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"

	"drover/exchange"
)

func fields(pairs ...string) (h exchange.Header) {
	for i := 0; i < len(pairs); i += 2 {
		h.Add(pairs[i], pairs[i+1])
	}
	return h
}

const (
	get11  = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
	get10  = "GET / HTTP/1.0\r\n\r\n"
	keep10 = "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
	head11 = "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"
)

// Each row is a response and the bytes of it, up to the end of the connection where
// ends is set, else of a connection that goes on.
var responseRows = []struct {
	name, request string
	response      exchange.Response
	writes        []string
	want          string
	ends          bool
}{
	{
		"fields stay as they are", get11,
		exchange.Response{Status: 200, ContentLength: 2, Header: fields("eTaG", "x", "Set-Cookie", "a", "content-LENGTH", "2", "Content-Type", "t", "set-cookie", "b", "Content-Type", "s", "Date", "d", "Server", "v")},
		[]string{"hi"},
		"HTTP/1.1 200 OK\r\neTaG: x\r\nSet-Cookie: a\r\ncontent-LENGTH: 2\r\nContent-Type: t\r\nset-cookie: b\r\nContent-Type: s\r\nDate: d\r\nServer: v\r\n\r\nhi", false,
	},
	{"nothing is added", get11, exchange.Response{Status: 200, ContentLength: 0}, nil, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", false},
	{"no body", get11, exchange.Response{Status: 404, ContentLength: exchange.NoBody}, nil, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", false},
	{"own reason", get11, exchange.Response{Status: 299, Reason: []byte("Fine & dandy"), ContentLength: 0}, nil, "HTTP/1.1 299 Fine & dandy\r\nContent-Length: 0\r\n\r\n", false},
	{"empty reason", get11, exchange.Response{Status: 200, Reason: []byte{}, ContentLength: 0}, nil, "HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n", false},
	{"unknown status", get11, exchange.Response{Status: 799, ContentLength: 0}, nil, "HTTP/1.1 799 \r\nContent-Length: 0\r\n\r\n", false},
	{
		"hop-by-hop fields go", get11,
		exchange.Response{Status: 200, ContentLength: 0, Header: fields("Connection", "close, x", "Keep-Alive", "timeout=5", "Proxy-Connection", "y", "Upgrade", "h2c", "Trailer", "X", "X", "y")},
		nil, "HTTP/1.1 200 OK\r\nX: y\r\nContent-Length: 0\r\n\r\n", false,
	},
	{
		"lengths that contradict", get11,
		exchange.Response{Status: 200, ContentLength: 2, Header: fields("Content-Length", "7", "X", "y", "Content-Length", "2", "Transfer-Encoding", "chunked")},
		[]string{"hi"}, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: y\r\n\r\nhi", false,
	},
	{
		"chunked", get11,
		exchange.Response{Status: 200, ContentLength: exchange.LengthUnknown, Header: fields("transfer-encoding", "chunked", "X", "y")},
		[]string{"hello", "", " world, sixteen"}, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nX: y\r\n\r\n5\r\nhello\r\nf\r\n world, sixteen\r\n0\r\n\r\n", false,
	},
	{"chunked and empty", get11, exchange.Response{Status: 200, ContentLength: exchange.LengthUnknown}, nil, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", false},
	{
		"trailer", get11,
		exchange.Response{
			Status: 200, ContentLength: exchange.LengthUnknown, Header: fields("Trailer", "grpc-status"),
			Trailer: func() exchange.Header {
				return fields("grpc-status", "0", "Content-Length", "5", "Host", "x", "Bad\r\nName", "v")
			},
		},
		[]string{"a"}, "HTTP/1.1 200 OK\r\nTrailer: grpc-status\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\ngrpc-status: 0\r\n\r\n", false,
	},
	{"HEAD with length", head11, exchange.Response{Status: 200, ContentLength: 5, Header: fields("Content-Length", "5")}, []string{"hello"}, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", false},
	{"HEAD of unknown length", head11, exchange.Response{Status: 200, ContentLength: exchange.LengthUnknown, Header: fields("Transfer-Encoding", "chunked", "X", "y")}, nil, "HTTP/1.1 200 OK\r\nX: y\r\n\r\n", false},
	{"204", get11, exchange.Response{Status: 204, ContentLength: 0, Header: fields("Content-Length", "0", "X", "y")}, []string{"no"}, "HTTP/1.1 204 No Content\r\nX: y\r\n\r\n", false},
	{"304 with length", get11, exchange.Response{Status: 304, ContentLength: 5, Header: fields("ETag", "x", "Content-Length", "5")}, []string{"no"}, "HTTP/1.1 304 Not Modified\r\nETag: x\r\nContent-Length: 5\r\n\r\n", false},
	{"304", get11, exchange.Response{Status: 304, ContentLength: exchange.NoBody}, nil, "HTTP/1.1 304 Not Modified\r\n\r\n", false},
	{"426", get11, exchange.Response{Status: 426, ContentLength: 0, Header: fields("Upgrade", "HTTP/3.0")}, nil, "HTTP/1.1 426 Upgrade Required\r\nUpgrade: HTTP/3.0\r\nContent-Length: 0\r\nConnection: Upgrade\r\n\r\n", false},
	{"close is asked for", get11, exchange.Response{Status: 200, ContentLength: 0, CloseClient: true}, nil, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", true},
	{"client closes", "GET / HTTP/1.1\r\nHost: a\r\nConnection: foo, Close\r\n\r\n", exchange.Response{Status: 200, ContentLength: 0}, nil, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", true},
	{"1.0", get10, exchange.Response{Status: 200, ContentLength: 1}, []string{"x"}, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx", true},
	{"1.0 kept", keep10, exchange.Response{Status: 200, ContentLength: 1}, []string{"x"}, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: keep-alive\r\n\r\nx", false},
	{"1.0 of unknown length", keep10, exchange.Response{Status: 200, ContentLength: exchange.LengthUnknown, Header: fields("Transfer-Encoding", "chunked")}, []string{"x", "y"}, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nxy", true},
	{
		"lines cannot be smuggled in", get11,
		exchange.Response{Status: 200, ContentLength: 0, Reason: []byte("a\r\nb"), Header: fields("X", "a\r\nSet-Cookie: b\x00c", "Y\r\nZ", "v", "", "v", "A B", "v")},
		nil, "HTTP/1.1 200 a  b\r\nX: a  Set-Cookie: b c\r\nContent-Length: 0\r\n\r\n", false,
	},
}

func TestResponses(t *testing.T) {
	type step struct {
		response *exchange.Response
		writes   []string
	}
	steps := make(chan step, 1)
	tf := serveTest(t, nil, func(ex *exchange.Exchange) {
		s := <-steps
		if err := ex.Client.Start(s.response); err != nil {
			t.Errorf("start: %v", err)
		}
		for _, w := range s.writes {
			if n, err := io.WriteString(ex.Client, w); n != len(w) || err != nil {
				t.Errorf("write gave %d, %v", n, err)
			}
		}
	})
	for _, row := range responseRows {
		t.Run(row.name, func(t *testing.T) {
			steps <- step{&row.response, row.writes}
			c := tf.dial(t).send(row.request)
			if got := c.exactly(len(row.want)); got != row.want {
				t.Fatalf("got  %q\nwant %q", got, row.want)
			}
			if row.ends {
				if more := c.rest(); more != "" {
					t.Errorf("got %q behind the answer", more)
				}
				return
			}
			steps <- step{&exchange.Response{Status: 202, ContentLength: 0}, nil}
			if got := c.send(get11).head(); !strings.HasPrefix(got, "HTTP/1.1 202 ") {
				t.Errorf("the next answer on the connection is %q", got)
			}
		})
	}
}

func TestLargeBodies(t *testing.T) {
	block := strings.Repeat("0123456789abcdef", 4096) // 64 KiB
	for _, length := range []int64{exchange.LengthUnknown, 1 + 20*int64(len(block))} {
		tf := serveTest(t, nil, func(ex *exchange.Exchange) {
			_ = ex.Client.Start(&exchange.Response{Status: 200, ContentLength: length})
			_, _ = io.WriteString(ex.Client, "x")
			for range 20 {
				if _, err := io.WriteString(ex.Client, block); err != nil {
					t.Error(err)
				}
			}
		})
		if got := httpGet(t, "http://"+tf.addr); got != "x"+strings.Repeat(block, 20) {
			t.Errorf("length %d: got %d bytes, or wrong ones", length, len(got))
		}
	}
}

// The head of a stream must not wait for its first event.
func TestStreamHeadGoesFirst(t *testing.T) {
	for _, request := range []string{get11, get10} {
		next := make(chan struct{})
		tf := serveTest(t, nil, func(ex *exchange.Exchange) {
			_ = ex.Client.Start(&exchange.Response{Status: 200, ContentLength: exchange.LengthUnknown})
			<-next
			_, _ = io.WriteString(ex.Client, "event")
			if err := ex.Client.Flush(); err != nil {
				t.Error(err)
			}
			<-next
		})
		c := tf.dial(t).send(request)
		c.head()
		next <- struct{}{}
		if request == get11 {
			c.line()
		}
		if got := c.exactly(5); got != "event" {
			t.Errorf("got %q", got)
		}
		next <- struct{}{}
	}
}

func TestPipelining(t *testing.T) {
	tf := serveTest(t, nil, echo)
	var all, want strings.Builder
	for _, p := range []string{"/a", "/b", "/c"} {
		all.WriteString("POST " + p + " HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n" + p)
		want.WriteString("POST " + p + ` 1.1 host=a | Host: a | Content-Length: 2 | length=2 body="` + p + `"`)
	}
	c := tf.dial(t).send(all.String())
	got := ""
	for range 3 {
		got += c.exactly(contentLength(t, c.head()))
	}
	if got != want.String() {
		t.Errorf("got  %s\nwant %s", got, &want)
	}
}

func TestPipelinedRefusalEndsTheRest(t *testing.T) {
	tf := serveTest(t, nil, reply("ok"))
	c := tf.dial(t).send(get11, "GET / HTTP/1.1\r\nHost: a\r\nX Y: z\r\n\r\n", get11)
	if got := c.rest(); strings.Count(got, "HTTP/1.1") != 2 || !strings.Contains(got, "HTTP/1.1 400 ") {
		t.Errorf("got %q; want 200 and 400", got)
	}
}

func TestRefusalOfHEADHasNoBody(t *testing.T) {
	tf := serveTest(t, nil, reply("ok"))
	if got := tf.dial(t).send("HEAD / HTTP/1.1\r\nHost: a b\r\n\r\n").rest(); !strings.HasSuffix(got, "\r\n\r\n") {
		t.Errorf("got %q", got)
	}
}

// A response that breaks off must look broken, whatever its framing.
func TestCutResponses(t *testing.T) {
	type row struct {
		name, request string
		length        int64
		aborted       bool
		want          string
	}
	for _, r := range []row{
		{"length", get11, 10, true, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"},
		{"length, not aborted but short", get11, 10, false, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"},
		{"chunked", get11, exchange.LengthUnknown, true, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"},
	} {
		t.Run(r.name, func(t *testing.T) {
			tf := serveTest(t, nil, func(ex *exchange.Exchange) {
				_ = ex.Client.Start(&exchange.Response{Status: 200, ContentLength: r.length})
				_, _ = io.WriteString(ex.Client, "abc")
				ex.Result.Aborted = r.aborted
			})
			if got := tf.dial(t).send(r.request).rest(); got != r.want {
				t.Errorf("got  %q\nwant %q", got, r.want)
			}
		})
	}
	t.Run("end of connection", func(t *testing.T) {
		release := make(chan struct{})
		tf := serveTest(t, nil, func(ex *exchange.Exchange) {
			_ = ex.Client.Start(&exchange.Response{Status: 200, ContentLength: exchange.LengthUnknown})
			_, _ = io.WriteString(ex.Client, "abc")
			_ = ex.Client.Flush()
			<-release
			ex.Result.Aborted = true
		})
		c := tf.dial(t).send(get10)
		c.head()
		c.exactly(3)
		close(release)
		if _, err := c.r.ReadByte(); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("got %v; want a reset, since a clean end would complete the answer", err)
		}
	})
	t.Run("nothing sent", func(t *testing.T) {
		tf := serveTest(t, nil, func(ex *exchange.Exchange) { ex.Result.Aborted = true })
		if got := tf.dial(t).send(get11).rest(); got != "" {
			t.Errorf("got %q; want nothing", got)
		}
	})
}

func TestInform(t *testing.T) {
	started := make(chan error, 1)
	tf := serveTest(t, nil, func(ex *exchange.Exchange) {
		for _, status := range []int{100, 103} {
			r := &exchange.Response{Status: status, Header: fields("Link", "</a>", "Connection", "x", "Content-Length", "3")}
			if err := ex.Client.Inform(r); err != nil {
				t.Errorf("inform: %v", err)
			}
		}
		<-started
		respond(ex, "ok")
		started <- ex.Client.Inform(&exchange.Response{Status: 103})
	})
	c := tf.dial(t).send(get11)
	for _, want := range []string{"HTTP/1.1 100 Continue | Link: </a>", "HTTP/1.1 103 Early Hints | Link: </a>"} {
		if got := c.head(); got != want {
			t.Errorf("got %q before the answer; want %q", got, want)
		}
	}
	started <- nil
	if got, want := c.head(), "HTTP/1.1 200 OK | Content-Length: 2"; got != want {
		t.Errorf("got %q; want %q", got, want)
	}
	if err := <-started; !errors.Is(err, exchange.ErrStarted) {
		t.Errorf("inform after start gave %v", err)
	}
	// To a client that waits for it, a 100 says to send the body, which is not the server's
	// to say.
	waits := tf.dial(t).send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n")
	started <- nil
	if got, want := waits.rest(), "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\n"; !strings.HasPrefix(got, want) {
		t.Errorf("a client that waits for a 100 got %q", got)
	}
	<-started
	old := tf.dial(t).send(get10)
	started <- nil
	if got := old.head(); !strings.HasPrefix(got, "HTTP/1.1 200") {
		t.Errorf("an HTTP/1.0 client got %q", got)
	}
	<-started
}

func TestContractErrors(t *testing.T) {
	tf := serveTest(t, nil, func(ex *exchange.Exchange) {
		c := ex.Client
		if _, err := c.Write([]byte("x")); !errors.Is(err, exchange.ErrNoStart) {
			t.Errorf("write before start gave %v", err)
		}
		for _, status := range []int{0, 99, 100, 103, 1000} {
			if c.Start(&exchange.Response{Status: status}) == nil {
				t.Errorf("start took status %d", status)
			}
		}
		if err := c.Start(&exchange.Response{Status: 101}); !errors.Is(err, exchange.ErrNoUpgrade) {
			t.Errorf("101 without an upgrade gave %v", err)
		}
		if c.Inform(&exchange.Response{Status: 101}) == nil || c.Inform(&exchange.Response{Status: 200}) == nil {
			t.Error("inform took 101 or 200")
		}
		if _, err := c.Hijack(); !errors.Is(err, exchange.ErrNoUpgrade) {
			t.Errorf("hijack gave %v", err)
		}
		_ = c.Start(&exchange.Response{Status: 200, ContentLength: 2})
		if err := c.Start(&exchange.Response{Status: 200}); !errors.Is(err, exchange.ErrStarted) {
			t.Errorf("the second start gave %v", err)
		}
		if _, err := c.Write([]byte("abc")); !errors.Is(err, exchange.ErrTooLong) {
			t.Errorf("a body that is too long gave %v", err)
		}
	})
	c := tf.dial(t).send(get11)
	c.head()
	if got := c.rest(); got != "" {
		t.Errorf("got %q of a body that did not fit", got)
	}
}

func TestPanics(t *testing.T) {
	early := true
	tf := serveOn(t, listenTest(t), nil, func(ex *exchange.Exchange) {
		if early {
			_ = ex.Client.Start(&exchange.Response{Status: 200, ContentLength: 5}) // not sent yet
			panic("early")
		}
		_ = ex.Client.Start(&exchange.Response{Status: 200, ContentLength: 5})
		_, _ = io.WriteString(ex.Client, "ab")
		_ = ex.Client.Flush()
		panic("late")
	}, quietLogger())
	c := tf.dial(t).send("GET / HTTP/1.1\r\nHost: a\r\nAccept: application/json\r\n\r\n")
	if got := c.head(); !strings.HasPrefix(got, "HTTP/1.1 500 Internal Server Error | Content-Type: application/json") {
		t.Errorf("got %q", got)
	}
	if got, want := c.rest(), "{\"status\":500,\"error\":\"Internal Server Error\"}\n"; got != want {
		t.Errorf("got %q; want %q", got, want)
	}
	early = false
	c = tf.dial(t).send(get11)
	c.head()
	if got := c.rest(); got != "ab" {
		t.Errorf("got %q; want a cut answer", got)
	}
	if got := tf.rejected(); got != "500 PN, 500 PN" {
		t.Errorf("reported %q", got)
	}
}

func TestHandlerThatForgets(t *testing.T) {
	tf := serveOn(t, listenTest(t), nil, func(*exchange.Exchange) {}, quietLogger())
	if got := tf.dial(t).send(get11).rest(); !strings.HasPrefix(got, "HTTP/1.1 500 ") {
		t.Errorf("got %q", got)
	}
}

func listenTest(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}
