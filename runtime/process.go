package runtime

import (
	"context"
	"errors"
	"fmt"
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
var stepDeadline = 30 * time.Second

// Process is a container's init or a process of Exec.
type Process struct {
	proc    *program.Process
	console *os.File
	killed  func()        // is called when it was sent SIGKILL; nil for nothing
	done    chan struct{} // closed once exit is set
	exit    Exit
	err     error
}

// newProcess starts waiting for a child. ended, which may be nil, is called before anybody
// learns of its end.
func newProcess(p *program.Process, ended func()) *Process {
	out := &Process{proc: p, done: make(chan struct{})}
	go func() {
		defer close(out.done)
		s, err := p.Wait()
		out.exit, out.err = Exit{Status: s.ExitCode(), At: s.At}, err
		if ended != nil {
			ended()
		}
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
	}
	err := p.proc.Signal(syscall.Signal(sig))
	if err == nil && syscall.Signal(sig) == syscall.SIGKILL && p.killed != nil {
		p.killed()
	}
	return err
}

// close gives up the pidfd of a process that has ended.
func (p *Process) close() { p.proc.Close() }

// setup is a started program until it has executed a file of the container.
type setup struct{ *program.Stages }

// slowDown lets tests look at a child between its steps.
var slowDown = func(p program.Program) program.Program { return p }

func startProgram(p program.Program, files []program.File) (*setup, error) {
	stages, err := program.StartStages(slowDown(p), program.Options{Files: files}, process.TagPid, stepDeadline)
	if err != nil {
		return nil, err
	}
	return &setup{stages}, nil
}

// second returns init, or the process of an exec.
func (s *setup) second() (*program.Process, error) {
	p, err := s.Second()
	return p, s.explain(err)
}

// expect waits for a report.
func (s *setup) expect(tag uint32) (int32, error) {
	v, err := s.Expect(tag)
	return v, s.explain(err)
}

// executed waits until the process has executed name or failed to.
func (s *setup) executed(name string) error {
	return notExecuted(s.Executed(), name)
}

// explain says of a failure in a set-up what a user needs to know.
func (s *setup) explain(err error) error {
	switch {
	case errors.Is(err, program.ErrEnded):
		return errors.New("the process was killed during its set-up; if nobody did that, the limit of its memory (linux.resources.memory.limit) may be too small")
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("the process's set-up did not go on for %v", s.Deadline)
	}
	return refusedByHost(err)
}

// notExecuted says of a failed step that looks for name or executes it what a user needs
// to know; other errors stay as they are.
func notExecuted(err error, name string) error {
	err = refusedByHost(err)
	var step *program.StepError
	if errors.As(err, &step) && step.Errno != 0 && step.Step.Field == process.FieldCwd {
		return fmt.Errorf("%s is %q: %w; give a folder of the container", step.Step.Field, step.Step.Value, step.Errno)
	}
	if !errors.As(err, &step) || step.Step.Field != process.FieldArgs {
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
