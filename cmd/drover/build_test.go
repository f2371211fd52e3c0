package main

import (
	"reflect"
	"testing"

	"drover/config"
	"drover/healthcheck"
	"drover/proxy"
	"drover/transport"
)

// TestCheckProtocol: a check over HTTP speaks what the requests speak, unless it says
// otherwise; others have no such thing.
func TestCheckProtocol(t *testing.T) {
	for _, c := range []struct{ kind, own, want string }{
		{"http", "", "h2c"}, {"http", "h1", "h1"}, {"tcp", "", ""}, {"grpc", "", ""},
	} {
		got := checkOf(config.Upstream{
			Check:     &healthcheck.CheckConfig{Type: c.kind, Protocol: c.own},
			Transport: transport.Config{Protocol: transport.ProtocolH2C},
		})
		if got.Protocol != c.want {
			t.Errorf("%s with %q: got %q; want %q", c.kind, c.own, got.Protocol, c.want)
		}
	}
}

// TestLimitOfConnections: it is one of requests where each has a connection.
func TestLimitOfConnections(t *testing.T) {
	for protocol, want := range map[transport.Protocol]int{
		transport.ProtocolAuto: 3, transport.ProtocolH1: 3, transport.ProtocolH2: 5, transport.ProtocolH2C: 5,
	} {
		got := limits(config.Upstream{
			Limits:    proxy.LimitConfig{MaxRequestsPerServer: 5},
			Transport: transport.Config{Protocol: protocol, MaxConnections: 3},
		})
		if got.MaxRequestsPerServer != want {
			t.Errorf("%s: %d requests per server; want %d", protocol, got.MaxRequestsPerServer, want)
		}
	}
}

// TestCheckOf goes through each TLS setting on either side and on both.
func TestCheckOf(t *testing.T) {
	type check = healthcheck.CheckConfig
	type wire = transport.TLSConfig
	for _, c := range []struct {
		name  string
		check check
		wire  wire
		want  check
	}{
		{"nothing", check{}, wire{}, check{}},
		{"all of the wire's", check{Path: "/"}, wire{CAFile: "ca", ServerName: "n", InsecureSkipVerify: true, CertFile: "c", KeyFile: "k"},
			check{Path: "/", CAFile: "ca", ServerName: "n", InsecureSkipVerify: true, CertFile: "c", KeyFile: "k"}},
		{"all of its own", check{CAFile: "own", ServerName: "own", CertFile: "own", KeyFile: "own"},
			wire{CAFile: "ca", ServerName: "n", InsecureSkipVerify: true, CertFile: "c", KeyFile: "k"},
			check{CAFile: "own", ServerName: "own", CertFile: "own", KeyFile: "own"}},
		{"insecure by itself", check{InsecureSkipVerify: true}, wire{CAFile: "ca"}, check{CAFile: "ca", InsecureSkipVerify: true}},
		{"one of each", check{ServerName: "own"}, wire{ServerName: "n", CertFile: "c", KeyFile: "k"},
			check{ServerName: "own", CertFile: "c", KeyFile: "k"}},
	} {
		own := c.check
		got := checkOf(config.Upstream{Check: &own, Transport: transport.Config{TLS: c.wire}})
		if !reflect.DeepEqual(*got, c.want) {
			t.Errorf("%s: got %+v; want %+v", c.name, *got, c.want)
		}
		if !reflect.DeepEqual(own, c.check) {
			t.Errorf("%s: the configuration itself was changed to %+v", c.name, own)
		}
	}
	if got := checkOf(config.Upstream{Transport: transport.Config{TLS: wire{CAFile: "ca"}}}); got != nil {
		t.Errorf("an upstream without a check has %+v; want none", *got)
	}
}
