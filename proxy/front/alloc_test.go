//go:build !race

package front

import (
	"io"
	"net"
	"runtime"
	"testing"

	"drover/exchange"
)

// exchanger sends the same request again and again and reads answers of one size.
func exchanger(t testing.TB, request, handlerBody string) func() {
	t.Helper()
	body := []byte(handlerBody)
	response := &exchange.Response{Status: 200, ContentLength: int64(len(body)), Header: fields("Content-Type", "text/plain", "Server", "x")}
	buf := make([]byte, 4096)
	f, err := New(testConfig(), func(ex *exchange.Exchange) {
		if ex.Request.Body != nil {
			for {
				if _, err := ex.Request.Body.Read(buf[2048:]); err != nil {
					break
				}
			}
		}
		if ex.Client.Start(response) == nil {
			_, _ = ex.Client.Write(body)
		}
	}, Options{Logger: quietLogger()})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- f.Serve(ln) }()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Close()
		_ = f.Drain(t.Context())
		<-served
	})
	out := []byte(request)
	size := 0
	do := func() {
		if _, err := c.Write(out); err != nil {
			t.Fatal(err)
		}
		if size == 0 {
			if size, err = c.Read(buf[:2048]); err != nil {
				t.Fatal(err)
			}
			return
		}
		if _, err := io.ReadFull(c, buf[:size]); err != nil {
			t.Fatal(err)
		}
	}
	for range 10 {
		do()
	}
	return do
}

const browserGet = "GET /path?query=1 HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\n" +
	"Accept: text/html,application/xhtml+xml\r\nAccept-Language: en\r\nAccept-Encoding: gzip, br\r\nCookie: a=b; c=d\r\n\r\n"

func TestAllocations(t *testing.T) {
	f := func(name, request string, limit float64) {
		t.Helper()
		do := exchanger(t, request, "hello")
		if n := testing.AllocsPerRun(200, do); n > limit {
			t.Errorf("%s: %v allocations; want %v", name, n, limit)
		}
	}
	f("GET", browserGet, 0)
	// fasthttp allocates an io.LimitedReader to look for the rest of a body.
	f("small POST", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", 1)
	f("chunked POST", chunkedPost+"3\r\nabc\r\n0\r\n\r\n", 1)
}

// An idle connection must not keep the buffers of a request: their size is that of
// the largest head, and clients leave many connections idle.
func TestIdleConnectionsAreSmall(t *testing.T) {
	const count, limit = 200, 16 << 10
	tf := serveTest(t, nil, reply("ok"))
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC() // a pool gives up its content with the second one
		runtime.ReadMemStats(&m)
		return int64(m.HeapInuse)
	}
	before := heap()
	for range count {
		c := tf.dial(t).send(get11)
		c.head()
		c.exactly(2)
		c.r = nil
	}
	tf.waitParked(t, count)
	if each := (heap() - before) / count; each > limit {
		t.Errorf("an idle connection takes %d bytes of heap; want at most %d", each, limit)
	}
}

func BenchmarkKeepAlive(b *testing.B) {
	do := exchanger(b, browserGet, "hello")
	b.ReportAllocs()
	for b.Loop() {
		do()
	}
}

func BenchmarkReadHead(b *testing.B) {
	raw := []byte(browserGet[len("GET /path?query=1 HTTP/1.1\r\n"):])
	var dst exchange.Header
	b.SetBytes(int64(len(raw)))
	for b.Loop() {
		var v scanVerdict
		if dst, v = scanFields(dst[:0], raw, 128); v != scanFine {
			b.Fatal(v)
		}
	}
}
