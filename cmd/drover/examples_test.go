package main

import (
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"drover/internal/zktest"

	"github.com/miekg/dns"
	"golang.org/x/crypto/bcrypt"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// example is a running example: its listener, and the servers that it names a, b and c
// in the order of their ports.
type example struct {
	*setup
	plain   string // the second listener of tls.yaml
	a, b, c *peer
	program *program
	health  *health.Server // of grpc-check.yaml
	shared  *zktest.Server // of group.yaml
}

// wantHealth waits for what the status says of each server.
func (e *example) wantHealth(t *testing.T, want map[string]string) {
	t.Helper()
	eventually(t, fmt.Sprint("health ", want), func() bool {
		_, body := fetch(t, client(t, false), "GET", "http://"+e.admin+"/status", "")
		var status struct {
			Upstreams []struct {
				Servers []struct{ Server, Health string }
			}
		}
		if err := json.Unmarshal([]byte(body), &status); err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		for _, s := range status.Upstreams[0].Servers {
			got[strings.TrimPrefix(s.Server, "http://")] = s.Health
		}
		return maps.Equal(got, want)
	})
}

// startHealth is a server of grpc.health.v1 that knows the service "app".
func (e *example) startHealth(t *testing.T) (port string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e.health = health.NewServer()
	e.health.SetServingStatus("app", healthpb.HealthCheckResponse_SERVING)
	s := grpc.NewServer()
	healthpb.RegisterHealthServer(s, e.health)
	ended := make(chan struct{})
	go func() { defer close(ended); _ = s.Serve(ln) }()
	t.Cleanup(func() { s.Stop(); <-ended })
	_, port, err = net.SplitHostPort(ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// examples says for each file what is to be seen of it. reference.yaml is every key,
// not something to start.
var examples = map[string]func(t *testing.T, e *example){
	"reference.yaml": nil,
	"access.yaml": func(t *testing.T, e *example) {
		long := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/plain")
			_, _ = io.WriteString(w, strings.Repeat("x", 2048))
		})
		e.a.handler.Store(&long)
		get := func(path string, fields ...string) *http.Response {
			t.Helper()
			resp, _ := fetch(t, client(t, false), "GET", "http://"+e.listen+path, "", fields...)
			return resp
		}
		if got := get("/metrics").StatusCode; got != 403 {
			t.Errorf("an address outside the range got %d; want 403", got)
		}
		if got := get("/admin").StatusCode; got != 401 {
			t.Errorf("no password got %d; want 401", got)
		}
		if got := get("/admin", "Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte("ann:secret"))).StatusCode; got != 200 {
			t.Errorf("the right password got %d; want 200", got)
		}
		if got := get("/api", "Origin", "https://app.example.com").Header.Get("Access-Control-Allow-Origin"); got != "https://app.example.com" {
			t.Errorf("the origin is answered %q", got)
		}
		if got := get("/", "Accept-Encoding", "gzip"); got.Header.Get("Content-Encoding") != "gzip" || got.Header.Get("Vary") != "Accept-Encoding" {
			t.Errorf("the answer has %v; want it in gzip", got.Header)
		}
	},
	"canary.yaml": func(t *testing.T, e *example) {
		if got := e.reached(t, 500, "/"); got["a"]+got["b"] != 500 || got["b"] < 1 || got["b"] > 75 {
			t.Errorf("requests reached %v; want about 475 and 25", got)
		}
	},
	"dns.yaml": func(t *testing.T, e *example) {
		e.wantReached(t, 10, map[string]int{"a": 10})
	},
	"file.yaml": func(t *testing.T, e *example) {
		e.wantReached(t, 30, map[string]int{"a": 20, "b": 10})
	},
	"group.yaml": func(t *testing.T, e *example) {
		owner := e.shared.Client(t)
		if err := owner.AddAuth("digest", []byte("drover:secret")); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the keys are shared", func() bool {
			_, _, err := owner.Get("/drover/tickets")
			return err == nil && shareSessions(t, e.listen, e.listen)
		})
	},
	"grpc-check.yaml": func(t *testing.T, e *example) {
		e.wantHealth(t, map[string]string{e.a.address: "up", e.b.address: "up"})
		if got := e.reached(t, 10, "/x"); len(got) != 1 {
			t.Errorf("one path reached %v; want one server", got)
		}
		e.health.SetServingStatus("app", healthpb.HealthCheckResponse_NOT_SERVING)
		e.wantHealth(t, map[string]string{e.a.address: "down", e.b.address: "down"})
		if got := e.reached(t, 10, "/x"); got["a"]+got["b"] != 10 {
			t.Errorf("with every check failing, requests reached %v; want that health is ignored", got)
		}
	},
	"hash.yaml": func(t *testing.T, e *example) {
		servers := map[string]bool{}
		for user := range 40 {
			got := e.reached(t, 3, "/", "X-User-ID", fmt.Sprint(user))
			if len(got) != 1 {
				t.Errorf("the requests of user %d reached %v; want one server", user, got)
			}
			for name := range got {
				servers[name] = true
			}
		}
		if !servers["a"] || !servers["b"] {
			t.Errorf("forty users reached %v; want both servers", servers)
		}
	},
	"health.yaml": func(t *testing.T, e *example) {
		e.a.kill()
		e.wantReached(t, 20, map[string]int{"b": 20})
	},
	"limits.yaml": func(t *testing.T, e *example) {
		release := make(chan struct{})
		wait := http.HandlerFunc(func(_ http.ResponseWriter, _ *http.Request) { <-release })
		e.a.handler.Store(&wait)
		c := client(t, false)
		statuses := make(chan int)
		for range 160 {
			go func() {
				resp, err := c.Get("http://" + e.listen + "/")
				if err != nil {
					statuses <- 0
					return
				}
				_ = resp.Body.Close()
				statuses <- resp.StatusCode
			}()
		}
		got := map[int]int{}
		for range 60 { // some found the queue full, the others waited in it for too long
			got[<-statuses]++
		}
		if got[503] != 60 {
			t.Errorf("the first 60 answers are %v; want 503", got)
		}
		eventually(t, "100 requests are at the server", func() bool { return e.a.requests.Load() == 100 })
		close(release)
		for range 100 {
			got[<-statuses]++
		}
		if got[200] != 100 {
			t.Errorf("160 requests got %v; want 200 for 100", got)
		}
		eventually(t, "the access log has 50 requests that waited in the queue", func() bool {
			return strings.Count(e.program.stdout.String(), " QT\n") >= 50
		})
	},
	"retries.yaml": func(t *testing.T, e *example) {
		busy := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) })
		e.a.handler.Store(&busy)
		e.wantReached(t, 10, map[string]int{"b": 10})
		failed := 0
		for range 10 {
			if resp, _ := fetch(t, client(t, false), "POST", "http://"+e.listen+"/", "x"); resp.StatusCode == 503 {
				failed++
			}
		}
		if failed != 5 {
			t.Errorf("%d of 10 POSTs got the 503; want the 5 that a got, and none sent twice", failed)
		}
		if resp, _ := fetch(t, client(t, false), "GET", "http://"+e.admin+"/debug/pprof/cmdline", ""); resp.StatusCode != 200 {
			t.Errorf("pprof: status %d", resp.StatusCode)
		}
	},
	"rules.yaml": func(t *testing.T, e *example) {
		show := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Server", "secret")
			_, _ = io.WriteString(w, r.RequestURI+" by "+r.Header.Get("X-Via-Route"))
		})
		e.a.handler.Store(&show)
		get := func(path string) (*http.Response, string) {
			t.Helper()
			return fetch(t, client(t, false), "GET", "http://"+e.listen+path, "", "Host", "www.test")
		}
		if resp, _ := get("/old?q=1"); resp.StatusCode != 301 || resp.Header.Get("Location") != "https://www.test/new?q=1" {
			t.Errorf("the redirect is %d to %q", resp.StatusCode, resp.Header.Get("Location"))
		}
		if resp, body := get("/ping"); resp.StatusCode != 200 || body != "pong" || resp.Header.Get("Content-Type") != "text/plain" {
			t.Errorf("the fixed response is %d %q %v", resp.StatusCode, body, resp.Header)
		}
		if resp, body := get("/api/v1"); !strings.HasPrefix(body, "/v1 by ") || body == "/v1 by " || resp.Header.Get("Server") != "" {
			t.Errorf("the rewritten request gave %q %v", body, resp.Header)
		}
		if resp, body := get("/other"); body != "/other by " || resp.Header.Get("Server") != "secret" {
			t.Errorf("the rest gave %q %v", body, resp.Header)
		}
	},
	"sticky.yaml": func(t *testing.T, e *example) {
		for range 4 {
			resp, _ := fetch(t, client(t, false), "GET", "http://"+e.listen+"/", "")
			cookie, _, _ := strings.Cut(resp.Header.Get("Set-Cookie"), ";")
			if !strings.HasPrefix(cookie, "sid=") {
				t.Fatalf("got the cookie %q; want sid", cookie)
			}
			name := resp.Header.Get("X-Server")
			if got := e.reached(t, 10, "/", "Cookie", cookie); got[name] != 10 {
				t.Errorf("with the cookie of %s reached %v", name, got)
			}
		}
	},
	"tls.yaml": func(t *testing.T, e *example) {
		if got := serialOf(t, e.listen); got != 7 {
			t.Errorf("the listener shows certificate %d; want 7", got)
		}
		c := &http.Client{
			Transport:     &http.Transport{DisableKeepAlives: true, ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
		resp, body := fetch(t, c, "GET", "https://"+e.listen+"/", "")
		if body != "GET a 0" || resp.ProtoMajor != 2 || resp.Header.Get("Strict-Transport-Security") != "max-age=31536000" {
			t.Errorf("got %q by %s %v", body, resp.Proto, resp.Header)
		}
		if resp, body = fetch(t, http3Client(t), "GET", "https://"+e.listen+"/", ""); body != "GET a 0" || resp.ProtoMajor != 3 {
			t.Errorf("got %q by %s", body, resp.Proto)
		}
		resp, _ = fetch(t, c, "GET", "http://"+e.plain+"/x?y=1", "", "Host", "www.test")
		if resp.StatusCode != 308 || resp.Header.Get("Location") != "https://www.test/x?y=1" {
			t.Errorf("plain HTTP got %d to %q; want a redirect", resp.StatusCode, resp.Header.Get("Location"))
		}
	},
	"weights.yaml": func(t *testing.T, e *example) {
		e.wantReached(t, 40, map[string]int{"a": 30, "b": 10})
	},
	"zones.yaml": func(t *testing.T, e *example) {
		e.wantReached(t, 10, map[string]int{"a": 10})
	},
	"zookeeper.yaml": func(t *testing.T, e *example) {
		e.wantReached(t, 10, map[string]int{"a": 5, "b": 5})
	},
}

func (e *example) wantReached(t *testing.T, n int, want map[string]int) {
	t.Helper()
	if got := e.reached(t, n, "/"); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%d requests reached %v; want %v", n, got, want)
	}
}

// TestExamplesRun starts the binary with each example, with the addresses of the test's
// listener, servers, ZooKeeper and DNS in place of those that are written there.
func TestExamplesRun(t *testing.T) {
	t.Parallel()
	files, err := os.ReadDir("../../examples")
	if err != nil {
		t.Fatal(err)
	}
	var zookeeper zktest.Shared
	t.Cleanup(zookeeper.Close)
	found := 0
	for _, f := range files {
		if filepath.Ext(f.Name()) != ".yaml" {
			continue
		}
		see, known := examples[f.Name()]
		if !known {
			t.Errorf("there is %s; add to examples what is to be seen of it", f.Name())
		}
		found++
		if see == nil {
			continue
		}
		t.Run(f.Name(), func(t *testing.T) {
			e := &example{
				setup: &setup{listen: freeAddress(t), admin: freeAddress(t)},
				plain: freeAddress(t),
				a:     startPeer(t, "a"), b: startPeer(t, "b"), c: startPeer(t, "c"),
			}
			dir := e.copyExamples(t)
			path := filepath.Join(dir, f.Name())
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			switch f.Name() {
			case "zookeeper.yaml":
				server := zookeeper.Server(t)
				register(t, server, "/services/app", e.a, e.b)
				put(t, path, replaced(t, string(text), "127.0.0.1:2181", server.Addr()))
			case "tls.yaml":
				writePair(t, dir, 7)
			case "group.yaml":
				writePair(t, dir, 7)
				put(t, filepath.Join(dir, "zookeeper.secret"), "drover:secret\n")
				e.shared = zookeeper.Server(t)
				put(t, path, replaced(t, string(text), "127.0.0.1:2181", e.shared.Addr()))
			case "access.yaml":
				hash, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
				if err != nil {
					t.Fatal(err)
				}
				put(t, filepath.Join(dir, "users.htpasswd"), "ann:"+string(hash)+"\n")
			case "grpc-check.yaml":
				put(t, path, replaced(t, string(text), "port: 9100", "port: "+e.startHealth(t)))
			case "dns.yaml":
				put(t, path, replaced(t, string(text), "port: 8080", fmt.Sprintf("port: %s, resolver: %q", port(t, e.a), startResolver(t, "udp", "app.internal."))))
			}
			p := startProgram(t, []string{"DROVER_ADMIN_ADDRESS=" + e.admin}, "run", "-c", path)
			e.program = p
			e.awaitReady(t, p)
			see(t, e)
			p.Signal(syscall.SIGTERM)
			p.wantExit(t, exitOK)
			if text := p.stderr.String(); strings.Contains(text, "\tERROR\t") {
				t.Error("the log has errors")
			}
		})
	}
	if found != len(examples) {
		t.Errorf("found %d examples; want the %d that are known", found, len(examples))
	}
}

// copyExamples copies the examples, with the test's listener and servers in them.
func (e *example) copyExamples(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	addresses := strings.NewReplacer(`":8080"`, `"`+e.listen+`"`, `":8081"`, `"`+e.plain+`"`,
		"127.0.0.1:9000", e.a.address, "127.0.0.1:9001", e.b.address, "127.0.0.1:9002", e.c.address,
		`"port":9000`, `"port":`+port(t, e.a))
	err := fs.WalkDir(os.DirFS("../../examples"), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			return os.MkdirAll(filepath.Join(dir, name), 0o700)
		}
		text, err := os.ReadFile(filepath.Join("../../examples", name))
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, name), []byte(addresses.Replace(string(text))), 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func port(t *testing.T, p *peer) string {
	t.Helper()
	_, port, err := net.SplitHostPort(p.address)
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// startResolver is a DNS server that knows one name and those below it, all at 127.0.0.1,
// and gives its address.
func startResolver(t *testing.T, network, name string) string {
	t.Helper()
	s := &dns.Server{}
	var address net.Addr
	if network == "udp" {
		conn, err := net.ListenPacket(network, "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s.PacketConn, address = conn, conn.LocalAddr()
	} else {
		ln, err := net.Listen(network, "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s.Listener, address = ln, ln.Addr()
	}
	s.Handler = dns.HandlerFunc(func(w dns.ResponseWriter, request *dns.Msg) {
		answer := new(dns.Msg).SetReply(request)
		if q := request.Question[0]; q.Name != name && !strings.HasSuffix(q.Name, "."+name) {
			answer.Rcode = dns.RcodeNameError
		} else if q.Qtype == dns.TypeA {
			answer.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60}, A: net.IPv4(127, 0, 0, 1)}}
		}
		_ = w.WriteMsg(answer)
	})
	started, ended := make(chan struct{}), make(chan struct{})
	s.NotifyStartedFunc = func() { close(started) }
	go func() {
		defer close(ended)
		_ = s.ActivateAndServe()
	}()
	select {
	case <-started:
	case <-ended:
		t.Fatal("the DNS server did not start")
	}
	t.Cleanup(func() {
		_ = s.Shutdown()
		<-ended
	})
	return address.String()
}
