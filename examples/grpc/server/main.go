// Command server is one server of HelloService. It registers in ZooKeeper and leaves the
// registry before it stops.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"drover/examples/grpc/hello"

	"github.com/go-zookeeper/zk"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
)

// service implements HelloService.
type service struct {
	hello.UnimplementedHelloServiceServer
	address string
}

// SayHello implements HelloService.
func (s *service) SayHello(_ context.Context, r *hello.HelloRequest) (*hello.HelloReply, error) {
	return &hello.HelloReply{Message: "Hello " + r.GetName(), Server: s.address}, nil
}

// Greetings implements HelloService.
func (s *service) Greetings(stream grpc.BidiStreamingServer[hello.HelloRequest, hello.HelloReply]) error {
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := stream.Send(&hello.HelloReply{Message: "Hello " + r.GetName(), Server: s.address}); err != nil {
			return err
		}
	}
}

func main() {
	address := flag.String("address", "127.0.0.1:9001", "where to listen")
	registry := flag.String("zookeeper", "127.0.0.1:2181", "the registry")
	path := flag.String("path", "/services/hello", "where to register")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, *address, *registry, *path); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, address, registry, path string) error {
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("cannot listen: %w", err)
	}
	server := grpc.NewServer()
	hello.RegisterHelloServiceServer(server, &service{address: ln.Addr().String()})
	grpc_health_v1.RegisterHealthServer(server, health.NewServer())

	conn, _, err := zk.Connect([]string{registry}, 10*time.Second, zk.WithLogInfo(false))
	if err != nil {
		return fmt.Errorf("cannot connect to %s: %w", registry, err)
	}
	defer conn.Close()
	if err := register(conn, path, ln.Addr().String()); err != nil {
		return err
	}
	context.AfterFunc(ctx, func() {
		conn.Close()          // first out of the registry,
		server.GracefulStop() // then the calls that run may finish.
	})
	return server.Serve(ln)
}

// register writes the entry that goes when the process does.
func register(conn *zk.Conn, path, address string) error {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		return err
	}
	entry, err := json.Marshal(map[string]any{"host": host, "port": port})
	if err != nil {
		return err
	}
	for i := 1; i <= len(path); i++ {
		if i < len(path) && path[i] != '/' {
			continue
		}
		if _, err := conn.Create(path[:i], nil, 0, zk.WorldACL(zk.PermAll)); err != nil && !errors.Is(err, zk.ErrNodeExists) {
			return fmt.Errorf("cannot create %q: %w", path[:i], err)
		}
	}
	if _, err := conn.Create(path+"/"+address, entry, zk.FlagEphemeral, zk.WorldACL(zk.PermAll)); err != nil {
		return fmt.Errorf("cannot register %q: %w", address, err)
	}
	return nil
}
