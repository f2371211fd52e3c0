package front

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// pieces is a connection from which a fixed text is read, in pieces.
type pieces struct {
	net.Conn
	text []byte
	size int
}

func (p *pieces) Read(to []byte) (int, error) {
	if len(p.text) == 0 {
		return 0, io.EOF
	}
	n := copy(to[:min(len(to), p.size)], p.text)
	p.text = p.text[n:]
	return n, nil
}

// chunkedBody is what a chunked body reads as.
type chunkedBody struct {
	body, trailer, left string
	broken              bool
}

// readChunked reads text as a request body, of which the first ahead bytes came together
// with the head.
func readChunked(f *Front, text []byte, size, ahead int) chunkedBody {
	p := &pieces{text: bytes.Clone(text[ahead:]), size: size}
	cl := newClient(f)
	cl.c = &conn{front: f, stream: p, wire: &wire{Conn: p, front: f}}
	cl.c.in.keep(text[:ahead])
	cl.req.length = -1
	cl.body.start(cl, f.settings.Load())
	body, err := io.ReadAll(&cl.body)
	got := chunkedBody{broken: err != nil}
	if err != nil {
		return got
	}
	var trailer strings.Builder
	for _, field := range cl.body.trailer {
		_, _ = trailer.WriteString(string(field.Name) + ": " + string(field.Value) + "\n")
	}
	got.body, got.trailer, got.left = string(body), trailer.String(), string(cl.c.in.unread)+string(p.text)
	return got
}

// FuzzChunked holds the reading of chunked bodies against net/http's: what we take, it
// takes too, with the same content and rest. And the pieces in which bytes come must not
// matter.
func FuzzChunked(f *testing.F) {
	front, err := New(testConfig(), reply("ok"), Options{})
	if err != nil {
		f.Fatal(err)
	}
	for _, text := range []string{
		"5\r\nhello\r\n0\r\n\r\nGET", "5;a=b\r\nhello\r\n0A\r\n0123456789\r\n00\r\nX-Sum: 1\r\n\r\nGET / HTTP/1.1\r\n\r\n",
		"5 \r\nhello\r\n0\r\n\r\n", "5\nhello\r\n0\r\n\r\n", "5\r\nhelloX\r\n0\r\n\r\n", "0\r\nX : y\r\n\r\n", "0\r\n\n", "1\r\na\r\n0\r\nHost: x\r\n\r\n",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		got := readChunked(front, text, len(text)+1, 0)
		for _, size := range []int{1, 7} {
			for _, ahead := range []int{0, len(text) / 2, len(text)} {
				if again := readChunked(front, text, size, ahead); again != got {
					t.Fatalf("in pieces of %d, %d ahead:\n%+v\nwhole:\n%+v", size, ahead, again, got)
				}
			}
		}
		if got.broken {
			return
		}
		// net/http takes a trailer that its buffer holds; ours may be as long as a head.
		in := bufio.NewReaderSize(strings.NewReader("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"+string(text)), int(maxHeaderSize))
		req, err := http.ReadRequest(in)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(req.Body)
		left, _ := io.ReadAll(in)
		if err != nil || string(body) != got.body || string(left) != got.left || strings.Count(got.trailer, "\n") != 0 && len(req.Trailer) == 0 {
			t.Fatalf("we read\n%+v\nnet/http %q, trailers %v, left %q, %v", got, body, req.Trailer, left, err)
		}
	})
}
