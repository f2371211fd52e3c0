package proxy

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"drover/proxy/front"
	"drover/units"
)

// keepLog opens an access log and runs it. Stop ends it and gives what the file has.
func keepLog(t *testing.T) (l *AccessLog, stop func() string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "access.log")
	l, err := OpenAccessLog(path, func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	var text []byte
	stop = func() string {
		if cancel(); ended != nil {
			if err := <-ended; err != nil {
				t.Errorf("run: %v", err)
			}
			ended = nil
			if text, err = os.ReadFile(path); err != nil {
				t.Fatal(err)
			}
		}
		return string(text)
	}
	t.Cleanup(func() { stop() })
	return l, stop
}

func jsonLog() AccessLogConfig {
	var cfg AccessLogConfig
	cfg.SetDefaults()
	cfg.Format = "json"
	return cfg
}

// exchangeRaw sends bytes and reads until the connection ends.
func exchangeRaw(t *testing.T, address, request string) (local, answer string) {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	return c.LocalAddr().(*net.TCPAddr).IP.String(), string(got)
}

// TestRejectedIsLogged: what no route ever sees has its line all the same.
func TestRejectedIsLogged(t *testing.T) {
	for _, c := range []struct {
		what, request  string
		status         int
		reason         string
		method, target string
	}{
		{"no host", "GET /a?b=c HTTP/1.1\r\n\r\n", 400, "BR", "GET", "/a?b=c"},
		{"space before colon", "PUT /a HTTP/1.1\r\nHost : a\r\n\r\n", 400, "BR", "PUT", "/a"},
		{"folded line", "GET /a HTTP/1.1\r\nHost: a\r\nX: 1\r\n 2\r\n\r\n", 400, "BR", "GET", "/a"},
		{"bare line feed", "GET /a HTTP/1.1\nHost: a\r\n\r\n", 400, "BR", "GET", "/a"},
		{"empty lines first", "\r\n\r\nGET /a HTTP/1.1\r\nHost : a\r\n\r\n", 400, "BR", "GET", "/a"},
		{"no version", "GET /a\r\n\r\n", 400, "BR", "GET", "/a"},
		{"no target", "GET\r\n\r\n", 400, "BR", "GET", ""},
		{"control bytes", "GET /\x01\x7f\" HTTP/1.1\r\nHost : a\r\n\r\n", 400, "BR", "GET", "/\x01\x7f\""},
		{"no UTF-8", "GET /\xff HTTP/1.1\r\nHost : a\r\n\r\n", 400, "BR", "GET", "/\uFFFD"},
		{"not HTTP", "\x16\x03\x01\x02\x00\x01\r\n\r\n", 400, "BR", "\x16\x03\x01\x02\x00\x01", ""},
		{"other version", "GET /a HTTP/2.0\r\nHost: a\r\n\r\n", 505, "VN", "GET", "/a"},
		{"tunnel", "CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", 405, "MN", "CONNECT", "a:443"},
		{"expectation", "PUT /a HTTP/1.1\r\nHost: a\r\nExpect: gold\r\n\r\n", 417, "EF", "PUT", "/a"},
		{"many fields", "GET /a HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("X: y\r\n", 200) + "\r\n", 431, "HL", "GET", "/a"},
		{"large head", "GET /a HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("y", 20<<10) + "\r\n\r\n", 431, "HL", "GET", "/a"},
		{"large target", "GET /" + strings.Repeat("y", 20<<10) + " HTTP/1.1\r\n\r\n", 431, "HL", "GET", "/" + strings.Repeat("y", 507)},
		{"large body", "PUT /a HTTP/1.1\r\nHost: a\r\nContent-Length: 20000\r\n\r\n", 413, "BL", "PUT", "/a"},
		{"slow head", "GET /a HTTP/1.1\r\nHost: a\r\n", 408, "CT", "GET", "/a"},
		{"slow request line", "GET /a", 408, "CT", "GET", "/a"},
		{"slow body", "PUT /a HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nx", 408, "CT", "PUT", "/a"},
	} {
		t.Run(c.what, func(t *testing.T) {
			t.Parallel()
			log, stop := keepLog(t)
			b := startBed(t, setup{access: log, accessCfg: jsonLog(), listener: func(cfg *front.Config) {
				cfg.MaxHeaderSize, cfg.MaxBodySize = 8*units.KiB, 10_000
				cfg.BodyIdleTimeout = 100 * time.Millisecond
				if c.status == 408 {
					cfg.HeaderTimeout = 100 * time.Millisecond
				}
			}})
			local, answer := exchangeRaw(t, b.address, c.request)
			if !strings.HasPrefix(answer, fmt.Sprintf("HTTP/1.1 %d ", c.status)) {
				t.Fatalf("got %.100q; want status %d", answer, c.status)
			}
			_, body, _ := strings.Cut(answer, "\r\n\r\n")
			var line map[string]any
			if err := json.Unmarshal([]byte(stop()), &line); err != nil {
				t.Fatalf("one line of JSON: %v in %q", err, stop())
			}
			for key, want := range map[string]any{
				"client": local, "listener": "web", "status": float64(c.status), "reason": c.reason,
				"method": c.method, "target": c.target, "sent": float64(len(body)), "route": "",
			} {
				if line[key] != want {
					t.Errorf("%s: got %v; want %v", key, line[key], want)
				}
			}
		})
	}
}

func TestRejectedConnectionIsLogged(t *testing.T) {
	log, stop := keepLog(t)
	var cfg AccessLogConfig
	cfg.SetDefaults()
	cfg.Sample = 0 // drover's own answers are logged all the same.
	b := startBed(t, setup{access: log, accessCfg: cfg, listener: func(cfg *front.Config) { cfg.MaxConnections = 1 }})
	v := b.dial(t)
	v.send("GET /first HTTP/1.1\r\nHost: a\r\n\r\n")
	v.answer()
	if _, answer := exchangeRaw(t, b.address, ""); !strings.HasPrefix(answer, "HTTP/1.1 503 ") {
		t.Fatalf("got %q; want 503", answer)
	}
	v.send("GET\x01\t /second \r\n\r\n")
	v.answer()
	want := regexp.MustCompile(`^127\.0\.0\.1 - - \[[^]]+\] "GET /first HTTP/1\.1" 503 24 "-" "-" web app app - 0 0 0\.000000 [0-9.]+ NS
127\.0\.0\.1 - - \[[^]]+\] "-" 503 24 "-" "-" web - - - 0 0 0\.000000 0\.000000 OL
127\.0\.0\.1 - - \[[^]]+\] "GET\\x01\\x09 /second" 400 16 "-" "-" web - - - 0 0 0\.000000 0\.000000 BR
$`)
	if got := stop(); !want.MatchString(got) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestPanicIsLoggedOnce: a handler that fails was on its way already.
func TestPanicIsLoggedOnce(t *testing.T) {
	log, stop := keepLog(t)
	b := startBed(t, setup{access: log, accessCfg: jsonLog()})
	ex := requestFor("GET", "a.test", "/")
	ex.Result.Route = "app"
	b.Rejected(ex)
	if got := stop(); got != "" {
		t.Errorf("got a second line: %s", got)
	}
}
