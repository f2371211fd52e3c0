package transport

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"drover/backend"
	"drover/exchange"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait; nothing takes nearly as long unless it never comes.
const patience = 20 * time.Second

var noDeadline time.Time

// peer is one accepted connection of a scripted server. What goes wrong on it is the
// test's to see: its methods stop the script.
type peer struct {
	net.Conn
	in *bufio.Reader
}

// head reads up to the empty line.
func (p *peer) head() string {
	var head strings.Builder
	for {
		line, err := p.in.ReadString('\n')
		head.WriteString(line)
		if err != nil || line == "\r\n" {
			return head.String()
		}
	}
}

// take reads n bytes.
func (p *peer) take(n int) string {
	got := make([]byte, n)
	n, _ = io.ReadFull(p.in, got)
	return string(got[:n])
}

// rest reads until the other side ends.
func (p *peer) rest() string {
	got, _ := io.ReadAll(p.in)
	return string(got)
}

func (p *peer) say(text string) { _, _ = io.WriteString(p, text) }

// reset closes with RST.
func (p *peer) reset() {
	_ = p.Conn.(*net.TCPConn).SetLinger(0)
	_ = p.Close()
}

// script starts a server that plays a script on each connection, told its number from
// 0, and closes it then.
func script(t testing.TB, play func(n int, p *peer)) backend.ID {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var workers sync.WaitGroup
	var conns sync.Map
	workers.Go(func() {
		for n := 0; ; n++ {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			conns.Store(conn, true)
			workers.Go(func() {
				defer conn.Close()
				play(n, &peer{conn, bufio.NewReader(conn)})
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		conns.Range(func(conn, _ any) bool { _ = conn.(net.Conn).Close(); return true })
		workers.Wait()
	})
	return idOf(t, listener.Addr().String())
}

func idOf(t testing.TB, address string) backend.ID {
	t.Helper()
	host, portText, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	return backend.ID{Scheme: "http", Host: host, Port: uint16(port)}
}

// answer plays the same answer to every request of every connection.
func answer(t testing.TB, text string) backend.ID {
	return script(t, func(_ int, p *peer) {
		for p.head() != "" {
			p.say(text)
		}
	})
}

// newPool makes a pool that lasts as long as the test.
func newPool(t testing.TB, id backend.ID, change ...func(*Config)) *Pool {
	t.Helper()
	var cfg Config
	cfg.SetDefaults()
	for _, c := range change {
		c(&cfg)
	}
	p, err := NewPool(id, &cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.Close()
		late := time.Now().Add(patience)
		for p.Stats().Open != 0 && time.Now().Before(late) {
			time.Sleep(time.Millisecond) // one of HTTP/2 is closed by its own goroutine.
		}
		if open := p.Stats().Open; open != 0 {
			t.Errorf("%d connections are left open", open)
		}
	})
	return p
}

// fakeClient is the client's end: what it was told, and whether it is still there.
type fakeClient struct {
	mu       sync.Mutex
	informed []string
	gone     atomic.Bool
	aborted  atomic.Bool
	onAbort  func()
}

func (c *fakeClient) Inform(r *exchange.Response) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.informed = append(c.informed, strings.TrimSpace(fmt.Sprint(r.Status, " ", string(r.Reason), headerText(r.Header))))
	return nil
}

func (c *fakeClient) Gone() bool { return c.gone.Load() }

func (c *fakeClient) AbortBody() {
	c.aborted.Store(true)
	if c.onAbort != nil {
		c.onAbort()
	}
}

func (*fakeClient) Start(*exchange.Response) error { return errors.New("not transport's to call") }
func (*fakeClient) Write([]byte) (int, error)      { return 0, errors.New("not transport's to call") }
func (*fakeClient) Flush() error                   { return errors.New("not transport's to call") }
func (*fakeClient) Hijack() (net.Conn, error)      { return nil, errors.New("not transport's to call") }

func headerText(h exchange.Header) string {
	var b strings.Builder
	for _, f := range h {
		fmt.Fprintf(&b, " %s=%s", f.Name, f.Value)
	}
	return b.String()
}

// get is a small request without a body.
func get(method string) *exchange.Request {
	return &exchange.Request{
		Method: []byte(method), Target: []byte("/"), Host: []byte("h"), ProtoMinor: 1,
		ContentLength: exchange.NoBody,
	}
}

// post is a request whose body streams.
func post(body io.Reader, length int64) *exchange.Request {
	r := get("POST")
	r.Body, r.ContentLength = body, length
	framing := exchange.Field{Name: []byte("Transfer-Encoding"), Value: []byte("chunked")}
	if length >= 0 {
		framing = exchange.Field{Name: []byte("Content-Length"), Value: strconv.AppendInt(nil, length, 10)}
	}
	r.Header = exchange.Header{framing}
	return r
}

// trip is what became of one exchange.
type trip struct {
	status int
	text   string // status, reason and fields
	body   string
	err    error // of the head, or of the body
	client *fakeClient
}

// run makes an exchange, reads the body and closes.
func run(p *Pool, req *exchange.Request) trip {
	return runFor(p, &fakeClient{}, req, time.Time{})
}

func runFor(p *Pool, client *fakeClient, req *exchange.Request, deadline time.Time) trip {
	var resp Response
	out := trip{client: client}
	if out.err = p.RoundTrip(&exchange.Exchange{Client: client}, req, deadline, &resp); out.err != nil {
		return out
	}
	defer resp.Close()
	out.status = resp.Status
	out.text = strings.TrimSpace(fmt.Sprint(resp.Status, " ", string(resp.Reason), headerText(resp.Header)))
	if body := resp.Body(); body != nil {
		var got []byte
		got, out.err = io.ReadAll(body)
		out.body = string(got)
	}
	if resp.Trailer != nil {
		out.text += " |" + headerText(resp.Trailer())
	}
	return out
}

// failure wants an *Error and gives it.
func failure(t *testing.T, err error) *Error {
	t.Helper()
	var failed *Error
	if !errors.As(err, &failed) {
		t.Fatalf("got error %v; want an *Error", err)
	}
	return failed
}

// wantFailure wants an exchange to have failed so.
func wantFailure(t *testing.T, err error, want backend.Failure, maybeExecuted bool) {
	t.Helper()
	if f := failure(t, err); f.Failure != want || f.MaybeExecuted != maybeExecuted {
		t.Errorf("failed with %s, maybe executed %v: %v; want %s, %v", f.Failure, f.MaybeExecuted, f.Err, want, maybeExecuted)
	}
}

// eventually waits for a condition, looking often.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for !cond() {
		select {
		case <-look.C:
		case <-deadline.C:
			t.Fatalf("never: %s", what)
		}
	}
}

// fullBacklog gives a listening address that takes no connection: its queue is full
// and nobody accepts.
func fullBacklog(t *testing.T) backend.ID {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	if err := errors.Join(syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), syscall.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	id := backend.ID{Scheme: "http", Host: "127.0.0.1", Port: uint16(name.(*syscall.SockaddrInet4).Port)}
	for {
		conn, err := net.DialTimeout("tcp", id.Address(), 200*time.Millisecond)
		if err != nil {
			return id
		}
		t.Cleanup(func() { _ = conn.Close() })
	}
}
