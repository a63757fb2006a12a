// SPDX-License-Identifier: Apache-2.0

// Package image reads what a container's root file system says of itself: its users' homes,
// and where its Docker keeps images. All of it is hostile.
//
// What does not belong here: mounting it (package rootfs).
package image

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"sysbox/runtime/sys"
)

// Open opens a path of an image as its processes would see it, but only
// a regular file: never a device, a FIFO or what a magic link leads to. The
// type is looked at before the file is opened, as opening a device has effects.
func Open(root *os.File, p string) (*os.File, error) {
	h, err := sys.Openat2(root, strings.TrimPrefix(p, "/"), unix.OpenHow{
		Flags:   unix.O_PATH,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		var e unix.Errno
		if errors.As(err, &e) {
			err = e
		}
		return nil, &os.PathError{Op: "open in the image", Path: p, Err: err}
	}
	defer h.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(h.Fd()), &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, &os.PathError{Op: "open in the image", Path: p, Err: errors.New("not a regular file")}
	}
	// A lease on the file must not hold the reader up.
	return os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", h.Fd()), os.O_RDONLY|unix.O_NONBLOCK, 0)
}
