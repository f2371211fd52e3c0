package front

import (
	"errors"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// failingListener gives errors before each connection.
type failingListener struct {
	net.Listener
	mu     sync.Mutex
	errs   []error
	failed chan struct{} // closed once all errors were given
}

func (l *failingListener) Accept() (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.errs) > 0 {
		err := l.errs[0]
		if l.errs = l.errs[1:]; len(l.errs) == 0 {
			close(l.failed)
		}
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", err)}
	}
	return l.Listener.Accept()
}

func TestAcceptOutlivesErrors(t *testing.T) {
	core, logs := observer.New(zap.ErrorLevel)
	ln := &failingListener{
		Listener: listenTest(t), failed: make(chan struct{}),
		errs: []error{syscall.EMFILE, syscall.EMFILE, syscall.ENFILE, syscall.ECONNABORTED, errors.New("never seen before")},
	}
	tf := serveOn(t, ln, nil, reply("ok"), zap.New(core))
	<-ln.failed
	c := tf.dial(t).send(get11)
	if got := c.head(); !strings.HasPrefix(got, "HTTP/1.1 200 ") {
		t.Errorf("got %q", got)
	}
	if logs.Len() != 1 {
		t.Errorf("%d log entries for one burst of errors; want 1", logs.Len())
	}
}

func TestDrainDuringAcceptErrors(t *testing.T) {
	errs := make([]error, 1000) // for minutes
	for i := range errs {
		errs[i] = syscall.EMFILE
	}
	serveOn(t, &failingListener{Listener: listenTest(t), errs: errs, failed: make(chan struct{})}, nil, reply("ok"), quietLogger())
	// Draining at the end of the test must not wait for the errors to end.
}

func TestMaxConnections(t *testing.T) {
	tf := serveTest(t, func(c *Config) { c.MaxConnections = 2 }, reply("ok"))
	first, second := tf.dial(t).send(get11), tf.dial(t)
	first.head()
	tf.waitOpen(t, 2)
	third := tf.dial(t).send(get11)
	got := third.head()
	if !strings.HasPrefix(got, "HTTP/1.1 503 ") || !strings.Contains(got, "Connection: close") || !strings.Contains(got, "Retry-After: 1") {
		t.Errorf("got %q", got)
	}
	if got := third.closeWrite().rest(); got != "503 Service Unavailable\n" {
		t.Errorf("got %q", got)
	}
	if got := tf.rejected(); got != "503 OL" {
		t.Errorf("reported %q", got)
	}
	_ = second.Close()
	tf.waitOpen(t, 1)
	if got := tf.dial(t).send(get11).head(); !strings.HasPrefix(got, "HTTP/1.1 200 ") {
		t.Errorf("got %q after a place was free", got)
	}
	cfg := tf.cfg
	cfg.MaxConnections = 1
	tf.Update(cfg)
	if got := tf.dial(t).send(get11).head(); !strings.HasPrefix(got, "HTTP/1.1 503 ") {
		t.Errorf("got %q under the new limit", got)
	}
	if got := first.exactly(2); got != "ok" {
		t.Errorf("got %q", got)
	}
	if got := first.send(get11).head(); !strings.HasPrefix(got, "HTTP/1.1 200 ") {
		t.Errorf("a lower limit hurt an open connection: %q", got)
	}
}

func TestManyConnectionsTooMany(t *testing.T) {
	tf := serveTest(t, func(c *Config) { c.MaxConnections = 1 }, reply("ok"))
	keep := tf.dial(t)
	tf.waitOpen(t, 1)
	var conns []*testConn
	for range 2 * rejecters {
		conns = append(conns, tf.dial(t))
	}
	for _, c := range conns {
		// Told or not, each comes to its end.
		if _, err := c.r.ReadByte(); err == nil {
			c.closeWrite().rest()
		}
	}
	if got := keep.send(get11).head(); !strings.HasPrefix(got, "HTTP/1.1 200 ") {
		t.Errorf("got %q", got)
	}
}

func TestSocketOptions(t *testing.T) {
	tf := serveTest(t, nil, reply("ok"))
	tf.dial(t)
	tf.waitOpen(t, 1)
	raw, err := tf.Front.open()[0].wire.Conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	for name, option := range map[string][2]int{
		"TCP_NODELAY":  {unix.IPPROTO_TCP, unix.TCP_NODELAY},
		"SO_KEEPALIVE": {unix.SOL_SOCKET, unix.SO_KEEPALIVE},
	} {
		if err := raw.Control(func(fd uintptr) {
			if on, err := unix.GetsockoptInt(int(fd), option[0], option[1]); err != nil || on == 0 {
				t.Errorf("%s is %d, %v; want it on", name, on, err)
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestUnixSocket(t *testing.T) {
	ln, err := net.Listen("unix", t.TempDir()+"/s")
	if err != nil {
		t.Fatal(err)
	}
	tf := serveOn(t, ln, nil, echo, quietLogger())
	nc, err := net.Dial("unix", tf.addr)
	if err != nil {
		t.Fatal(err)
	}
	if got := wrapConn(t, nc).send(get11).head(); !strings.HasPrefix(got, "HTTP/1.1 200 ") {
		t.Errorf("got %q", got)
	}
}
