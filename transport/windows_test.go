package transport

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"drover/exchange"
)

// noRoom are the windows of a client that takes nothing yet.
type noRoom struct{}

func (noRoom) Room() int { return 0 }

func (noRoom) AwaitRoom() error { return nil }

// TestNoRoom: an answer for a client that takes nothing yet is read into little memory,
// and is the same.
func TestNoRoom(t *testing.T) {
	body := strings.Repeat("0123456789", 5000)
	for _, size := range []int{0, 1, smallBufferSize - 100, smallBufferSize, minRead, 3 * minRead, bufferSize + 1} {
		for name, rest := range map[string]string{
			"length":      fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body),
			"chunks":      "Transfer-Encoding: chunked\r\n\r\n" + chunked(body, 7),
			"large chunk": "Transfer-Encoding: chunked\r\n\r\n" + chunked(body, len(body)),
			"until close": "Connection: close\r\n\r\n" + body,
		} {
			value := strings.Repeat("v", size)
			head := "HTTP/1.1 200 OK\r\nX: " + value + "\r\n"
			id := script(t, func(_ int, p *peer) {
				for p.head() != "" {
					p.say(head + rest)
					if name == "until close" {
						return
					}
				}
			})
			pool := newPool(t, id)
			for range 2 {
				var resp Response
				ex := &exchange.Exchange{Client: &fakeClient{}, Windows: noRoom{}}
				if err := pool.RoundTrip(ex, get("GET"), noDeadline, &resp); err != nil {
					t.Fatal(err)
				}
				if n := len(resp.conn.buf); size < smallBufferSize/2 && n != smallBufferSize || n > 2*size+smallBufferSize+minRead {
					t.Errorf("%s, %d bytes of head: read into %d", name, size, n)
				}
				got, err := io.ReadAll(resp.Body())
				if err != nil || string(got) != body || string(resp.Header.Get("X")) != value {
					t.Errorf("%s, %d bytes of head: got %d bytes, %v, X of %d", name, size, len(got), err, len(resp.Header.Get("X")))
				}
				resp.Close()
			}
		}
	}
}

// someRoom are the windows of a client that takes more by and by.
type someRoom struct{ atomic.Int64 }

func (r *someRoom) Room() int { return int(r.Load()) }

func (*someRoom) AwaitRoom() error { return nil }

// TestH2Room: of an answer for a client that takes nothing yet little is in memory, and
// more as soon as the client takes more.
func TestH2Room(t *testing.T) {
	const size = 1 << 20
	id := standard(t, false, func(p *http.Protocols) { p.SetUnencryptedHTTP2(true) }, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(make([]byte, size))
	})
	pool := newPool(t, id, h2c)
	var room someRoom
	var resp Response
	if err := pool.RoundTrip(&exchange.Exchange{Client: &fakeClient{}, Windows: &room}, get("GET"), noDeadline, &resp); err != nil {
		t.Fatal(err)
	}
	defer resp.Close()
	waiting := func(n int) {
		t.Helper()
		eventually(t, fmt.Sprint(n, " bytes wait"), func() bool { return resp.Buffered() == n })
		resp.stream.c.mu.Lock()
		defer resp.stream.c.mu.Unlock()
		held := 0
		for _, d := range resp.stream.blocks {
			held += len(*d.block)
		}
		if held > n+h2FirstFrame {
			t.Errorf("%d bytes of memory for the %d that wait", held, n)
		}
	}
	waiting(h2SmallWindow)
	read := 0
	for _, n := range []int{100, 10_000, 50_000, 500_000} {
		room.Store(int64(n))
		got, err := resp.Body().Read(make([]byte, 1000))
		if err != nil {
			t.Fatal(err)
		}
		read += got
		width := min(max(n, h2SmallWindow), int(resp.stream.settings.HTTP2.StreamWindow))
		resp.stream.c.mu.Lock()
		if got := resp.stream.width; got != int64(width) {
			t.Errorf("for a client with room for %d the window is %d; want %d", n, got, width)
		}
		resp.stream.c.mu.Unlock()
		eventually(t, "as much waits as may", func() bool { return resp.Buffered() > width-width/4-1000 })
	}
	rest, err := io.Copy(io.Discard, resp.Body())
	if err != nil || int(rest)+read != size {
		t.Errorf("got %d bytes, %v; want %d", int(rest)+read, err, size)
	}
}
