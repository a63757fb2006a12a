// SPDX-License-Identifier: Apache-2.0

package sys

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// OpenTree makes a detached copy of the mount at path below the directory at (nil: the
// working directory; path "": at itself), with all mounts below it if recursive.
func OpenTree(at *os.File, path string, recursive bool) (*os.File, error) {
	fl := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC)
	if recursive {
		fl |= unix.AT_RECURSIVE
	}
	if path == "" {
		fl |= unix.AT_EMPTY_PATH
	}
	var out *os.File
	err := control(at, func(fd int) (err error) {
		out, err = open(func() (int, error) { return unix.OpenTree(fd, path, fl) },
			"copy of "+described(at, path), "open_tree", "%s, %q, %s", name(at), path, treeFlags(recursive))
		return err
	})
	return out, err
}

// OpenTreeAttr is [OpenTree], but changes the attributes of the copy before anything can
// access it (Linux 6.15). It can give the copy of an idmapped mount another mapping, which
// replaces the old one.
func OpenTreeAttr(at *os.File, path string, recursive bool, attr Attr) (*os.File, error) {
	fl := unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC
	if recursive {
		fl |= unix.AT_RECURSIVE
	}
	if path == "" {
		fl |= unix.AT_EMPTY_PATH
	}
	p, err := unix.BytePtrFromString(path)
	if err != nil {
		return nil, fmt.Errorf("copy the mount at %q: %w", path, err)
	}
	var out *os.File
	err = control(at, func(fd int) error {
		return attr.with(func(raw *unix.MountAttr) (err error) {
			out, err = open(func() (int, error) {
				r, _, e := unix.Syscall6(unix.SYS_OPEN_TREE_ATTR, uintptr(fd), uintptr(unsafe.Pointer(p)), uintptr(fl),
					uintptr(unsafe.Pointer(raw)), unsafe.Sizeof(*raw), 0)
				if e != 0 {
					return -1, e
				}
				return int(r), nil
			}, "copy of "+described(at, path), "open_tree_attr", "%s, %q, %s, %s", name(at), path, treeFlags(recursive), attr)
			return err
		})
	})
	return out, err
}

func described(at *os.File, path string) string {
	if path == "" {
		return name(at)
	}
	return path
}

func treeFlags(recursive bool) string {
	if recursive {
		return "OPEN_TREE_CLONE|AT_RECURSIVE"
	}
	return "OPEN_TREE_CLONE"
}

// MoveMount attaches the mount fd, detached or not, to the object that at has open.
func MoveMount(fd, at *os.File) error {
	return control(fd, func(from int) error {
		return control(at, func(to int) error {
			return call(func() error {
				return unix.MoveMount(from, "", to, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
			}, "move_mount", "%s, %s", name(fd), name(at))
		})
	})
}

// MountID returns the id of the mount at path below the directory at (nil: the working
// directory; path "": of at itself), as in proc_pid_mountinfo(5) (Linux 5.8).
func MountID(at *os.File, path string) (uint64, error) {
	var st unix.Statx_t
	err := control(at, func(fd int) error {
		return call(func() error { return unix.Statx(fd, path, unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &st) },
			"statx", "%s, %q, STATX_MNT_ID", name(at), path)
	})
	return st.Mnt_id, err
}

// Attr is a change of the attributes of a mount, mount_setattr(2) (Linux 5.12).
type Attr struct {
	// Set and Clear are MOUNT_ATTR_* bits.
	Set, Clear uint64
	// Propagation is MS_SHARED, MS_SLAVE, MS_PRIVATE, MS_UNBINDABLE or 0 for no change.
	Propagation uint64
	// IDMap is the user namespace whose mapping the mount gets; it also sets
	// MOUNT_ATTR_IDMAP.
	IDMap *os.File
}

func (a Attr) with(use func(*unix.MountAttr) error) error {
	raw := &unix.MountAttr{Attr_set: a.Set, Attr_clr: a.Clear, Propagation: a.Propagation}
	if a.IDMap == nil {
		return use(raw)
	}
	raw.Attr_set |= unix.MOUNT_ATTR_IDMAP
	return control(a.IDMap, func(fd int) error {
		raw.Userns_fd = uint64(fd)
		return use(raw)
	})
}

func (a Attr) String() string {
	s := fmt.Sprintf("{set %s, clear %s", flags(a.Set, mountAttrs...), flags(a.Clear, mountAttrs...))
	if a.Propagation != 0 {
		s += ", propagation " + flags(a.Propagation, propagations...)
	}
	if a.IDMap != nil {
		s += ", idmap of " + a.IDMap.Name()
	}
	return s + "}"
}

var propagations = []flagName{
	{unix.MS_SHARED, "MS_SHARED"}, {unix.MS_SLAVE, "MS_SLAVE"}, {unix.MS_PRIVATE, "MS_PRIVATE"}, {unix.MS_UNBINDABLE, "MS_UNBINDABLE"},
}

// SetAttr changes the mount that fd has open, and all below it if recursive. It changes
// all or none.
func SetAttr(fd *os.File, recursive bool, attr Attr) error {
	fl := uint(unix.AT_EMPTY_PATH)
	what := "AT_EMPTY_PATH"
	if recursive {
		fl |= unix.AT_RECURSIVE
		what += "|AT_RECURSIVE"
	}
	return control(fd, func(n int) error {
		return attr.with(func(raw *unix.MountAttr) error {
			return call(func() error { return unix.MountSetattr(n, "", fl, raw) }, "mount_setattr", "%s, %s, %s", name(fd), what, attr)
		})
	})
}

// MountSetattr is [SetAttr] without a mapping.
func MountSetattr(fd *os.File, recursive bool, set, clear, propagation uint64) error {
	return SetAttr(fd, recursive, Attr{Set: set, Clear: clear, Propagation: propagation})
}

// Mount is mount(2), for what the newer calls cannot do: rslave of "/", old kernels.
func Mount(source, target, fstype string, fl uintptr, data string) error {
	return call(func() error { return unix.Mount(source, target, fstype, fl, data) },
		"mount", "%q, %q, %q, %#x, %q", source, target, fstype, fl, data)
}

// Unmount is umount2(2). fl are MNT_* and UMOUNT_NOFOLLOW.
func Unmount(target string, fl int) error {
	return call(func() error { return unix.Unmount(target, fl) }, "umount2", "%q, %s", target,
		flags(fl, flagName{unix.MNT_DETACH, "MNT_DETACH"}, flagName{unix.MNT_FORCE, "MNT_FORCE"}, flagName{unix.UMOUNT_NOFOLLOW, "UMOUNT_NOFOLLOW"}))
}

// PivotRoot makes newRoot the root mount of this thread's mount namespace and attaches
// the old one at putOld; ("." , ".") stacks it on the new, for Unmount(".", MNT_DETACH).
func PivotRoot(newRoot, putOld string) error {
	return call(func() error { return unix.PivotRoot(newRoot, putOld) }, "pivot_root", "%q, %q", newRoot, putOld)
}
