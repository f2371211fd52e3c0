package proxy

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
)

// hostile is one message of testdata/hostile.
type hostile struct {
	name, raw, want string
	ends            bool // the connection ends with the message
}

// loadHostile reads a class of messages.
func loadHostile(t *testing.T, path string) []hostile {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var entries []struct {
		Name, Raw, Want string
		Each            []string
		Times           int
		Ends            bool
	}
	if err := yaml.UnmarshalWithOptions(text, &entries, yaml.Strict()); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	var all []hostile
	for _, e := range entries {
		if e.Each == nil {
			e.Each = []string{""}
		}
		for i, value := range e.Each {
			raw := strings.ReplaceAll(e.Raw, "{}", strings.Repeat(value, max(e.Times, 1)))
			all = append(all, hostile{fmt.Sprintf("%s %d", e.Name, i), latin1(raw), e.Want, e.Ends})
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

// strict is what one request says, in the simplest reading of RFC 9112 that takes
// nothing but what that allows.
type strict struct {
	method, target, host, body string
	fields                     map[string][]string // names in lower case
	trailers                   []string
}

var (
	errBad = errors.New("not a request")
	errCut = errors.New("not a whole request")
)

const token = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

func isStrictToken(s string) bool { return s != "" && strings.Trim(s, token) == "" }

// readStrict reads one request.
func readStrict(r *bufio.Reader) (*strict, error) {
	line, err := strictLine(r)
	for ; err == nil && line == ""; line, err = strictLine(r) { // RFC 9112, section 2.2
	}
	if err != nil {
		return nil, err
	}
	parts := strings.Split(line, " ")
	if len(parts) != 3 || !isStrictToken(parts[0]) || parts[1] == "" || parts[2] != "HTTP/1.1" {
		return nil, fmt.Errorf("%w: line %q", errBad, line)
	}
	s := &strict{method: parts[0], target: parts[1]}
	if s.fields, err = strictFields(r); err != nil {
		return nil, err
	}
	if len(s.fields["host"]) != 1 {
		return nil, fmt.Errorf("%w: hosts %q", errBad, s.fields["host"])
	}
	s.host = s.fields["host"][0]
	lengths, codings := s.fields["content-length"], s.fields["transfer-encoding"]
	switch {
	case len(lengths)+len(codings) > 1:
		return nil, fmt.Errorf("%w: lengths %q, codings %q", errBad, lengths, codings)
	case len(codings) == 1 && !strings.EqualFold(codings[0], "chunked"):
		return nil, fmt.Errorf("%w: coding %q", errBad, codings[0])
	case len(codings) == 1:
		return s, s.chunks(r)
	case len(lengths) == 1:
		n, err := strconv.ParseUint(lengths[0], 10, 31)
		if err != nil || lengths[0][0] == '+' {
			return nil, fmt.Errorf("%w: length %q", errBad, lengths[0])
		}
		body := make([]byte, n)
		if _, err := io.ReadFull(r, body); err != nil {
			return nil, errCut
		}
		s.body = string(body)
	}
	return s, nil
}

// strictLine reads up to CRLF, which alone ends a line.
func strictLine(r *bufio.Reader) (string, error) {
	line, err := r.ReadString('\n')
	switch {
	case err != nil && line == "":
		return "", io.EOF
	case err != nil:
		return "", errCut
	case !strings.HasSuffix(line, "\r\n"):
		return "", fmt.Errorf("%w: line end of %q", errBad, line)
	}
	line = line[:len(line)-2]
	for i := range len(line) {
		if c := line[i]; c < ' ' && c != '\t' || c == 0x7f {
			return "", fmt.Errorf("%w: control in %q", errBad, line)
		}
	}
	return line, nil
}

func strictFields(r *bufio.Reader) (map[string][]string, error) {
	fields := map[string][]string{}
	for {
		line, err := strictLine(r)
		if errors.Is(err, io.EOF) {
			err = errCut
		}
		if err != nil || line == "" {
			return fields, err
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok || !isStrictToken(name) {
			return nil, fmt.Errorf("%w: field %q", errBad, line)
		}
		name = strings.ToLower(name)
		fields[name] = append(fields[name], strings.Trim(value, " \t"))
	}
}

func (s *strict) chunks(r *bufio.Reader) error {
	for {
		line, err := strictLine(r)
		if err != nil {
			return errors.Join(errCut, err)
		}
		size, _, _ := strings.Cut(line, ";")
		n, err := strconv.ParseUint(strings.TrimRight(size, " \t"), 16, 31)
		if err != nil || strings.ContainsAny(size[:1], "+-") {
			return fmt.Errorf("%w: chunk size %q", errBad, line)
		}
		if n == 0 {
			break
		}
		data := make([]byte, n+2)
		if _, err := io.ReadFull(r, data); err != nil {
			return errCut
		}
		if string(data[n:]) != "\r\n" {
			return fmt.Errorf("%w: chunk end %q", errBad, data[n:])
		}
		s.body += string(data[:n])
	}
	trailers, err := strictFields(r)
	for name, values := range trailers {
		s.trailers = append(s.trailers, name+": "+strings.Join(values, ", "))
	}
	return err
}

// recorder is a server that notes what arrives.
type recorder struct {
	mu   sync.Mutex
	got  []*strict
	errs []error // of what was no request
}

func (rec *recorder) play(c net.Conn, r *bufio.Reader) {
	for {
		s, err := readStrict(r)
		rec.mu.Lock()
		switch {
		case err == nil:
			rec.got = append(rec.got, s)
		case errors.Is(err, errBad):
			rec.errs = append(rec.errs, err)
		}
		rec.mu.Unlock()
		if err != nil {
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") // the client sees.
	}
}

// taken gives what has arrived since the last call.
func (rec *recorder) taken() ([]*strict, []error) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	got, errs := rec.got, rec.errs
	rec.got, rec.errs = nil, nil
	return got, errs
}

const smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"

// TestHostileRequests: see testdata/hostile/README.md.
func TestHostileRequests(t *testing.T) {
	rec := &recorder{}
	b := startBed(t, setup{servers: []string{startServer(t, rec.play)}})
	files, err := filepath.Glob("testdata/hostile/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for _, path := range files {
		if filepath.Base(path) == "responses.yaml" {
			continue
		}
		for _, h := range loadHostile(t, path) {
			count++
			for len(b.results) > 0 {
				<-b.results // they are of no interest, and must not fill up.
			}
			t.Run(strings.TrimSuffix(filepath.Base(path), ".yaml")+"/"+h.name, func(t *testing.T) {
				switch h.want {
				case "forward":
					rec.forwarded(t, b, h.raw)
				case "unrouted":
					rec.refused(t, b, h.raw, "", "404")
				default:
					rec.refused(t, b, h.raw, smuggled, h.want)
				}
			})
		}
	}
	t.Logf("%d requests", count)
}

// forwarded wants a message to arrive as what it says.
func (rec *recorder) forwarded(t *testing.T, b *bed, raw string) {
	want, err := readStrict(bufio.NewReader(strings.NewReader(raw)))
	if err != nil {
		t.Fatalf("the parser of the test takes it for bad: %v", err)
	}
	if scheme, rest, ok := strings.Cut(want.target, "://"); ok && strings.HasPrefix(scheme, "http") { // RFC 9112, section 3.2.2
		i := strings.IndexAny(rest+"/", "/?")
		want.host, want.target = rest[:i], "/"+strings.TrimPrefix(rest[i:], "/")
	}
	v := b.dial(t)
	v.send(raw)
	resp, err := http.ReadResponse(v.r, &http.Request{Method: want.method})
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("got %v, %v", resp, err)
	}
	got, errs := rec.taken()
	if len(got) != 1 || len(errs) > 0 {
		t.Fatalf("%d requests arrived, and %v", len(got), errs)
	}
	g := got[0]
	if g.method != want.method || g.target != want.target || g.host != want.host || g.body != want.body {
		t.Errorf("got %s %s for %s with %q; want %s %s for %s with %q", g.method, g.target, g.host, g.body,
			want.method, want.target, want.host, want.body)
	}
	if strings.Join(g.trailers, "|") != strings.Join(want.trailers, "|") {
		t.Errorf("got trailers %q; want %q", g.trailers, want.trailers)
	}
	if f := g.fields["x-forwarded-for"]; len(f) != 1 || !strings.HasSuffix(f[0], "127.0.0.1") {
		t.Errorf("got X-Forwarded-For %q; want drover's word at its end", f)
	}
	got1, want1 := endToEnd(g), endToEnd(want)
	if !maps.EqualFunc(got1, want1, slices.Equal) {
		t.Errorf("got the fields %q; want %q", got1, want1)
	}
}

// notEndToEnd are the fields that a proxy does not pass on as they are: those of the
// connection, of the framing, and those that are its own to write.
var notEndToEnd = []string{
	"connection", "content-length", "expect", "forwarded", "host", "http2-settings", "keep-alive", "proxy-authorization",
	"proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto",
	"x-real-ip",
}

// endToEnd are the fields that must arrive as they were sent (RFC 9110, section 7.6.1).
func endToEnd(s *strict) map[string][]string {
	fields := maps.Clone(s.fields)
	for _, list := range s.fields["connection"] {
		for name := range strings.SplitSeq(list, ",") {
			delete(fields, strings.ToLower(strings.TrimSpace(name)))
		}
	}
	maps.DeleteFunc(fields, func(name string, _ []string) bool {
		return slices.Contains(notEndToEnd, strings.ReplaceAll(name, "_", "-"))
	})
	return fields
}

// refused wants a message to be answered with a status, the connection to close, and
// nothing whole to arrive.
func (rec *recorder) refused(t *testing.T, b *bed, raw, behind, status string) {
	v := b.dial(t)
	_, _ = io.WriteString(v, raw+behind) // drover may have closed by now.
	_ = v.CloseWrite()
	answer, err := io.ReadAll(v.r)
	if err != nil && len(answer) == 0 {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(answer, []byte("HTTP/1.1 "+status+" ")) || bytes.Count(answer, []byte("HTTP/1.1 ")) != 1 {
		t.Errorf("got %.200q; want one answer of status %s", answer, status)
	}
	if got, errs := rec.taken(); len(got)+len(errs) > 0 {
		t.Errorf("%d requests arrived, and %v", len(got), errs)
	}
}

// TestHostileResponses: see testdata/hostile/README.md.
func TestHostileResponses(t *testing.T) {
	all := loadHostile(t, "testdata/hostile/responses.yaml")
	for _, h := range all {
		t.Run(h.name, func(t *testing.T) {
			var mu sync.Mutex
			conns := 0
			b := startBed(t, setup{servers: []string{startServer(t, func(c net.Conn, r *bufio.Reader) {
				mu.Lock()
				conns++
				first := conns == 1
				mu.Unlock()
				if _, _, err := readRequest(r); err != nil {
					return
				}
				if first {
					_, _ = io.WriteString(c, h.raw) // the client sees.
					if h.want != "502" || h.ends {
						return
					}
					// The connection stays open: nothing but the fault keeps it from being used.
					if _, _, err := readRequest(r); err == nil {
						_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nreused")
					}
					return
				}
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnext") // see above.
			})}})
			v := b.dial(t)
			if err := v.SetDeadline(time.Now().Add(patience)); err != nil {
				t.Fatal(err)
			}
			v.send(get("/"))
			resp, err := http.ReadResponse(v.r, nil)
			if err != nil {
				if h.want != "cut" {
					t.Fatal(err)
				}
				resp = nil
			}
			var body []byte
			if resp != nil {
				body, err = io.ReadAll(resp.Body)
			}
			switch {
			case h.want == "cut" && err == nil:
				t.Errorf("got a whole answer: %d %q", resp.StatusCode, body)
			case h.want == "502" && (err != nil || resp.StatusCode != 502):
				t.Errorf("got %d %q, %v", resp.StatusCode, body, err)
			case h.want == "pass" && (err != nil || resp.StatusCode != 200 || string(body) != "ok"):
				t.Errorf("got %d %q, %v", resp.StatusCode, body, err)
			}
			w := b.dial(t)
			w.send(get("/next"))
			if resp, body := w.answer(); resp.StatusCode != 200 || body != "next" {
				t.Errorf("the next request got %d %q", resp.StatusCode, body)
			}
		})
	}
	t.Logf("%d responses", len(all))
}
