package zktest

import (
	"io"
	"os/exec"
	"runtime"
	"syscall"
)

// process is a child that does not outlive the test binary.
type process struct {
	cmd   *exec.Cmd
	ended chan struct{}
}

// spawn starts a child. The kernel ends it with the thread that started it, so that
// a test binary that is killed leaves none behind; that thread is kept for it.
func spawn(cmd *exec.Cmd, output io.Writer) (*process, error) {
	cmd.Stdout, cmd.Stderr = output, output
	cmd.SysProcAttr = endWithParent()
	p := &process{cmd: cmd, ended: make(chan struct{})}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // how it ended shows in its output
			close(p.ended)
		}
	}()
	return p, <-started
}

func (p *process) signal(s syscall.Signal) {
	_ = p.cmd.Process.Signal(s) // one that is gone needs none
}
