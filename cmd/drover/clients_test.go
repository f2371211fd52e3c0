package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"drover/internal/zktest"

	"github.com/gorilla/websocket"
)

// origin is a server for clients that other people wrote, behind a drover with a plain
// and a TLS listener.
type origin struct {
	*peer
	plain, secure string // URLs without a path
}

func startOrigin(t *testing.T) *origin {
	t.Helper()
	dir, o := t.TempDir(), &origin{peer: startPeer(t, "origin")}
	writePair(t, dir, 1)
	h := http.HandlerFunc(serveOrigin)
	o.handler.Store(&h)
	secure := freeAddress(t)
	s := newSetup(t, secureToo(dir, secure, o.address))
	s.run(t)
	o.plain, o.secure = "http://"+s.listen, "https://"+secure
	return o
}

// serveOrigin answers by path: /echo gives the body back with its sum as the trailer,
// /hints says 103 first, /ws is a WebSocket.
func serveOrigin(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/echo":
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		w.Header().Set("Trailer", "X-Sum")
		w.Header().Set("X-Asked", r.Trailer.Get("X-Asked"))
		_, _ = w.Write(body)
		w.Header().Set("X-Sum", sumOf(body))
	case "/hints":
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		_, _ = io.WriteString(w, "hinted")
	case "/ws":
		serveSocket(w, r)
	default:
		w.Header().Set("Content-Length", "6")
		_, _ = io.WriteString(w, "origin")
	}
}

// serveSocket echoes; the text "close" has it close, with a code and a reason.
func serveSocket(w http.ResponseWriter, r *http.Request) {
	upgrader := websocket.Upgrader{CheckOrigin: func(*http.Request) bool { return true }}
	c, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	defer c.Close()
	for {
		kind, message, err := c.ReadMessage()
		if err != nil {
			return
		}
		if string(message) == "close" {
			_ = c.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(4001, "enough"), time.Now().Add(time.Minute))
			continue // until the client's own close has come
		}
		if c.WriteMessage(kind, message) != nil {
			return
		}
	}
}

func sumOf(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])
}

// foreign runs somebody else's client and gives what it wrote.
func foreign(t *testing.T, debianPackage, name string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		zktest.Missing(t, name, debianPackage)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.WaitDelay = 5 * time.Second // a browser leaves children that hold its output
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, out, stderr.String())
	}
	return string(out)
}

// TestCurl has curl speak each protocol that it knows.
func TestCurl(t *testing.T) {
	o := startOrigin(t)
	large := bytes.Repeat([]byte("0123456789abcdef"), 64<<10) // 1 MiB
	file := filepath.Join(t.TempDir(), "large")
	put(t, file, string(large))
	for _, row := range []struct{ name, version, url, flag string }{
		{"HTTP/1.1", "1.1", o.plain, "--http1.1"},
		{"HTTP/1.1 over TLS", "1.1", o.secure, "--http1.1"},
		{"h2 by ALPN", "2", o.secure, "--http2"},
		{"h2c", "2", o.plain, "--http2-prior-knowledge"},
	} {
		t.Run(row.name, func(t *testing.T) {
			curl := func(args ...string) string {
				t.Helper()
				return foreign(t, "curl", "curl", append([]string{"-sSk", "--max-time", "60", row.flag}, args...)...)
			}
			want := func(what, got, want string) {
				t.Helper()
				if got != want {
					t.Errorf("%s: got %.80q (%d bytes); want %.80q (%d bytes)", what, got, len(got), want, len(want))
				}
			}
			want("version", curl("-o", os.DevNull, "-w", "%{http_version} %{http_code}", row.url), row.version+" 200")
			want("upload and download", curl("-T", file, row.url+"/echo"), string(large))
			want("upload of unknown length", curl("-X", "POST", "-H", "Transfer-Encoding: chunked", "-T", file, row.url+"/echo"), string(large))
			want("Expect", curl("-H", "Expect: 100-continue", "--expect100-timeout", "30", "-d", "abc", row.url+"/echo"), "abc")
			if row.name != "h2c" { // curl 7.88 cannot: it fails in the same way with nginx
				want("connections for three requests", curl("-o", os.DevNull, "-o", os.DevNull, "-o", os.DevNull, "-w", "%{num_connects} ",
					row.url+"/a", row.url+"/b", row.url+"/c"), "1 0 0 ")
			}
			if head := curl("-I", row.url); !strings.Contains(strings.ToLower(head), "content-length: 6\r\n") {
				t.Errorf("HEAD gave %q; want the length", head)
			}
			if heads := curl("-D", "-", row.url+"/hints"); !strings.Contains(heads, " 103") || !strings.HasSuffix(heads, "hinted") {
				t.Errorf("got %q; want a 103 and the answer", heads)
			}
			if heads := curl("-D", "-", "-d", "abc", row.url+"/echo"); row.version == "2" && !strings.Contains(heads, sumOf([]byte("abc"))) {
				t.Errorf("got %q; want the trailer", heads)
			}
		})
	}
}

// TestRangesPass: a range is the server's affair, and drover passes both sides of it on.
func TestRangesPass(t *testing.T) {
	o := startOrigin(t)
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "a.txt", time.Time{}, strings.NewReader("0123456789"))
	})
	o.handler.Store(&h)
	for url, flag := range map[string]string{o.plain: "--http1.1", o.secure: "--http2"} {
		got := foreign(t, "curl", "curl", "-sSk", flag, "-r", "2-4", "-w", " %{http_code} %header{content-range}", url)
		if got != "234 206 bytes 2-4/10" {
			t.Errorf("%s: got %q", flag, got)
		}
	}
}

// TestGoClient: net/http's bodies of every size, its trailers and interim answers, on
// one connection each.
func TestGoClient(t *testing.T) {
	t.Parallel()
	o := startOrigin(t)
	for _, row := range []struct{ name, proto, url string }{
		{"HTTP/1.1", "HTTP/1.1", o.plain}, {"HTTP/1.1 over TLS", "HTTP/1.1", o.secure},
		{"h2", "HTTP/2.0", o.secure}, {"h2c", "HTTP/2.0", o.plain},
	} {
		t.Run(row.name, func(t *testing.T) {
			tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, Protocols: new(http.Protocols)}
			defer tr.CloseIdleConnections()
			tr.Protocols.SetHTTP1(row.proto == "HTTP/1.1")
			tr.Protocols.SetHTTP2(row.name == "h2")
			tr.Protocols.SetUnencryptedHTTP2(row.name == "h2c")
			c := &http.Client{Transport: tr, Timeout: time.Minute}
			opened, hints := 0, 0
			ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
				GotConn: func(info httptrace.GotConnInfo) {
					if !info.Reused {
						opened++
					}
				},
				Got1xxResponse: func(code int, header textproto.MIMEHeader) error {
					if code == http.StatusEarlyHints && header.Get("Link") != "" {
						hints++
					}
					return nil
				},
			})
			do := func(req *http.Request) (*http.Response, []byte) {
				t.Helper()
				resp, err := c.Do(req.WithContext(ctx))
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				body, err := io.ReadAll(resp.Body)
				if err != nil || resp.Proto != row.proto {
					t.Fatalf("got %s, %v; want a whole answer in %s", resp.Proto, err, row.proto)
				}
				return resp, body
			}
			for _, size := range []int{0, 1, 64 << 10, 1<<20 + 1, 8 << 20} {
				body := bytes.Repeat([]byte("x"), size)
				req, _ := http.NewRequest(http.MethodPost, row.url+"/echo", io.MultiReader(bytes.NewReader(body)))
				req.Trailer = http.Header{"X-Asked": {"42"}}
				resp, got := do(req)
				if !bytes.Equal(got, body) || resp.Trailer.Get("X-Sum") != sumOf(body) || resp.Header.Get("X-Asked") != "42" {
					t.Errorf("of %d bytes got %d, trailer %v, the server had trailer %q", size, len(got), resp.Trailer, resp.Header.Get("X-Asked"))
				}
			}
			req, _ := http.NewRequest(http.MethodGet, row.url+"/hints", nil)
			if _, body := do(req); string(body) != "hinted" || hints != 1 {
				t.Errorf("got %q after %d early hints; want one", body, hints)
			}
			if opened != 1 {
				t.Errorf("the client needed %d connections; want 1", opened)
			}
		})
	}
}

// pythonClient prints one line for each step that went well.
const pythonClient = `
import http.client, sys
c = http.client.HTTPConnection(sys.argv[1], timeout=60)
def step(name, good):
    if not good: sys.exit("failed: " + name)
    print(name)
c.request("GET", "/"); r = c.getresponse(); step("get", r.status == 200 and r.read() == b"origin")
socket = c.sock
c.request("HEAD", "/"); r = c.getresponse(); step("head", r.getheader("Content-Length") == "6" and r.read() == b"")
blocks = [b"x" * 1000] * 1000
c.request("POST", "/echo", body=iter(blocks), encode_chunked=True, headers={"Transfer-Encoding": "chunked"})
r = c.getresponse(); step("chunked", r.read() == b"".join(blocks))
c.request("PUT", "/echo", body=b"y" * 300000); r = c.getresponse(); step("length", r.read() == b"y" * 300000)
step("one connection", socket is not None and c.sock is socket)
`

// TestPythonClient: Python's http.client, every request on one connection.
func TestPythonClient(t *testing.T) {
	o := startOrigin(t)
	got := foreign(t, "python3", "python3", "-c", pythonClient, strings.TrimPrefix(o.plain, "http://"))
	if want := "get\nhead\nchunked\nlength\none connection\n"; got != want {
		t.Errorf("got %q; want %q", got, want)
	}
}

// TestH2load: nghttp2's load generator, many streams at once: every request is answered.
func TestH2load(t *testing.T) {
	o := startOrigin(t)
	for _, url := range []string{o.plain, o.secure} {
		out := foreign(t, "nghttp2-client", "h2load", "-n", "2000", "-c", "10", "-m", "10", url+"/")
		if !regexp.MustCompile(`2000 total, 2000 started, 2000 done, 2000 succeeded, 0 failed, 0 errored, 0 timeout`).MatchString(out) ||
			!strings.Contains(out, "status codes: 2000 2xx") {
			t.Errorf("%s: got %s", url, out)
		}
	}
}

// TestChromium: a browser loads a page and its 100 assets over HTTP/2, all of them on
// one connection.
func TestChromium(t *testing.T) {
	o := startOrigin(t)
	h := http.HandlerFunc(serveGallery)
	o.handler.Store(&h)
	browseGallery(t, "h2", o.secure, "--disable-quic", "--ignore-certificate-errors")
}

// browseGallery has Chromium load serveGallery's page, with flags about the connection.
func browseGallery(t *testing.T, protocol, url string, flags ...string) {
	t.Helper()
	args := append([]string{
		"--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
		"--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--user-data-dir=" + t.TempDir(),
		"--virtual-time-budget=60000", "--dump-dom",
	}, append(flags, url+"/page")...)
	out := foreign(t, "chromium", "chromium", args...)
	result := regexp.MustCompile(`<title>(.*)</title>`).FindStringSubmatch(out)
	if len(result) == 0 || !regexp.MustCompile(`^loaded 100 over `+protocol+` connections [01]$`).MatchString(result[1]) {
		t.Errorf("got title %q; want 100 loaded over %s and one connection in\n%.2000s", result, protocol, out)
	}
}

// serveGallery is a page of 100 images that says of itself what the browser measured: a
// connection that was made for an asset shows in connectEnd.
func serveGallery(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, "/asset/") {
		w.Header().Set("Content-Type", "image/svg+xml")
		_, _ = io.WriteString(w, `<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"/>`)
		return
	}
	w.Header().Set("Content-Type", "text/html")
	var images strings.Builder
	for i := range 100 {
		_, _ = fmt.Fprintf(&images, `<img src="/asset/%d.svg">`, i)
	}
	_, _ = fmt.Fprintf(w, `<!doctype html><title>loading</title><link rel="icon" href="data:,">%s<script>
addEventListener("load", () => {
  const e = performance.getEntriesByType("resource").filter(e => e.name.includes("/asset/"));
  const loaded = [...document.images].filter(i => i.naturalWidth > 0).length;
  document.title = "loaded " + loaded + " over " + [...new Set(e.map(e => e.nextHopProtocol))].join() +
    " connections " + e.filter(e => e.connectEnd > e.connectStart).length;
});</script>`, images.String())
}
