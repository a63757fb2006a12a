// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"sysbox/runtime/sys"
)

// Docker and CRI-O mount an overlay themselves, and an overlay cannot be idmapped: the
// container gets another one over the same layers. The kernel knows nothing of the two
// having an upper layer in common: what one has looked up it believes, whatever the other
// has written since. So only one of them may be used at a time (runtime/mirror). What can
// be done where that cannot be had is here.

// again mounts the overlay that the caller has at dir once more, with ids shifted.
func (c Config) again(dir string) (*os.File, *Upper, error) {
	options, err := overlayAt(dir)
	if err != nil {
		return nil, nil, err
	}
	work, err := ownWorkdir(options)
	if err != nil {
		return nil, nil, err
	}
	f, upper, err := c.overlay(options)
	if upper != nil {
		upper.Caller, upper.CallerWork = dir, work
	}
	return f, upper, err
}

// Share prepares a container's root for a caller that goes on to use its own overlay
// ([Upper].Caller): the directories in which it makes mount points are copied up, and it
// forgets what it has looked up. What either changes elsewhere the other may not see, and
// a directory that the caller copies up can take no new file from the container any more.
func Share(root *os.File, caller string, directories []string) error {
	for _, p := range directories {
		if err := copyUp(root, p); err != nil {
			return err
		}
	}
	Forget(caller)
	return nil
}

// ownWorkdir puts a workdir of its own into the options of an overlay: the kernel makes
// what it needs there again with each mount, and the caller's overlay could copy nothing up
// from then on ("docker cp" answered ENOENT). It is in the caller's workdir, which goes
// with the container. It returns the caller's.
func ownWorkdir(options []string) (caller string, err error) {
	for i, o := range options {
		dir, ok := strings.CutPrefix(o, "workdir=")
		if !ok {
			continue
		}
		var st unix.Stat_t
		if err := unix.Lstat(dir, &st); err != nil {
			return "", &os.PathError{Op: "lstat", Path: dir, Err: err}
		}
		if st.Uid != 0 {
			return "", fmt.Errorf("the root file system's layers belong to uid %d (its workdir %s does), as Docker's userns-remap has them, and the spec has no mappings with it: leave out --userns=host, or userns-remap", st.Uid, dir)
		}
		own := path.Join(dir, "sysbox")
		if err := os.Mkdir(own, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return "", err
		}
		// This thread makes files as the container's root, whom the layer, which is
		// shifted, does not know.
		if err := os.Lchown(own, 0, 0); err != nil { //nolint:forbidigo // in a workdir, where no container gets
			return "", err
		}
		options[i], caller = "workdir="+own, dir
	}
	return caller, nil
}

// copyUp has a directory of the overlay copied to the upper layer, with its parents: once
// the caller's overlay has done so, the container's cannot, and answers ENOTEMPTY to every
// change in it. A directory that is not there is nobody's to copy.
func copyUp(root *os.File, dir string) error {
	fd, err := unix.Openat2(int(root.Fd()), strings.TrimLeft(dir, "/"), &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return nil //nolint:nilerr // see above; a link that leads astray is refused when the mount is made
	}
	defer unix.Close(fd)
	// An owner of -1 changes nothing but the time of the change.
	if err := unix.Fchownat(fd, "", -1, -1, unix.AT_EMPTY_PATH); err != nil && !errors.Is(err, unix.EROFS) {
		return &os.PathError{Op: "copy up", Path: dir, Err: err}
	}
	return nil
}

// Forget has the caller's overlay on dir forget what it has looked up, so that it finds
// what the container's has written: a remount that changes nothing. Without it (an old
// kernel) the caller may be told that a file is missing.
func Forget(dir string) {
	c, err := sys.Fspick(dir)
	if err != nil {
		return
	}
	defer c.Close()
	_ = c.Reconfigure()
}
