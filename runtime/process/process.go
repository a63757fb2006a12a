package process

import (
	"context"
	"os"
	"syscall"
	"time"

	"sysbox/runtime/program"
)

// Stdio is the first three files of a process. A nil file is /dev/null. With
// a terminal they are not used. The runtime gives pipes to the process's user
// (fchown) so that /dev/stdout can be opened again in the container; it never
// closes the files it was given.
type Stdio struct {
	Stdin, Stdout, Stderr *os.File
}

// Exit is how a process ended.
type Exit struct {
	// Status is the exit code, or 128 + the signal's number.
	Status int
	// At is when the runtime learned of it.
	At time.Time
}

// Process is a container's init or a process of Exec.
type Process struct {
	child   *program.Process
	console *os.File
	onKill  func()        // is called when it was sent SIGKILL; nil for nothing
	done    chan struct{} // closed once exit is set
	exit    Exit
	err     error
}

// New starts waiting for a child. onKill is called whenever it was sent SIGKILL, and ended
// before anybody learns of its end; both may be nil.
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

// Pid on the host.
func (p *Process) Pid() int { return p.child.Pid }

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
	err := p.child.Signal(syscall.Signal(sig))
	if err == nil && syscall.Signal(sig) == syscall.SIGKILL && p.onKill != nil {
		p.onKill()
	}
	return err
}

// Done is closed once the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// PidFD is its pidfd, which lives until Close.
func (p *Process) PidFD() *os.File { return p.child.PidFD }

// SetConsole hands over the master side of its terminal, before anybody asks for it.
func (p *Process) SetConsole(master *os.File) { p.console = master }

// Close gives up the pidfd of a process that has ended.
func (p *Process) Close() { p.child.Close() }
