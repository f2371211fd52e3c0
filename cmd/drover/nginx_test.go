package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"drover/internal/zktest"
)

// nginxConfig is an nginx that says by what connection and in what protocol a request
// came, and takes uploads: h1, h2c, TLS with both, TLS with HTTP/1.1 alone.
const nginxConfig = `daemon off; master_process off; worker_processes 1;
pid DIR/pid; error_log DIR/error.log;
events { worker_connections 256; }
http {
	access_log off; client_body_temp_path DIR/body; client_max_body_size 64m;
	proxy_temp_path DIR/proxy; fastcgi_temp_path DIR/fastcgi; uwsgi_temp_path DIR/uwsgi; scgi_temp_path DIR/scgi;
	ssl_certificate DIR/site.pem; ssl_certificate_key DIR/site.key;
	server {
		listen H1; listen H2C http2; listen TLS ssl http2; listen TLS1 ssl;
		listen PP proxy_protocol; listen PPTLS ssl proxy_protocol;
		root DIR/www;
		location = /which { add_header X-Connection $connection; return 200 $server_protocol; }
		location /upload { dav_methods PUT; }
		location = /who { return 200 "$proxy_protocol_addr $proxy_protocol_port"; }
		location = /trailers { gzip on; gzip_types *; add_trailer X-Sum 42; try_files /file =404; }
	}
}
`

// TestNginxServer: nginx as the server, in each protocol that transport.protocol names.
func TestNginxServer(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	addresses := startNginx(t, dir)
	large := bytes.Repeat([]byte("0123456789abcdef"), 10<<16) // 10 MiB
	put(t, filepath.Join(dir, "www", "file"), string(large))
	for _, row := range []struct{ protocol, scheme, at, want string }{
		{"auto", "http", "H1", "HTTP/1.1"},
		{"auto", "https", "TLS", "HTTP/2.0"},
		{"auto", "https", "TLS1", "HTTP/1.1"},
		{"h1", "http", "H1", "HTTP/1.1"},
		{"h1", "https", "TLS", "HTTP/1.1"},
		{"h2", "https", "TLS", "HTTP/2.0"},
		{"h2c", "http", "H2C", "HTTP/2.0"},
	} {
		t.Run(row.protocol+" "+row.at, func(t *testing.T) {
			s := newSetup(t, fmt.Sprintf(`admin: { address: "ADMIN" }
listeners: [ { name: web, address: "LISTEN" } ]
upstreams:
  - name: app
    servers: [ { address: "%s://%s" } ]
    transport: { protocol: %s, tls: { ca_file: %q, server_name: drover.test } }
routes: [ { upstream: app } ]
`, row.scheme, addresses[row.at], row.protocol, filepath.Join(dir, "site.pem")))
			s.run(t)
			c, url := client(t, true), "http://"+s.listen
			connections := map[string]int{}
			for range 20 {
				resp, body := fetch(t, c, "GET", url+"/which", "")
				if resp.StatusCode != 200 || body != row.want {
					t.Fatalf("got %d %q; want 200 and %q", resp.StatusCode, body, row.want)
				}
				connections[resp.Header.Get("X-Connection")]++
			}
			if len(connections) != 1 {
				t.Errorf("20 requests came by %v; want one connection", connections)
			}
			if resp, body := fetch(t, c, "GET", url+"/file", ""); resp.StatusCode != 200 || body != string(large) {
				t.Errorf("download: got %d and %d bytes; want all 10 MiB", resp.StatusCode, len(body))
			}
			for _, known := range []bool{true, false} {
				target := filepath.Join(dir, "www", "upload", strings.ReplaceAll(t.Name(), "/", "-")+fmt.Sprint(known))
				req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, url+"/upload/"+filepath.Base(target), io.MultiReader(bytes.NewReader(large)))
				if err != nil {
					t.Fatal(err)
				}
				if known {
					req.ContentLength = int64(len(large))
				}
				resp, err := c.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				_ = resp.Body.Close()
				if got, err := os.ReadFile(target); resp.StatusCode != 201 || err != nil || !bytes.Equal(got, large) {
					t.Errorf("upload, length known %v: got %d; the server has %d bytes, %v; want 201 and all 10 MiB", known, resp.StatusCode, len(got), err)
				}
			}
			resp, body := fetch(t, c, "POST", url+"/file", string(large))
			if resp.StatusCode != 405 || !strings.Contains(body, "nginx") { // nginx refuses to POST to a file
				t.Errorf("POST to a file: got %d; want nginx's 405", resp.StatusCode)
			}
			// Compressed, since an answer of a known length has no trailers over HTTP/1.1.
			if resp, _ = fetch(t, c, "GET", url+"/trailers", "", "Accept-Encoding", "gzip"); resp.Trailer.Get("X-Sum") != "42" {
				t.Errorf("got trailers %v; want nginx's", resp.Trailer)
			}
		})
	}
}

// startNginx gives the addresses by their names in the configuration.
func startNginx(t *testing.T, dir string) map[string]string {
	t.Helper()
	path, err := exec.LookPath("nginx")
	if err != nil {
		if path = "/usr/sbin/nginx"; exec.Command(path, "-v").Run() != nil { // not on every user's PATH
			zktest.Missing(t, "nginx", "nginx-light")
		}
	}
	writePair(t, dir, 1)
	for _, sub := range []string{"www", filepath.Join("www", "upload")} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o750); err != nil {
			t.Fatal(err)
		}
	}
	addresses := map[string]string{}
	text := strings.ReplaceAll(nginxConfig, "DIR", dir)
	for _, name := range []string{"H1", "H2C", "TLS", "TLS1", "PP", "PPTLS"} {
		addresses[name] = freeAddress(t)
		text = strings.ReplaceAll(text, "listen "+name+" ", "listen "+addresses[name]+" ")
		text = strings.ReplaceAll(text, "listen "+name+";", "listen "+addresses[name]+";")
	}
	put(t, filepath.Join(dir, "nginx.conf"), text)
	spawn(t, path, "-p", dir, "-c", filepath.Join(dir, "nginx.conf"), "-e", filepath.Join(dir, "error.log"))
	for _, address := range addresses {
		listening(t, address)
	}
	return addresses
}

// TestProxyProtocol: nginx learns of the client by drover's header, and drover by curl's.
// Two clients never share a connection, and the checks of the servers pass.
func TestProxyProtocol(t *testing.T) {
	dir := t.TempDir()
	addresses := startNginx(t, dir)
	for _, version := range []string{"v1", "v2"} {
		for at, scheme := range map[string]string{"PP": "http", "PPTLS": "https"} {
			t.Run(version+" "+at, func(t *testing.T) {
				s := newSetup(t, fmt.Sprintf(`admin: { address: "ADMIN" }
listeners: [ { name: web, address: "LISTEN", trusted_proxies: [ 127.0.0.1 ], proxy_protocol: { trusted: [ 127.0.0.2 ] } } ]
upstreams:
  - name: app
    servers: [ { address: "%s://%s" } ]
    check: { type: http, path: /which, interval: 100ms, insecure_skip_verify: true }
    transport: { proxy_protocol: %s, tls: { insecure_skip_verify: true } }
routes: [ { upstream: app } ]
`, scheme, addresses[at], version))
				s.run(t)
				c := client(t, true)
				for range 3 {
					for _, address := range []string{"192.0.2.1", "2001:db8::1"} {
						if _, body := fetch(t, c, "GET", "http://"+s.listen+"/who", "", "X-Forwarded-For", address); !strings.HasPrefix(body, address+" ") {
							t.Errorf("nginx was told of %q; want %s", body, address)
						}
					}
				}
				// The address that curl tells is that of its own end.
				out, err := exec.CommandContext(t.Context(), "curl", "-sS", "--interface", "127.0.0.2", "--haproxy-protocol", "http://"+s.listen+"/who").CombinedOutput()
				if err != nil || !strings.HasPrefix(string(out), "127.0.0.2 ") {
					t.Errorf("curl: got %q, %v", out, err)
				}
				if out, _ := exec.CommandContext(t.Context(), "curl", "-sS", "--interface", "127.0.0.2", "http://"+s.listen+"/who").CombinedOutput(); !strings.HasPrefix(string(out), "curl: (") {
					t.Errorf("curl without a header: got %q", out)
				}
				if _, body := fetch(t, c, "GET", "http://"+s.admin+"/status", ""); !strings.Contains(body, `"up"`) {
					t.Errorf("status: %s", body)
				}
			})
		}
	}
}
