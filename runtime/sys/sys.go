// Package sys wraps the system calls that change the kernel's state and that Go's
// standard library does not make: mounts, namespaces, credentials of a thread.
//
// Every call is repeated on EINTR, takes open files instead of numbers, and returns an
// [Error] that names the call and its arguments. Files that it returns are
// close-on-exec.
//
// What does not belong here: decisions. A function makes one call, or the few that
// only make sense together. Calls that a child makes are package program's, processes
// too; probing is package feature's.
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
	// Call and Args are as strace shows them, for example "mount_setattr" and
	// `"/dev", MOUNT_ATTR_RDONLY`.
	Call, Args string
	// Detail is the kernel's own message, where it gives one (file system contexts).
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

// Errno is what the failed call of an [Error] has answered, without the call: for messages
// that name in their own words what was attempted. Another error it returns as it is.
func Errno(err error) error {
	if e := (*Error)(nil); errors.As(err, &e) {
		return e.Err
	}
	return err
}

// call makes a system call until it is not interrupted, and names its failure.
func call(f func() error, name, format string, args ...any) error {
	err := retry(f)
	if err == nil {
		return nil
	}
	return &Error{Call: name, Args: fmt.Sprintf(format, args...), Err: err}
}

// open is call for calls that return a file, which is named name.
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

// control lends f's number, or AT_FDCWD for nil, without f.Fd's side effect (blocking mode).
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

// name is how errors show a file.
func name(f *os.File) string {
	if f == nil {
		return "AT_FDCWD"
	}
	return f.Name()
}

// flags writes a bit set with names, and what has none in hex.
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

// Unsupported tells whether an error means that the kernel lacks a call or one of its
// flags, as opposed to refusing it: ENOSYS, EOPNOTSUPP or EINVAL.
func Unsupported(err error) bool {
	return errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL)
}
