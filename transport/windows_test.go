package transport

import (
	"fmt"
	"io"
	"strings"
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
