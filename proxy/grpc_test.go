package proxy

import (
	"bufio"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"drover/exchange"
)

// h2Client is the standard library's client for HTTP/2 in clear text.
func h2Client(t *testing.T) *http.Client {
	tr := &http.Transport{Protocols: &http.Protocols{}}
	tr.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// TestResponseTrailers passes trailers on, in either version.
func TestResponseTrailers(t *testing.T) {
	address := startServer(t, answering("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-End\r\nX-Head: h\r\n\r\n"+
		"4\r\nbody\r\n0\r\nX-End: yes\r\n\r\n"))
	b := startBed(t, setup{servers: []string{address}})
	for version, client := range map[string]*http.Client{"HTTP/1.1": {Transport: &http.Transport{DisableKeepAlives: true}}, "HTTP/2.0": h2Client(t)} {
		resp, err := client.Get("http://" + b.address + "/")
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil || string(body) != "body" || resp.Proto != version || resp.Header.Get("X-Head") != "h" || resp.Trailer.Get("X-End") != "yes" {
			t.Errorf("%s: got %s %q %v, trailers %v, %v", version, resp.Proto, body, resp.Header, resp.Trailer, err)
		}
		_ = resp.Body.Close() // it was read.
	}
}

// callGRPC makes a call of gRPC through a bed, and gives its status and trailers as one.
func callGRPC(t *testing.T, b *bed, fields ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+b.address+"/pkg.Service/Method", strings.NewReader("\x00\x00\x00\x00\x00"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/grpc+proto")
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		req.Header.Set(name, value)
	}
	resp, err := h2Client(t).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.ReadAll(resp.Body)
	_ = resp.Body.Close() // it was read.
	status := resp.Header.Get("Grpc-Status") + resp.Trailer.Get("Grpc-Status")
	if err != nil {
		status = err.Error()
	}
	return resp, status
}

// TestGRPCErrors: a call gets drover's errors as gRPC has them.
func TestGRPCErrors(t *testing.T) {
	f := func(name, want string, reason exchange.Reason, s setup, fields ...string) {
		t.Run(name, func(t *testing.T) {
			b := startBed(t, s)
			resp, status := callGRPC(t, b, fields...)
			if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "application/grpc" || status != want {
				t.Errorf("got %d %v with status %q; want %q", resp.StatusCode, resp.Header, status, want)
			}
			if got := b.result(t).Reason; got != reason {
				t.Errorf("got reason %q; want %q", got, reason)
			}
		})
	}
	silent := startServer(t, func(_ net.Conn, r *bufio.Reader) { _, _ = io.Copy(io.Discard, r) })
	cut := startServer(t, func(c net.Conn, r *bufio.Reader) {
		if _, _, err := readRequest(r); err == nil {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n") // the client sees what came.
		}
	})
	f("no server", "14", exchange.ReasonNoServer, setup{})
	f("no connection", "14", exchange.ReasonConnect, setup{servers: []string{refusing(t)}})
	f("its own deadline", "4", exchange.ReasonTimeout, setup{servers: []string{silent}}, "grpc-timeout: 50m")
	f("the route's deadline", "4", exchange.ReasonTimeout, setup{
		servers: []string{silent}, route: func(c *RouteConfig) { c.Timeout = 50 * time.Millisecond },
	}, "grpc-timeout: 1H")
	f("no route", "12", exchange.ReasonNoRoute, setup{route: func(c *RouteConfig) { c.Host = "other.test" }})
	f("broken off", "14", exchange.ReasonBodyCut, setup{servers: []string{cut}})
	// Servers that know nothing of deadlines, and stream on.
	for name, pause := range map[string]time.Duration{"silent": time.Hour, "endless": 0} {
		on := startServer(t, streamingOn(pause))
		f("its own deadline in a stream, "+name, "4", exchange.ReasonTimeout, setup{servers: []string{on}}, "grpc-timeout: 50m")
	}
}

// streamingOn is a server that answers a call with one message after the other.
func streamingOn(pause time.Duration) script {
	return func(c net.Conn, r *bufio.Reader) {
		if _, _, err := readRequest(r); err != nil {
			return
		}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_, _ = io.Copy(io.Discard, r)
		}()
		_, err := io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nTransfer-Encoding: chunked\r\n\r\n")
		for message := "5\r\n\x00\x00\x00\x00\x00\r\n"; err == nil; {
			if _, err = io.WriteString(c, message); err == nil && pause > 0 {
				select {
				case <-ended:
				case <-time.After(pause):
				}
			}
		}
		<-ended
	}
}

// TestGRPCTimeoutWritten: what is written is never longer than what is left, and as near
// to it as eight digits can be.
func TestGRPCTimeoutWritten(t *testing.T) {
	for left, want := range map[time.Duration]string{
		1:                              "1n",
		99999999:                       "99999999n",
		100 * time.Millisecond:         "100000u",
		time.Second + 1:                "1000000u",
		100*time.Second - 1:            "99999999u",
		100 * time.Second:              "100000m",
		99999999*time.Millisecond + 1:  "99999999m",
		100000*time.Second + 999999999: "100000S",
		99999999 * time.Second:         "99999999S",
		1e8*time.Second + time.Second:  "1666666M",
		1e6 * time.Hour:                "60000000M",
	} {
		if got := string(appendGRPCTimeout(nil, left)); got != want {
			t.Errorf("%v: got %s; want %s", left, got, want)
		}
	}
	for range 10000 {
		left := 1 + time.Duration(rand.Int64N(int64(1)<<rand.IntN(62)))
		text := appendGRPCTimeout(nil, left)
		got, ok := grpcTimeout(text)
		if !ok || got > left || got < left-left/100000 {
			t.Fatalf("%v: wrote %s, read as %v, %v", left, text, got, ok)
		}
	}
}

func TestGRPCTimeout(t *testing.T) {
	f := func(value string, want time.Duration, ok bool) {
		t.Helper()
		if got, valid := grpcTimeout([]byte(value)); got != want || valid != ok {
			t.Errorf("%q: got %v, %v; want %v, %v", value, got, valid, want, ok)
		}
	}
	f("1S", time.Second, true)
	f("99999999n", 99999999, true)
	f("250m", 250*time.Millisecond, true)
	f("7u", 7*time.Microsecond, true)
	f("2M", 2*time.Minute, true)
	f("99999999H", 1e6*time.Hour, true)
	for _, bad := range []string{"", "S", "1", "-1S", "1s", "123456789S", "1 S", "0x1S"} {
		f(bad, 0, false)
	}
}
