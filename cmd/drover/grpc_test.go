package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"drover/internal/zktest"
)

// build compiles a command of this module, and gives its path.
func build(t *testing.T, dir, name, pkg string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", path, pkg).CombinedOutput(); err != nil {
		t.Fatalf("cannot build %s: %v\n%s", pkg, err, out)
	}
	return path
}

// spawn runs a command until the test ends, or it is stopped.
func spawn(t *testing.T, path string, args ...string) *zktest.Process {
	t.Helper()
	p, _ := spawnHeard(t, exec.Command(path, args...))
	return p
}

// spawnHeard is spawn for a test that reads what the command says.
func spawnHeard(t *testing.T, cmd *exec.Cmd) (*zktest.Process, *output) {
	t.Helper()
	out := &output{}
	cmd.Stdout, cmd.Stderr = out, out
	p, err := zktest.Spawn(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Signal(syscall.SIGKILL)
		<-p.Ended
		if t.Failed() {
			t.Logf("%s said:\n%s", filepath.Base(cmd.Path), out.String())
		}
	})
	return p, out
}

// listening waits until somebody accepts connections at an address.
func listening(t *testing.T, address string) {
	t.Helper()
	eventually(t, address+" accepts connections", func() bool {
		c, err := net.Dial("tcp", address)
		if err == nil {
			_ = c.Close() // it was only to see.
		}
		return err == nil
	})
}

// TestGRPCExample follows examples/grpc: two servers that register, one client whose
// calls go to both, and then to the one that is left.
func TestGRPCExample(t *testing.T) {
	t.Parallel()
	registry := zktest.Start(t)
	dir := t.TempDir()
	server := build(t, dir, "server", "drover/examples/grpc/server")
	client := build(t, dir, "client", "drover/examples/grpc/client")
	text, err := os.ReadFile("../../examples/grpc/drover.yaml")
	if err != nil {
		t.Fatal(err)
	}
	s := newSetup(t, "")
	yaml := replaced(t, replaced(t, string(text), `":8080"`, `"`+s.listen+`"`), "127.0.0.1:2181", registry.Addr())
	path := filepath.Join(dir, "drover.yaml")
	put(t, path, yaml)

	var servers []*zktest.Process
	var addresses []string
	for range 2 {
		address := freeAddress(t)
		servers = append(servers, spawn(t, server, "-address", address, "-zookeeper", registry.Addr()))
		addresses = append(addresses, address)
		listening(t, address)
	}
	p := startProgram(t, []string{"DROVER_ADMIN_ADDRESS=" + s.admin}, "run", "-c", path)
	s.awaitReady(t, p)
	calls := func(n int) map[string]int {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), client, "-target", s.listen, "-name", "drover", "-count", fmt.Sprint(n)).CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		from := map[string]int{}
		for line := range strings.Lines(string(out)) {
			address, ok := strings.CutPrefix(strings.TrimSpace(line), "Hello drover, says ")
			if !ok {
				t.Errorf("the client said %q", line)
			}
			from[address]++
		}
		return from
	}
	eventually(t, "calls reach both servers in turn", func() bool {
		got := calls(10)
		return got[addresses[0]] == 5 && got[addresses[1]] == 5
	})
	servers[0].Signal(syscall.SIGTERM)
	eventually(t, "every call reaches the server that is left", func() bool { return calls(10)[addresses[1]] == 10 })
}

// interop is grpc-go's own suite; it is built from its module, at the version in go.mod.
const interop = "google.golang.org/grpc/interop/"

// interopCases are all of the suite's cases that grpc-go passes by itself. Left out are
// those that need a cloud's credentials (compute_engine_creds and the like), and
// pick_first_unary, which fails without drover too: grpc-go's server tells no server id.
var interopCases = []string{
	"empty_unary", "large_unary", "client_streaming", "server_streaming", "ping_pong", "empty_stream",
	"timeout_on_sleeping_server", "cancel_after_begin", "cancel_after_first_response", "status_code_and_message",
	"special_status_message", "custom_metadata", "unimplemented_method", "unimplemented_service", "orca_per_rpc",
	"orca_oob", "rpc_soak", "channel_soak",
}

// TestGRPCInterop runs grpc-go's client against grpc-go's server through drover, in clear
// text and over TLS on both sides.
func TestGRPCInterop(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	version, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Version}}", "google.golang.org/grpc").Output()
	if err != nil {
		t.Fatal(err)
	}
	at := "@" + strings.TrimSpace(string(version))
	install := exec.CommandContext(t.Context(), "go", "install", interop+"client"+at, interop+"server"+at)
	install.Env = append(os.Environ(), "GOBIN="+dir, "GOFLAGS=")
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("cannot build the suite: %v\n%s", err, out)
	}
	writePair(t, dir, 7)
	certificate, key := filepath.Join(dir, "site.pem"), filepath.Join(dir, "site.key")
	for _, secure := range []bool{false, true} {
		name, scheme, protocol, listener := "clear text", "", "h2c", ""
		serverArgs, clientArgs := []string{}, []string{}
		if secure {
			name, scheme, protocol = "TLS", "https://", "h2"
			listener = fmt.Sprintf(", tls: { certificates: [ { cert_file: %q, key_file: %q } ] }", certificate, key)
			serverArgs = []string{"-use_tls", "-tls_cert_file", certificate, "-tls_key_file", key}
			clientArgs = []string{"-use_tls", "-use_test_ca", "-ca_file", certificate, "-server_host_override", "drover.test"}
		}
		t.Run(name, func(t *testing.T) {
			address := freeAddress(t)
			_, port, _ := net.SplitHostPort(address)
			spawn(t, filepath.Join(dir, "server"), append(serverArgs, "-port", port)...)
			listening(t, address)
			s := newSetup(t, fmt.Sprintf(`admin: { address: "ADMIN" }
listeners: [ { name: web, address: "LISTEN"%s } ]
upstreams:
  - name: app
    servers: [ { address: "%s%s" } ]
    transport: { protocol: %s, tls: { ca_file: %q, server_name: drover.test } }
routes: [ { upstream: app } ]
`, listener, scheme, address, protocol, certificate))
			s.run(t)
			host, front, _ := net.SplitHostPort(s.listen)
			for _, c := range interopCases {
				args := append([]string{"-server_host", host, "-server_port", front, "-test_case", c, "-soak_iterations", "20"}, clientArgs...)
				if strings.HasPrefix(c, "orca_") {
					args = append(args, "-service_config_json", `{"loadBalancingConfig":[{"test_backend_metrics_load_balancer":{}}]}`)
				}
				if out, err := exec.CommandContext(t.Context(), filepath.Join(dir, "client"), args...).CombinedOutput(); err != nil {
					t.Errorf("%s: %v\n%s", c, err, out)
				}
			}
		})
	}
}
