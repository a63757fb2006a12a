package uidmap

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrNotIDMappable is wrapped by errors of file systems and kernels that
// cannot shift ids in a mount (mount_setattr(2): Linux 5.12, and per file
// system).
var ErrNotIDMappable = errors.New("the file system or the kernel cannot shift ids (idmapped mount)")

// IDMapped returns a detached copy of the mount at path, with all below it if
// recursive, shifted by the maps of the user namespace.
func IDMapped(path string, userns *os.File, recursive bool) (*os.File, error) {
	f, err := clone(path, recursive)
	if err != nil {
		return nil, err
	}
	if err := setIDMap(f, userns, recursive); err != nil {
		f.Close()
		return nil, fmt.Errorf("shift the ids of %s: %w", path, err)
	}
	return f, nil
}

func clone(path string, recursive bool) (*os.File, error) {
	fl := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC)
	if recursive {
		fl |= unix.AT_RECURSIVE
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, path, fl)
	if err != nil {
		return nil, &os.PathError{Op: "open_tree", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

func setIDMap(f, userns *os.File, recursive bool) error {
	fl := uint(unix.AT_EMPTY_PATH)
	if recursive {
		fl |= unix.AT_RECURSIVE
	}
	err := unix.MountSetattr(int(f.Fd()), "", fl, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(userns.Fd())})
	switch {
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EPERM):
		// EPERM: it is idmapped already.
		return fmt.Errorf("%w: mount_setattr on %s: %w", ErrNotIDMappable, fsName(f), err)
	case err != nil:
		return os.NewSyscallError("mount_setattr", err)
	}
	return nil
}

// fsName names a file's file system, for messages.
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

// splitEscaped splits at a separator that no backslash precedes, and takes
// the backslashes away (overlayfs.rst: lowerdir).
func splitEscaped(s string, sep byte) []string {
	var out []string
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
		case s[i] == sep:
			out = append(out, b.String())
			b.Reset()
		default:
			b.WriteByte(s[i])
		}
	}
	return append(out, b.String())
}
