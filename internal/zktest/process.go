package zktest

import (
	"bytes"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
)

// Process is a child that does not outlive the test binary.
type Process struct {
	cmd *exec.Cmd
	// Ended is closed when the child has ended and its output is complete.
	Ended chan struct{}
}

// Spawn starts a child. The kernel ends it with the thread that started it, so that
// a test binary that is killed leaves none behind; that thread is kept for it.
func Spawn(cmd *exec.Cmd) (*Process, error) {
	cmd.SysProcAttr = endWithParent()
	p := &Process{cmd: cmd, Ended: make(chan struct{})}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // how it ended shows in its output
			close(p.Ended)
		}
	}()
	return p, <-started
}

// Signal sends a signal.
func (p *Process) Signal(s syscall.Signal) {
	_ = p.cmd.Process.Signal(s) // one that is gone needs none
}

// Tail keeps the end of a program's output.
type Tail struct {
	mu   sync.Mutex
	data []byte
}

// Write implements io.Writer.
func (b *Tail) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.data = append(b.data, p...)
	if len(b.data) > 8192 {
		b.data = bytes.Clone(b.data[len(b.data)-4096:])
	}
	return len(p), nil
}

func (b *Tail) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return string(b.data)
}
