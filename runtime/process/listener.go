// SPDX-License-Identifier: Apache-2.0

package process

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"sysbox/runtime/program"
	"sysbox/runtime/seccomp"
)

// HasListener reports whether a profile's filter has a listener, which goes to an agent.
func HasListener(f *seccomp.Filter) bool {
	return f != nil && f.Flags&unix.SECCOMP_FILTER_FLAG_NEW_LISTENER != 0
}

// ListenerSocket passes a socket to a program, over which the program sends the listener of one
// of its filters, and returns the other end. It returns nil if neither filter has a listener.
func (s *Files) ListenerSocket(filter, trap *seccomp.Filter) (*os.File, error) {
	if trap == nil && !HasListener(filter) {
		return nil, nil
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make the socket for a seccomp listener: %w", err)
	}
	s.Own(os.NewFile(uintptr(pair[1]), "listener's socket"), FDTrap)
	return os.NewFile(uintptr(pair[0]), "listener's socket"), nil
}

// AwaitListener waits up to deadline until a process has sent a seccomp listener. It returns nil
// if the process ends without one.
func AwaitListener(socket *os.File, p *Process, deadline time.Duration) (*os.File, error) {
	for end := time.Now().Add(deadline); time.Now().Before(end); {
		poll := []unix.PollFd{{Fd: int32(socket.Fd()), Events: unix.POLLIN}}
		if _, err := unix.Poll(poll, 100); err != nil && err != unix.EINTR {
			return nil, err
		}
		if poll[0].Revents != 0 {
			fd, err := program.ReceiveFile(socket)
			if fd < 0 {
				return nil, err // the process has failed; its error is reported elsewhere
			}
			return os.NewFile(uintptr(fd), "seccomp listener"), err
		}
		select {
		case <-p.done:
			return nil, nil
		default:
		}
	}
	return nil, fmt.Errorf("linux.seccomp: the process has not sent its listener within %v", deadline)
}
