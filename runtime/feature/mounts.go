// SPDX-License-Identifier: Apache-2.0

package feature

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"sysbox/runtime/sys"
	"sysbox/uidmap"
)

// shifted are the ids of the user namespaces of probes. They lie before the default
// pool; otherwise a range of the pool would seem to be in use.
var shifted = uidmap.Map{{ContainerID: 0, HostID: uidmap.DefaultStart - 65536, Size: 65536}}

func userNamespace() error { return withUserNS(func(*os.File) error { return nil }) }

func withUserNS(use func(ns *os.File) error) error {
	ns, err := uidmap.UserNS(shifted, shifted)
	if err != nil {
		return err
	}
	defer ns.Close()
	return use(ns)
}

// withTmpfs lends a detached tmpfs.
func withTmpfs(use func(mnt *os.File) error) error {
	c, err := sys.Fsopen("tmpfs")
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Create(); err != nil {
		return err
	}
	mnt, err := c.Mount(0)
	if err != nil {
		return err
	}
	defer mnt.Close()
	return use(mnt)
}

// apart runs f on a thread with its own mount namespace.
func apart(f func() error) error {
	return sys.Thread(func() error {
		if err := sys.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
			return err
		}
		if err := sys.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return err
		}
		return f()
	})
}

func mountAPI() error {
	return withTmpfs(func(mnt *os.File) error {
		return apart(func() error {
			at, err := os.OpenFile("/sys", unix.O_PATH|unix.O_DIRECTORY, 0)
			if err != nil {
				return err
			}
			defer at.Close()
			if err := sys.MoveMount(mnt, at); err != nil {
				return err
			}
			copied, err := sys.OpenTree(nil, "/sys", false)
			if err != nil {
				return err
			}
			defer copied.Close()
			return isType(copied, unix.TMPFS_MAGIC)
		})
	})
}

func isType(f *os.File, want int64) error {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
		return os.NewSyscallError("fstatfs", err)
	}
	if int64(st.Type) != want {
		return fmt.Errorf("%s has the type %#x, not %#x", f.Name(), st.Type, want)
	}
	return nil
}

func isReadOnly(f *os.File) error {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
		return os.NewSyscallError("fstatfs", err)
	}
	if st.Flags&unix.ST_RDONLY == 0 {
		return fmt.Errorf("%s was made read-only but is writable", f.Name())
	}
	return nil
}

func mountSetattr() error {
	return withTmpfs(func(mnt *os.File) error {
		if err := sys.MountSetattr(mnt, false, unix.MOUNT_ATTR_RDONLY, 0, 0); err != nil {
			return err
		}
		return isReadOnly(mnt)
	})
}

// recursiveReadOnly makes a tmpfs on another tmpfs read-only through the latter.
func recursiveReadOnly() error {
	return apart(func() error {
		if err := sys.Mount("probe", "/sys", "tmpfs", 0, ""); err != nil {
			return err
		}
		if err := os.Mkdir("/sys/below", 0o700); err != nil {
			return err
		}
		if err := sys.Mount("probe", "/sys/below", "tmpfs", 0, ""); err != nil {
			return err
		}
		top, err := sys.OpenTree(nil, "/sys", true)
		if err != nil {
			return err
		}
		defer top.Close()
		if err := sys.MountSetattr(top, true, unix.MOUNT_ATTR_RDONLY, 0, 0); err != nil {
			return err
		}
		below, err := sys.Openat2(top, "below", unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY})
		if err != nil {
			return err
		}
		defer below.Close()
		return isReadOnly(below)
	})
}

func idmappedTmpfs() error {
	return withTmpfs(func(mnt *os.File) error {
		return withUserNS(func(ns *os.File) error {
			if err := sys.SetAttr(mnt, false, sys.Attr{IDMap: ns}); err != nil {
				return err
			}
			return isShifted(mnt)
		})
	})
}

func isShifted(mnt *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(mnt.Fd()), &st); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	if st.Uid != shifted[0].HostID || st.Gid != shifted[0].HostID {
		return fmt.Errorf("%s was shifted by %d but belongs to %d:%d", mnt.Name(), shifted[0].HostID, st.Uid, st.Gid)
	}
	return nil
}

func openTreeAttr() error {
	copied, err := sys.OpenTreeAttr(nil, "/", false, sys.Attr{Set: unix.MOUNT_ATTR_RDONLY})
	if err != nil {
		return err
	}
	defer copied.Close()
	return isReadOnly(copied)
}

func procPIDNamespace() error {
	ns, err := os.Open("/proc/self/ns/pid")
	if err != nil {
		return err
	}
	defer ns.Close()
	c, err := sys.Fsopen("proc")
	if err != nil {
		return err
	}
	defer c.Close()
	return c.SetFD("pidns", ns)
}

// withDir lends a new directory on the file system of the absolute path dir, which need not
// exist yet.
func withDir(dir string, use func(dir string) error) error {
	for {
		_, err := os.Stat(dir)
		if !errors.Is(err, fs.ErrNotExist) || dir == "/" {
			break // MkdirTemp returns the error
		}
		dir = filepath.Dir(dir)
	}
	d, err := os.MkdirTemp(dir, "sysbox-probe-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(d)
	return use(d)
}

// IDMappedMounts checks that mounts of the file system of a directory, which need not exist
// yet, can shift ids. Some file systems, such as overlay, NFS and most of FUSE, never
// can.
func IDMappedMounts(dir string) error {
	return withDir(dir, func(dir string) error {
		return withUserNS(func(ns *os.File) error {
			mnt, err := uidmap.IDMapped(dir, ns, false)
			if err != nil {
				return err
			}
			defer mnt.Close()
			return isShifted(mnt)
		})
	})
}
