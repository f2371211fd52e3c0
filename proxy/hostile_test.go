package proxy

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"drover/transport"

	"github.com/goccy/go-yaml"
)

// hostile is one message of testdata/hostile.
type hostile struct {
	class, name, want string
	raw               string   // of HTTP/1.1
	frames            []string // or of HTTP/2
	method            string   // of the request that a response answers
	late              string   // what the server sends when the client has its answer
	ends              bool     // the connection ends with the message
}

// loadHostile reads a class of messages.
func loadHostile(t *testing.T, path string) []hostile {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var entries []struct {
		Name, Raw, Want, Method, Late string
		Frames, Each                  []string
		Times                         int
		Ends                          bool
	}
	if err := yaml.UnmarshalWithOptions(text, &entries, yaml.Strict()); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	class := strings.TrimSuffix(filepath.Base(path), ".yaml")
	var all []hostile
	for _, e := range entries {
		if e.Each == nil {
			e.Each = []string{""}
		}
		if e.Method == "" {
			e.Method = "GET"
		}
		for i, value := range e.Each {
			short := strings.NewReplacer("$get", headOf("GET"), "$post", headOf("POST"))
			fill := func(s string) string {
				return latin1(short.Replace(strings.ReplaceAll(s, "{}", strings.Repeat(value, max(e.Times, 1)))))
			}
			h := hostile{
				class: class, name: fmt.Sprintf("%s %d", e.Name, i), want: e.Want, raw: fill(e.Raw),
				method: e.Method, late: fill(e.Late), ends: e.Ends,
			}
			for _, f := range e.Frames {
				h.frames = append(h.frames, fill(f))
			}
			all = append(all, h)
		}
	}
	return all
}

// latin1 makes each character one byte.
func latin1(text string) string {
	var b []byte
	for _, r := range text {
		b = append(b, byte(r))
	}
	return string(b)
}

// arrival is a request as a server has read it.
type arrival struct {
	*message
	conn int // the number of the connection that it came on
}

// recorder is a server that notes what arrives. It answers 200.
type recorder struct {
	mu    sync.Mutex
	conns int
	got   []arrival
	errs  []error // of what was no request
}

// connection gives a new one its number.
func (rec *recorder) connection() int {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	rec.conns++
	return rec.conns
}

// note keeps what was read, unless it was cut.
func (rec *recorder) note(conn int, m *message, err error) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	switch {
	case err == nil:
		rec.got = append(rec.got, arrival{m, conn})
	case errors.Is(err, errBad):
		rec.errs = append(rec.errs, err)
	}
}

func (rec *recorder) play(c net.Conn, r *bufio.Reader) {
	for conn := rec.connection(); ; {
		m, err := readStrict(r)
		if rec.note(conn, m, err); err != nil {
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") // the client sees.
	}
}

// taken gives what has arrived since the last call.
func (rec *recorder) taken() ([]arrival, []error) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	got, errs := rec.got, rec.errs
	rec.got, rec.errs = nil, nil
	return got, errs
}

const smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"

// trial is drover before a recorder.
type trial struct {
	*recorder
	*bed
	h2 bool // the server speaks HTTP/2
}

func startTrial(t *testing.T, h2 bool) *trial {
	tr := &trial{recorder: &recorder{}, h2: h2}
	s := setup{}
	if s.servers = []string{startServer(t, tr.play)}; h2 {
		s.servers = []string{startServer(t, tr.playH2)}
		s.transport = func(c *transport.Config) { c.Protocol = transport.ProtocolH2C }
	}
	tr.bed = startBed(t, s)
	return tr
}

// TestHostileRequests: see testdata/hostile/README.md.
func TestHostileRequests(t *testing.T) {
	files, err := filepath.Glob("testdata/hostile/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for server, h2 := range map[string]bool{"to HTTP1": false, "to HTTP2": true} {
		t.Run(server, func(t *testing.T) {
			tr := startTrial(t, h2)
			count = 0
			for _, path := range files {
				if strings.HasSuffix(path, "responses.yaml") {
					continue
				}
				for _, h := range loadHostile(t, path) {
					count++
					t.Run(h.class+"/"+h.name, func(t *testing.T) { tr.try(t, h) })
				}
			}
		})
	}
	t.Logf("%d requests", count)
}

func (tr *trial) try(t *testing.T, h hostile) {
	tr.drain()
	switch {
	case h.frames != nil:
		tr.tryH2(t, h)
	case h.want == "forward":
		tr.forwarded(t, h)
	case h.want == "unrouted":
		tr.unrouted(t, h)
	case h.want == "gone":
		tr.gone(t, h)
	default:
		tr.refused(t, h, "")
		tr.refused(t, h, get("/first"))
	}
}

// drain drops the results of exchanges, which are of no interest and must not fill up.
func (b *bed) drain() {
	for len(b.results) > 0 {
		<-b.results
	}
}

// arrived gives the one request that has arrived.
func (tr *trial) arrived(t *testing.T) arrival {
	t.Helper()
	got, errs := tr.taken()
	if len(got) != 1 || len(errs) > 0 {
		t.Fatalf("%d requests arrived, and %v", len(got), errs)
	}
	return got[0]
}

// nothing wants nothing whole to have arrived.
func (tr *trial) nothing(t *testing.T) {
	t.Helper()
	if got, errs := tr.taken(); len(got)+len(errs) > 0 {
		t.Errorf("%d requests arrived, and %v", len(got), errs)
	}
}

// forwarded wants a message to arrive as what it says, and to leave both connections
// where the next one begins.
func (tr *trial) forwarded(t *testing.T, h hostile) {
	want, err := readStrict(bufio.NewReader(strings.NewReader(h.raw)))
	if err != nil {
		t.Fatalf("the parser of the test takes it for bad: %v", err)
	}
	if scheme, rest, ok := strings.Cut(want.target, "://"); ok && strings.HasPrefix(scheme, "http") { // RFC 9112, section 3.2.2
		i := strings.IndexAny(rest+"/", "/?")
		want.host, want.target = rest[:i], "/"+strings.TrimPrefix(rest[i:], "/")
	}
	v := tr.dial(t)
	v.send(h.raw)
	if resp, err := readStrictAnswer(v.r, want.method); err != nil || resp.status != 200 {
		t.Fatalf("got %+v, %v", resp, err)
	}
	got := tr.arrived(t)
	tr.compare(t, got, want)
	if slices.ContainsFunc(values(want.fields, "Connection"), func(list string) bool { return strings.Contains(list, "close") }) {
		if rest, err := io.ReadAll(v.r); len(rest) > 0 || err != nil {
			t.Errorf("got %q, %v behind the answer; want the end", rest, err)
		}
		v = tr.dial(t)
	}
	v.send(get("/next"))
	if resp, err := readStrictAnswer(v.r, "GET"); err != nil || resp.status != 200 {
		t.Fatalf("the next request got %+v, %v", resp, err)
	}
	if next := tr.arrived(t); next.target != "/next" || next.conn != got.conn {
		t.Errorf("got %s on connection %d; want /next on %d", next.target, next.conn, got.conn)
	}
}

// notForServers are the fields of a client that no server gets as they are: those of the
// connection, of the framing, and those that are drover's own to write.
var notForServers = []string{
	"connection", "content-length", "expect", "forwarded", "host", "http2-settings", "keep-alive", "proxy-authorization",
	"proxy-connection", "te", "transfer-encoding", "upgrade", "x-real-ip",
}

// ofDrover are those that servers get all the same: compare looks at each.
var ofDrover = []string{
	"connection", "content-length", "host", "te", "transfer-encoding", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto",
}

// compare holds what arrived against what the client said.
func (tr *trial) compare(t *testing.T, got arrival, want *message) {
	t.Helper()
	if got.method != want.method || got.target != want.target || got.host != want.host || got.body != want.body {
		t.Errorf("got %s %s for %s with %q; want %s %s for %s with %q", got.method, got.target, got.host, got.body,
			want.method, want.target, want.host, want.body)
	}
	streamed := len(values(want.fields, "Transfer-Encoding")) > 0 || want.h2 && len(values(want.fields, "Content-Length")) == 0
	fold := tr.h2 || want.h2
	got1 := endToEnd(got.fields, fold, func(name string) bool { return slices.Contains(ofDrover, name) })
	want1 := endToEnd(want.fields, fold, func(name string) bool {
		name = strings.ReplaceAll(name, "_", "-")
		return slices.Contains(notForServers, name) || strings.HasPrefix(name, "x-forwarded-") || name == "trailer" && !streamed
	})
	if !slices.Equal(got1, want1) {
		t.Errorf("got the fields %q; want %q", got1, want1)
	}
	all := func(string) bool { return false }
	if got1, want1 = endToEnd(got.trailers, fold, all), endToEnd(want.trailers, fold, all); !slices.Equal(got1, want1) {
		t.Errorf("got trailers %q; want %q", got1, want1)
	}
	for name, allowed := range map[string][]string{
		"Connection": {"TE", "TE, Upgrade", "Upgrade"}, "TE": {"trailers"}, "Transfer-Encoding": {"chunked"},
		"X-Forwarded-Proto": {"http"}, "X-Forwarded-Host": {want.host},
	} {
		if list := values(got.fields, name); len(list) > 1 || len(list) == 1 && !slices.Contains(allowed, list[0]) {
			t.Errorf("got %s %q; want one of %q or none", name, list, allowed)
		}
	}
	if list := values(got.fields, "X-Forwarded-For"); len(list) != 1 || !strings.HasSuffix(list[0], "127.0.0.1") {
		t.Errorf("got X-Forwarded-For %q; want drover's word at its end", list)
	}
	lengths := values(got.fields, "Content-Length")
	if n := len(lengths); n > 1 || n == 0 && len(values(want.fields, "Content-Length")) > 0 {
		t.Errorf("got lengths %q", lengths)
	} else if n == 1 && strings.TrimLeft(lengths[0], "0") != strings.TrimLeft(fmt.Sprint(len(want.body)), "0") {
		t.Errorf("got length %q; want %d", lengths[0], len(want.body))
	}
}

// unrouted wants a message to be answered with 404.
func (tr *trial) unrouted(t *testing.T, h hostile) {
	v := tr.dial(t)
	v.send(h.raw)
	if resp, err := readStrictAnswer(v.r, "GET"); err != nil || resp.status != 404 {
		t.Errorf("got %+v, %v; want 404", resp, err)
	}
	tr.nothing(t)
}

// gone wants no answer at all to a client that is gone.
func (tr *trial) gone(t *testing.T, h hostile) {
	v := tr.dial(t)
	v.send(h.raw)
	_ = v.CloseWrite()
	if got, err := io.ReadAll(v.r); err != nil || len(got) > 0 {
		t.Errorf("got %q, %v; want the end", got, err)
	}
	tr.nothing(t)
}

// refused wants a message to be answered with a status, nothing whole to arrive, and
// nothing behind it to be answered. The client waits for drover to end the connection:
// only a message that ends with it is followed by the client's end.
func (tr *trial) refused(t *testing.T, h hostile, before string) {
	t.Helper()
	v := tr.dial(t)
	_, _ = io.WriteString(v, before+h.raw) // drover may have closed by now.
	if h.ends {
		_ = v.CloseWrite()
	} else {
		_, _ = io.WriteString(v, smuggled)
	}
	if before != "" {
		if resp, err := readStrictAnswer(v.r, "GET"); err != nil || resp.status != 200 {
			t.Fatalf("the request before got %+v, %v", resp, err)
		}
		if first := tr.arrived(t); first.target != "/first" {
			t.Errorf("got %s; want /first alone", first.target)
		}
	}
	resp, err := readStrictAnswer(v.r, "GET")
	if err != nil || fmt.Sprint(resp.status) != h.want || !slices.Equal(values(resp.fields, "Connection"), []string{"close"}) {
		t.Fatalf("got %+v, %v; want status %s and close", resp, err, h.want)
	}
	if !h.ends {
		_, _ = io.WriteString(v, smuggled) // see above.
	}
	if rest, err := io.ReadAll(v.r); err != nil || len(rest) > 0 {
		t.Errorf("got %q, %v behind the answer; want the end", rest, err)
	}
	tr.nothing(t)
}
