package front

import (
	"context"
	"errors"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"drover/exchange"
)

// drain drains in the background and waits until that has begun.
func drain(tf *testFront) chan error {
	drained := make(chan error, 1)
	go func() { drained <- tf.Drain(context.Background()) }()
	<-tf.stopped
	return drained
}

func TestDrainFinishesRequests(t *testing.T) {
	began, finish := make(chan struct{}), make(chan struct{})
	tf := serveTest(t, nil, func(ex *exchange.Exchange) {
		close(began)
		<-finish
		respond(ex, "done")
	})
	c := tf.dial(t).send(get11)
	<-began
	drained := drain(tf)
	select {
	case err := <-drained:
		t.Fatalf("drained under a running request: %v", err)
	case <-time.After(short):
	}
	close(finish)
	if got := c.rest(); !strings.Contains(got, "Connection: close") || !strings.HasSuffix(got, "done") {
		t.Errorf("got %q", got)
	}
	if err := <-drained; err != nil {
		t.Error(err)
	}
	if _, err := net.Dial("tcp", tf.addr); err == nil {
		t.Error("a drained front still accepts")
	}
}

// Connections without a request are closed, but a request that crosses with that is
// answered.
func TestDrainGivesIdleConnectionsAMoment(t *testing.T) {
	t.Parallel() // it waits most of the time
	tf := serveTest(t, nil, reply("ok"))
	idle, racing, fresh := tf.dial(t).send(get11), tf.dial(t).send(get11), tf.dial(t)
	for _, c := range []*testConn{idle, racing} {
		c.head()
		c.exactly(2)
	}
	tf.waitOpen(t, 3)
	drained := drain(tf)
	racing.send(get11)
	if got := racing.rest(); !strings.Contains(got, "Connection: close") || !strings.HasSuffix(got, "ok") {
		t.Errorf("the racing request got %q", got)
	}
	for _, c := range []*testConn{idle, fresh} {
		if got := c.rest(); got != "" {
			t.Errorf("got %q; want a quiet end", got)
		}
	}
	if err := <-drained; err != nil {
		t.Error(err)
	}
}

// An answer whose head promised to keep the connection before draining began.
func TestDrainAfterHead(t *testing.T) {
	sent, finish := make(chan struct{}), make(chan struct{})
	tf := serveTest(t, nil, func(ex *exchange.Exchange) {
		_ = ex.Client.Start(&exchange.Response{Status: 200, ContentLength: 2})
		close(sent)
		<-finish
		_, _ = ex.Client.Write([]byte("ok"))
	})
	c := tf.dial(t).send(get11)
	<-sent
	drained := drain(tf)
	close(finish)
	if got := c.rest(); strings.Contains(got, "close") || !strings.HasSuffix(got, "ok") {
		t.Errorf("got %q", got)
	}
	if err := <-drained; err != nil {
		t.Error(err)
	}
}

func TestDrainCutsRequestsAtItsDeadline(t *testing.T) {
	tf := serveTest(t, nil, func(ex *exchange.Exchange) {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for !ex.Client.Gone() {
			<-tick.C
		}
		ex.Result.Aborted = true
	})
	c := tf.dial(t).send(get11)
	tf.waitOpen(t, 1)
	ctx, cancel := context.WithTimeout(context.Background(), short)
	defer cancel()
	if err := tf.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if _, err := c.r.ReadByte(); err == nil {
		t.Error("the connection is still open")
	}
	tf.waitOpen(t, 0) // Gone told the handler.
}

// lateListener accepts nothing until release closes, as a busy process.
type lateListener struct {
	*net.TCPListener
	release chan struct{}
}

func (l *lateListener) Accept() (net.Conn, error) {
	<-l.release
	return l.TCPListener.Accept()
}

// A connection that only the kernel has accepted is a client's all the same.
func TestDrainTakesTheBacklog(t *testing.T) {
	ln := &lateListener{listenTest(t).(*net.TCPListener), make(chan struct{})}
	tf := serveOn(t, ln, nil, reply("ok"), quietLogger())
	c := tf.dial(t).send(get11)
	drained := drain(tf)
	close(ln.release)
	if got := c.rest(); !strings.HasSuffix(got, "ok") {
		t.Errorf("got %q", got)
	}
	if err := <-drained; err != nil {
		t.Error(err)
	}
}

func TestServeAfterDrain(t *testing.T) {
	tf := serveTest(t, nil, reply("ok"))
	if err := tf.Drain(context.Background()); err != nil {
		t.Fatal(err)
	}
	ln := listenTest(t)
	if err := tf.Serve(ln); err != nil {
		t.Error(err)
	}
	if _, err := ln.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the listener of a drained front gave %v", err)
	}
}

// A caller may close the listener itself: Serve then waits for what it accepted.
func TestListenerClosedByCaller(t *testing.T) {
	ln := listenTest(t)
	tf := serveOn(t, ln, nil, reply("ok"), quietLogger())
	c := tf.dial(t).send(get11)
	c.head()
	c.exactly(2)
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	c.send(get11)
	if got := c.head(); !strings.HasPrefix(got, "HTTP/1.1 200 ") {
		t.Errorf("got %q; want open connections to go on", got)
	}
}

// A reload replaces a front on the same kernel socket: with clients that send
// requests all the time, on connections they keep and on new ones, none may fail.
func TestHandOver(t *testing.T) {
	shared := listenTest(t).(*net.TCPListener)
	defer shared.Close()
	dup := func() net.Listener {
		f, err := shared.File()
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		ln, err := net.FileListener(f)
		if err != nil {
			t.Fatal(err)
		}
		return ln
	}
	current := serveOn(t, dup(), nil, reply("ok"), quietLogger())
	var answered atomic.Int64
	stop := make(chan struct{})
	failed := make(chan error, 2)
	for _, keep := range []bool{true, false} {
		go func() { failed <- requestUntil(stop, shared.Addr().String(), keep, &answered) }()
	}
	for range 5 {
		for seen := answered.Load(); answered.Load() < seen+100; {
			runtime.Gosched() // the clients make the progress.
		}
		next := serveOn(t, dup(), nil, reply("ok"), quietLogger())
		if err := current.Drain(context.Background()); err != nil {
			t.Fatal(err)
		}
		current = next
	}
	close(stop)
	for range 2 {
		if err := <-failed; err != nil {
			t.Error(err)
		}
	}
	t.Logf("%d requests answered", answered.Load())
}

// TestDrainOutlivesAConnection: one that does not let itself be told of the drain keeps
// nobody waiting for longer than the time that there is.
func TestDrainOutlivesAConnection(t *testing.T) {
	tf := serveTest(t, nil, said)
	p := tf.dialH2(t)
	p.open(1, true, getLines...)
	p.expect("HEADERS :status: 200 | content-length: 12", "DATA END GET / a.test")
	stuck := make(chan struct{})
	for _, c := range tf.Front.open() {
		tf.Front.mu.Lock()
		c.shutdown = func() { <-stuck }
		tf.Front.mu.Unlock()
	}
	ctx, cancel := context.WithTimeout(t.Context(), short)
	defer cancel()
	drained := make(chan error, 1)
	go func() { drained <- tf.Drain(ctx) }()
	select {
	case err := <-drained:
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v; want the connection to be left", err)
		}
	case <-time.After(patience):
		t.Error("still draining")
	}
	close(stuck)
}
