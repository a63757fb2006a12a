// SPDX-License-Identifier: Apache-2.0

package trap

import (
	"os"

	"golang.org/x/sys/unix"

	"sysbox/runtime/sys"
)

// bindablePaths lists the directories that a container may bind without MS_REC although mounts
// below them are locked. Below these mounts there are only empty directories made by the shim,
// files that the kernel itself guards, and the image.
var bindablePaths = []string{"/", "/dev", "/proc", "/sys"}

// bindableDespiteMasks lists the directories that may be bound although they contain masks. No
// isolation depends on a mask in the kernel's own file systems, and every spec has some there. In
// the root, a mask or a read-only path is the author's intent.
var bindableDespiteMasks = map[string]bool{"/proc": true, "/sys": true}

// findBindable records which file systems belong to the host, and which directories of the mount
// tree are the [bindablePaths].
func (s *Server) findBindable() error {
	s.hostDevs, s.bindable = map[uint64]bool{}, map[namespace]string{}
	fd, err := unix.Openat(int(s.cfg.Proc.Fd()), "thread-self/mountinfo", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), "mountinfo")
	defer f.Close()
	for m, err := range sys.Mounts(f) {
		if err != nil {
			return err
		}
		s.hostDevs[m.Dev] = true
		// On btrfs, files have the number of their subvolume, not of their file system. This call
		// waits for no server of a file system.
		var st unix.Statx_t
		if unix.Statx(unix.AT_FDCWD, m.Point, unix.AT_NO_AUTOMOUNT|unix.AT_STATX_DONT_SYNC, unix.STATX_MNT_ID, &st) == nil && st.Mnt_id == m.ID {
			s.hostDevs[unix.Mkdev(st.Dev_major, st.Dev_minor)] = true
		}
	}
	for _, dir := range bindablePaths {
		id, err := sys.MountID(nil, dir)
		if err != nil || s.cfg.Masked[id] && !bindableDespiteMasks[dir] {
			continue
		}
		var st unix.Stat_t
		var fs unix.Statfs_t
		// The flags of a copy are not locked: the container could make a read-only mount
		// writable.
		if unix.Stat(dir, &st) == nil && unix.Statfs(dir, &fs) == nil && fs.Flags&unix.ST_RDONLY == 0 {
			s.bindable[namespace{uint64(st.Dev), st.Ino}] = dir
		}
	}
	return nil
}
