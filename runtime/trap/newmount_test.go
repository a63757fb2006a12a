// SPDX-License-Identifier: Apache-2.0

package trap_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"unsafe"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"sysbox/runtime/host"
	"sysbox/tests/testcontainer"
)

// TestTrapNewMount: fsopen, open_tree and what is done with their files, by programs that do
// not fall back to mount(2).
func TestTrapNewMount(t *testing.T) {
	out, status := newMountAPIInside.Run(t, func(s *specs.Spec) {
		s.Mounts = append(s.Mounts, specs.Mount{Destination: "/t", Type: "tmpfs", Source: "tmpfs"})
	})
	if status != 0 {
		t.Error(out)
	}
}

// TestTrapMountFlags: programs of old mark the flags of mount(2); the mark's bits look
// like those of a change of propagation.
func TestTrapMountFlags(t *testing.T) {
	out, status := mountFlagsInside.Run(t, func(s *specs.Spec) {
		s.Mounts = append(s.Mounts, specs.Mount{Destination: "/t", Type: "tmpfs", Source: "tmpfs"})
	})
	if status != 0 {
		t.Error(out)
	}
}

const layers = "lowerdir=/t/l,upperdir=/t/u,workdir=/t/w"

// makeLayers makes those, of which the lower one has a folder sub.
func makeLayers() error {
	return errors.Join(os.MkdirAll("/t/l/sub", 0o755), os.Mkdir("/t/u", 0o755), os.Mkdir("/t/w", 0o755), os.Mkdir("/t/m", 0o755), os.Mkdir("/t/n", 0o755))
}

// whole checks that /t/m is an overlay of those that works, and unmounts it.
func whole() error {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return err
	}
	if !strings.Contains(string(mounts), "/t/m overlay") || !strings.Contains(string(mounts), "userxattr") {
		return fmt.Errorf("no overlay with userxattr: %s", mounts)
	}
	// A merged folder that is removed and made anew is marked by an attribute.
	if err := errors.Join(os.Remove("/t/m/sub"), os.Mkdir("/t/m/sub", 0o755)); err != nil {
		// Before Linux 6.6 no tmpfs has any.
		if unix.Setxattr("/t/u", "user.sysbox", nil, 0) != unix.EOPNOTSUPP {
			return err
		}
	}
	return unix.Unmount("/t/m", 0)
}

var mountFlagsInside = testcontainer.Inside("mount flags", func() error {
	if err := makeLayers(); err != nil {
		return err
	}
	for _, flags := range []uintptr{unix.MS_MGC_VAL, unix.MS_MGC_VAL | unix.MS_NOATIME | unix.MS_NOSUID, 0xc0ed<<16 | unix.MS_SILENT} {
		if err := unix.Mount("o", "/t/m", "overlay", flags, layers); err != nil {
			return fmt.Errorf("flags %#x: %w", flags, err)
		}
		if err := whole(); err != nil {
			return fmt.Errorf("flags %#x: %w", flags, err)
		}
	}
	if err := unix.Mount("/", "/t/m", "", unix.MS_MGC_VAL|unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("a plain bind: %w", err)
	}
	return unix.Unmount("/t/m", 0)
})

var newMountAPIInside = testcontainer.Inside("new mount API", func() error {
	if err := makeLayers(); err != nil {
		return err
	}
	return errors.Join(newOverlay(), treesOf("/", "bin"), treesOf("/dev", "null"), treesOf("/proc", "uptime"), treesOf("/sys", "kernel"), treeAttributes(), manyTrees())
})

func newOverlay() error {
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return fmt.Errorf("fsopen: %w", err)
	}
	defer unix.Close(fs)
	flags, err := unix.FcntlInt(uintptr(fs), unix.F_GETFD, 0)
	if err != nil || flags != unix.FD_CLOEXEC {
		return fmt.Errorf("the context's flags are %d, %w", flags, err)
	}
	for _, o := range strings.Split("source=o,"+layers, ",") {
		key, value, _ := strings.Cut(o, "=")
		if err := unix.FsconfigSetString(fs, key, value); err != nil {
			return fmt.Errorf("fsconfig %s: %w", key, err)
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return fmt.Errorf("fsconfig: %w", err)
	}
	mount, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOSUID)
	if err != nil {
		return fmt.Errorf("fsmount: %w", err)
	}
	err = unix.MoveMount(mount, "", unix.AT_FDCWD, "/t/m", unix.MOVE_MOUNT_F_EMPTY_PATH)
	unix.Close(mount)
	if err != nil {
		return fmt.Errorf("move_mount: %w", err)
	}
	if err := whole(); err != nil {
		return err
	}
	// Without the flag, and with an error that the kernel explains.
	if fs, err = unix.Fsopen("overlay", 0); err != nil {
		return err
	}
	defer unix.Close(fs)
	if flags, err := unix.FcntlInt(uintptr(fs), unix.F_GETFD, 0); err != nil || flags != 0 {
		return fmt.Errorf("the context's flags are %d, %w", flags, err)
	}
	err = unix.FsconfigSetString(fs, "nosuch", "x")
	if u := (unix.Utsname{}); err == nil && unix.Uname(&u) == nil && !host.KernelAtLeast(unix.ByteSliceToString(u.Release[:]), 6, 5) {
		return nil // these look at an overlay's options when they make it
	}
	if err != unix.EINVAL {
		return fmt.Errorf("an option that there is not: %w", err)
	}
	text := make([]byte, 200)
	if n, err := unix.Read(fs, text); err != nil || !strings.Contains(string(text[:n]), "nosuch") {
		return fmt.Errorf("the context's log says %q, %w", text[:max(n, 0)], err)
	}
	if _, err := unix.Fsopen("overlay", 8); err != unix.EINVAL {
		return fmt.Errorf("fsopen with a flag that there is not: %w", err)
	}
	return nil
}

// treesOf copies the mount at a folder, which has locked mounts below it, and attaches the
// copy, in each way that there is.
func treesOf(dir, has string) error {
	at, err := unix.Open(dir, unix.O_PATH, 0)
	if err != nil {
		return err
	}
	defer unix.Close(at)
	target, err := unix.Open("/t", unix.O_PATH, 0)
	if err != nil {
		return err
	}
	defer unix.Close(target)
	for _, way := range []struct {
		name string
		open func() (int, error)
		move func(int) error
	}{
		{"by path", func() (int, error) {
			return unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
		}, func(fd int) error {
			return unix.MoveMount(fd, "", unix.AT_FDCWD, "/t/m", unix.MOVE_MOUNT_F_EMPTY_PATH)
		}},
		{"by file", func() (int, error) { return unix.OpenTree(at, "", unix.OPEN_TREE_CLONE|unix.AT_EMPTY_PATH) }, func(fd int) error {
			return unix.MoveMount(fd, "", target, "m", unix.MOVE_MOUNT_F_EMPTY_PATH)
		}},
		{"relative", func() (int, error) {
			return unix.OpenTree(at, ".", unix.OPEN_TREE_CLONE|unix.AT_SYMLINK_NOFOLLOW)
		}, func(fd int) error {
			to, err := unix.Open("/t/m", unix.O_PATH, 0)
			if err != nil {
				return err
			}
			defer unix.Close(to)
			return unix.MoveMount(fd, "", to, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
		}},
	} {
		fail := func(what string, err error) error { return fmt.Errorf("%s %s: %s: %w", dir, way.name, what, err) }
		fd, err := way.open()
		if err != nil {
			return fail("open_tree", err)
		}
		if _, err := os.Stat(fmt.Sprintf("/proc/self/fd/%d/%s", fd, has)); err != nil {
			return fail("what is in the copy", err)
		}
		if err := unix.MoveMount(fd, "", unix.AT_FDCWD, "/t/nowhere", unix.MOVE_MOUNT_F_EMPTY_PATH); err != unix.ENOENT {
			return fail("move_mount to nowhere", err)
		}
		if err := way.move(fd); err != nil {
			return fail("move_mount", err)
		}
		unix.Close(fd)
		if _, err := os.Stat("/t/m/" + has); err != nil {
			return fail("what is in the mount", err)
		}
		// Nothing of ours keeps it busy.
		if err := unix.Unmount("/t/m", 0); err != nil {
			return fail("umount", err)
		}
	}
	return nil
}

func treeAttributes() error {
	readOnly := func(path string) error {
		var st unix.Statfs_t
		if err := unix.Statfs(path, &st); err != nil || st.Flags&unix.ST_RDONLY == 0 {
			return fmt.Errorf("%s has flags %#x, %w", path, st.Flags, err)
		}
		return nil
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, "/", unix.OPEN_TREE_CLONE)
	if err != nil {
		return err
	}
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		return fmt.Errorf("mount_setattr: %w", err)
	}
	if err := errors.Join(unix.MoveMount(fd, "", unix.AT_FDCWD, "/t/m", unix.MOVE_MOUNT_F_EMPTY_PATH), readOnly("/t/m")); err != nil {
		return err
	}
	// A mount that is attached is moved by the kernel.
	if err := unix.MoveMount(fd, "", unix.AT_FDCWD, "/t/n", unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("move_mount once more: %w", err)
	}
	unix.Close(fd)
	if err := errors.Join(readOnly("/t/n"), unix.Unmount("/t/n", 0)); err != nil {
		return err
	}

	name := []byte("/\x00")
	here := unix.AT_FDCWD
	open := func(attr *unix.MountAttr) (int, unix.Errno) {
		fd, _, e := unix.Syscall6(unix.SYS_OPEN_TREE_ATTR, uintptr(here), address(name), unix.OPEN_TREE_CLONE, uintptr(unsafe.Pointer(attr)), unsafe.Sizeof(*attr), 0)
		return int(fd), e
	}
	fd, e := open(&attr)
	if e == unix.ENOSYS {
		fmt.Println("this kernel has no open_tree_attr")
	} else if e != 0 {
		return fmt.Errorf("open_tree_attr: %w", e)
	} else {
		err := errors.Join(unix.MoveMount(fd, "", unix.AT_FDCWD, "/t/m", unix.MOVE_MOUNT_F_EMPTY_PATH), readOnly("/t/m"), unix.Unmount("/t/m", unix.MNT_DETACH))
		unix.Close(fd)
		if err != nil {
			return err
		}
	}
	if _, e := open(&unix.MountAttr{Attr_set: 1 << 40}); e != unix.EINVAL && e != unix.ENOSYS {
		return fmt.Errorf("open_tree_attr with an attribute that there is not: %w", e)
	}
	// The root's file system is the host's: its ids are not to be mapped from inside.
	ns, err := unix.Open("/proc/self/ns/user", unix.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer unix.Close(ns)
	if _, e := open(&unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(ns)}); e == 0 {
		return errors.New("open_tree_attr has mapped the ids of the root")
	}
	return nil
}

// manyTrees: what is not moved does not pile up, and costs nobody a file that has none left.
func manyTrees() error {
	var fds []int
	for range 40 {
		fd, err := unix.OpenTree(unix.AT_FDCWD, "/dev", unix.OPEN_TREE_CLONE)
		if err != nil {
			return err
		}
		fds = append(fds, fd)
	}
	last := fds[len(fds)-1]
	if err := unix.MoveMount(fds[0], "", unix.AT_FDCWD, "/t/m", unix.MOVE_MOUNT_F_EMPTY_PATH); err != unix.EINVAL {
		return fmt.Errorf("move_mount of one that is too old: %w", err)
	}
	if err := errors.Join(unix.MoveMount(last, "", unix.AT_FDCWD, "/t/m", unix.MOVE_MOUNT_F_EMPTY_PATH), unix.Unmount("/t/m", unix.MNT_DETACH)); err != nil {
		return err
	}
	var limit unix.Rlimit
	if err := unix.Prlimit(0, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(last + 1), Max: 1000}, &limit); err != nil {
		return err
	}
	if _, err := unix.OpenTree(unix.AT_FDCWD, "/dev", unix.OPEN_TREE_CLONE); err != unix.EMFILE {
		return fmt.Errorf("open_tree without a number left: %w", err)
	}
	return nil
}
