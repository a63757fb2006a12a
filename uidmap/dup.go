package uidmap

import (
	"os"

	"golang.org/x/sys/unix"
)

// dup returns another file for the same open file description: a lock stays
// until all of them are closed.
func dup(f *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}
