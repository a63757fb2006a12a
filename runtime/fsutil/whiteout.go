// SPDX-License-Identifier: Apache-2.0

package fsutil

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"sysbox/runtime/sys"
)

// Whiteouts makes whiteouts of overlays, character devices 0:0, as names of one file, as
// overlayfs in the kernel has done since Linux 5.8: a whiteout then costs a name but no inode.
// All of them must be in one mount. The zero value is ready; it is not safe for concurrent use.
type Whiteouts struct {
	one *os.File // the file, nil before the first
}

// Make makes a whiteout in an open directory. Errors are those of mknod(2): EEXIST if the
// name exists.
func (w *Whiteouts) Make(in *os.File, name string) error {
	if w.one != nil {
		// By this path, since AT_EMPTY_PATH needs a capability in the user namespace of the host.
		path := fmt.Sprintf("/proc/thread-self/fd/%d", w.one.Fd())
		err := unix.Linkat(unix.AT_FDCWD, path, int(in.Fd()), name, unix.AT_SYMLINK_FOLLOW)
		if err == nil || errors.Is(err, unix.EEXIST) {
			return err
		}
		// It has as many names as the file system allows (65,000 on ext4), or it was removed:
		// another file takes its place.
		w.Close()
	}
	if err := unix.Mknodat(int(in.Fd()), name, unix.S_IFCHR, 0); err != nil {
		return err
	}
	// If this fails, the next whiteout gets its own file. Another container of the pod may have
	// put another file there meanwhile.
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
