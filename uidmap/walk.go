// SPDX-License-Identifier: Apache-2.0

package uidmap

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// walk calls f with an O_PATH handle of root and of each object below it in the same
// mount, and with its path below root. The path is "" if it is longer than a path can
// be: building it would take quadratic time, and it would not lead to the object.
//
// A container made the tree: it may be deeper than the number of file descriptors. So
// only one directory is open at a time; walk finds its parent again by ".." and compares
// it.
func walk(root *os.File, f func(h int, st *unix.Stat_t, path func() string) error) error {
	type frame struct {
		dev, ino uint64
		name     string
		length   int      // of its path with a trailing slash
		below    []string // directories to visit
	}
	var stack []frame
	where := func(name string) func() string {
		return func() string {
			var p strings.Builder
			if stack[len(stack)-1].length+len(name) >= unix.PathMax {
				return ""
			}
			for _, fr := range stack[1:] {
				p.WriteString(fr.name + "/")
			}
			return p.String() + name
		}
	}
	// enter visits the content of a directory, but not of its subdirectories.
	enter := func(dir *os.File, name string) error {
		var st unix.Stat_t
		if err := unix.Fstat(int(dir.Fd()), &st); err != nil {
			return err
		}
		length := 0
		if len(stack) > 0 {
			length = stack[len(stack)-1].length + len(name) + 1
		}
		stack = append(stack, frame{dev: uint64(st.Dev), ino: st.Ino, name: name, length: length})
		top := &stack[len(stack)-1]
		for {
			names, err := dir.Readdirnames(512)
			for _, n := range names {
				h, err := openBelow(int(dir.Fd()), n, unix.O_PATH)
				if errors.Is(err, unix.EXDEV) || errors.Is(err, unix.ENOENT) {
					continue // a mount, or removed meanwhile
				}
				if err != nil {
					return fmt.Errorf("open %s: %w", where(n)(), err)
				}
				var st unix.Stat_t
				if err = unix.Fstat(h, &st); err == nil {
					err = f(h, &st, where(n))
				}
				unix.Close(h)
				if err != nil {
					return fmt.Errorf("%s: %w", where(n)(), err)
				}
				if st.Mode&unix.S_IFMT == unix.S_IFDIR {
					top.below = append(top.below, n)
				}
			}
			if err == io.EOF {
				return nil
			}
			if err != nil {
				return err
			}
		}
	}

	h, err := openBelow(int(root.Fd()), ".", unix.O_PATH)
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err = unix.Fstat(h, &st); err == nil {
		err = f(h, &st, func() string { return "." })
	}
	unix.Close(h)
	if err != nil {
		return err
	}
	fd, err := openBelow(int(root.Fd()), ".", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	dir := os.NewFile(uintptr(fd), root.Name())
	defer func() { dir.Close() }()
	if err := enter(dir, ""); err != nil {
		return err
	}
	for {
		top := &stack[len(stack)-1]
		next := ".."
		if n := len(top.below); n > 0 {
			next, top.below = top.below[n-1], top.below[:n-1]
		} else if len(stack) == 1 {
			return nil
		}
		fd, err := openBelow(int(dir.Fd()), next, unix.O_RDONLY|unix.O_DIRECTORY)
		if err != nil {
			return fmt.Errorf("open %s: %w", where(next)(), err)
		}
		dir.Close()
		dir = os.NewFile(uintptr(fd), next)
		if next != ".." {
			if err := enter(dir, next); err != nil {
				return err
			}
			continue
		}
		stack = stack[:len(stack)-1]
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			return err
		}
		if want := stack[len(stack)-1]; uint64(st.Dev) != want.dev || st.Ino != want.ino {
			return fmt.Errorf("%s was moved while its owners were being changed; make sure that nothing uses the tree and try again", where("")())
		}
	}
}

// openBelow opens an object in a directory; EXDEV if it is in another mount.
func openBelow(dir int, name string, flags uint64) (int, error) {
	for {
		fd, err := unix.Openat2(dir, name, &unix.OpenHow{
			Flags:   flags | unix.O_NOFOLLOW | unix.O_CLOEXEC,
			Resolve: unix.RESOLVE_NO_XDEV | unix.RESOLVE_NO_MAGICLINKS,
		})
		if err != unix.EINTR && err != unix.EAGAIN {
			return fd, err
		}
	}
}
