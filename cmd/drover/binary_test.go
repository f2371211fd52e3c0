package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// slowPeer answers half a body, and the rest when told.
func slowPeer(t *testing.T) (p *peer, arrived chan struct{}, release func()) {
	t.Helper()
	p = startPeer(t, "slow")
	arrived = make(chan struct{}, 8)
	rest := make(chan struct{})
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "first ")
		_ = http.NewResponseController(w).Flush()
		arrived <- struct{}{}
		select {
		case <-rest:
			_, _ = io.WriteString(w, "last")
		case <-r.Context().Done():
		}
	})
	p.handler.Store(&h)
	return p, arrived, func() { close(rest) }
}

// answer is what became of a request.
type answer struct {
	body string
	err  error
}

// ask sends a request beside the test.
func ask(t *testing.T, url string) <-chan answer {
	t.Helper()
	c := client(t, false)
	c.Timeout = 0
	got := make(chan answer, 1)
	go func() {
		resp, err := c.Get(url)
		if err != nil {
			got <- answer{err: err}
			return
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		got <- answer{string(body), err}
	}()
	return got
}

// TestSignalDrains: a request in flight is answered to its end, new ones are not taken,
// and the process says that it ended as asked.
func TestSignalDrains(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT} {
		t.Run(sig.String(), func(t *testing.T) {
			slow, arrived, release := slowPeer(t)
			s := newSetup(t, "drain_timeout: 1h\n"+fmt.Sprintf(oneUpstream, slow.address))
			p := s.run(t)
			got := ask(t, "http://"+s.listen+"/")
			<-arrived
			p.Signal(sig)
			p.logs(t, "draining", 1)
			eventually(t, "new connections are refused", func() bool {
				c, err := net.Dial("tcp", s.listen)
				if err == nil {
					_ = c.Close()
				}
				return errors.Is(err, syscall.ECONNREFUSED)
			})
			if code, _, text := command(t, "ready", "--admin", s.admin); code != exitFailed || !strings.Contains(text, "draining") {
				t.Errorf("while draining, ready gives %d %q; want 1 and the reason", code, text)
			}
			select {
			case <-p.Ended:
				t.Fatal("ended before the request did")
			default:
			}
			release()
			if a := <-got; a.body != "first last" || a.err != nil {
				t.Errorf("got %q, %v; want the whole answer", a.body, a.err)
			}
			p.wantExit(t, exitOK)
			if lines := strings.Count(p.stdout.String(), `"GET / HTTP/1.1" 200`); lines != 1 {
				t.Errorf("the access log has %d lines of the request; want 1", lines)
			}
		})
	}
}

// TestForcedEnd: a second signal and the drain time-out cut what is left, and the exit
// code says so.
func TestForcedEnd(t *testing.T) {
	for name, c := range map[string]struct {
		timeout string
		second  bool
	}{"second signal": {"1h", true}, "time-out": {"100ms", false}} {
		t.Run(name, func(t *testing.T) {
			slow, arrived, _ := slowPeer(t)
			s := newSetup(t, "drain_timeout: "+c.timeout+"\n"+fmt.Sprintf(oneUpstream, slow.address))
			p := s.run(t)
			got := ask(t, "http://"+s.listen+"/")
			<-arrived
			p.Signal(syscall.SIGTERM)
			p.logs(t, "draining", 1)
			if c.second {
				p.Signal(syscall.SIGTERM)
			}
			p.wantExit(t, exitForced)
			if a := <-got; a.err == nil {
				t.Errorf("got %q as a whole answer; want it cut", a.body)
			}
		})
	}
}

// TestReloadWhileDraining: neither a reload nor a reopening of logs cuts a drain short.
func TestReloadWhileDraining(t *testing.T) {
	slow, arrived, release := slowPeer(t)
	s := newSetup(t, fmt.Sprintf(oneUpstream, slow.address))
	p := s.run(t)
	got := ask(t, "http://"+s.listen+"/")
	<-arrived
	p.Signal(syscall.SIGTERM)
	p.logs(t, "draining", 1)
	p.Signal(syscall.SIGHUP)
	p.Signal(syscall.SIGUSR1)
	release()
	if a := <-got; a.body != "first last" || a.err != nil {
		t.Errorf("got %q, %v; want the whole answer", a.body, a.err)
	}
	p.wantExit(t, exitOK)
}

func TestHangupReloads(t *testing.T) {
	a, b := startPeer(t, "a"), startPeer(t, "b")
	s := newSetup(t, fmt.Sprintf(oneUpstream, a.address))
	p := s.run(t)
	s.answers(t, "GET a 0")
	s.write(t, fmt.Sprintf(oneUpstream, b.address))
	p.Signal(syscall.SIGHUP)
	p.logs(t, `{"why": "SIGHUP"}`, 1)
	s.answers(t, "GET b 0")
	p.Signal(syscall.SIGHUP) // nothing has changed
	p.logs(t, `{"why": "SIGHUP"}`, 2)
	p.logs(t, "configuration in force", 3)
	p.Signal(syscall.SIGTERM)
	p.wantExit(t, exitOK)
}

// TestReopenLogs rotates both logs as logrotate does: no line is lost, none is written
// to the old files afterwards.
func TestReopenLogs(t *testing.T) {
	a := startPeer(t, "a")
	dir := t.TempDir()
	own, access := filepath.Join(dir, "drover.log"), filepath.Join(dir, "access.log")
	s := newSetup(t, fmt.Sprintf("log: { output: %q }\naccess_log: { output: %q }\n", own, access)+fmt.Sprintf(oneUpstream, a.address))
	p := s.run(t)
	read := func(path string) string {
		text, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		return string(text)
	}
	get := func(path string) { fetch(t, client(t, false), "GET", "http://"+s.listen+path, "") }
	get("/before")
	eventually(t, "the access log has the request", func() bool { return strings.Contains(read(access), "/before ") })
	for _, path := range []string{own, access} {
		if err := os.Rename(path, path+".1"); err != nil {
			t.Fatal(err)
		}
	}
	get("/between") // still to the old file
	eventually(t, "the renamed access log has the request", func() bool { return strings.Contains(read(access+".1"), "/between ") })
	p.Signal(syscall.SIGUSR1)
	eventually(t, "both files are there anew", func() bool {
		for _, path := range []string{own, access} {
			if _, err := os.Stat(path); err != nil {
				return false
			}
		}
		return true
	})
	oldOwn := read(own + ".1")
	get("/after")
	p.Signal(syscall.SIGTERM)
	p.wantExit(t, exitOK)
	if text := read(access); strings.Count(text, "\n") != 1 || !strings.Contains(text, "/after ") {
		t.Errorf("the new access log has %q; want the last request alone", text)
	}
	if text := read(access + ".1"); strings.Count(text, "\n") != 2 {
		t.Errorf("the old access log has %q; want two requests", text)
	}
	if text := read(own); !strings.Contains(text, "draining") {
		t.Errorf("the new log has %q; want what came after", text)
	}
	if text := read(own + ".1"); text != oldOwn || !strings.Contains(text, "drover starts") {
		t.Errorf("the old log has %q; want %q", text, oldOwn)
	}
	if text := p.stdout.String() + p.stderr.String(); text != "" {
		t.Errorf("wrote %q beside its logs", text)
	}
}

// TestBrokenReload: what is refused is said with its place, and what runs goes on.
func TestBrokenReload(t *testing.T) {
	a, b := startPeer(t, "a"), startPeer(t, "b")
	s := newSetup(t, fmt.Sprintf(oneUpstream, a.address))
	p := s.run(t)
	good := fmt.Sprintf(oneUpstream, b.address)
	s.write(t, strings.Replace(good, "upstream: app", "upstreem: app", 1))
	p.Signal(syscall.SIGHUP)
	p.logs(t, s.path+":4:", 1)
	p.logs(t, "refused", 1)
	s.answers(t, "GET a 0")
	if code, text, _ := command(t, "ready", "--admin", s.admin); code != exitOK {
		t.Errorf("after a refused reload, ready gives %d %q; want 0", code, text)
	}
	s.write(t, good)
	p.Signal(syscall.SIGHUP)
	s.answers(t, "GET b 0")
	if err := os.Remove(s.path); err != nil {
		t.Fatal(err)
	}
	p.Signal(syscall.SIGHUP)
	p.logs(t, "no such file", 1)
	s.answers(t, "GET b 0")
}

// TestStartFails: a supervisor sees by the exit code, and a person by the message, why
// there was no start.
func TestStartFails(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	good := fmt.Sprintf(oneUpstream, "127.0.0.1:1")
	for name, c := range map[string]struct{ yaml, want string }{
		"listener's address is taken": {strings.Replace(good, "LISTEN", taken.Addr().String(), 1), taken.Addr().String()},
		"admin's address is taken":    {strings.Replace(good, "ADMIN", taken.Addr().String(), 1), taken.Addr().String()},
		"unknown key":                 {strings.Replace(good, "upstream: app", "upstreem: app", 1), "drover.yaml:4:"},
		"unknown upstream":            {strings.Replace(good, "upstream: app", "upstream: none", 1), "drover.yaml:4:"},
		"no YAML":                     {good + "routes: [", "drover.yaml:5:"},
		"log cannot be opened":        {"log: { output: /nowhere/drover.log }\n" + good, "/nowhere/drover.log"},
		"access log cannot be opened": {"access_log: { output: /nowhere/access.log }\n" + good, "/nowhere/access.log"},
		"empty":                       {"", "drover.yaml"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSetup(t, c.yaml)
			code, stdout, stderr := command(t, "run", "-c", s.path)
			if code != exitFailed || stdout != "" || !strings.Contains(stderr, c.want) {
				t.Errorf("got exit code %d, stdout %q, stderr %q; want 1, nothing, %q", code, stdout, stderr, c.want)
			}
			if n := strings.Count(stderr, "cannot listen"); n > 1 {
				t.Errorf("says it %d times:\n%s", n, stderr)
			}
			if strings.Contains(stderr, "in force") {
				t.Errorf("got %q; nothing is in force at a start", stderr)
			}
		})
	}
	t.Run("listener's address is taken and the log is a file", func(t *testing.T) {
		own := filepath.Join(t.TempDir(), "drover.log")
		s := newSetup(t, fmt.Sprintf("log: { output: %q }\n", own)+strings.Replace(good, "LISTEN", taken.Addr().String(), 1))
		code, _, stderr := command(t, "run", "-c", s.path)
		if code != exitFailed || !strings.Contains(stderr, taken.Addr().String()) {
			t.Errorf("got exit code %d, stderr %q; want 1 and the address", code, stderr)
		}
		if text, err := os.ReadFile(own); err != nil || !strings.Contains(string(text), taken.Addr().String()) {
			t.Errorf("the log has %q, %v; want the address", text, err)
		}
	})
	if code, _, stderr := command(t, "run", "-c", "/nowhere/drover.yaml"); code != exitFailed || !strings.Contains(stderr, "/nowhere/drover.yaml") {
		t.Errorf("without the file: exit code %d, %q; want 1 and its name", code, stderr)
	}
	p := startProgram(t, []string{"DROVER_LOG_LEVLE=debug"}, "run", "-c", newSetup(t, good).path)
	p.wantExit(t, exitFailed)
	if text := p.stderr.String(); !strings.Contains(text, "DROVER_LOG_LEVEL") {
		t.Errorf("with a misspelt variable: %q; want the right name", text)
	}
}

// TestRemarks: what check warns of is in the log of a start and of each reload.
func TestRemarks(t *testing.T) {
	twice := strings.Replace(fmt.Sprintf(oneUpstream, "127.0.0.1:1"), "{ upstream: app }", "{ upstream: app }, { upstream: app }", 1)
	s := newSetup(t, twice)
	const want = "routes[1]: got the conditions of routes[0]"
	code, stdout, stderr := command(t, "check", "-c", s.path)
	if code != exitOK || stdout != "ok: 1 listener, 1 upstream, 2 routes\n" || !strings.HasPrefix(stderr, "warning: ") || !strings.Contains(stderr, want) {
		t.Errorf("check: exit code %d, %q, %q; want 0 and a warning of %q", code, stdout, stderr, want)
	}
	p := s.run(t)
	p.logs(t, want, 1)
	p.Signal(syscall.SIGHUP)
	p.logs(t, want, 2)
}

// TestCheckCommand: the same rules as a start, without one.
func TestCheckCommand(t *testing.T) {
	good := fmt.Sprintf(oneUpstream, "127.0.0.1:1")
	if code, stdout, stderr := command(t, "check", "-c", newSetup(t, good).path); code != exitOK || stdout != "ok: 1 listener, 1 upstream, 1 route\n" || stderr != "" {
		t.Errorf("got exit code %d, %q, %q", code, stdout, stderr)
	}
	s := newSetup(t, strings.Replace(good, "upstream: app", "upstreem: app", 1))
	if code, stdout, stderr := command(t, "check", "-c", s.path); code != exitFailed || stdout != "" || !strings.HasPrefix(stderr, s.path+":4:") {
		t.Errorf("of a broken file got exit code %d, %q, %q", code, stdout, stderr)
	}
}

func TestWrongUsage(t *testing.T) {
	for _, args := range []string{
		"fly", "run --fly", "run drover.yaml", "check drover.yaml", "proxy", "proxy 127.0.0.1:9000", "proxy --zookeeper 127.0.0.1:2181",
		"proxy --to 127.0.0.1:1 --path /a", "proxy --to 127.0.0.1:1 --zookeeper 127.0.0.1:2181 --path /a", "ready 127.0.0.1:9900", "version --long",
		"demo --rate 0", "demo --step soon",
	} {
		t.Run(args, func(t *testing.T) {
			code, stdout, stderr := command(t, strings.Fields(args)...)
			if code != exitUsage || stdout != "" || !strings.HasSuffix(stderr, "\nTry 'drover --help'.\n") {
				t.Errorf("got exit code %d, stdout %q, stderr %q; want 64 and where help is", code, stdout, stderr)
			}
		})
	}
}

// TestSystemd listens as systemd does for Type=notify-reload.
func TestSystemd(t *testing.T) {
	dir, err := os.MkdirTemp("", "drover-notify-") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	ln, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "s"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	hear := func() string {
		t.Helper()
		if err := ln.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		text := make([]byte, 4096)
		n, err := ln.Read(text)
		if err != nil {
			t.Fatal(err)
		}
		return string(text[:n])
	}
	want := func(text string) {
		t.Helper()
		if got := hear(); got != text {
			t.Errorf("said %q; want %q", got, text)
		}
	}
	good := fmt.Sprintf(oneUpstream, "127.0.0.1:1")
	s := newSetup(t, good)
	p := startProgram(t, []string{"NOTIFY_SOCKET=" + filepath.Join(dir, "s")}, "run", "-c", s.path)
	want("READY=1")
	if resp, _ := fetch(t, client(t, false), "GET", "http://"+s.admin+"/readyz", ""); resp.StatusCode != 200 {
		t.Errorf("said it was ready and answers %d", resp.StatusCode)
	}
	reload := func(change func()) {
		t.Helper()
		before := micros(t, monotonicMicros())
		change()
		p.Signal(syscall.SIGHUP)
		text, stamp, found := strings.Cut(hear(), "\nMONOTONIC_USEC=")
		if at := micros(t, stamp); text != "RELOADING=1" || !found || at < before || at > micros(t, monotonicMicros()) {
			t.Errorf("at %d said %q with time %d; want RELOADING=1 and the time of the signal", before, text, at)
		}
		want("READY=1")
	}
	reload(func() {})
	reload(func() { s.write(t, "routes: [") }) // is refused, which must not leave systemd waiting
	p.Signal(syscall.SIGTERM)
	text := hear()
	for ; strings.HasPrefix(text, "RELOADING=1\n"); text = hear() {
		want("READY=1") // the change of the file was seen as well, apart from the signal
	}
	if text != "STOPPING=1" {
		t.Errorf("said %q; want STOPPING=1", text)
	}
	p.wantExit(t, exitOK)
}

func micros(t *testing.T, text string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestReadyCommand(t *testing.T) {
	t.Parallel()
	if code, stdout, stderr := command(t, "ready", "--admin", freeAddress(t)); code != exitFailed || stdout != "" || !strings.HasPrefix(stderr, "cannot ask whether drover is ready: ") || !strings.Contains(stderr, "refused") {
		t.Errorf("of none running: exit code %d, %q, %q; want 1 and why", code, stdout, stderr)
	}
	cold := newSetup(t, fmt.Sprintf(`admin: { address: "ADMIN" }
listeners: [ { name: web, address: "LISTEN" } ]
zookeeper: { servers: [ %q ] }
upstreams: [ { name: app, discover: { zookeeper: { path: /a } } } ]
routes: [ { upstream: app } ]
`, freeAddress(t)))
	p := startProgram(t, nil, "run", "-c", cold.path)
	p.logs(t, "configuration in force", 1)
	if code, stdout, stderr := command(t, "ready", "--admin", cold.admin); code != exitFailed || stdout != "" || !strings.Contains(stderr, "not known yet") {
		t.Errorf("of one that knows no servers yet: exit code %d, %q, %q; want 1 and why", code, stdout, stderr)
	}
	p.Signal(syscall.SIGTERM)
	p.wantExit(t, exitOK)
	s := newSetup(t, fmt.Sprintf(oneUpstream, "127.0.0.1:1"))
	s.run(t)
	if code, stdout, stderr := command(t, "ready", "--admin", s.admin); code != exitOK || stdout == "" || stderr != "" {
		t.Errorf("of a ready one: exit code %d, %q, %q; want 0 and a word", code, stdout, stderr)
	}
}

func TestVersionCommand(t *testing.T) {
	if code, stdout, stderr := command(t, "--version"); code != exitOK || stderr != "" || !strings.HasPrefix(stdout, "drover ") {
		t.Errorf("--version: exit code %d, %q, %q", code, stdout, stderr)
	}
	code, stdout, stderr := command(t, "version")
	if code != exitOK || stderr != "" || !regexp.MustCompile(`^drover \S+ go1\.\S+ [a-z0-9]+/[a-z0-9]+\n$`).MatchString(stdout) {
		t.Errorf("got exit code %d, %q, %q", code, stdout, stderr)
	}
}

// TestCompletionCommand has bash read what it is given, and complete with it.
func TestCompletionCommand(t *testing.T) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("no bash here")
	}
	code, stdout, stderr := command(t, "completion", "bash")
	if code != exitOK || stderr != "" || !strings.Contains(stdout, "drover") {
		t.Fatalf("got exit code %d, %q, %q", code, stdout, stderr)
	}
	check := exec.Command(bash, "-n")
	check.Stdin = strings.NewReader(stdout)
	if out, err := check.CombinedOutput(); err != nil || len(out) != 0 {
		t.Errorf("bash -n: %v: %s", err, out)
	}
	script := stdout + `
COMP_WORDS=(drover r) COMP_CWORD=1 COMP_LINE="drover r" COMP_POINT=8
_get_comp_words_by_ref() { cur=r prev=drover words=(drover r) cword=1; }
_init_completion() { _get_comp_words_by_ref; }
__start_drover
printf '%s\n' "${COMPREPLY[@]}"`
	complete := exec.Command(bash, "--norc", "-c", script)
	complete.Env = append(os.Environ(), "PATH="+filepath.Dir(binary(t))+":"+os.Getenv("PATH"))
	if out, err := complete.CombinedOutput(); err != nil || !regexp.MustCompile(`(?m)^ready\b`).Match(out) || !regexp.MustCompile(`(?m)^run\b`).Match(out) {
		t.Errorf("of \"drover r\" is made %q, %v; want run and ready", out, err)
	}
}

// TestInterruptedStart: while a start waits for the first servers, the operator's
// interface says so, and the end need not wait for them.
func TestInterruptedStart(t *testing.T) {
	s := newSetup(t, fmt.Sprintf(`admin: { address: "ADMIN" }
zookeeper: { servers: [ %q ] }
listeners: [ { name: web, address: "LISTEN" } ]
upstreams: [ { name: app, discover: { zookeeper: { path: /x } } } ]
routes: [ { upstream: app } ]
`, freeAddress(t)))
	p := startProgram(t, nil, "run", "-c", s.path)
	c := client(t, false)
	var answer string
	eventually(t, "the admin listener answers", func() bool {
		resp, err := c.Get("http://" + s.admin + "/readyz")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		answer = string(text)
		return err == nil && resp.StatusCode == 503
	})
	if !strings.Contains(answer, "the first servers are not known yet") {
		t.Errorf("got %q; want why it is not ready", answer)
	}
	p.Signal(syscall.SIGTERM)
	p.wantExit(t, exitOK)
}
