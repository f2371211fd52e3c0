package proxy

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"drover/transport"

	"golang.org/x/sys/unix"
)

// prober is a server that answers /hostile with what it is told, and everything else
// with "next".
type prober struct {
	mu           sync.Mutex
	entry        hostile
	conns        int
	served, next int       // the connections on which the two were asked for
	heard        chan bool // closed when the client has its answer
	told         chan bool // drover has what was late
}

func (s *prober) connection() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns++
	return s.conns
}

// asked notes a request, and gives the answer to a hostile one.
func (s *prober) asked(conn int, target string) (h hostile, heard chan bool, hostile bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if hostile = target == "/hostile"; hostile {
		s.served = conn
	} else {
		s.next = conn
	}
	return s.entry, s.heard, hostile
}

// expect begins with another entry.
func (s *prober) expect(h hostile) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.entry, s.served, s.next = h, 0, 0
	s.heard, s.told = make(chan bool), make(chan bool, 1)
}

func (s *prober) play(c net.Conn, r *bufio.Reader) {
	for conn := s.connection(); ; {
		req, _, err := readRequest(r)
		if err != nil {
			return
		}
		h, heard, hostile := s.asked(conn, req.RequestURI)
		if !hostile {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnext") // the client sees.
			continue
		}
		_, _ = io.WriteString(c, h.raw) // see above.
		if h.ends {
			return
		}
		if h.late != "" {
			<-heard
			_, _ = io.WriteString(c, h.late) // it is for nobody.
			s.told <- arrived(c)
		}
	}
}

// arrived waits until the other side's kernel has all that was written, or has closed.
func arrived(c net.Conn) bool {
	raw, err := c.(*net.TCPConn).SyscallConn()
	for there := false; err == nil && !there; {
		failed := raw.Control(func(fd uintptr) {
			closed := []unix.PollFd{{Fd: int32(fd)}}
			var unsent int
			unsent, err = unix.IoctlGetInt(int(fd), unix.TIOCOUTQ)
			_, _ = unix.Poll(closed, 0) // EINTR: it is asked again.
			there = unsent == 0 || closed[0].Revents != 0
		})
		err = errors.Join(err, failed)
	}
	return err == nil
}

func (s *prober) playH2(c net.Conn, r *bufio.Reader) {
	conn := s.connection()
	p := acceptH2(c, r)
	for p != nil {
		id, m, err := p.next()
		switch {
		case id == 0:
			return
		case err != nil: // a stream that drover has given up.
		default:
			if h, _, hostile := s.asked(conn, m.target); hostile {
				p.say(id, h.frames...)
			} else {
				p.say(id, "HEADERS :status: 200 | content-length: 4", "DATA END next")
			}
		}
	}
}

// An asker is a client that asks for /hostile. The error says that the answer is cut, or
// none at all.
type asker struct {
	name string
	old  bool // of HTTP/1.0
	h2   bool
}

func (a asker) ask(t *testing.T, b *bed, method string) (*message, error) {
	t.Helper()
	if a.h2 {
		return b.dialFrames(t).ask(1, "HEADERS END :method: "+method+" | :scheme: http | :authority: a | :path: /hostile")
	}
	v := b.dial(t)
	version := "1.1"
	if a.old {
		version = "1.0"
	}
	v.send(method + " /hostile HTTP/" + version + "\r\nHost: a\r\n\r\n")
	return readStrictAnswer(v.r, method)
}

// TestHostileResponses: see testdata/hostile/README.md.
func TestHostileResponses(t *testing.T) {
	count := 0
	for _, file := range []string{"responses", "h2-responses"} {
		server, h2 := &prober{}, file == "h2-responses"
		s := setup{servers: []string{startServer(t, server.play)}}
		if h2 {
			s = setup{servers: []string{startServer(t, server.playH2)}, transport: func(c *transport.Config) { c.Protocol = transport.ProtocolH2C }}
		}
		b := startBed(t, s)
		all := loadHostile(t, "testdata/hostile/"+file+".yaml")
		count += len(all)
		for _, h := range all {
			for _, a := range []asker{{name: "HTTP1.1"}, {name: "HTTP1.0", old: true}, {name: "HTTP2", h2: true}} {
				t.Run(file+"/"+h.name+" to "+a.name, func(t *testing.T) { server.try(t, b, h, a) })
			}
		}
	}
	t.Logf("%d responses", count)
}

func (s *prober) try(t *testing.T, b *bed, h hostile, a asker) {
	s.expect(h)
	hear := sync.OnceFunc(func() { close(s.heard) })
	defer hear()
	b.drain()
	got, end := a.ask(t, b, h.method)
	want := h.read(t)
	switch {
	case errors.Is(end, errBad) || errors.Is(end, errGone):
		t.Fatal(end)
	case h.want == "cut":
		if end == nil || !strings.HasPrefix(want.body, got.body) {
			t.Errorf("got %+v, %v; want it cut, and no more than %q", got, end, want.body)
		}
	case h.want == "502":
		if end != nil || got.status != 502 {
			t.Errorf("got %+v, %v; want 502", got, end)
		}
	case end != nil:
		t.Errorf("got %+v, %v; want all of it", got, end)
	default:
		a.compare(t, got, want, h.method)
	}
	b.result(t) // it is over, its connection in the pool or closed.
	if h.late != "" {
		hear()
		if !<-s.told {
			t.Error("cannot tell when the late bytes are there")
		}
	}
	w := b.dial(t)
	w.send(get("/next"))
	if resp, body := w.answer(); resp.StatusCode != 200 || body != "next" {
		t.Errorf("the next request got %d %q", resp.StatusCode, body)
	}
	if h.frames != nil {
		return // streams that fail leave the others alone.
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if used := s.next == s.served; used != (h.want == "pass") {
		t.Errorf("connection %d served the next request, %d this one", s.next, s.served)
	}
}

// read is what an answer says, as far as it can be read.
func (h hostile) read(t *testing.T) *message {
	t.Helper()
	if h.frames != nil {
		return readFrames(h.frames)
	}
	m, err := readStrictAnswer(bufio.NewReader(strings.NewReader(h.raw)), h.method)
	if err != nil && (h.want == "pass" || h.want == "once") && m.status != 205 {
		t.Fatalf("the parser of the test takes it for bad: %v", err)
	}
	return m
}

// notForClients are the fields of a server that no client gets as they are.
var notForClients = []string{
	"connection", "content-length", "keep-alive", "proxy-authenticate", "proxy-connection", "te", "transfer-encoding", "upgrade",
}

// lengthOf gives what a message says of it, -1 for nothing.
func lengthOf(t *testing.T, m *message) int {
	t.Helper()
	list := values(m.fields, "Content-Length")
	if len(list) == 0 {
		return -1
	}
	n, err := strconv.Atoi(list[0])
	if err != nil || len(list) > 1 {
		t.Errorf("got lengths %q", list)
	}
	return n
}

// notInTrailers are some of the fields that no client gets behind a body.
var notInTrailers = append([]string{"content-type", "host", "trailer"}, notForClients...)

// compare holds what a client got against what the server said.
func (a asker) compare(t *testing.T, got, want *message, method string) {
	t.Helper()
	fold := a.h2 || want.h2
	reset := want.status == 205 // RFC 9110, section 15.3.6
	bodiless := method == "HEAD" || want.status == 204 || want.status == 304
	chunked := !a.old && !reset && !bodiless && len(values(want.fields, "Content-Length")) == 0
	wantBody := want.body
	if reset || bodiless {
		wantBody = ""
	}
	if got.status != want.status || got.body != wantBody || !fold && want.reason != "" && got.reason != want.reason {
		t.Errorf("got %d %s %q; want %d %s %q", got.status, got.reason, got.body, want.status, want.reason, wantBody)
	}
	passed := func(m *message) []string {
		return endToEnd(m.fields, fold, func(name string) bool {
			return slices.Contains(notForClients, name) || name == "trailer" && !chunked && !a.h2
		})
	}
	gotten := func(m *message) []string {
		return endToEnd(m.fields, fold, func(name string) bool {
			return name == "connection" || name == "content-length" || name == "transfer-encoding"
		})
	}
	if g, w := gotten(got), passed(want); !slices.Equal(g, w) {
		t.Errorf("got the fields %q; want %q", g, w)
	}
	if g := values(got.fields, "Connection"); len(g) > 1 || len(g) == 1 && g[0] != "close" {
		t.Errorf("got Connection %q", g)
	}
	all := func(string) bool { return false }
	wantTrailers := endToEnd(want.trailers, fold, func(name string) bool { return slices.Contains(notInTrailers, name) })
	if !chunked {
		wantTrailers = []string{}
	}
	if g := endToEnd(got.trailers, fold, all); !slices.Equal(g, wantTrailers) {
		t.Errorf("got trailers %q; want %q", g, wantTrailers)
	}
	wantLength := lengthOf(t, want)
	switch {
	case reset:
		wantLength = 0
	case want.status == 204:
		wantLength = -1
	}
	// Of what came without one, drover may know that it is empty.
	if n := lengthOf(t, got); n != wantLength && (n != 0 || wantLength >= 0 || want.status == 204 || got.body != "") {
		t.Errorf("got length %d; want %d", n, wantLength)
	}
	hints := func(m *message, fields func(*message) []string) (all []string) {
		for _, i := range m.interim {
			all = append(all, fmt.Sprint(i.status, fields(i)))
		}
		return all
	}
	g, w := hints(got, gotten), hints(want, passed)
	if a.old {
		w = nil
	}
	if !slices.Equal(g, w) {
		t.Errorf("got the interim answers %q; want %q", g, w)
	}
}
