package front

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"

	"drover/exchange"

	"go.uber.org/zap"
)

func quietLogger() *zap.Logger { return zap.NewNop() }

// httpGet fetches a URL with Go's own client.
func httpGet(t *testing.T, url string) string {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	resp, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// mirror sends a request's body back, with what its trailer says in the trailer.
func mirror(ex *exchange.Exchange) {
	q := &ex.Request
	r := &exchange.Response{Status: 200, ContentLength: exchange.LengthUnknown, Trailer: q.Trailer}
	r.Header.Add("Trailer", "X-Sum")
	_ = ex.Client.Start(r)
	if q.Body != nil {
		_, _ = io.Copy(ex.Client, q.Body)
	}
}

func TestGoClient(t *testing.T) {
	tf := serveTest(t, nil, mirror)
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: patience}
	for _, size := range []int{0, 1, 8 << 10, 8<<10 + 1, 100000, 1 << 20} {
		body := bytes.Repeat([]byte("x"), size)
		for _, known := range []bool{true, false} {
			req, err := http.NewRequestWithContext(context.Background(), http.MethodPut, "http://"+tf.addr+"/p?q", io.NopCloser(bytes.NewReader(body)))
			if err != nil {
				t.Fatal(err)
			}
			req.ContentLength = int64(size)
			if !known {
				req.ContentLength = -1
				req.Trailer = http.Header{"X-Sum": {"42"}}
			}
			resp, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if err != nil || !bytes.Equal(got, body) {
				t.Errorf("size %d, known %v: got %d bytes, %v", size, known, len(got), err)
			}
			if !known && resp.Trailer.Get("X-Sum") != "42" {
				t.Errorf("size %d: got trailer %v", size, resp.Trailer)
			}
		}
	}
	if tf.waitOpen(t, 1); t.Failed() {
		t.Log("the client should have needed one connection")
	}
}

func curl(t *testing.T, args ...string) string {
	t.Helper()
	path, err := exec.LookPath("curl")
	if err != nil {
		t.Skip("curl is not installed")
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, append([]string{"-sS"}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("curl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func TestCurl(t *testing.T) {
	tf := serveTest(t, nil, mirror)
	url := "http://" + tf.addr + "/"
	large := strings.Repeat("y", 2<<20)
	f := func(name, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s: got %.80q (%d bytes); want %.80q (%d bytes)", name, got, len(got), want, len(want))
		}
	}
	f("two on one connection", curl(t, "-d", "a", url, "--next", "-sS", "-d", "b", url), "ab")
	f("chunked", curl(t, "-H", "Transfer-Encoding: chunked", "-d", "abc", url), "abc")
	f("HTTP/1.0", curl(t, "-0", "-d", "abc", url), "abc")
	asking := serveTest(t, nil, func(ex *exchange.Exchange) {
		body, _ := io.ReadAll(ex.Request.Body) // curl tells what is missing.
		respond(ex, string(body))
	})
	f("continue", curl(t, "-H", "Expect: 100-continue", "--expect100-timeout", "15", "-d", "abc", "http://"+asking.addr), "abc")
	f("GET with body", curl(t, "-X", "GET", "-d", "abc", url), "abc")
	file := t.TempDir() + "/large"
	writeFile(t, file, large)
	f("large", curl(t, "-T", file, url), large)
	f("large, chunked", curl(t, "-H", "Transfer-Encoding: chunked", "-T", file, url), large)
	if out := curl(t, "-I", url); !strings.HasPrefix(out, "HTTP/1.1 200 OK\r\n") {
		t.Errorf("HEAD gave %q", out)
	}
}

// requestUntil sends one request after the other, as a client that honours
// Connection: close, until stop closes or one fails. It never repeats a request.
func requestUntil(stop <-chan struct{}, addr string, keep bool, answered *atomic.Int64) error {
	transport := &http.Transport{DisableKeepAlives: !keep}
	defer transport.CloseIdleConnections()
	for {
		select {
		case <-stop:
			return nil
		default:
		}
		// A POST with a body that cannot be had again is sent once only.
		req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, "http://"+addr, io.LimitReader(strings.NewReader("x"), 1))
		if err != nil {
			return err
		}
		resp, err := transport.RoundTrip(req)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if err != nil {
			return err
		}
		answered.Add(1)
	}
}
