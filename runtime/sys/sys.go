// SPDX-License-Identifier: Apache-2.0

// Package sys wraps the system calls that change the state of the kernel and that Go's
// standard library does not make: mounts, namespaces, credentials of a thread.
//
// Every call is repeated on EINTR, takes open files instead of numbers, and returns an
// [Error] that names the call and its arguments. Files that it returns are
// close-on-exec.
//
// What does not belong here: decisions. A function makes one call, or the few that only
// make sense together. Package program makes the calls of a child and starts processes;
// package feature probes the kernel.
package sys

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Error is a failed system call. It unwraps to its errno.
type Error struct {
	// Call and Args are in the form of strace, for example "mount_setattr" and
	// `"/dev", MOUNT_ATTR_RDONLY`.
	Call, Args string
	// Detail is the message of the kernel, if it gives one (file system contexts).
	Detail string
	Err    error
}

func (e *Error) Error() string {
	s := e.Call + "(" + e.Args + "): " + e.Err.Error()
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	return s
}

// Unwrap returns the errno.
func (e *Error) Unwrap() error { return e.Err }

// Errno returns the errno of an [Error] without the call, for messages that say themselves
// what was attempted. It returns other errors unchanged.
func Errno(err error) error {
	if e := (*Error)(nil); errors.As(err, &e) {
		return e.Err
	}
	return err
}

// call repeats a system call until it is not interrupted, and adds its name to an error.
func call(f func() error, name, format string, args ...any) error {
	err := retry(f)
	if err == nil {
		return nil
	}
	return &Error{Call: name, Args: fmt.Sprintf(format, args...), Err: err}
}

// open is call for calls that return a file; it gives the file a name.
func open(f func() (int, error), name, call, format string, args ...any) (*os.File, error) {
	var fd int
	err := retry(func() (err error) {
		fd, err = f()
		return err
	})
	if err != nil {
		return nil, &Error{Call: call, Args: fmt.Sprintf(format, args...), Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

func retry(f func() error) error {
	for {
		if err := f(); err != unix.EINTR {
			return err
		}
	}
}

// control lends the number of f, or AT_FDCWD for nil, without the side effect of f.Fd (blocking mode).
func control(f *os.File, use func(fd int) error) error {
	if f == nil {
		return use(unix.AT_FDCWD)
	}
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := conn.Control(func(fd uintptr) { failed = use(int(fd)) }); err != nil {
		return err
	}
	return failed
}

// name is the form of a file in errors.
func name(f *os.File) string {
	if f == nil {
		return "AT_FDCWD"
	}
	return f.Name()
}

// flags names the bits of a set; bits without a name are in hex.
func flags[T ~int | ~uint64 | ~uint32](v T, names ...flagName) string {
	var out []string
	rest := uint64(v)
	for _, n := range names {
		if n.bit != 0 && rest&n.bit == n.bit {
			out = append(out, n.name)
			rest &^= n.bit
		}
	}
	if rest != 0 || len(out) == 0 {
		out = append(out, fmt.Sprintf("%#x", rest))
	}
	return strings.Join(out, "|")
}

type flagName struct {
	bit  uint64
	name string
}

// Unsupported reports whether an error means that the kernel lacks a call or one of its
// flags, rather than denying it: ENOSYS, EOPNOTSUPP or EINVAL.
func Unsupported(err error) bool {
	return errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL)
}
