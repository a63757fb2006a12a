// SPDX-License-Identifier: Apache-2.0

package program

import (
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Process is a child of this process, held by a pidfd. Nothing else may reap it (no wait4(-1) in
// this process).
type Process struct {
	// Pid is the process's number in this process's pid namespace.
	Pid int
	// PidFD is non-blocking and registered with the runtime's poller: a waiter costs a goroutine
	// and no thread.
	PidFD *os.File

	mu     sync.Mutex // guards the fields below; held during waits
	done   bool
	status Status
}

// Status is how a process ended.
type Status struct {
	// Code is the exit status; 0 if a signal killed the process.
	Code int
	// Signal is the signal that killed the process, or 0.
	Signal syscall.Signal
	// Core is true if a core was dumped.
	Core bool
	// At is when this process learned of the end.
	At time.Time
}

// ExitCode returns what a shell shows: the exit status, or 128 plus the signal.
func (s Status) ExitCode() int {
	if s.Signal != 0 {
		return 128 + int(s.Signal)
	}
	return s.Code
}

// Adopt returns the child with this pid, for example one that a program has forked with
// CLONE_PARENT and reported. There is no race: the pid belongs to a child of this process, and
// stays in use until this process reaps it. For any other process Wait fails with ECHILD.
func Adopt(pid int) (*Process, error) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("pidfd_open of child %d: %w", pid, err)
	}
	return newProcess(pid, fd)
}

func newProcess(pid, fd int) (*Process, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("make the pidfd of %d non-blocking: %w", pid, err)
	}
	return &Process{Pid: pid, PidFD: os.NewFile(uintptr(fd), fmt.Sprintf("pidfd of %d", pid))}, nil
}

// Wait waits for the process's end, reaps it, and returns how it ended. Later calls
// return the same.
func (p *Process) Wait() (Status, error) { return p.WaitUntil(time.Time{}) }

// WaitUntil is [Process.Wait] with a deadline (zero means none), after which the error is
// os.ErrDeadlineExceeded. All waiters share one deadline.
func (p *Process) WaitUntil(deadline time.Time) (Status, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.done {
		return p.status, nil
	}
	if err := p.PidFD.SetReadDeadline(deadline); err != nil {
		return Status{}, fmt.Errorf("wait for process %d: %w", p.Pid, err)
	}
	conn, err := p.PidFD.SyscallConn()
	if err != nil {
		return Status{}, fmt.Errorf("wait for process %d: %w", p.Pid, err)
	}
	var info sigchld
	var failed error
	err = conn.Read(func(fd uintptr) bool {
		failed = waitid(int(fd), &info)
		return failed != nil || info.pid != 0
	})
	if err == nil {
		err = failed
	}
	if err != nil {
		return Status{}, fmt.Errorf("wait for process %d: %w", p.Pid, err)
	}
	p.done = true
	p.status = Status{At: time.Now()}
	switch info.code {
	case 1: // CLD_EXITED
		p.status.Code = int(info.status)
	default: // CLD_KILLED, CLD_DUMPED
		p.status.Signal = syscall.Signal(info.status)
		p.status.Core = info.code == 3
	}
	return p.status, nil
}

// sigchld is siginfo_t as waitid fills it.
type sigchld struct {
	signo, errno, code, _ int32
	pid                   int32
	uid                   uint32
	status                int32
	_                     [100]byte
}

// waitid reaps without blocking; info.pid stays 0 if the process lives.
func waitid(fd int, info *sigchld) error {
	for {
		err := unix.Waitid(unix.P_PIDFD, fd, (*unix.Siginfo)(unsafe.Pointer(info)), unix.WEXITED|unix.WNOHANG, nil)
		if err != unix.EINTR {
			return os.NewSyscallError("waitid", err)
		}
	}
}

// Signal sends a signal. If the process has ended, the error is os.ErrProcessDone.
func (p *Process) Signal(sig syscall.Signal) error {
	conn, err := p.PidFD.SyscallConn()
	if err == nil {
		var failed error
		err = conn.Control(func(fd uintptr) { failed = unix.PidfdSendSignal(int(fd), sig, nil, 0) })
		if err == nil {
			err = failed
		}
	}
	if err == unix.ESRCH {
		return os.ErrProcessDone
	}
	if err != nil {
		return fmt.Errorf("send signal %d to process %d: %w", sig, p.Pid, err)
	}
	return nil
}

// Close closes the pidfd. The process continues, and is not reaped.
func (p *Process) Close() error { return p.PidFD.Close() }
