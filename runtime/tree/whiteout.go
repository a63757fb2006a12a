package tree

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"sysbox/runtime/sys"
)

// Whiteouts makes whiteouts of overlays, character devices 0:0, as names of one file, as the
// kernel's overlayfs has done since Linux 5.8: a whiteout then costs a name, and no inode.
// All have to be made in one mount. The zero value is ready, and not for several goroutines.
type Whiteouts struct {
	one *os.File // the file, nil before the first
}

// Make makes a whiteout in an open folder. Errors are those of mknod(2): EEXIST where
// something has the name.
func (w *Whiteouts) Make(in *os.File, name string) error {
	if w.one != nil {
		// By this path, as AT_EMPTY_PATH takes a capability in the host's user namespace.
		path := fmt.Sprintf("/proc/thread-self/fd/%d", w.one.Fd())
		err := unix.Linkat(unix.AT_FDCWD, path, int(in.Fd()), name, unix.AT_SYMLINK_FOLLOW)
		if err == nil || errors.Is(err, unix.EEXIST) {
			return err
		}
		// It has all the names that the file system allows a file (65,000 on ext4), or
		// somebody has removed it: another takes its place.
		w.Close()
	}
	if err := unix.Mknodat(int(in.Fd()), name, unix.S_IFCHR, 0); err != nil {
		return err
	}
	// Without it the next one gets a file of its own. Another container of the pod may have
	// put something else there meanwhile.
	one, err := sys.Openat2(in, name, unix.OpenHow{Flags: unix.O_PATH | unix.O_NOFOLLOW, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_XDEV})
	if err == nil && !isWhiteout(one) {
		one.Close()
		one = nil
	}
	w.one = one
	return nil
}

func isWhiteout(f *os.File) bool {
	var st unix.Stat_t
	return unix.Fstat(int(f.Fd()), &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0
}

// Close forgets the file.
func (w *Whiteouts) Close() {
	w.one.Close()
	w.one = nil
}
