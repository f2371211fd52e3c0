package format

import (
	"fmt"
	"strings"

	"drover/backend"
)

// decodeServerSet reads a member of a Twitter ServerSet, as Finagle and Aurora write it.
// The additional endpoint named http serves where there is one, else the service
// endpoint. Only ALIVE members serve.
func decodeServerSet(path string, data []byte) ([]backend.Server, error) {
	if strings.HasPrefix(base(path), "vector_") {
		return nil, nil // weights of other members, not a member
	}
	o, err := parseObject(data)
	if err != nil {
		return nil, err
	}
	status, err := o.text("status")
	if err != nil {
		return nil, err
	}
	if status != "" && !strings.EqualFold(status, "ALIVE") {
		return nil, nil
	}
	endpoint := o.object("additionalEndpoints").object("http")
	if !endpoint.has("host") || !endpoint.has("port") {
		endpoint = o.object("serviceEndpoint")
	}
	host, err := endpoint.text("host")
	if err != nil {
		return nil, err
	}
	port, found, err := endpoint.number("port")
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, fmt.Errorf("got no serviceEndpoint with host and port; want one")
	}
	s, err := newServer(path, "http", host, port)
	if err != nil {
		return nil, err
	}
	if err := applyMetadata(&s, o.object("metadata")); err != nil {
		return nil, err
	}
	return []backend.Server{s}, nil
}
