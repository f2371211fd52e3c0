package main

import (
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"drover/internal/zktest"

	"github.com/go-zookeeper/zk"
)

// readme is the README while its commands are run.
type readme struct {
	text      string
	zookeeper zktest.Shared
}

// readmeCommands says how each command of the README is run, and what must come of it.
// A function gets the arguments as they are written there.
var readmeCommands = map[string]func(t *testing.T, r *readme, args []string){
	"make test": nil, // it runs this test

	"drover demo": func(t *testing.T, _ *readme, args []string) { watchDemo(t, args) },
	"drover demo --zookeeper host:2181": func(t *testing.T, r *readme, args []string) {
		watchDemo(t, swapped(t, args, "host:2181", r.zookeeper.Server(t).Addr()))
	},
	"drover check -c drover.yaml": func(t *testing.T, r *readme, args []string) {
		p := startProgramIn(t, r.folder(t), nil, args...)
		p.wantExit(t, exitOK)
		if out := p.stdout.String() + p.stderr.String(); out != "ok: 1 listener, 1 upstream, 1 route\n" {
			t.Errorf("says %q", out)
		}
	},
	"drover run -c drover.yaml": func(t *testing.T, r *readme, args []string) {
		a := startPeer(t, "a")
		s := &setup{listen: freeAddress(t), admin: freeAddress(t)}
		zookeeper := r.zookeeper.Server(t)
		register(t, zookeeper, "/services/users", a)
		dir := r.folder(t, ":8080", s.listen, "127.0.0.1:2181", zookeeper.Addr())
		p := startProgramIn(t, dir, []string{"DROVER_ADMIN_ADDRESS=" + s.admin}, args...)
		s.awaitReady(t, p)
		if got := s.reached(t, 3, "/users/1", "Host", "api.example.com"); got["a"] != 3 {
			t.Errorf("requests reached %v; want a", got)
		}
		if resp, _ := fetch(t, client(t, false), "GET", "http://"+s.listen+"/users/1", "", "Host", "example.org"); resp.StatusCode != 404 {
			t.Errorf("another host gets %d; want 404", resp.StatusCode)
		}
		p.Signal(syscall.SIGTERM)
		p.wantExit(t, exitOK)
	},
	"drover proxy --from :8080 --to 127.0.0.1:9000 --to 127.0.0.1:9001": func(t *testing.T, _ *readme, args []string) {
		a, b := startPeer(t, "a"), startPeer(t, "b")
		s := &setup{listen: freeAddress(t), admin: freeAddress(t)}
		got := s.proxy(t, swapped(t, args, ":8080", s.listen, "127.0.0.1:9000", a.address, "127.0.0.1:9001", b.address))
		if got["a"] != 5 || got["b"] != 5 {
			t.Errorf("ten requests reached %v; want five each", got)
		}
	},
	"drover proxy --from :8080 --zookeeper 127.0.0.1:2181 --path /services/app": func(t *testing.T, r *readme, args []string) {
		a, b := startPeer(t, "a"), startPeer(t, "b")
		s := &setup{listen: freeAddress(t), admin: freeAddress(t)}
		zookeeper := r.zookeeper.Server(t)
		register(t, zookeeper, "/services/app", a, b)
		got := s.proxy(t, swapped(t, args, ":8080", s.listen, "127.0.0.1:2181", zookeeper.Addr()))
		if got["a"] != 5 || got["b"] != 5 {
			t.Errorf("ten requests reached %v; want five each", got)
		}
	},
	"drover help run": func(t *testing.T, _ *readme, args []string) {
		if code, text, _ := command(t, args...); code != exitOK || !strings.Contains(text, "DROVER_LOG_LEVEL") || !strings.Contains(text, "--log-level") {
			t.Errorf("exit code %d, and shows %q; want the flags and the environment", code, text)
		}
	},
	"drover ready": func(t *testing.T, _ *readme, args []string) {
		s := newSetup(t, strings.ReplaceAll(oneUpstream, "%q", "127.0.0.1:1"))
		s.run(t)
		if code, text, _ := command(t, append(args, "--admin", s.admin)...); code != exitOK || text == "" {
			t.Errorf("exit code %d, %q; want 0 and a word", code, text)
		}
	},
}

// TestReadmeCommands runs every command of the README's shell blocks, and those of
// drover in its text. A new one must come with what it is to do.
func TestReadmeCommands(t *testing.T) {
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	r := &readme{text: string(text)}
	t.Cleanup(r.zookeeper.Close)
	found := r.commands()
	for _, line := range found {
		t.Run(line, func(t *testing.T) {
			do, known := readmeCommands[line]
			if !known {
				t.Fatalf("README has %q; add to readmeCommands what must come of it", line)
			}
			if do == nil {
				return
			}
			t.Parallel()
			do(t, r, strings.Fields(line)[1:])
		})
	}
	for line := range readmeCommands {
		if !slices.Contains(found, line) {
			t.Errorf("README no longer has %q", line)
		}
	}
}

// commands gives each command once, without its remark, and drover by its name.
func (r *readme) commands() []string {
	var found []string
	add := func(line string) {
		line, _, _ = strings.Cut(line, "#")
		line = strings.Join(strings.Fields(line), " ")
		line = strings.Replace(line, "go run ./cmd/drover", "drover", 1)
		if line != "" && !slices.Contains(found, line) {
			found = append(found, line)
		}
	}
	prose := r.text
	for _, block := range regexp.MustCompile("(?ms)^```(\\w*)\n(.*?)^```").FindAllStringSubmatch(r.text, -1) {
		prose = strings.Replace(prose, block[0], "", 1)
		if slices.Contains([]string{"sh", "bash", "shell", "console"}, block[1]) {
			for line := range strings.Lines(block[2]) {
				add(strings.TrimPrefix(line, "$ "))
			}
		}
	}
	for _, inline := range regexp.MustCompile("`(drover [^`]+)`").FindAllStringSubmatch(prose, -1) {
		add(inline[1])
	}
	return found
}

// folder has the README's configuration as drover.yaml, with texts replaced.
func (r *readme) folder(t *testing.T, pairs ...string) string {
	t.Helper()
	_, rest, _ := strings.Cut(r.text, "```yaml\n")
	yaml, _, _ := strings.Cut(rest, "```")
	dir := t.TempDir()
	put(t, filepath.Join(dir, "drover.yaml"), replaced(t, yaml, pairs...))
	return dir
}

// replaced replaces texts, all of which must be there.
func replaced(t *testing.T, text string, pairs ...string) string {
	t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(text, pairs[i]) {
			t.Fatalf("found no %s in\n%s", pairs[i], text)
		}
	}
	return strings.NewReplacer(pairs...).Replace(text)
}

// swapped replaces arguments, all of which must be there.
func swapped(t *testing.T, args []string, pairs ...string) []string {
	t.Helper()
	args = slices.Clone(args)
	for i := 0; i < len(pairs); i += 2 {
		at := slices.Index(args, pairs[i])
		if at < 0 {
			t.Fatalf("found no %s in %q", pairs[i], args)
		}
		args[at] = pairs[i+1]
	}
	return args
}

// watchDemo sees a whole demo.
func watchDemo(t *testing.T, args []string) {
	t.Helper()
	p := startProgram(t, nil, args...)
	eventually(t, "a server registers", func() bool { return strings.Contains(p.stdout.String(), "server D registers") })
	eventually(t, "a server turns sick and recovers", func() bool { return strings.Contains(p.stdout.String(), "server B recovers") })
	p.wantExit(t, exitOK)
	if text := p.stdout.String(); !strings.Contains(text, "server A leaves") || !regexp.MustCompile(`\n[1-9][0-9]+ requests, 0 failed\n$`).MatchString(text) {
		t.Error("the demo does not end with its last act and without a failed request")
	}
	if text := p.stderr.String(); text != "" {
		t.Errorf("stderr has %q", text)
	}
}

// proxy runs `drover proxy`, and tells which servers ten requests reached.
func (s *setup) proxy(t *testing.T, args []string) map[string]int {
	t.Helper()
	p := startProgram(t, []string{"DROVER_ADMIN_ADDRESS=" + s.admin}, args...)
	s.awaitReady(t, p)
	got := s.reached(t, 10, "/")
	p.Signal(syscall.SIGTERM)
	p.wantExit(t, exitOK)
	return got
}

// reached tells which servers answered n requests, or "status 503" in their stead.
func (s *setup) reached(t *testing.T, n int, path string, header ...string) map[string]int {
	t.Helper()
	c := client(t, true)
	got := map[string]int{}
	for range n {
		resp, _ := fetch(t, c, "GET", "http://"+s.listen+path, "", header...)
		if resp.StatusCode != http.StatusOK {
			got["status "+resp.Status]++
			continue
		}
		got[resp.Header.Get("X-Server")]++
	}
	return got
}

// register puts servers into ZooKeeper under a path.
func register(t *testing.T, server *zktest.Server, path string, peers ...*peer) {
	t.Helper()
	c := server.Client(t)
	create := func(path, data string) {
		t.Helper()
		if _, err := c.Create(path, []byte(data), 0, zk.WorldACL(zk.PermAll)); err != nil && err != zk.ErrNodeExists { //nolint:errorlint // the client gives it bare.
			t.Fatal(err)
		}
	}
	for i := range path {
		if i > 0 && path[i] == '/' {
			create(path[:i], "")
		}
	}
	create(path, "")
	for _, p := range peers {
		host, port, err := net.SplitHostPort(p.address)
		if err != nil {
			t.Fatal(err)
		}
		create(path+"/"+p.name, `{"host":"`+host+`","port":`+port+`}`)
	}
}
