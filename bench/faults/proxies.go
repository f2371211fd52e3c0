package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// proxy is a product under test: how to configure and start it with three servers.
type proxy struct {
	name    string
	program string
	// config gives the configuration's text.
	config func(listen, dir string, servers []string) string
	file   string
	args   func(path string) []string
}

// settings are alike for all: checks every 500 ms, fall 2, rise 2; connect time-out
// 500 ms, response time-out 2 s; GET is retried, POST only if nothing was sent.
var proxies = []proxy{
	{
		name: "nginx", program: "nginx", file: "nginx.conf",
		config: nginxConfig,
		args:   func(path string) []string { return []string{"-e", "stderr", "-c", path} },
	},
	{
		name: "HAProxy", program: "haproxy", file: "haproxy.cfg",
		config: haproxyConfig,
		args:   func(path string) []string { return []string{"-db", "-f", path} },
	},
	{
		name: "Caddy", program: "caddy", file: "Caddyfile",
		config: caddyConfig,
		args:   func(path string) []string { return []string{"run", "--adapter", "caddyfile", "--config", path} },
	},
	{
		name: "drover", program: "drover", file: "drover.yaml",
		config: droverConfig,
		args:   func(path string) []string { return []string{"run", "-c", path} },
	},
}

func each(servers []string, format string) string {
	var b strings.Builder
	for i, s := range servers {
		b.WriteString(strings.NewReplacer("ADDRESS", s, "INDEX", fmt.Sprint(i)).Replace(format))
	}
	return b.String()
}

// nginx has no active checks outside its paid product.
func nginxConfig(listen, dir string, servers []string) string {
	return fmt.Sprintf(`daemon off; worker_processes 2; pid %[2]s/nginx.pid; error_log stderr crit;
events { worker_connections 4096; }
http {
  access_log off; client_body_temp_path %[2]s/b; proxy_temp_path %[2]s/p; fastcgi_temp_path %[2]s/f; uwsgi_temp_path %[2]s/u; scgi_temp_path %[2]s/s;
  upstream app { keepalive 64; %[3]s }
  server { listen %[1]s; location / {
    proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection "";
    proxy_connect_timeout 500ms; proxy_read_timeout 2s; proxy_send_timeout 2s;
    proxy_next_upstream error timeout http_503; proxy_next_upstream_tries 3;
  } }
}
`, listen, dir, each(servers, "server ADDRESS max_fails=2 fail_timeout=1s;\n"))
}

func haproxyConfig(listen, _ string, servers []string) string {
	return fmt.Sprintf(`defaults
  mode http
  timeout connect 500ms
  timeout server 2s
  timeout client 30s
  retries 2
  option redispatch 1
  option http-keep-alive
frontend web
  bind %s
  default_backend app
backend app
  balance roundrobin
  option httpchk GET /healthz
  timeout check 500ms
  retry-on conn-failure empty-response response-timeout 503
  http-request disable-l7-retry if METH_POST
%s`, listen, each(servers, "  server sINDEX ADDRESS check inter 500ms fall 2 rise 2 observe layer7 error-limit 2 on-error mark-down\n"))
}

func caddyConfig(listen, _ string, servers []string) string {
	return fmt.Sprintf(`{
  admin off
  auto_https off
}
http://%s {
  reverse_proxy %s {
    lb_policy round_robin
    lb_try_duration 3s
    health_uri /healthz
    health_interval 500ms
    health_timeout 500ms
    fail_duration 1s
    max_fails 2
    unhealthy_status 503
    transport http {
      dial_timeout 500ms
      response_header_timeout 2s
    }
  }
}
`, listen, strings.Join(servers, " "))
}

func droverConfig(listen, _ string, servers []string) string {
	return fmt.Sprintf(`listeners: [ { name: web, address: %q } ]
admin: { address: "" }
access_log: { format: "off" }
upstreams:
  - name: app
    servers: [ %s ]
    policy: { type: peak_ewma }
    check: { path: /healthz, interval: 500ms, edge_interval: 500ms, timeout: 500ms, unhealthy_after: 2, healthy_after: 2 }
    outlier: { consecutive_failures: 2, connect_failures: 1, slow_after: 1s, eject_for: 2s }
    transport: { connect_timeout: 500ms, response_header_timeout: 2s }
routes:
  - { methods: [ GET ], upstream: app, retry: { attempts: 3, on: [ connect, stale, reset, timeout, 503 ] } }
  - { upstream: app, retry: { attempts: 3, on: [ connect, stale ] } }
`, listen, each(servers, "{ address: \"ADDRESS\" }, "))
}

// process is a running proxy.
type process struct {
	cmd *exec.Cmd
	url string
}

// find gives a proxy's program: drover is built from these sources.
func (p proxy) find(dir string) (string, error) {
	if p.program != "drover" {
		return exec.LookPath(p.program)
	}
	path := filepath.Join(dir, "drover")
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	build := exec.Command("go", "build", "-o", path, "drover/cmd/drover")
	if text, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("cannot build drover: %w: %s", err, text)
	}
	return path, nil
}

func (p proxy) start(dir string, servers []string) (*process, error) {
	program, err := p.find(dir)
	if err != nil {
		return nil, err
	}
	listen, err := freeAddress()
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, p.file)
	if err := os.WriteFile(path, []byte(p.config(listen, dir, servers)), 0o600); err != nil {
		return nil, err
	}
	cmd := exec.Command(program, p.args(path)...) //nolint:gosec // programs of the table above.
	log, err := os.Create(filepath.Join(dir, p.name+".log"))
	if err != nil {
		return nil, err
	}
	defer log.Close() //nolint:errcheck // the child has its own descriptor.
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	running := &process{cmd, "http://" + listen}
	for range 500 {
		if c, err := net.Dial("tcp", listen); err == nil {
			return running, c.Close()
		}
		time.Sleep(10 * time.Millisecond)
	}
	running.stop()
	text, _ := os.ReadFile(log.Name())
	return nil, fmt.Errorf("%s does not listen: %s", p.name, text)
}

func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended.
	done := make(chan struct{})
	go func() { _ = p.cmd.Wait(); close(done) }() // its exit code tells nothing here.
	select {
	case <-done:
	case <-time.After(3 * time.Second):
		_ = p.cmd.Process.Kill() // it may have ended.
		<-done
	}
}

func freeAddress() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer ln.Close() //nolint:errcheck // it was never used.
	return ln.Addr().String(), nil
}
