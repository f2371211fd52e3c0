package transport

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"drover/exchange"
)

// memory is a connection from which a fixed text is read, in pieces.
type memory struct {
	text  []byte
	piece int
}

func (m *memory) Read(p []byte) (int, error) {
	if len(m.text) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), m.piece)], m.text)
	m.text = m.text[n:]
	return n, nil
}

func (*memory) Write(p []byte) (int, error)      { return len(p), nil }
func (*memory) Close() error                     { return nil }
func (*memory) LocalAddr() net.Addr              { return nil }
func (*memory) RemoteAddr() net.Addr             { return nil }
func (*memory) SetDeadline(time.Time) error      { return nil }
func (*memory) SetReadDeadline(time.Time) error  { return nil }
func (*memory) SetWriteDeadline(time.Time) error { return nil }

// read is what a text reads as.
type read struct {
	status  int
	header  string
	body    string
	trailer string
	left    string // of the text, behind the answer
	keep    bool
	headErr string
	bodyErr bool
}

// readAnswer reads a text as the answer to a request.
func readAnswer(method string, text []byte, piece int) read {
	var cfg Config
	cfg.SetDefaults()
	m := &memory{append([]byte(nil), text...), piece}
	c := &conn{Conn: m, wire: &wire{Conn: m}, pool: &Pool{}, settings: &settings{Config: cfg}}
	c.begin(nil)
	defer c.end()
	resp := Response{conn: c, client: &fakeClient{}, method: []byte(method), sentAt: time.Now()}
	if err := resp.readHead(get(method)); err != nil {
		return read{headErr: err.Error()}
	}
	out := read{status: resp.Status, header: headerText(resp.Header), keep: resp.keep}
	if b := resp.Body(); b != nil {
		got, err := io.ReadAll(b)
		out.body, out.bodyErr = string(got), err != nil
	}
	if resp.Trailer != nil {
		out.trailer = headerText(resp.Trailer())
	}
	out.left = string(c.buf[c.r:c.w]) + string(m.text)
	return out
}

// FuzzResponse holds the reading of answers against net/http's: what we take, it takes
// too, with the same status, body and rest. (It also takes much that we refuse.) And
// the pieces in which bytes come must not matter.
func FuzzResponse(f *testing.F) {
	for _, seed := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcHTTP/1.1 200 OK\r\n\r\n",
		"HTTP/1.0 200 OK\r\n\r\nabc",
		"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
		"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\nX: y\r\n\r\nrest",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0000A \r\n0123456789\r\n00\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\na",
		"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
		"HTTP/1.1 205 Reset Content\r\nContent-Length: 3\r\n\r\nabc",
		"HTTP/1.1 205 Reset Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	} {
		f.Add([]byte(seed), false)
		f.Add([]byte(seed), true)
	}
	f.Fuzz(func(t *testing.T, text []byte, head bool) {
		method := map[bool]string{false: "GET", true: "HEAD"}[head]
		got := readAnswer(method, text, len(text)+1)
		for _, piece := range []int{1, 7} {
			if again := readAnswer(method, text, piece); again != got {
				t.Fatalf("in pieces of %d:\n%+v\nwhole:\n%+v", piece, again, got)
			}
		}
		if got.headErr != "" || got.bodyErr {
			return
		}
		want, err := twin(method, text)
		if err != nil {
			if got.status == 205 {
				return // what is behind its head is no answer's.
			}
			t.Fatalf("we took %+v; net/http says %v", got, err)
		}
		if got.status == 205 {
			if got.body != "" || got.keep && want.body != "" {
				t.Fatalf("we read %+v; a 205 has no content, and its connection no future with some", got)
			}
			return
		}
		if got.status != want.status || got.body != want.body || got.left != want.left {
			t.Fatalf("we read\n%+v\nnet/http\n%+v", got, want)
		}
	})
}

// twin reads an answer with net/http.
func twin(method string, text []byte) (read, error) {
	in := bufio.NewReader(bytes.NewReader(text))
	for {
		resp, err := http.ReadResponse(in, &http.Request{Method: method})
		if err != nil {
			return read{}, err
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil {
			return read{}, err
		}
		if resp.StatusCode < 200 {
			if len(body) > 0 {
				return read{}, errors.New("an interim answer with a body")
			}
			continue
		}
		left, err := io.ReadAll(in)
		return read{status: resp.StatusCode, body: string(body), left: string(left)}, err
	}
}

// FuzzRequestChunks: whatever a body is cut into, net/http reads what was sent.
func FuzzRequestChunks(f *testing.F) {
	f.Add([]byte("abc"), 1)
	f.Add(bytes.Repeat([]byte("x"), 2*copyBufferSize), copyBufferSize)
	f.Add([]byte(""), 3)
	f.Fuzz(func(t *testing.T, body []byte, piece int) {
		if piece <= 0 {
			return
		}
		sink := &recorded{}
		var cfg Config
		cfg.SetDefaults()
		c := &conn{Conn: sink, wire: &wire{Conn: sink}, settings: &settings{Config: cfg}}
		req := post(&memory{append([]byte(nil), body...), piece}, exchange.LengthUnknown)
		if err := c.sendBody(req, true); err != nil {
			t.Fatal(err)
		}
		text := "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" + sink.got.String()
		in := bufio.NewReader(bytes.NewBufferString(text))
		read, err := http.ReadRequest(in)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(read.Body)
		if err != nil || !bytes.Equal(got, body) || in.Buffered() > 0 {
			t.Fatalf("net/http reads %d bytes, %v, with %d left; want %d and none", len(got), err, in.Buffered(), len(body))
		}
	})
}

type recorded struct {
	memory
	got bytes.Buffer
}

func (r *recorded) Write(p []byte) (int, error) { return r.got.Write(p) }
