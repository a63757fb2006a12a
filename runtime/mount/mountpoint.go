// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"sysbox/runtime/sys"
)

// errHostile marks what an image or a volume did to lead a mount astray; no
// mount is optional enough to go on after that.
var errHostile = errors.New("refused")

func isHostile(err error) bool { return errors.Is(err, errHostile) }

// attach puts a detached mount on a place in the root, which is never the root itself: whoever
// enters the container later begins at the topmost mount, with nothing of what lies below.
func (t *Tree) attach(mount, at *os.File) error {
	root, err := t.isRoot(at)
	if err != nil {
		return err
	}
	if root {
		return fmt.Errorf("by a link of the image's its place is the container's root; mount elsewhere, or take the link out of the image: %w", errHostile)
	}
	return sys.MoveMount(mount, at)
}

func (t *Tree) isRoot(at *os.File) (bool, error) {
	a, err := at.Stat()
	if err != nil {
		return false, err
	}
	b, err := t.root.Stat()
	if err != nil || !os.SameFile(a, b) {
		return false, err
	}
	mountOfPlace, err := sys.MountID(at, "")
	if err != nil {
		return false, err
	}
	mountOfRoot, err := sys.MountID(t.root, "")
	return mountOfPlace == mountOfRoot, err
}

// lookup opens a path inside the root, symbolic links followed as the
// container would see them, magic links never.
func (t *Tree) lookup(p string, flags uint64) (*os.File, error) {
	return sys.Openat2(t.root, relative(p), unix.OpenHow{
		Flags:   flags,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
}

// directory opens a directory of the root, making it and its parents if missing.
func (t *Tree) directory(p string) (*os.File, error) { return t.directoryWith(p, 0o755) }

// directoryWith is directory with the mode of one that is made; its parents get 0755.
func (t *Tree) directoryWith(p string, mode uint32) (*os.File, error) {
	f, err := t.lookup(p, unix.O_PATH|unix.O_DIRECTORY)
	switch {
	case errors.Is(err, unix.ENOTDIR):
		return nil, fmt.Errorf("%s, or a directory on the way to it, is a file in the image: %w", p, unix.ENOTDIR)
	case !errors.Is(err, unix.ENOENT):
		return f, err
	}
	// The library's MkdirAllHandle costs some 15 system calls a directory, a
	// quarter of a tree's time.
	dir, err := t.directory(path.Dir(p))
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	if err := t.mayMake(dir, p); err != nil {
		return nil, err
	}
	name := path.Base(p)
	if err := unix.Mkdirat(int(dir.Fd()), name, mode); err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, &os.PathError{Op: "mkdir", Path: p, Err: err}
	}
	// What is there now must be that directory, whoever else is at work here.
	return sys.Openat2(dir, name, unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV,
	})
}

// mayMake tells whether something may be made in a directory that is p's parent. This thread
// may write in all directories, the container only in those of its ids: into another one,
// in a volume whose ids are not shifted, nobody's link leads, but the spec's own words may.
func (t *Tree) mayMake(dir *os.File, p string) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &st); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	_, uid := t.Plan.IDs.UID.ToContainer(st.Uid)
	_, gid := t.Plan.IDs.GID.ToContainer(st.Gid)
	if uid && gid {
		return nil
	}
	plain, err := sys.Openat2(t.root, relative(path.Dir(p)), unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_SYMLINKS,
	})
	if err == nil {
		defer plain.Close()
		a, errA := plain.Stat()
		b, errB := dir.Stat()
		if errA == nil && errB == nil && os.SameFile(a, b) {
			return nil
		}
	}
	return fmt.Errorf("make %s: a link leads into a directory of which the container may not write, as it belongs to %d:%d; take the link away, or shift the volume's ids: %w", p, st.Uid, st.Gid, errHostile)
}

// file opens a file of the root as a mount point, making an empty one if
// there is none. Anything but a directory will do.
func (t *Tree) file(p string) (*os.File, error) {
	f, err := t.lookup(p, unix.O_PATH)
	if err == nil {
		if isDirectory(f) {
			f.Close()
			return nil, fmt.Errorf("%s is a directory in the image, but the source of the mount is a file: %w", p, unix.EISDIR)
		}
		return f, nil
	}
	if !errors.Is(err, unix.ENOENT) {
		return nil, err
	}
	dir, err := t.directory(path.Dir(p))
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	if err := t.mayMake(dir, p); err != nil {
		return nil, err
	}
	made, err := sys.Openat2(dir, path.Base(p), unix.OpenHow{
		Flags: unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_WRONLY, Mode: 0o644,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	})
	if err != nil {
		return nil, err
	}
	defer made.Close()
	return sys.Openat2(dir, path.Base(p), unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_NOFOLLOW,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	})
}

// link makes a symbolic link in the root. One that is there already and leads to the
// same is as good.
func (t *Tree) link(target, p string) error {
	dir, err := t.directory(path.Dir(p))
	if err != nil {
		return err
	}
	defer dir.Close()
	err = unix.Symlinkat(target, int(dir.Fd()), path.Base(p))
	if errors.Is(err, unix.EEXIST) {
		buf := make([]byte, len(target)+1)
		if n, rerr := unix.Readlinkat(int(dir.Fd()), path.Base(p), buf); rerr == nil && string(buf[:n]) == target {
			return nil
		}
		return fmt.Errorf("make the symbolic link %s to %s (copy-symlink): the image has something else there; take it out of the image or mount elsewhere: %w", p, target, err)
	}
	if err != nil {
		return &os.LinkError{Op: "symlink", Old: target, New: p, Err: err}
	}
	return nil
}

// mountpointFor opens what a mount is put on, making it if it is missing.
func (t *Tree) mountpointFor(directory bool, p string, nofollow bool) (*os.File, error) {
	if nofollow {
		f, err := t.lookup(p, unix.O_PATH|unix.O_NOFOLLOW)
		if !errors.Is(err, unix.ENOENT) {
			return f, err
		}
	}
	if directory {
		return t.directory(p)
	}
	return t.file(p)
}

// realDirectory opens a directory of the root that must not be reached through a
// symbolic link: /proc, /sys and /dev, whose places the runtime relies on.
func (t *Tree) realDirectory(p string) (*os.File, error) {
	f, err := sys.Openat2(t.root, relative(p), unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_SYMLINKS,
	})
	switch {
	case errors.Is(err, unix.ENOENT):
		return t.directory(p)
	case errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENOTDIR):
		return nil, fmt.Errorf("the image has %s as something else than a directory; it must be a directory (or missing) for the container's own to be mounted there: %w", p, errHostile)
	}
	return f, err
}

// relative makes an absolute path of the container one below its root.
func relative(p string) string {
	if p = strings.TrimLeft(p, "/"); p == "" {
		return "."
	}
	return p
}

// isDirectory tells what an O_PATH handle is of.
func isDirectory(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.IsDir()
}
