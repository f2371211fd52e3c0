// Package peers runs registrants that other people wrote, for tests: programs around
// kazoo, Apache Curator and Apache dubbo-js, started as child processes. What drover
// reads in a test is then what those libraries write.
//
// A program takes ZooKeeper's address and the path to register below, prints "ok" once
// it is connected, and then answers each line of its input with one of its output,
// "ok" or "error: …":
//
//	register ID HOST PORT WEIGHT
//	reweight ID WEIGHT
//	drop ID
//
// Its registrations are ephemeral and end with it.
package peers

import (
	"bufio"
	"embed"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"drover/internal/zktest"
)

// answerWithin bounds every wait for a program; a first start on a busy machine takes
// some seconds.
const answerWithin = 120 * time.Second

//go:embed testdata
var programs embed.FS

// Writer is a running program. Its methods are for one goroutine.
type Writer struct {
	process *zktest.Process
	input   io.WriteCloser
	answers chan string
	errors  *zktest.Tail
}

// Register registers a server under an ID that the other methods take. The ID is the
// program's own affair; it holds letters and digits.
func (w *Writer) Register(t testing.TB, id, host string, port, weight int) {
	t.Helper()
	w.command(t, "register %s %s %d %d", id, host, port, weight)
}

// Reweight changes a server's weight, in the way of its library.
func (w *Writer) Reweight(t testing.TB, id string, weight int) {
	t.Helper()
	w.command(t, "reweight %s %d", id, weight)
}

// Drop takes a registration back.
func (w *Writer) Drop(t testing.TB, id string) {
	t.Helper()
	w.command(t, "drop %s", id)
}

// Kill ends the program at once. Its registrations stay until its session expires.
func (w *Writer) Kill() {
	w.process.Signal(syscall.SIGKILL)
	<-w.process.Ended
}

// start runs a program until the test ends.
func start(t testing.TB, cmd *exec.Cmd) *Writer {
	t.Helper()
	input, commands, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	output, lines := io.Pipe()
	w := &Writer{input: commands, answers: make(chan string), errors: &zktest.Tail{}}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = input, lines, w.errors
	if w.process, err = zktest.Spawn(cmd); err != nil {
		t.Fatalf("cannot run %q: %v", cmd.Path, err)
	}
	_ = input.Close() // the child has its own
	done := make(chan struct{})
	quit := make(chan struct{})
	go func() {
		defer close(done)
		scanner := bufio.NewScanner(output)
		for scanner.Scan() {
			select {
			case w.answers <- scanner.Text():
			case <-quit:
			}
		}
	}()
	t.Cleanup(func() {
		close(quit)
		_ = commands.Close()
		w.Kill()
		_ = lines.Close()
		<-done
	})
	w.answer(t, "start")
	return w
}

func (w *Writer) command(t testing.TB, format string, args ...any) {
	t.Helper()
	line := fmt.Sprintf(format, args...)
	if _, err := io.WriteString(w.input, line+"\n"); err != nil {
		t.Fatalf("cannot send %q: %v; %s", line, err, w.errors)
	}
	w.answer(t, line)
}

// answer waits for "ok".
func (w *Writer) answer(t testing.TB, line string) {
	t.Helper()
	select {
	case answer := <-w.answers:
		if answer != "ok" {
			t.Fatalf("%s: %s; %s", line, answer, w.errors)
		}
	case <-w.process.Ended:
		t.Fatalf("%s: the program ended: %s", line, w.errors)
	case <-time.After(answerWithin):
		t.Fatalf("%s: no answer within %v: %s", line, answerWithin, w.errors)
	}
}

// unpack writes the files of one program into a folder.
func unpack(t testing.TB, program, dir string) {
	t.Helper()
	if err := copyFiles("testdata/"+program, dir); err != nil {
		t.Fatalf("cannot unpack %q: %v", program, err)
	}
}

func copyFiles(from, to string) error {
	entries, err := programs.ReadDir(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(to, 0o750); err != nil {
		return err
	}
	for _, entry := range entries {
		source, target := from+"/"+entry.Name(), filepath.Join(to, entry.Name())
		if entry.IsDir() {
			if err := copyFiles(source, target); err != nil {
				return err
			}
			continue
		}
		data, err := programs.ReadFile(source)
		if err != nil {
			return err
		}
		if err := os.WriteFile(target, data, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// need finds a program or skips the test.
func need(t testing.TB, program, debianPackage string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		zktest.Missing(t, program, debianPackage)
	}
	return path
}

// Debian's Python, which sees Debian's kazoo; another one on PATH does not.
const python = "/usr/bin/python3"

// Kazoo registers below path with kazoo, records in one of the layouts nerve,
// serverset and plain.
func Kazoo(t testing.TB, address, path, layout string) *Writer {
	t.Helper()
	if err := exec.Command(python, "-c", "import kazoo").Run(); err != nil {
		zktest.Missing(t, "kazoo for "+python, "python3-kazoo")
	}
	dir := t.TempDir()
	unpack(t, "kazoo", dir)
	return start(t, exec.Command(python, filepath.Join(dir, "writer.py"), address, path, layout))
}

// curatorJars are the libraries of the Curator program, in Debian's names. The rest
// of ZooKeeper's client comes by the manifest of its jar.
var curatorJars = []string{"curator-x-discovery", "curator-framework", "curator-client", "curator-recipes",
	"zookeeper", "zookeeper-jute", "guava", "jackson-core", "jackson-databind", "jackson-annotations", "slf4j-api", "slf4j-nop"}

// Curator registers the service that path names (its last element) with Curator's
// x-discovery, in the shape of Spring Cloud ZooKeeper.
func Curator(t testing.TB, address, path string) *Writer {
	t.Helper()
	javac, java := need(t, "javac", "default-jdk-headless"), need(t, "java", "default-jdk-headless")
	jars := make([]string, len(curatorJars))
	for i, jar := range curatorJars {
		jars[i] = filepath.Join(zktest.Jars, jar+".jar")
		if _, err := os.Stat(jars[i]); err != nil {
			zktest.Missing(t, jar+".jar", "libcurator-discovery-java")
		}
	}
	dir := t.TempDir()
	unpack(t, "curator", dir)
	classes := strings.Join(append(jars, dir), ":")
	compile := exec.Command(javac, "-J-XX:TieredStopAtLevel=1", "-d", dir, "-cp", classes, filepath.Join(dir, "Writer.java"), "-sourcepath", dir)
	if output, err := compile.CombinedOutput(); err != nil {
		t.Fatalf("cannot compile the Curator program: %v\n%s", err, output)
	}
	return start(t, exec.Command(java, "-Xmx64m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", classes, "Writer", address, path))
}
