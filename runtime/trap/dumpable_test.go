// SPDX-License-Identifier: Apache-2.0

package trap_test

import (
	"errors"
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	"sysbox/runtime/sys"
	"sysbox/tests/testcontainer"
)

// TestTrapNotDumpable: a caller's files are found by their numbers where the kernel guards
// the caller's folder in /proc from the caller's own ids: it has changed its ids for files, as
// a runtime does that fills a /dev before it attaches it.
func TestTrapNotDumpable(t *testing.T) {
	t.Parallel()
	out, status := trapNotDumpableInside.Run(t, nil)
	if status != 0 {
		t.Error(out)
	}
}

var trapNotDumpableInside = testcontainer.Inside("trap not dumpable", func() error {
	return sys.AsFSID(5, 5, func() error {
		var errs []error
		check := func(what string, got, want error) {
			if !errors.Is(got, want) {
				errs = append(errs, fmt.Errorf("%s: %v, want %v", what, got, want))
			}
		}
		if err := unix.Mkdir("/root/on", 0o755); err != nil {
			return err
		}
		root, err := unix.Open("/root", unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			return err
		}
		fs, err := sys.Fsopen("tmpfs")
		if err != nil {
			return err
		}
		if err := fs.Create(); err != nil {
			return err
		}
		detached, err := fs.Mount(0)
		if err != nil {
			return err
		}
		// Before Linux 6.15 nothing is mounted in a detached mount, and so no node opens there:
		// the trap's answer is that, or done.
		if err := unix.Mknodat(int(detached.Fd()), "n", charDev, nullDev); err != nil && err != unix.EINVAL {
			check("mknodat in a detached mount", err, nil)
		}
		check("mknodat of what the kernel decides, there", unix.Mknodat(int(detached.Fd()), "d", unix.S_IFBLK|0o600, 8<<8), unix.EPERM)
		check("mknodat", unix.Mknodat(root, "n", charDev, nullDev), nil)
		check("mknod of a link", unix.Mknod(fmt.Sprintf("/proc/self/fd/%d/l", root), charDev, nullDev), nil)
		dev, err := unix.Open("/dev", unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			return err
		}
		tree, err := unix.OpenTree(dev, "", unix.OPEN_TREE_CLONE|unix.AT_EMPTY_PATH)
		check("open_tree", err, nil)
		check("move_mount", unix.MoveMount(tree, "", root, "on", unix.MOVE_MOUNT_F_EMPTY_PATH), nil)
		check("mount of a bind", unix.Mount("/dev", fmt.Sprintf("/proc/self/fd/%d/on", root), "", unix.MS_BIND, ""), nil)

		check("mknodat of no file", unix.Mknodat(999, "n", charDev, nullDev), unix.EBADF)
		_, err = unix.OpenTree(999, "", unix.OPEN_TREE_CLONE|unix.AT_EMPTY_PATH)
		check("open_tree of no file", err, unix.EBADF)
		if tree, err = unix.OpenTree(dev, "", unix.OPEN_TREE_CLONE|unix.AT_EMPTY_PATH); err != nil {
			return err
		}
		check("move_mount to no file", unix.MoveMount(tree, "", 999, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH), unix.EBADF)
		return errors.Join(errs...)
	})
})
