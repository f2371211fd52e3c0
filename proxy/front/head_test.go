package front

import (
	"bufio"
	"bytes"
	"regexp"
	"strings"
	"testing"

	"drover/exchange"

	"github.com/valyala/fasthttp"
)

// A field line as RFC 9112, section 5 has it.
var fieldLine = regexp.MustCompile("^([!#$%&'*+\\-.^_`|~0-9A-Za-z]+):[ \t]*((?s:.*?))[ \t]*$")

// scanSlowly is the obvious twin of scanFields.
func scanSlowly(raw string, limit int) (names, values []string, v scanVerdict) {
	if raw == "" {
		return nil, nil, scanFine
	}
	for {
		line, rest, ok := strings.Cut(raw, "\r\n")
		if !ok || strings.Contains(line, "\n") {
			return nil, nil, scanMalformed
		}
		raw = rest
		if line == "" {
			if rest != "" {
				return nil, nil, scanMalformed
			}
			return names, values, scanFine
		}
		if len(names) == limit {
			return nil, nil, scanTooMany
		}
		m := fieldLine.FindStringSubmatch(line)
		if m == nil {
			return nil, nil, scanMalformed
		}
		for i := range len(m[2]) {
			if c := m[2][i]; c < ' ' && c != '\t' || c == 0x7f {
				return nil, nil, scanMalformed
			}
		}
		names, values = append(names, m[1]), append(values, m[2])
	}
}

func FuzzScanFields(f *testing.F) {
	for _, seed := range []string{
		"", "\r\n", "\n", "\r", "A: b\r\n\r\n", "A: b\r\n", "A:b\r\nC: d \r\n\r\n", "A: b\r\n\r\nC: d\r\n\r\n",
		"A : b\r\n\r\n", " A: b\r\n\r\n", "A: b\r\n c\r\n\r\n", "A: b\nC: d\r\n\r\n", ": b\r\n\r\n", "A\r\n\r\n",
		"A: b\rc\r\n\r\n", "A: \x00\r\n\r\n", "A: \xff\x80\x7f\r\n\r\n", "A: 12345678\x1f\r\n\r\n", "A: 1234567\x7f9abcdefg\r\n\r\n",
		"A: tab\there, longer than eight\r\n\r\n", "A: \t\r\n\r\n", "A:\r\r\n\r\n", "A: b\r\r\n\r\n", "a:\r\n\r\n",
		"A: b\r\nA: b\r\nA: b\r\nA: b\r\nA: b\r\nA: b\r\nA: b\r\nA: b\r\nA: b\r\n\r\n", "\xe9: b\r\n\r\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		got, verdict := scanFields(nil, raw, 8)
		names, values, want := scanSlowly(string(raw), 8)
		if verdict != want {
			t.Fatalf("%q: verdict %d; want %d", raw, verdict, want)
		}
		if verdict != scanFine {
			return
		}
		if len(got) != len(names) {
			t.Fatalf("%q: %d fields; want %d", raw, len(got), len(names))
		}
		for i := range got {
			if string(got[i].Name) != names[i] || string(got[i].Value) != values[i] {
				t.Errorf("%q: field %d is %s; want %q: %q", raw, i, got[i], names[i], values[i])
			}
		}
	})
}

// hostForm is RFC 3986's authority without userinfo, ports up to five digits.
var hostForm = regexp.MustCompile(`^(\[[0-9A-Fa-f:.]{2,}\]|([A-Za-z0-9\-._~!$&'()*+,;=]|%[0-9A-Fa-f]{2})+)(:([0-9]*))?$`)

func FuzzValidHost(f *testing.F) {
	for _, seed := range []string{
		"a", "", ":", "a:", ":80", "a:80", "a:65535", "a:65536", "a:080", "a:8x", "[::1]", "[::1]:80", "[", "[]", "[]:80", "[::1", "::1",
		"a@b", "a:b@c", "a/b", "a?b", "a#b", "a b", "%41", "%4", "%", "%zz", "a\x00", "ä", "a_b", "a,b", "[::1]x", "[::1%25e]", "a[b]",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, host []byte) {
		want := false
		if m := hostForm.FindSubmatch(host); m != nil && !bytes.Contains(host, []byte("\n")) {
			digits := strings.TrimLeft(string(m[4]), "0")
			want = len(digits) < 5 || len(digits) == 5 && digits <= "65535"
		}
		if got := validHost(host); got != want {
			t.Errorf("%q: got %v; want %v", host, got, want)
		}
	})
}

// What fasthttp and the strict reading both take must agree with what a list of
// fields says, and an accepted request has unambiguous framing.
func FuzzRequest(f *testing.F) {
	for _, row := range requestRows {
		if len(row.raw) < 1000 {
			f.Add([]byte(row.raw))
		}
	}
	s := &settings{maxFields: 16}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var h fasthttp.RequestHeader
		if h.Read(bufio.NewReaderSize(bytes.NewReader(raw), 4096)) != nil {
			return
		}
		var q request
		if q.read(&h, s) != accepted {
			return
		}
		if q.fields.Count("Host") > 1 || q.fields.Count("Content-Length")+q.fields.Count("Transfer-Encoding") > 1 {
			t.Errorf("%q: ambiguous and accepted", raw)
		}
		if len(q.host) == 0 && q.minor > 0 || bytes.ContainsAny(q.host, "@/\\ \t\x00") {
			t.Errorf("%q: host %q", raw, q.host)
		}
		if q.target[0] != '/' && string(q.target) != "*" || bytes.ContainsAny(q.target, " \t\r\n\x00") {
			t.Errorf("%q: target %q", raw, q.target)
		}
		switch {
		case q.length == exchange.LengthUnknown != q.fields.Has("Transfer-Encoding"),
			q.length >= 0 != q.fields.Has("Content-Length"):
			t.Errorf("%q: length %d does not follow from the fields", raw, q.length)
		}
	})
}

func TestLineCheck(t *testing.T) {
	f := func(want bool, parts ...string) {
		t.Helper()
		var l lineCheck
		l.start()
		for _, p := range parts {
			l.look([]byte(p))
		}
		if l.bare != want {
			t.Errorf("%q: got %v; want %v", parts, l.bare, want)
		}
	}
	f(false, "GET / HTTP/1.1\r\nHost: a\n")
	f(true, "GET / HTTP/1.1\nHost: a\n")
	f(false, "GET / HTTP", "/1.1\r", "\n", "x\n")
	f(true, "GET / HTTP", "/1.1", "\n")
	f(true, "\nGET / HTTP/1.1\r\n")
	f(true, "\r\nGET / HTTP/1.1\n")
	f(true, "\r", "\n", "\nGET / HTTP/1.1\r\n")
	f(false, "\r", "\n", "\r\n", "G", "\r\n", "\n")
}

// TestHeadEnd: a head ends behind an empty line, however its bytes come.
func TestHeadEnd(t *testing.T) {
	for text, want := range map[string]int{
		"GET / HTTP/1.1\r\nHost: a\r\n\r\nrest\r\n\r\n": 27,
		"GET / HTTP/1.1\nHost: a\n\nrest":               24,
		"GET / HTTP/1.1\r\nHost: a\r\nx":                26,
		"\r\nGET / HTTP/1.1\r\n\r\n":                    2,
		"\nGET":                                         1,
		"a\rb\r":                                        4,
		"a\r\r\n":                                       4,
		"":                                              0,
	} {
		for piece := 1; piece <= len(text)+1; piece++ {
			var h headEnd
			for at := 0; at < want; {
				p := text[at:min(at+piece, len(text))]
				n := h.cut([]byte(p))
				if at += n; at > want || n < len(p) && at != want {
					t.Fatalf("%q in pieces of %d: it ends at %d; want %d", text, piece, at, want)
				}
			}
		}
	}
}
