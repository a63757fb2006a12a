// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"os"

	"golang.org/x/sys/unix"
)

// removeTree removes a cgroup and all cgroups below, which the container may have
// made, deepest first. EBUSY if one holds a process.
func removeTree(dir string) error {
	err := rmdir(dir)
	if err == nil || gone(err) {
		return err
	}
	// EBUSY and ENOTEMPTY do not distinguish a process from a sub-cgroup.
	some := false
	werr := walk(dir, func(int) error { return nil }, func(parent int, name string) error {
		some = true
		err := retry(func() error { return unix.Unlinkat(parent, name, unix.AT_REMOVEDIR) })
		if err != nil && !gone(err) {
			return &os.PathError{Op: "rmdir", Path: name, Err: err}
		}
		return nil
	})
	if werr != nil {
		return werr
	}
	if !some {
		return err
	}
	return rmdir(dir)
}

func rmdir(dir string) error {
	err := retry(func() error { return unix.Rmdir(dir) })
	if err != nil {
		return &os.PathError{Op: "rmdir", Path: dir, Err: err}
	}
	return nil
}

// walk visits a cgroup and all cgroups below. It calls down with each, open, before those
// below it; and up with the parent of each but the first, and its name, after them. It
// skips cgroups that are removed meanwhile.
//
// It keeps one directory open at a time: the container chooses the names of its
// sub-cgroups, and sixteen long names are more than a path can hold (PATH_MAX).
func walk(dir string, down func(fd int) error, up func(parent int, name string) error) error {
	at, err := openat(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW)
	if err != nil {
		return err
	}
	defer func() { unix.Close(at) }()
	var way []string    // the names from dir to at
	var left [][]string // for dir and each directory in way, its subdirectories to visit
	enter := func() error {
		if err := down(at); err != nil {
			return err
		}
		subs, err := subdirs(at)
		if err != nil && !gone(err) {
			return err
		}
		left = append(left, subs)
		return nil
	}
	if err := enter(); err != nil {
		return err
	}
	for {
		depth := len(way)
		if len(left[depth]) > 0 {
			name := left[depth][0]
			left[depth] = left[depth][1:]
			sub, err := openBelow(at, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW)
			if gone(err) {
				continue
			}
			if err != nil {
				return err
			}
			unix.Close(at)
			at, way = sub, append(way, name)
			if err := enter(); err != nil {
				return err
			}
			continue
		}
		if depth == 0 {
			return nil
		}
		// A cgroup cannot be moved to another parent.
		parent, err := openBelow(at, "..", unix.O_RDONLY|unix.O_DIRECTORY)
		if err != nil {
			return err
		}
		unix.Close(at)
		name := way[depth-1]
		at, way, left = parent, way[:depth-1], left[:depth]
		if err := up(at, name); err != nil {
			return err
		}
	}
}

// subdirs lists the names of the cgroups directly below an open cgroup.
func subdirs(fd int) ([]string, error) {
	var st unix.Stat_t
	if err := retry(func() error { return unix.Fstat(fd, &st) }); err != nil {
		return nil, err
	}
	if st.Nlink == 2 { // kernfs counts subdirectories as links
		return nil, nil
	}
	own, err := openBelow(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(own), "cgroup")
	defer f.Close()
	entries, err := f.ReadDir(-1)
	if err != nil {
		return nil, err
	}
	var subs []string
	for _, e := range entries {
		if e.IsDir() {
			subs = append(subs, e.Name())
		}
	}
	return subs, nil
}
