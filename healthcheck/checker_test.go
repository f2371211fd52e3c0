package healthcheck

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// healthy starts a server that passes a check of the type.
var healthy = map[string]func(t *testing.T, a *authority) (address string){
	"http": func(t *testing.T, a *authority) string {
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		s.Config.ErrorLog = quiet()
		if a == nil {
			s.Start()
		} else {
			s.TLS = &tls.Config{Certificates: []tls.Certificate{a.server}}
			s.StartTLS()
		}
		t.Cleanup(s.Close)
		return s.Listener.Addr().String()
	},
	"tcp": func(t *testing.T, a *authority) string {
		return listen(t, func(c net.Conn) {
			if a != nil {
				c = tls.Server(c, &tls.Config{Certificates: []tls.Certificate{a.server}})
			}
			_, _ = io.Copy(io.Discard, c)
		})
	},
	"grpc": func(t *testing.T, a *authority) string {
		return serveGRPC(t, a, func(s *grpc.Server) { healthpb.RegisterHealthServer(s, health.NewServer()) })
	},
}

func serveGRPC(t *testing.T, a *authority, register func(*grpc.Server)) string {
	t.Helper()
	var options []grpc.ServerOption
	if a != nil {
		options = append(options, grpc.Creds(credentials.NewServerTLSFromCert(&a.server)))
	}
	s := grpc.NewServer(options...)
	register(s)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(ln)
	}()
	t.Cleanup(func() {
		s.Stop()
		<-done
	})
	return ln.Addr().String()
}

// TestCheckers holds every type in the table to the same rules.
func TestCheckers(t *testing.T) {
	for kind := range checkers {
		start := healthy[kind]
		if start == nil {
			t.Errorf("got no server for checks of type %s", kind)
			continue
		}
		t.Run(kind, func(t *testing.T) {
			cfg := func(change func(*CheckConfig)) *CheckConfig {
				return withDefaults(t, func(c *CheckConfig) {
					c.Type, c.Timeout = kind, 20*time.Second
					change(c)
				})
			}
			f := func(name, scheme, address, want string, change func(*CheckConfig)) {
				t.Helper()
				t.Run(name, func(t *testing.T) {
					t.Helper()
					wantText(t, probe(t, cfg(change), serverID(t, scheme, address)), want)
				})
			}
			none := func(*CheckConfig) {}
			plain := start(t, nil)
			f("passes", "http", plain, "", none)
			f("refused", "http", closedPort(t), "connect refused", none)
			f("port", "http", closedPort(t), "", func(c *CheckConfig) { c.Port = int(serverID(t, "http", plain).Port) })

			a, other := newAuthority(t), newAuthority(t, "api.example.com")
			secured, named := start(t, a), start(t, other)
			f("https", "https", secured, "", func(c *CheckConfig) { c.CAFile = a.file })
			f("tls", "http", secured, "", func(c *CheckConfig) { c.TLS, c.CAFile = true, a.file })
			f("unknown authority", "https", secured, "negotiating TLS: tls: failed to verify certificate", none)
			f("insecure", "https", secured, "", func(c *CheckConfig) { c.InsecureSkipVerify = true })
			f("other name", "https", named, "doesn't contain any IP SANs", func(c *CheckConfig) { c.CAFile = other.file })
			f("server name", "https", named, "", func(c *CheckConfig) { c.CAFile, c.ServerName = other.file, "api.example.com" })
			f("no TLS there", "https", listen(t, func(c net.Conn) { _, _ = c.Write([]byte("hello there\r\n")) }),
				"negotiating TLS", none)
		})
	}
}

// TestCheckersStop wants every check to end in time on a server that says nothing, and
// at once when its context is canceled.
func TestCheckersStop(t *testing.T) {
	for kind := range checkers {
		t.Run(kind, func(t *testing.T) {
			accepted := make(chan struct{}, 10)
			address := listen(t, func(c net.Conn) {
				accepted <- struct{}{}
				_, _ = io.Copy(io.Discard, c)
			})
			cfg := withDefaults(t, func(c *CheckConfig) {
				c.Type, c.Timeout = kind, 100*time.Millisecond
				if kind == "tcp" {
					c.Expect = "ready"
				}
			})
			wantText(t, probe(t, cfg, serverID(t, "http", address)), "timed out while waiting for the")
			<-accepted
			wantText(t, probe(t, cfg, serverID(t, "https", address)), "timed out while negotiating TLS")
			<-accepted

			c, err := newChecker(cfg)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			go func() {
				<-accepted
				cancel()
			}()
			if c.check(ctx, serverID(t, "http", address)) == nil {
				t.Error("got a canceled check that passed")
			}
		})
	}
}

// TestCheckersClosed wants a plain word for a server that hangs up.
func TestCheckersClosed(t *testing.T) {
	address := listen(t, func(c net.Conn) { _, _ = c.Read(make([]byte, 1)) })
	for kind := range checkers {
		t.Run(kind, func(t *testing.T) {
			cfg := withDefaults(t, func(c *CheckConfig) {
				c.Type, c.Timeout = kind, 20*time.Second
				if kind == "tcp" {
					c.Send, c.Expect = "hello", "ready"
				}
			})
			if got := probe(t, cfg, serverID(t, "http", address)); got == "" || len(got) > 200 {
				t.Errorf("got %q; want a short error", got)
			}
		})
	}
}

func TestTCPCheck(t *testing.T) {
	f := func(send, expect, answer, want string) {
		t.Helper()
		address := listen(t, func(c net.Conn) {
			if send != "" {
				if _, err := io.ReadFull(c, make([]byte, len(send))); err != nil {
					return
				}
			}
			for _, part := range strings.SplitAfter(answer, "|") {
				_, _ = c.Write([]byte(part))
			}
			if want == "" {
				_, _ = io.Copy(io.Discard, c) // most protocols stay open
			}
		})
		cfg := withDefaults(t, func(c *CheckConfig) { c.Type, c.Send, c.Expect, c.Timeout = "tcp", send, expect, 20*time.Second })
		wantText(t, probe(t, cfg, serverID(t, "http", address)), want)
	}
	f("", "", "", "")
	f("PING\r\n", "+PONG", "+PONG\r\n", "")
	f("", "220 ", "2|20 mail", `answer does not contain "220 "; got 9 bytes: "2|20 mail"`)
	f("", "a|b|c", "xxa|b|c", "")
	f("PING\r\n", "+PONG", "-LOADING", `answer does not contain "+PONG"; got 8 bytes: "-LOADING"`)
	f("", "end", strings.Repeat("x", answerLimit)+"end", `answer does not contain "end"; got 65536 bytes: "xxx`)
	f("", "end", strings.Repeat("x", answerLimit-3)+"end", "")
}

func TestGRPCCheck(t *testing.T) {
	a := newAuthority(t)
	h := health.NewServer()
	h.SetServingStatus("down", healthpb.HealthCheckResponse_NOT_SERVING)
	h.SetServingStatus("up", healthpb.HealthCheckResponse_SERVING)
	with := serveGRPC(t, nil, func(s *grpc.Server) { healthpb.RegisterHealthServer(s, h) })
	without := serveGRPC(t, nil, func(*grpc.Server) {})
	f := func(address, service, want string) {
		t.Helper()
		cfg := withDefaults(t, func(c *CheckConfig) { c.Type, c.Service, c.Timeout = "grpc", service, 20*time.Second })
		wantText(t, probe(t, cfg, serverID(t, "http", address)), want)
	}
	f(with, "", "")
	f(with, "up", "")
	f(with, "down", `got NOT_SERVING for service "down"; want SERVING`)
	f(with, "other", `the server's health service does not know service "other"`)
	f(without, "", "the server has no grpc.health.v1.Health service")

	// A TLS server without HTTP/2 cannot speak gRPC.
	cfg := withDefaults(t, func(c *CheckConfig) { c.Type, c.CAFile, c.Timeout = "grpc", a.file, 20*time.Second })
	wantText(t, probe(t, cfg, serverID(t, "https", healthy["http"](t, a))), "negotiating TLS")
}

func TestUnknownChecker(t *testing.T) {
	_, err := newChecker(&CheckConfig{Type: "ping"})
	if err == nil || err.Error() != `got type "ping"; want one of grpc, http, tcp` {
		t.Errorf("got %v", err)
	}
}
