// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// createdHere marks a directory above that of a container as made by this package.
const createdHere = unix.S_ISVTX

func mkdir(dir string, mode uint32) error {
	err := retry(func() error { return unix.Mkdir(dir, mode) })
	if err != nil {
		return &os.PathError{Op: "mkdir", Path: dir, Err: err}
	}
	return nil
}

// makeLeaf makes mount+p and its missing parents. made is true if there is something to
// undo.
func makeLeaf(mount, p string, cpuset bool) (made bool, err error) {
	dir := mount + p
	for try := 0; ; try++ {
		err := mkdir(dir, 0o755)
		switch {
		case err == nil:
			return true, copyCpusetIf(cpuset, mount, dir[len(mount):])
		case errors.Is(err, unix.ENOENT) && try < 100:
			// Retried, since the removal of a sibling may have removed the parents meanwhile.
			if err := makeParents(mount, path.Dir(p), cpuset); err != nil && !gone(err) {
				return false, err
			}
		case errors.Is(err, unix.EEXIST) && try < 3:
			// A directory of a dead shim is removed together with its limits.
			if pids, err := pidsBelow(dir); err == nil && len(pids) > 0 {
				return false, fmt.Errorf("cgroup %s is in use by %d processes, the first is %d; choose another linux.cgroupsPath or kill them",
					dir, len(pids), pids[0])
			}
			if err := removeTree(dir); err != nil && !gone(err) {
				return false, err
			}
		default:
			return false, err
		}
	}
}

func makeParents(mount, p string, cpuset bool) error {
	dir := mount
	for part := range strings.SplitSeq(strings.Trim(p, "/"), "/") {
		if part == "" {
			continue
		}
		dir += "/" + part
		switch err := mkdir(dir, 0o755|createdHere); {
		case err == nil:
			if err := copyCpusetIf(cpuset, mount, dir[len(mount):]); err != nil {
				return err
			}
		case !errors.Is(err, unix.EEXIST):
			return err
		}
	}
	return nil
}

// copyCpusetIf gives a new v1 cpuset the CPUs and memory nodes of its parent. They
// start empty, and a task cannot join an empty set (ENOSPC). Parents that others have
// made and left empty are filled as well: nothing could run there.
func copyCpusetIf(cpuset bool, mount, p string) error {
	if !cpuset {
		return nil
	}
	for _, f := range []string{"/cpuset.cpus", "/cpuset.mems"} {
		// EACCES: the parent has fewer. A sibling may have removed and made it again since it
		// was read.
		err := error(unix.EACCES)
		for try := 0; errors.Is(err, unix.EACCES) && try < 20; try++ {
			var v string
			if v, err = fillCpuset(mount, path.Dir(p), f); err == nil {
				err = writeFile(mount+p+f, v)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func fillCpuset(mount, p, file string) (string, error) {
	name := mount + p + file
	v, err := readFile(name)
	if err != nil || v != "" {
		return v, err
	}
	if p == "/" || p == "" {
		return "", fmt.Errorf("%s is empty; write the CPUs or memory nodes to it that containers may use", name)
	}
	if v, err = fillCpuset(mount, path.Dir(p), file); err != nil {
		return "", err
	}
	return v, writeFile(name, v)
}

// removeLeaf removes mount+p with everything below, and waits for processes that are
// exiting. Then it removes the empty parents that carry the mark createdHere.
func removeLeaf(ctx context.Context, mount, p string) error {
	dir := mount + p
	for wait := 50 * time.Microsecond; ; wait = min(2*wait, 20*time.Millisecond) {
		err := removeTree(dir)
		if err == nil || gone(err) {
			break
		}
		if !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.ENOTEMPTY) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("cgroup %s still has processes: %w: %w", dir, err, context.Cause(ctx))
		case <-time.After(wait):
		}
	}
	for p = path.Dir(p); p != "/"; p = path.Dir(p) {
		var st unix.Stat_t
		if err := retry(func() error { return unix.Lstat(mount+p, &st) }); err != nil {
			if err == unix.ENOENT {
				continue
			}
			return nil
		}
		// Nlink > 2: a sibling exists. This check is cheaper than a failed rmdir, which takes
		// the global cgroup lock of the kernel.
		if st.Mode&createdHere == 0 || st.Nlink > 2 || rmdir(mount+p) != nil {
			return nil
		}
	}
	return nil
}
