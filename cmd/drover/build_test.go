package main

import (
	"reflect"
	"testing"

	"drover/config"
	"drover/healthcheck"
	"drover/transport"
)

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
