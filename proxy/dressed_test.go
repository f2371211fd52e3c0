package proxy

import (
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"drover/exchange"
	"drover/proxy/access"
	"drover/proxy/compress"
	"drover/proxy/front"

	"github.com/andybalholm/brotli"
)

func compressing(change func(*compress.Config)) func(*RouteConfig) {
	return func(r *RouteConfig) {
		cfg := &compress.Config{}
		cfg.SetDefaults()
		if change != nil {
			change(cfg)
		}
		r.Compress = cfg
	}
}

func page(body string) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nETag: \"x\"\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

// TestCompressedForRealClients asks curl and Python to read what drover compresses.
func TestCompressedForRealClients(t *testing.T) {
	body := strings.Repeat("<p>much of the same</p>\n", 5000)
	b := startBed(t, setup{servers: []string{startServer(t, answering(page(body)))}, route: compressing(nil)})
	url := "http://" + b.address + "/"
	const script = `import gzip, sys, urllib.request
r = urllib.request.urlopen(urllib.request.Request(sys.argv[1], headers={"Accept-Encoding": "gzip"}))
assert r.headers["Content-Encoding"] == "gzip", r.headers
sys.stdout.write(gzip.decompress(r.read()).decode())`
	const node = `fetch(process.argv[1], {headers: {"Accept-Encoding": "gzip, br"}}).then(async r => {
  if (r.headers.get("content-encoding") !== "br") throw new Error("got " + r.headers.get("content-encoding"));
  process.stdout.write(await r.text());
}).catch(e => { console.error(e); process.exit(1); });`
	for _, command := range [][]string{
		{"curl", "-sS", "--compressed", url},
		{"curl", "-sS", "--compressed", "-H", "Accept-Encoding: gzip", url},
		{"curl", "-sS", "--compressed", "--http2-prior-knowledge", url},
		{"python3", "-c", script, url},
		{"node", "-e", node, url},
	} {
		if _, err := exec.LookPath(command[0]); err != nil {
			t.Logf("%s is not here", command[0])
			continue
		}
		cmd := exec.Command(command[0], command[1:]...)
		out, err := cmd.Output()
		var failed *exec.ExitError
		if errors.As(err, &failed) {
			t.Errorf("%s: %v: %s", command[0], err, failed.Stderr)
			continue
		}
		if string(out) != body {
			t.Errorf("%s: got %d bytes; want %d", command[0], len(out), len(body))
		}
		if result := b.result(t); result.Sent == 0 || result.Sent > int64(len(body))/20 {
			t.Errorf("%s: got %d bytes sent in the log; want those on the wire, much fewer than %d", command[0], result.Sent, len(body))
		}
	}
}

// TestCompressedHead has the same fields for HEAD as for GET.
func TestCompressedHead(t *testing.T) {
	b := startBed(t, setup{servers: []string{startServer(t, func(c net.Conn, r *bufio.Reader) {
		for {
			req, _, err := readRequest(r)
			if err != nil {
				return
			}
			answer := page(strings.Repeat("x", 5000))
			if req.Method == "HEAD" {
				answer = answer[:strings.Index(answer, "\r\n\r\n")+4]
			}
			if _, err := io.WriteString(c, answer); err != nil {
				return
			}
		}
	})}, route: compressing(nil)})
	v := b.dial(t)
	v.send("HEAD / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n")
	resp, err := http.ReadResponse(v.r, &http.Request{Method: "HEAD"})
	if err != nil {
		t.Fatal(err)
	}
	h := resp.Header
	if h.Get("Content-Encoding") != "gzip" || h.Get("Content-Length") != "" || h.Get("Etag") != `W/"x"` || h.Get("Vary") != "Accept-Encoding" {
		t.Errorf("got %v; want what a GET gets", h)
	}
	v.send(with("Accept-Encoding: gzip")) // the connection is where it should be.
	resp, body := v.answer()
	if resp.StatusCode != 200 || resp.Header.Get("Content-Encoding") != "gzip" || len(body) > 500 {
		t.Errorf("got %v, %d bytes", resp.Header, len(body))
	}
}

// TestCompressedStreams sends one event after the other, each only when the one before
// has reached the client.
func TestCompressedStreams(t *testing.T) {
	next := make(chan string)
	server := startServer(t, func(c net.Conn, r *bufio.Reader) {
		if _, _, err := readRequest(r); err != nil {
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
		for event := range next {
			_, _ = fmt.Fprintf(c, "%x\r\n%s\r\n", len(event), event)
		}
		_, _ = io.WriteString(c, "0\r\n\r\n")
	})
	b := startBed(t, setup{servers: []string{server}, route: compressing(func(c *compress.Config) { c.Types = []string{"text/event-stream"} })})
	v := b.dial(t)
	v.send(with("Accept-Encoding: br"))
	resp, err := http.ReadResponse(v.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	decoded := brotli.NewReader(resp.Body)
	for _, event := range []string{"data: one\n\n", "data: two\n\n", "data: three\n\n"} {
		next <- event
		got := make([]byte, len(event))
		if _, err := io.ReadFull(decoded, got); err != nil || string(got) != event {
			t.Fatalf("got %q, %v; want %q", got, err, event)
		}
	}
	close(next)
	if rest, err := io.ReadAll(decoded); err != nil || len(rest) > 0 {
		t.Errorf("got %q, %v behind the last event", rest, err)
	}
}

// TestCompressedCut has a server that breaks off: neither the message nor what is
// encoded in it may end cleanly.
func TestCompressedCut(t *testing.T) {
	server := startServer(t, func(c net.Conn, r *bufio.Reader) {
		if _, _, err := readRequest(r); err == nil {
			_, _ = io.WriteString(c, page(strings.Repeat("x", 5000))[:3000])
		}
	})
	b := startBed(t, setup{servers: []string{server}, route: compressing(nil)})
	v := b.dial(t)
	v.send(with("Accept-Encoding: gzip"))
	resp, err := http.ReadResponse(v.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the message ends with %v; want it cut", err)
	}
	z, err := gzip.NewReader(strings.NewReader(string(raw)))
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(z)
	if !errors.Is(err, io.ErrUnexpectedEOF) || strings.Trim(string(got), "x") != "" || len(got) < 1000 {
		t.Errorf("got %d bytes and %v; want what came, cut", len(got), err)
	}
	if result := b.result(t); result.Reason != exchange.ReasonBodyCut || !result.Aborted {
		t.Errorf("got %+v", result)
	}
}

func TestNotCompressed(t *testing.T) {
	body := strings.Repeat("x", 5000)
	b := startBed(t, setup{servers: []string{startServer(t, answering(page(body)))}, route: compressing(nil)})
	got, result := b.fetch(t, with("Accept-Encoding: identity"))
	if got.body != body || got.get("Content-Length") != "5000" || got.get("Etag") != `"x"` || got.get("Vary") != "Accept-Encoding" || result.Sent != 5000 {
		t.Errorf("got %v, %d bytes, %+v", got.header, len(got.body), result)
	}
	got, _ = b.fetch(t, "GET / HTTP/1.0\r\nAccept-Encoding: gzip\r\n\r\n")
	if got.body != body || got.get("Content-Length") != "5000" {
		t.Errorf("HTTP/1.0: got %v, %d bytes", got.header, len(got.body))
	}
	plain := startBed(t, setup{servers: []string{startServer(t, answering(page(body)))}})
	if got, _ := plain.fetch(t, with("Accept-Encoding: gzip")); got.body != body || got.get("Vary") != "" {
		t.Errorf("without compress: got %v, %d bytes", got.header, len(got.body))
	}
}

// TestFixedAnswerCompressed has answers of drover's own go the same way.
func TestFixedAnswerCompressed(t *testing.T) {
	b := startBed(t, setup{route: func(r *RouteConfig) {
		compressing(nil)(r)
		r.Upstream = ""
		r.Respond = &RespondConfig{Status: 200, Body: strings.Repeat("x", 5000), ContentType: "text/plain"}
	}})
	for range 2 {
		got, _ := b.fetch(t, with("Accept-Encoding: gzip"))
		if got.get("Content-Encoding") != "gzip" || len(got.body) > 500 {
			t.Errorf("got %v, %d bytes", got.header, len(got.body))
		}
	}
}

// TestDressedTellsWhyBroken: who ended a connection is known on routes that change their
// answers, too.
func TestDressedTellsWhyBroken(t *testing.T) {
	endless := startServer(t, func(c net.Conn, r *bufio.Reader) {
		if _, _, err := readRequest(r); err != nil {
			return
		}
		_, err := io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
		for block := make([]byte, 64<<10); err == nil; {
			_, err = c.Write(block)
		}
	})
	echo := startServer(t, upgrading("", func(c net.Conn, r *bufio.Reader) { _, _ = io.Copy(c, r) }))
	for name, s := range map[string]setup{
		"plain":      {},
		"compress":   {route: compressing(nil)},
		"cors":       {route: func(r *RouteConfig) { r.Access.CORS = &access.CORSConfig{Origins: []string{"https://a.example"}} }},
		"request_id": {options: ListenerOptions{RequestID: RequestIDOptions{Header: []byte("X-Request-ID"), Answer: true}}},
	} {
		f := func(why exchange.Reason, server, request string, end func(t *testing.T, b *bed)) {
			t.Run(name+" "+string(why), func(t *testing.T) {
				s := s
				s.servers = []string{server}
				if why == exchange.ReasonClientSlow {
					s.listener = func(c *front.Config) { c.WriteIdleTimeout = 100 * time.Millisecond }
				}
				b := startBed(t, s)
				v := b.dial(t)
				v.send(request)
				if _, err := v.r.ReadString('\n'); err != nil {
					t.Fatal(err)
				}
				end(t, b)
				if got := b.result(t).Reason; got != why {
					t.Errorf("reason %q; want %q", got, why)
				}
				_ = v.Close()
			})
		}
		drain := func(t *testing.T, b *bed) {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if err := b.front.Drain(ctx); !errors.Is(err, context.Canceled) {
				t.Errorf("drain: %v; want that it was cut short", err)
			}
		}
		f("CS", endless, get("/"), func(*testing.T, *bed) {})
		f("DR", endless, get("/"), drain)
		f("DR", echo, askUpgrade, drain)
	}
}
