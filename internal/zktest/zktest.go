// Package zktest runs a real ZooKeeper for tests: Debian's, on a free loopback port,
// with a data folder of its own, started in under two seconds.
package zktest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"
)

// Jars is where Debian keeps Java libraries.
const Jars = "/usr/share/java"

// startWithin bounds a start; the slowest seen, cold on a busy machine, was 3 s.
const startWithin = 60 * time.Second

// Session time-outs that a server takes: 2 to 20 of its ticks.
const (
	MinSessionTimeout = time.Second
	MaxSessionTimeout = 10 * time.Second
)

// config is a server for tests: quick sessions, no second port, every four-letter
// word.
const config = `dataDir=%s
clientPort=%d
clientPortAddress=127.0.0.1
admin.enableServer=false
4lw.commands.whitelist=*
maxClientCnxns=0
tickTime=500
`

// Server is a running ZooKeeper. Its methods are for one goroutine.
type Server struct {
	java    string
	dir     string
	port    int
	process *Process // nil while stopped
}

// Shared is one server for all tests of a test binary: a package variable, whose
// Close TestMain calls. The zero value is ready.
type Shared struct {
	mu     sync.Mutex
	server *Server
}

// Server starts the server, the first time.
func (s *Shared) Server(t testing.TB) *Server {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.server == nil {
		s.server = start(t)
	}
	return s.server
}

// Close stops the server, if it was started.
func (s *Shared) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.server != nil {
		s.server.Stop()
		_ = os.RemoveAll(s.server.dir)
	}
}

// Start starts a server for one test, which may stop, kill and pause it.
func Start(t testing.TB) *Server {
	t.Helper()
	s := start(t)
	t.Cleanup(func() {
		s.Stop()
		_ = os.RemoveAll(s.dir)
	})
	return s
}

func start(t testing.TB) *Server {
	t.Helper()
	java, err := exec.LookPath("java")
	if err != nil {
		Missing(t, "java", "default-jre-headless")
	}
	if _, err := os.Stat(filepath.Join(Jars, "zookeeper.jar")); err != nil {
		Missing(t, "ZooKeeper", "zookeeper")
	}
	dir, err := os.MkdirTemp("", "zktest-")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{java: java, dir: dir}
	for attempt := 0; ; attempt++ {
		s.port, err = freePort()
		if err == nil {
			err = s.launch()
		}
		if err == nil {
			return s
		}
		s.Stop()
		if attempt == 2 { // a port is free only until somebody takes it
			_ = os.RemoveAll(dir)
			t.Fatalf("cannot start ZooKeeper: %v", err)
		}
	}
}

// Missing skips a test for want of a program, or fails it where nothing may be
// skipped: with CI=true in the environment.
func Missing(t testing.TB, what, debianPackage string) {
	t.Helper()
	text := fmt.Sprintf("%s is not installed; Debian's package is %s", what, debianPackage)
	if os.Getenv("CI") == "true" {
		t.Fatal(text)
	}
	t.Skip(text)
}

func freePort() (int, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer listener.Close() //nolint:errcheck // nothing was sent.
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(port)
}

// launch runs java and waits until it serves.
func (s *Server) launch() error {
	file := filepath.Join(s.dir, "zoo.cfg")
	if err := os.WriteFile(file, fmt.Appendf(nil, config, filepath.Join(s.dir, "data"), s.port), 0o600); err != nil {
		return err
	}
	output := &Tail{}
	cmd := exec.Command(s.java, "-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
		"-Dzookeeper.forceSync=no",              // tests need no power cut to be survived
		"-Dzookeeper.preAllocSize=1024",         // KiB of log file, in place of 64 MiB
		"-Dznode.container.checkIntervalMs=500", // in place of a minute
		"-cp", filepath.Join(Jars, "zookeeper.jar"),
		"org.apache.zookeeper.server.quorum.QuorumPeerMain", file)
	cmd.Stdout, cmd.Stderr = output, output
	started, err := Spawn(cmd)
	if err != nil {
		return err
	}
	s.process = started
	ctx, cancel := context.WithTimeout(context.Background(), startWithin)
	defer cancel()
	for ctx.Err() == nil {
		if answer, err := s.FourLetters("srvr"); err == nil && strings.Contains(answer, "Mode:") {
			return nil
		}
		select {
		case <-started.Ended:
			return fmt.Errorf("java ended: %s", output)
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
		}
	}
	return fmt.Errorf("it does not serve after %v: %s", startWithin, output)
}

// Addr is host:port.
func (s *Server) Addr() string { return fmt.Sprintf("127.0.0.1:%d", s.port) }

// Stop ends the server in good order. The data stays for Restart.
func (s *Server) Stop() { s.end(syscall.SIGTERM) }

// Kill ends the server at once.
func (s *Server) Kill() { s.end(syscall.SIGKILL) }

func (s *Server) end(signal syscall.Signal) {
	if s.process == nil {
		return
	}
	s.process.Signal(syscall.SIGCONT)
	s.process.Signal(signal)
	<-s.process.Ended
	s.process = nil
}

// Restart starts the server again on the same port and data.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	s.Stop()
	if err := s.launch(); err != nil {
		t.Fatalf("cannot restart ZooKeeper: %v", err)
	}
}

// Pause stops the server's clock: connections stay, nobody answers.
func (s *Server) Pause() { s.process.Signal(syscall.SIGSTOP) }

// Resume ends a Pause.
func (s *Server) Resume() { s.process.Signal(syscall.SIGCONT) }

// FourLetters sends one of the administrative words, such as "srvr" or "wchp".
func (s *Server) FourLetters(word string) (string, error) {
	conn, err := net.DialTimeout("tcp", s.Addr(), time.Second)
	if err != nil {
		return "", err
	}
	defer conn.Close() //nolint:errcheck // the answer is complete or an error says not.
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(conn, word); err != nil {
		return "", err
	}
	answer, err := io.ReadAll(conn)
	return string(answer), err
}

// Client connects a client that logs nothing and ends with the test.
func (s *Server) Client(t testing.TB) *zk.Conn {
	t.Helper()
	conn, events, err := zk.Connect([]string{s.Addr()}, MaxSessionTimeout, zk.WithLogger(silent{}))
	if err != nil {
		t.Fatalf("cannot connect to ZooKeeper: %v", err)
	}
	t.Cleanup(func() {
		conn.Close()
		for range events { // closed once the client's goroutines are gone
		}
	})
	timeout := time.After(30 * time.Second)
	for {
		select {
		case event := <-events:
			if event.State == zk.StateHasSession {
				return conn
			}
		case <-timeout:
			t.Fatal("no ZooKeeper session within 30 s")
		}
	}
}

type silent struct{}

func (silent) Printf(string, ...any) {}

// Make creates a znode and its parents, persistent all of them.
func Make(t testing.TB, conn *zk.Conn, path, data string) {
	t.Helper()
	for i := 1; i <= len(path); i++ {
		if i < len(path) && path[i] != '/' {
			continue
		}
		content := []byte(nil)
		if i == len(path) {
			content = []byte(data)
		}
		_, err := conn.Create(path[:i], content, 0, zk.WorldACL(zk.PermAll))
		if err != nil && (i == len(path) || !errors.Is(err, zk.ErrNodeExists)) {
			t.Fatalf("cannot create %q: %v", path[:i], err)
		}
	}
}

// Remove deletes a znode and all below it, if it is there.
func Remove(t testing.TB, conn *zk.Conn, path string) {
	t.Helper()
	names, _, err := conn.Children(path)
	if err == nil {
		for _, name := range names {
			Remove(t, conn, path+"/"+name)
		}
		err = conn.Delete(path, -1)
	}
	if err != nil && !errors.Is(err, zk.ErrNoNode) {
		t.Fatalf("cannot remove %q: %v", path, err)
	}
}
