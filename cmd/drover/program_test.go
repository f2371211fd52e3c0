package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"drover/internal/zktest"
)

// built is the binary of this package, built once per test run.
var built struct {
	once sync.Once
	dir  string
	err  error
}

// binary gives the path of the built drover. It looks for races where the tests do.
func binary(t *testing.T) string {
	t.Helper()
	built.once.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "drover-binary-"); built.err != nil {
			return
		}
		args := []string{"build", "-o", filepath.Join(built.dir, "drover")}
		if info, ok := debug.ReadBuildInfo(); ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
			args = append(args, "-race")
		}
		if out, err := exec.Command("go", append(args, ".")...).CombinedOutput(); err != nil {
			built.err = fmt.Errorf("cannot build: %w\n%s", err, out)
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return filepath.Join(built.dir, "drover")
}

func removeBinary() {
	if built.dir != "" {
		_ = os.RemoveAll(built.dir)
	}
}

// output is what a program has written so far.
type output struct {
	mu   sync.Mutex
	text strings.Builder
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// program is the binary, running as a process of its own.
type program struct {
	*zktest.Process
	cmd            *exec.Cmd
	stdout, stderr output
}

// startProgram starts the binary. It ends with the test at the latest.
func startProgram(t *testing.T, env []string, args ...string) *program {
	t.Helper()
	return startProgramIn(t, t.TempDir(), env, args...)
}

// startProgramIn is startProgram in a folder.
func startProgramIn(t *testing.T, dir string, env []string, args ...string) *program {
	t.Helper()
	p := &program{cmd: exec.Command(binary(t), args...)}
	p.cmd.Dir = dir
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, envPrefix) && !strings.HasPrefix(v, "NOTIFY_SOCKET=") {
			p.cmd.Env = append(p.cmd.Env, v)
		}
	}
	p.cmd.Env = append(append(p.cmd.Env, "GORACE=atexit_sleep_ms=0"), env...)
	var err error
	if p.Process, err = zktest.Spawn(p.cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Signal(syscall.SIGKILL)
		<-p.Ended
		if t.Failed() {
			t.Logf("%s wrote\n%s%s", strings.Join(args, " "), p.stdout.String(), p.stderr.String())
		}
	})
	return p
}

const envPrefix = "DROVER_"

// exit waits for the end and gives the exit code, -1 after a signal.
func (p *program) exit(t *testing.T) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	select {
	case <-p.Ended:
	case <-ctx.Done():
		t.Fatal("still running after 30s")
	}
	return p.cmd.ProcessState.ExitCode()
}

// wantExit waits for the end and judges the exit code.
func (p *program) wantExit(t *testing.T, want int) {
	t.Helper()
	if got := p.exit(t); got != want {
		t.Errorf("exit code %d; want %d", got, want)
	}
}

// logs waits until the log has a text, n times.
func (p *program) logs(t *testing.T, text string, n int) {
	t.Helper()
	eventually(t, fmt.Sprintf("the log has %q %d times", text, n), func() bool {
		select {
		case <-p.Ended:
			if strings.Count(p.stderr.String(), text) < n {
				t.Fatalf("ended without %q in its log", text)
			}
		default:
		}
		return strings.Count(p.stderr.String(), text) >= n
	})
}

// command runs the binary to its end.
func command(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	p := startProgram(t, nil, args...)
	code = p.exit(t)
	return code, p.stdout.String(), p.stderr.String()
}

// setup is a configuration in a folder of its own, with LISTEN and ADMIN for free
// loopback addresses.
type setup struct {
	path, listen, admin string
}

func newSetup(t *testing.T, yaml string) *setup {
	t.Helper()
	s := &setup{path: filepath.Join(t.TempDir(), "drover.yaml"), listen: freeAddress(t), admin: freeAddress(t)}
	s.write(t, yaml)
	return s
}

func (s *setup) fill(yaml string) string {
	return strings.NewReplacer("LISTEN", s.listen, "ADMIN", s.admin).Replace(yaml)
}

// write replaces the file in one step.
func (s *setup) write(t *testing.T, yaml string) {
	t.Helper()
	next := s.path + ".next"
	if err := os.WriteFile(next, []byte(s.fill(yaml)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, s.path); err != nil {
		t.Fatal(err)
	}
}

// run starts the binary with the file and waits until it is ready.
func (s *setup) run(t *testing.T, env ...string) *program {
	t.Helper()
	p := startProgram(t, env, "run", "-c", s.path)
	s.awaitReady(t, p)
	return p
}

func (s *setup) awaitReady(t *testing.T, p *program) {
	t.Helper()
	c := client(t, false)
	eventually(t, "drover is ready", func() bool {
		select {
		case <-p.Ended:
			t.Fatal("drover ended at its start")
		default:
		}
		resp, err := c.Get("http://" + s.admin + "/readyz")
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return resp.StatusCode == 200
	})
}

// answers waits until a request is answered with a body.
func (s *setup) answers(t *testing.T, want string) {
	t.Helper()
	c := client(t, false)
	eventually(t, "requests are answered with "+want, func() bool {
		_, body := fetch(t, c, "GET", "http://"+s.listen+"/", "")
		return body == want
	})
}

// oneUpstream is a whole configuration; its argument is the server's address.
const oneUpstream = `admin: { address: "ADMIN" }
listeners: [ { name: web, address: "LISTEN" } ]
upstreams: [ { name: app, servers: [ { address: %q } ] } ]
routes: [ { upstream: app } ]
`
