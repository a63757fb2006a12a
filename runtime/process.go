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
var stepDeadline = 30 * time.Second

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

// setup is a started program until it has executed a file of the container.
type setup struct {
	child *program.Child
	// early are reports that came before they were waited for: the two legs
	// write to one pipe.
	early map[uint32]int32
	// failed is a step of the second leg's that failed before its pid came.
	failed error
}

// slowDown lets tests look at a child between its steps.
var slowDown = func(p program.Program) program.Program { return p }

func startProgram(p program.Program, files []program.File) (*setup, error) {
	child, err := program.Start(slowDown(p), program.Options{Files: files})
	if err != nil {
		return nil, err
	}
	return &setup{child: child, early: map[uint32]int32{}}, nil
}

func (s *setup) close() { s.child.Close() }

// second reads the pid of the program's second leg and reaps the first. The
// second leg is returned even if it has failed already, as its parent must
// reap it: a zombie would keep its pid namespace from ending.
func (s *setup) second() (*program.Process, error) {
	pid, err := s.expect(process.TagPid)
	if err != nil {
		s.child.Process.Signal(syscall.SIGKILL)
	}
	if _, waitErr := s.child.WaitUntil(time.Now().Add(stepDeadline)); err == nil {
		err = waitErr
	}
	if err != nil {
		if s.failed != nil {
			err = s.failed
		}
		return nil, err
	}
	return program.Adopt(int(pid))
}

// expect waits for a report.
func (s *setup) expect(tag uint32) (int32, error) {
	for {
		if v, ok := s.early[tag]; ok {
			return v, nil
		}
		if s.failed != nil && tag != process.TagPid {
			return 0, s.failed
		}
		got, err := s.child.Next(time.Now().Add(stepDeadline))
		var step *program.StepError
		switch {
		case errors.As(err, &step):
			s.failed = refusedByHost(err)
			continue
		case errors.Is(err, io.EOF):
			return 0, errors.New("the process was killed during its set-up; if nobody did that, the limit of its memory (linux.resources.memory.limit) may be too small")
		case errors.Is(err, os.ErrDeadlineExceeded):
			return 0, fmt.Errorf("the process's set-up did not go on for %v", stepDeadline)
		case err != nil:
			return 0, err
		}
		s.early[got.Tag] = got.Value
	}
}

// executed waits until the process has executed name or failed to.
func (s *setup) executed(name string) error {
	if s.failed != nil {
		return notExecuted(s.failed, name)
	}
	_, err := s.child.Next(time.Now().Add(stepDeadline))
	if errors.Is(err, io.EOF) {
		return nil
	}
	if err == nil {
		return errors.New("a report came after the last")
	}
	return notExecuted(err, name)
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
