// Command client calls HelloService through drover, all calls on one connection.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"time"

	"drover/examples/grpc/hello"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

func main() {
	target := flag.String("target", "127.0.0.1:8080", "where drover listens")
	name := flag.String("name", "world", "whom to greet")
	count := flag.Int("count", 10, "how many calls to make")
	flag.Parse()
	if err := run(*target, *name, *count); err != nil {
		log.Fatal(err)
	}
}

func run(target, name string, count int) error {
	conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // the process ends.
	client := hello.NewHelloServiceClient(conn)
	for range count {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		reply, err := client.SayHello(ctx, &hello.HelloRequest{Name: name})
		cancel()
		if err != nil {
			return err
		}
		fmt.Printf("%s, says %s\n", reply.GetMessage(), reply.GetServer())
	}
	return nil
}
