package proxy

import (
	"bufio"
	"context"
	"io"
	"net"
	"testing"
	"time"

	"drover/transport"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// goServer is grpc-go's server. Every method of it is handle's, which takes and gives
// StringValue.
func goServer(t *testing.T, handle func(method string, s grpc.ServerStream) error) (address string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		method, _ := grpc.MethodFromServerStream(stream)
		return handle(method, stream)
	}))
	served := make(chan error, 1)
	go func() { served <- s.Serve(ln) }()
	t.Cleanup(func() {
		s.Stop()
		if err := <-served; err != nil {
			t.Errorf("grpc-go's server: %v", err)
		}
	})
	return ln.Addr().String()
}

// goClient is grpc-go's client of a bed, and the connections that it makes.
func goClient(t *testing.T, b *bed) (*grpc.ClientConn, <-chan net.Conn) {
	t.Helper()
	dialled := make(chan net.Conn, 16)
	c, err := grpc.NewClient("passthrough:///"+b.address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
			if err == nil {
				dialled <- conn
			}
			return conn, err
		}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c, dialled
}

func overH2C(c *transport.Config) { c.Protocol = transport.ProtocolH2C }

var text = wrapperspb.String

// TestGRPCCancelled: the server's context ends as soon as the client's call or connection
// does, however long both were silent. Who is only asked now and then, 1.5s and 3.1s
// after the last sign of life, would be found out much later.
func TestGRPCCancelled(t *testing.T) {
	const silence, bound = 1600 * time.Millisecond, 800 * time.Millisecond
	waits, ended := make(chan string, 8), make(chan string, 8)
	b := startBed(t, setup{transport: overH2C, servers: []string{goServer(t, func(method string, s grpc.ServerStream) error {
		if err := s.RecvMsg(text("")); err != nil {
			return err
		}
		if method != "/s/unary" && method != "/s/client" {
			if err := s.SendMsg(text("hello")); err != nil {
				return err
			}
		}
		waits <- method
		<-s.Context().Done()
		ended <- method
		return s.Context().Err()
	})}})
	kinds := map[string]*grpc.StreamDesc{
		"/s/unary":  {},
		"/s/server": {ServerStreams: true},
		"/s/client": {ClientStreams: true},
		"/s/bidi":   {ServerStreams: true, ClientStreams: true},
		"/s/lost":   {ServerStreams: true, ClientStreams: true},
	}
	cancels := map[string]func(){}
	for method, desc := range kinds {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		client, dialled := goClient(t, b)
		stream, err := client.NewStream(ctx, desc, method)
		if err != nil {
			t.Fatal(err)
		}
		if err := stream.SendMsg(text("x")); err != nil {
			t.Fatal(err)
		}
		if !desc.ClientStreams {
			if err := stream.CloseSend(); err != nil {
				t.Fatal(err)
			}
		}
		if desc.ServerStreams {
			if err := stream.RecvMsg(text("")); err != nil {
				t.Fatal(err)
			}
		}
		cancels[method] = cancel
		if conn := <-dialled; method == "/s/lost" {
			cancels[method] = func() { reset(conn); _ = conn.Close() }
		}
	}
	for range kinds {
		receive(t, waits, "a call")
	}
	<-time.After(silence)
	for method, cancel := range cancels {
		cancel()
		late := time.NewTimer(bound)
		select {
		case got := <-ended:
			if got != method {
				t.Errorf("%s has ended; want %s", got, method)
			}
		case <-late.C:
			t.Errorf("%s: the server waits %v after the client has gone", method, bound)
		}
		late.Stop()
	}
}

// TestGRPCDeadlineReduced: a server is told what is left of a call's time, whatever it
// has waited for.
func TestGRPCDeadlineReduced(t *testing.T) {
	const held, whole = 2 * time.Second, time.Minute
	var deadlines = make(chan time.Time, 8)
	busy := make(chan struct{}, 1)
	server := goServer(t, func(method string, s grpc.ServerStream) error {
		if err := s.RecvMsg(text("")); err != nil {
			return err
		}
		if method == "/s/hold" {
			busy <- struct{}{}
			<-time.After(held)
		}
		at, ok := s.Context().Deadline()
		if method == "/s/told" {
			if !ok {
				at = time.Time{}
			}
			deadlines <- at
		}
		return s.SendMsg(text(""))
	})
	check := func(t *testing.T, b *bed) {
		client, _ := goClient(t, b)
		ctx, cancel := context.WithTimeout(t.Context(), whole)
		defer cancel()
		want, _ := ctx.Deadline()
		if err := client.Invoke(ctx, "/s/told", text(""), text("")); err != nil {
			t.Fatal(err)
		}
		// Drover's clock starts when the call comes, and the server's when it has it.
		if got := receive(t, deadlines, "the deadline"); got.IsZero() || got.After(want.Add(held/2)) || got.Before(want.Add(-time.Second)) {
			t.Errorf("the server has until %v; want %v, as the client", got, want)
		}
	}
	t.Run("at once", func(t *testing.T) {
		check(t, startBed(t, setup{transport: overH2C, servers: []string{server}}))
	})
	t.Run("behind a queue", func(t *testing.T) {
		b := startBed(t, setup{transport: overH2C, servers: []string{server}, upstream: func(o *UpstreamOptions) {
			o.Limits.MaxRequests, o.Limits.Queue = 1, QueueConfig{Size: 1, Timeout: patience}
		}})
		client, _ := goClient(t, b)
		done := make(chan error, 1)
		go func() { done <- client.Invoke(t.Context(), "/s/hold", text(""), text("")) }()
		receive(t, busy, "the call that holds the place")
		check(t, b)
		if err := receive(t, done, "its end"); err != nil {
			t.Error(err)
		}
	})
	t.Run("on a second try", func(t *testing.T) {
		silent := startServer(t, func(_ net.Conn, _ *bufio.Reader) { <-time.After(held) }) // and closes without a word
		check(t, startBed(t, setup{transport: overH2C, servers: []string{silent, server}}))
	})
}

// TestGRPCDeadlineOfServer: a server that keeps to the deadline has the last word. That
// of grpc-go may also break off without one.
func TestGRPCDeadlineOfServer(t *testing.T) {
	silent := goServer(t, func(_ string, s grpc.ServerStream) error {
		if err := s.SendMsg(text("")); err != nil {
			return err
		}
		<-s.Context().Done()
		return s.Context().Err()
	})
	polite := startServer(t, func(c net.Conn, r *bufio.Reader) {
		req, _, err := readRequest(r)
		if err != nil {
			return
		}
		limit, _ := grpcTimeout([]byte(req.Header.Get("Grpc-Timeout")))
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nTransfer-Encoding: chunked\r\n\r\n")
		<-time.After(limit)
		_, _ = io.WriteString(c, "0\r\ngrpc-status: 4\r\ngrpc-message: too late\r\n\r\n")
	})
	for want, s := range map[string]setup{
		"":         {servers: []string{silent}, transport: overH2C},
		"too late": {servers: []string{polite}},
	} {
		b := startBed(t, s)
		b.callGrace = patience
		resp, got := callGRPC(t, b, "grpc-timeout: 100m")
		if said := resp.Trailer.Get("Grpc-Message"); got != "4" || want != "" && said != want {
			t.Errorf("got status %q, %q; want 4 and %q", got, said, want)
		}
	}
}
