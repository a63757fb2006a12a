// SPDX-License-Identifier: Apache-2.0

package process

import (
	"context"
	"os"
	"syscall"
	"time"

	"sysbox/runtime/program"
)

// Stdio has the first three files of a process. A nil file stands for /dev/null. With a terminal
// they are not used. The runtime gives pipes to the process's user (fchown), so that /dev/stdout
// can be opened again in the container. It never closes the files.
type Stdio struct {
	Stdin, Stdout, Stderr *os.File
}

// Exit says how a process ended.
type Exit struct {
	// Status is the exit code, or 128 plus the number of the signal.
	Status int
	// At is when the runtime learned of the end.
	At time.Time
}

// Process is a container's init or a process of Exec.
type Process struct {
	child   *program.Process
	console *os.File
	onKill  func()        // called after SIGKILL was sent; nil for nothing
	done    chan struct{} // closed once exit is set
	exit    Exit
	err     error
}

// New starts to wait for a child. onKill is called each time the child was sent SIGKILL. ended is
// called after the child's end, before Wait returns. Both may be nil.
func New(p *program.Process, onKill, ended func()) *Process {
	out := &Process{child: p, onKill: onKill, done: make(chan struct{})}
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

// Pid returns the pid on the host.
func (p *Process) Pid() int { return p.child.Pid }

// Console returns the master side of the terminal, nil without one. The caller owns and closes
// it.
func (p *Process) Console() *os.File { return p.console }

// Wait blocks until the process has ended. Any number of callers may use it, also after the end.
// If ctx ends first, the error is ctx.Err().
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

// Signal sends a signal. After the process's end the error is os.ErrProcessDone.
func (p *Process) Signal(sig int) error {
	select {
	case <-p.done:
		return os.ErrProcessDone
	default:
	}
	err := p.child.Signal(syscall.Signal(sig))
	if err == nil && syscall.Signal(sig) == syscall.SIGKILL && p.onKill != nil {
		p.onKill()
	}
	return err
}

// Done returns a channel that is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// PidFD returns the pidfd, which is open until Close.
func (p *Process) PidFD() *os.File { return p.child.PidFD }

// SetConsole sets the master side of the terminal. Call it before anybody asks for it.
func (p *Process) SetConsole(master *os.File) { p.console = master }

// Close closes the pidfd of a process that has ended.
func (p *Process) Close() { p.child.Close() }
