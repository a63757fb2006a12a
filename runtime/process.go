//go:build real

package runtime

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sysbox/runtime/process"
	"sysbox/runtime/program"
)

// stepDeadline bounds every wait for a child that something in the container
// could stop or slow down; after it the child is killed.
const stepDeadline = 30 * time.Second

// Process is a container's init or a process of Exec.
type Process struct {
	proc    *program.Process
	console *os.File
	done    chan struct{} // closed once exit is set
	exit    Exit
	err     error
}

// newProcess starts waiting for a child.
func newProcess(p *program.Process) *Process {
	out := &Process{proc: p, done: make(chan struct{})}
	go func() {
		defer close(out.done)
		s, err := p.Wait()
		out.exit, out.err = Exit{Status: s.ExitCode(), At: s.At}, err
	}()
	return out
}

// Pid on the host.
func (p *Process) Pid() int { return p.proc.Pid }

// Console is the master side of the terminal, nil without one. The caller
// owns and closes it.
func (p *Process) Console() *os.File { return p.console }

// Wait blocks until the process has ended; for any number of callers, also
// after the end. ctx's end gives ctx.Err().
func (p *Process) Wait(ctx context.Context) (Exit, error) {
	select {
	case <-p.done:
		return p.exit, p.err
	default:
	}
	select {
	case <-p.done:
		return p.exit, p.err
	case <-ctx.Done():
		return Exit{}, ctx.Err()
	}
}

// Signal sends a signal. os.ErrProcessDone after the end.
func (p *Process) Signal(sig int) error {
	select {
	case <-p.done:
		return os.ErrProcessDone
	default:
		return p.proc.Signal(syscall.Signal(sig))
	}
}

// close gives up the pidfd of a process that has ended.
func (p *Process) close() { p.proc.Close() }

// adoptSecond reads the pid of a program's second leg and reaps the first.
func adoptSecond(c *program.Child) (*program.Process, error) {
	deadline := time.Now().Add(stepDeadline)
	got, err := c.Next(deadline)
	if err == nil && got.Tag != process.TagPid {
		err = fmt.Errorf("report %d came instead of the pid", got.Tag)
	}
	if err != nil {
		c.Process.Signal(syscall.SIGKILL)
	}
	status, waitErr := c.Process.WaitUntil(deadline)
	switch {
	case errors.Is(err, io.EOF):
		return nil, fmt.Errorf("the first leg ended with status %d before it made the process", status.ExitCode())
	case err != nil:
		return nil, err
	case waitErr != nil:
		return nil, waitErr
	}
	return program.Adopt(int(got.Value))
}

// expect reads the next report, which must have this tag.
func expect(c *program.Child, tag uint32) error {
	got, err := c.Next(time.Now().Add(stepDeadline))
	switch {
	case errors.Is(err, io.EOF):
		return errors.New("the process was killed during its set-up")
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("the process's set-up did not end within %v", stepDeadline)
	case err == nil && got.Tag != tag:
		return fmt.Errorf("report %d came instead of %d", got.Tag, tag)
	}
	return err
}

// executed waits until the process has executed name or failed to.
func executed(c *program.Child, name string) error {
	_, err := c.Next(time.Now().Add(stepDeadline))
	if errors.Is(err, io.EOF) {
		return nil
	}
	if err == nil {
		return errors.New("a report came after the last")
	}
	var step *program.StepError
	if !errors.As(err, &step) || !strings.HasPrefix(step.Step.Name, process.ExecveStep) {
		return err
	}
	switch {
	case step.Errno == unix.ENOENT && !strings.Contains(name, "/"):
		return fmt.Errorf("exec: %q: executable file not found in $PATH", name)
	case step.Errno == unix.ENOEXEC:
		return fmt.Errorf("exec: %q: %w; is it built for another architecture, or a script without a #! line?", name, step.Errno)
	case step.Errno != 0:
		return fmt.Errorf("exec: %q: %w", name, step.Errno)
	}
	return err
}
