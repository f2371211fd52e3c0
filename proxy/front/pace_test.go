package front

import (
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestPace sends single bytes through a wire, under a clock of its own.
func TestPace(t *testing.T) {
	for name, c := range map[string]struct {
		on    bool
		rate  int64
		every time.Duration // between two bytes
		think time.Duration // that the reader takes for each
		want  bool          // cut within the first 1000 bytes
	}{
		"too slow":               {on: true, rate: 100, every: time.Second, want: true},
		"just too slow":          {on: true, rate: 100, every: 21 * time.Millisecond, want: true},
		"fast enough":            {on: true, rate: 100, every: 10 * time.Millisecond},
		"a slow reader's fault":  {on: true, rate: 100, every: 9 * time.Millisecond, think: time.Second},
		"no limit":               {on: true, rate: 0, every: time.Second},
		"of unknown length":      {rate: 100, every: time.Second},
		"no reader's excuse":     {on: true, rate: 1000, every: 900 * time.Millisecond, think: time.Millisecond, want: true},
		"idle comes before pace": {on: true, rate: 1, every: 31 * time.Second, want: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &Front{}
				f.settings.Store(&settings{bodyIdle: 30 * time.Second, minBodyRate: c.rate})
				near, far := net.Pipe()
				w := &wire{Conn: near, front: f}
				w.enter(phaseBody, time.Now())
				if c.on {
					w.startPace()
				}
				done := make(chan struct{})
				go func() {
					defer close(done)
					for {
						time.Sleep(c.every)
						if _, err := far.Write([]byte("x")); err != nil {
							return
						}
					}
				}()
				var err error
				for n := 0; n < 1000 && err == nil; n++ {
					_, err = w.Read(make([]byte, 1))
					time.Sleep(c.think)
				}
				if got := err != nil; got != c.want || got && !isTimeout(err) {
					t.Errorf("got %v; want it cut: %v", err, c.want)
				}
				_, _ = near.Close(), far.Close()
				<-done
			})
		})
	}
}

// TestMinBodyRate: the key reaches the wire, and the client its 408.
func TestMinBodyRate(t *testing.T) {
	if testing.Short() {
		t.Skip("the grace is 10s")
	}
	t.Parallel() // it waits most of the time
	tf := serveTest(t, func(c *Config) { c.MinBodyRate = 1 << 20 }, echo)
	c := tf.dial(t).send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nx")
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for range tick.C {
			if _, err := io.WriteString(c.Conn, "x"); err != nil {
				return
			}
		}
	}()
	if got := c.head(); !strings.HasPrefix(got, "HTTP/1.1 408 ") {
		t.Errorf("got %q; want 408", got)
	}
	_ = c.Close()
	<-done
	if got := tf.rejected(); got != "408 CT" {
		t.Errorf("reported %q; want 408 CT", got)
	}
}
