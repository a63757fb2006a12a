// SPDX-License-Identifier: Apache-2.0

package uidmap

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"sysbox/runtime/sys"
)

// ErrNotIDMappable is wrapped by errors of file systems and kernels that
// cannot shift ids in a mount (mount_setattr(2): Linux 5.12, and per file
// system).
var ErrNotIDMappable = errors.New("the file system or the kernel cannot shift ids (idmapped mount)")

// IDMapped returns a detached copy of the mount at path, with all mounts below it if
// recursive, shifted by the maps of the user namespace.
func IDMapped(path string, userns *os.File, recursive bool) (*os.File, error) {
	f, err := Clone(path, recursive)
	if err != nil {
		return nil, err
	}
	if err := SetIDMap(f, userns, recursive); err != nil {
		f.Close()
		return nil, fmt.Errorf("shift the ids of %s: %w", path, err)
	}
	return f, nil
}

// Clone is [IDMapped] without a shift: for trees that will be chowned.
func Clone(path string, recursive bool) (*os.File, error) {
	f, err := sys.OpenTree(nil, path, recursive)
	if err != nil {
		return nil, &os.PathError{Op: "open_tree", Path: path, Err: sys.Errno(err)}
	}
	return f, nil
}

// SetIDMap shifts a detached mount by the maps of the user namespace, and all mounts below it
// if recursive. [ErrNotIDMappable] if that is not possible, also because it is shifted already.
func SetIDMap(f, userns *os.File, recursive bool) error {
	err := sys.Errno(sys.SetAttr(f, recursive, sys.Attr{IDMap: userns}))
	switch {
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EPERM):
		// EPERM: it is shifted already.
		return fmt.Errorf("%w: mount_setattr on %s: %w", ErrNotIDMappable, fsName(f), err)
	case err != nil:
		return os.NewSyscallError("mount_setattr", err)
	}
	return nil
}

// fsName names the file system of a file, for messages.
func fsName(f *os.File) string {
	var st unix.Statfs_t
	if unix.Fstatfs(int(f.Fd()), &st) != nil {
		return "an unknown file system"
	}
	switch st.Type {
	case unix.OVERLAYFS_SUPER_MAGIC:
		return "overlay"
	case unix.FUSE_SUPER_MAGIC:
		return "FUSE"
	case unix.NFS_SUPER_MAGIC:
		return "NFS"
	case unix.V9FS_MAGIC:
		return "9p"
	case unix.PROC_SUPER_MAGIC, unix.SYSFS_MAGIC, unix.CGROUP2_SUPER_MAGIC, unix.CGROUP_SUPER_MAGIC:
		return "a kernel file system"
	case unix.TMPFS_MAGIC:
		return "tmpfs"
	}
	return fmt.Sprintf("the file system of type %#x", st.Type)
}
