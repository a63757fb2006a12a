// SPDX-License-Identifier: Apache-2.0

package sys

import (
	"os"

	"golang.org/x/sys/unix"
)

// Openat2 opens path below dir (nil: the working directory). how.Flags gets O_CLOEXEC. It
// retries a few times on EAGAIN, the answer if a rename races with RESOLVE_IN_ROOT or
// RESOLVE_BENEATH.
func Openat2(dir *os.File, path string, how unix.OpenHow) (*os.File, error) {
	how.Flags |= unix.O_CLOEXEC
	var out *os.File
	err := control(dir, func(fd int) (err error) {
		out, err = open(func() (n int, err error) {
			for range 128 {
				if n, err = unix.Openat2(fd, path, &how); err != unix.EAGAIN {
					break
				}
			}
			return n, err
		}, path, "openat2", "%s, %q, {flags %#x, mode %#o, resolve %#x}", name(dir), path, how.Flags, how.Mode, how.Resolve)
		return err
	})
	return out, err
}

// PidfdOpen returns a pidfd. The caller makes sure that the pid still belongs to the process
// it means: its own unreaped child, or a check after opening.
func PidfdOpen(pid int) (*os.File, error) {
	return open(func() (int, error) { return unix.PidfdOpen(pid, 0) }, "pidfd", "pidfd_open", "%d", pid)
}

// PidfdGetfd returns a copy of descriptor fd of another process.
func PidfdGetfd(pidfd *os.File, fd int) (*os.File, error) {
	var out *os.File
	err := control(pidfd, func(p int) (err error) {
		out, err = open(func() (int, error) { return unix.PidfdGetfd(p, fd, 0) }, "copied file", "pidfd_getfd", "%s, %d", name(pidfd), fd)
		return err
	})
	return out, err
}

// PidfdSendSignal sends a signal; ESRCH if the process has exited.
func PidfdSendSignal(pidfd *os.File, sig unix.Signal) error {
	return control(pidfd, func(p int) error {
		return call(func() error { return unix.PidfdSendSignal(p, sig, nil, 0) }, "pidfd_send_signal", "%s, %s", name(pidfd), unix.SignalName(sig))
	})
}

// Pipe returns a pipe whose ends are blocking: for a child that reads or
// writes it without a poller.
func Pipe() (r, w *os.File, err error) {
	var fds [2]int
	if err := call(func() error { return unix.Pipe2(fds[:], unix.O_CLOEXEC) }, "pipe2", "O_CLOEXEC"); err != nil {
		return nil, nil, err
	}
	return os.NewFile(uintptr(fds[0]), "read end of a pipe"), os.NewFile(uintptr(fds[1]), "write end of a pipe"), nil
}

// Pollable duplicates a file as a non-blocking one in the poller of the Go runtime,
// and closes f.
func Pollable(f *os.File, name string) (*os.File, error) {
	defer f.Close()
	var out *os.File
	err := control(f, func(fd int) (err error) {
		out, err = open(func() (int, error) {
			n, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
			if err == nil {
				err = unix.SetNonblock(n, true)
			}
			return n, err
		}, name, "fcntl", "%s, F_DUPFD_CLOEXEC", f.Name())
		return err
	})
	return out, err
}

// Exists reports whether path leads to an object, following links.
func Exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
