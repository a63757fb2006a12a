// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"sysbox/runtime/fill"
	"sysbox/runtime/fsutil"
	"sysbox/runtime/sys"
	"sysbox/runtime/whiteout"
)

// Layer is the upper layer of a root's overlay, open, of which storage directories are bound.
//
// An earlier life of the container controlled all that is in it. Nothing of it
// is reached but by names of real directories below it, in its own mount.
type Layer struct {
	*Upper
	dir     *os.File // open for reading, which a lock needs
	fill    *fill.Filler
	prefix  string // of paths in the root, as /proc shows them
	changed bool
	locked  bool // by what Lock returned
}

// stage is the directory in workdir in which a copy is made.
const stage = "sysbox"

// Errors of [Layer.Directory].
var (
	// ErrNotInUpper: the directory cannot lie in the upper layer.
	ErrNotInUpper = errors.New("the directory of the upper layer cannot be used")
	// ErrOverlap: by a link the directory is, or holds, one that is bound already.
	ErrOverlap = errors.New("the directory has storage already")
)

// OpenUpper opens the upper layer of the overlay whose root is given, for this
// container alone: another one on the same layer, with other ids, would be
// neither apart from it nor safe. fill copies what lower layers have.
func OpenUpper(u *Upper, root *os.File, fill *fill.Filler) (*Layer, error) {
	dir, err := sys.Openat2(nil, u.Dir, unix.OpenHow{Flags: unix.O_RDONLY | unix.O_DIRECTORY})
	if err != nil {
		return nil, fmt.Errorf("the upper layer of the root file system: %w", err)
	}
	l := &Layer{Upper: u, dir: dir, fill: fill}
	if err := sys.Flock(dir, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		dir.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("the upper layer of the root file system, %s, is that of another container, which runs; give each a snapshot of its own", u.Dir)
		}
		return nil, os.NewSyscallError("flock "+u.Dir, sys.Errno(err))
	}
	if l.prefix, err = ShownPath(root); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// Close gives the layer up, and its lock unless [Layer.Lock] has handed that on.
func (u *Layer) Close() {
	if !u.locked {
		sys.Unlock(u.dir)
	}
}

// Lock hands the lock to the caller, who ends it with [sys.Unlock].
func (u *Layer) Lock() *os.File {
	u.locked = true
	return u.dir
}

// Changed tells whether the layer was changed in a way that a mounted overlay does not see.
func (u *Layer) Changed() bool { return u.changed }

// parkTime bounds how long the end of a container takes for a commit that may never be. To
// look through a million files takes some seconds.
const parkTime = 30 * time.Second

// ParkUpper makes the storage directories in an upper layer ready for a commit, after
// the container's last process (package whiteout). A directory that it cannot do that
// with, of which the warnings are, is as good for the next task as it was.
func ParkUpper(ctx context.Context, dir string, directories []string) (warnings []string) {
	f, err := sys.Openat2(nil, dir, unix.OpenHow{Flags: unix.O_RDONLY | unix.O_DIRECTORY})
	if err != nil {
		return nil // gone with its snapshot
	}
	if sys.Flock(f, unix.LOCK_EX|unix.LOCK_NB) != nil {
		f.Close()
		return nil // used again already
	}
	defer sys.Unlock(f)
	ctx, cancel := context.WithTimeoutCause(ctx, parkTime, fmt.Errorf("there is more than can be looked through in %v", parkTime))
	defer cancel()
	u := Layer{dir: f}
	left := whiteout.Max
	for _, below := range directories {
		directory, err := u.open(below, unix.O_RDONLY)
		if err != nil {
			continue
		}
		if err := whiteout.Stash(ctx, directory, &left); err != nil {
			warnings = append(warnings, fmt.Sprintf("the storage directory /%s is not ready for a commit: %v; the container's next task has it as it was, but a commit fails at what inner overlays have deleted, or is without it", below, err))
		}
		directory.Close()
	}
	return warnings
}

// ShownPath is what /proc shows as an open file's path.
func ShownPath(f *os.File) (string, error) {
	return os.Readlink(fmt.Sprintf("/proc/thread-self/fd/%d", f.Fd()))
}

// open opens a directory of the layer.
func (u *Layer) open(below string, flags uint64) (*os.File, error) {
	return sys.Openat2(u.dir, below, unix.OpenHow{Flags: flags | unix.O_DIRECTORY | unix.O_NOFOLLOW, Resolve: realDirectories})
}

// realDirectories are the only way in a layer.
const realDirectories = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV

// Directory returns a mount of the layer's directory that belongs to the open directory
// of the root, with all in it that the lower layers have there, and its path
// below the layer. taken are paths of others. It fails with [ErrNotInUpper] or [ErrOverlap].
func (u *Layer) Directory(ctx context.Context, at *os.File, taken []string) (m *os.File, below string, err error) {
	shown, err := ShownPath(at)
	if err != nil {
		return nil, "", err
	}
	below, ok := strings.CutPrefix(shown, strings.TrimSuffix(u.prefix, "/")+"/")
	if !ok {
		return nil, "", ErrNotInUpper
	}
	for _, other := range taken {
		if other == below || strings.HasPrefix(other, below+"/") {
			return nil, "", fmt.Errorf("%w: by a link it is, or holds, /%s", ErrOverlap, other)
		}
	}
	up, err := u.open(below, unix.O_RDONLY)
	if errors.Is(err, unix.ENOENT) {
		if err := copiedUp(at); err != nil {
			return nil, "", err
		}
		up, err = u.open(below, unix.O_RDONLY)
	}
	if err != nil {
		return nil, "", fmt.Errorf("%w: %w", ErrNotInUpper, err)
	}
	defer func() { up.Close() }()
	if m, err = u.mount(up); err != nil {
		return nil, "", err
	}
	if err := sameDirectory(at, m); err != nil {
		m.Close()
		return nil, "", err
	}
	alone, err := u.alone(at, up)
	if err != nil {
		m.Close()
		return nil, "", err
	}
	if !alone {
		m.Close()
		if err := u.copyLower(ctx, at, below); err != nil {
			return nil, "", fmt.Errorf("copy what the image has there: %w", err)
		}
		up.Close()
		if up, err = u.open(below, unix.O_RDONLY); err != nil {
			return nil, "", err
		}
		if m, err = u.mount(up); err != nil {
			return nil, "", err
		}
	}
	if err := u.fill.Restore(ctx, m); err != nil {
		m.Close()
		return nil, "", err
	}
	return m, below, nil
}

// copiedUp has the overlay copy a directory of a lower layer to the upper one, by a
// change that changes nothing.
func copiedUp(at *os.File) error {
	var st unix.Stat_t
	err := unix.Fstat(int(at.Fd()), &st)
	if err == nil {
		err = unix.Fchmod(int(at.Fd()), st.Mode&0o7777)
	}
	return os.NewSyscallError("copy the directory to the upper layer: fchmod", err)
}

// mount clones the layer's mount at a directory, shifted as the overlay shifts it.
func (u *Layer) mount(dir *os.File) (*os.File, error) {
	m, err := sys.OpenTree(dir, "", false)
	if err != nil || u.UserNS == nil {
		return m, err
	}
	if err := sys.SetAttr(m, false, sys.Attr{IDMap: u.UserNS}); err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

// sameDirectory compares what the overlay and the mount of its upper directory show:
// a caller's overlay may shift its upper layer in ways that cannot be seen.
func sameDirectory(at, m *os.File) error {
	var a, b unix.Stat_t
	err := unix.Fstat(int(at.Fd()), &a)
	if err == nil {
		err = unix.Fstat(int(m.Fd()), &b)
	}
	if err != nil {
		return os.NewSyscallError("fstat", err)
	}
	if a.Uid != b.Uid || a.Gid != b.Gid || a.Mode != b.Mode {
		return fmt.Errorf("%w: its owner is %d:%d in the root and %d:%d in the layer", ErrNotInUpper, a.Uid, a.Gid, b.Uid, b.Gid)
	}
	return nil
}

func (u *Layer) opaque() string {
	if u.UserXattr {
		return "user.overlay.opaque"
	}
	return "trusted.overlay.opaque"
}

// alone tells whether all that the root has in a directory is in the upper layer,
// as is said by the overlay's own mark, "opaque". The kernel sets it on most
// directories that are made in an overlay; where there is nothing to be hidden it is
// set here, so that what comes later needs no second look.
func (u *Layer) alone(at, up *os.File) (bool, error) {
	var b [1]byte
	if n, err := unix.Fgetxattr(int(up.Fd()), u.opaque(), b[:]); err == nil && n == 1 && b[0] == 'y' {
		return true, nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(at.Fd()), &st); err != nil {
		return false, os.NewSyscallError("fstat", err)
	}
	if st.Nlink < 2 { // an overlay's way to show a directory that several layers have
		if _, err := at.Readdirnames(1); err == nil {
			_, err = at.Seek(0, io.SeekStart)
			return false, err
		} else if !errors.Is(err, io.EOF) {
			return false, err
		}
	}
	return true, u.setOpaque(up)
}

func (u *Layer) setOpaque(dir *os.File) error {
	return os.NewSyscallError("fsetxattr "+u.opaque(), unix.Fsetxattr(int(dir.Fd()), u.opaque(), []byte("y"), 0))
}

// copyLower copies all that the root has in a directory into one that takes the
// place of the upper layer's, opaque. It is made in workdir, where neither the
// container nor a commit sees one that is half, and it is on the disk before it
// is in its place: the mark is believed after any crash.
func (u *Layer) copyLower(ctx context.Context, at *os.File, below string) error {
	work, err := sys.Openat2(nil, u.Work, unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY})
	if err != nil {
		return err
	}
	defer work.Close()
	if err := fsutil.RemoveAll(ctx, work, stage); err != nil { // a crash has left it
		return err
	}
	defer fsutil.RemoveAll(context.WithoutCancel(ctx), work, stage) //nolint:errcheck // the next one does, and it goes with the snapshot
	if err := u.copyTo(ctx, at, work); err != nil {
		return err
	}
	parent, err := u.open(path.Dir(below), unix.O_PATH)
	if err != nil {
		return err
	}
	defer parent.Close()
	u.changed = true
	err = unix.Renameat2(int(work.Fd()), stage, int(parent.Fd()), path.Base(below), unix.RENAME_EXCHANGE)
	return os.NewSyscallError("renameat2", err)
}

func (u *Layer) copyTo(ctx context.Context, at, work *os.File) error {
	m, err := u.mount(work)
	if err != nil {
		return err
	}
	defer m.Close()
	if err := unix.Mkdirat(int(m.Fd()), stage, 0o700); err != nil {
		return &os.PathError{Op: "mkdir", Path: u.Work + "/" + stage, Err: err}
	}
	dst, err := sys.Openat2(m, stage, unix.OpenHow{Flags: unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW, Resolve: realDirectories})
	if err != nil {
		return err
	}
	defer dst.Close()
	if err := u.fill.Copy(ctx, at, dst); err != nil {
		return err
	}
	if err := u.setOpaque(dst); err != nil {
		return err
	}
	return os.NewSyscallError("syncfs", unix.Syncfs(int(dst.Fd())))
}
