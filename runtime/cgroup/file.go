// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"bytes"
	"errors"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// The files of cgroupfs can be polled, so os.OpenFile would add each to the epoll set
// of the Go runtime and make it non-blocking: two system calls more than the write
// itself. These helpers use plain system calls.

func retry(f func() error) error {
	for {
		if err := f(); err != unix.EINTR {
			return err
		}
	}
}

func openat(name string, flags int) (fd int, err error) { return openBelow(unix.AT_FDCWD, name, flags) }

func openBelow(dir int, name string, flags int) (fd int, err error) {
	err = retry(func() error {
		fd, err = unix.Openat(dir, name, flags|unix.O_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return fd, nil
}

// writeFile writes value in one system call, as cgroupfs requires.
func writeFile(name, value string) error {
	fd, err := openat(name, unix.O_WRONLY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return writeFd(fd, name, value)
}

func writeFd(fd int, name, value string) error {
	err := retry(func() error {
		_, err := unix.Write(fd, []byte(value))
		return err
	})
	if err != nil {
		return &os.PathError{Op: "write " + strconv.Quote(value) + " to", Path: name, Err: err}
	}
	return nil
}

func readFile(name string) (string, error) { return readBelow(unix.AT_FDCWD, name) }

func readBelow(dir int, name string) (string, error) {
	fd, err := openBelow(dir, name, unix.O_RDONLY)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	var b bytes.Buffer
	var buf [4096]byte
	for {
		var n int
		err := retry(func() (err error) { n, err = unix.Read(fd, buf[:]); return err })
		if err != nil {
			return "", &os.PathError{Op: "read", Path: name, Err: err}
		}
		if n == 0 {
			return strings.TrimSuffix(b.String(), "\n"), nil
		}
		b.Write(buf[:n])
	}
}

// keyValue reads one number of a file of "key value" lines, 0 if absent.
func keyValue(name, key string) (uint64, error) {
	s, err := readFile(name)
	if err != nil {
		return 0, err
	}
	for line := range strings.SplitSeq(s, "\n") {
		if k, v, ok := strings.Cut(line, " "); ok && k == key {
			return strconv.ParseUint(v, 10, 64)
		}
	}
	return 0, nil
}

// gone reports whether an error means that the cgroup was removed: ENOENT from open,
// ENODEV from a file that was open before.
func gone(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV)
}
