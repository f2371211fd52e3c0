// Package hello is the service of examples/grpc, generated from hello.proto.
package hello

//go:generate protoc --go_out=. --go_opt=paths=source_relative --go-grpc_out=. --go-grpc_opt=paths=source_relative hello.proto
