package trap

import (
	"os"

	"golang.org/x/sys/unix"

	"sysbox/runtime/sys"
)

// shown are the places of which a container may have a plain bind although mounts
// below them are locked: there is nothing under those but empty folders of ours,
// files of the kernel's that guards them itself, and the image.
var bindablePaths = []string{"/", "/dev", "/proc", "/sys"}

// masksAreShown are those of which a bind is made although there are masks on them:
// nothing rests on a mask of the kernel's own file systems, and each spec has some. In
// the root, a mask or a read-only path is the spec's word.
var bindableDespiteMasks = map[string]bool{"/proc": true, "/sys": true}

// survey notes which file systems are the host's, and which folders are the
// roots of the tree's mounts at [shown].
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
		// On btrfs, files have their subvolume's number and not their file system's. No
		// server of a file system is waited for.
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
		// The flags of a copy are not locked: the container could take read-only away.
		if unix.Stat(dir, &st) == nil && unix.Statfs(dir, &fs) == nil && fs.Flags&unix.ST_RDONLY == 0 {
			s.bindable[namespace{uint64(st.Dev), st.Ino}] = dir
		}
	}
	return nil
}
