// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"sysbox/runtime/plan"
	"sysbox/runtime/rootfs"
	"sysbox/runtime/sys"
	"sysbox/uidmap"
)

// Storage has what is made for the directories that cannot live on overlayfs.
//
// Where the root is an overlay, such a directory is the one of its upper layer
// itself, bound over its place: it survives the container's task and goes with
// the snapshot, and nothing is copied at either end. A root on a file system on
// which overlays can lie needs nothing. All others get a directory of the host's
// that lives as long as the task.
type Storage struct {
	// Host is asked for the host's directory for all that need one, at the first of
	// them: it records the directory, and makes it.
	Host func() (string, error)
	// Upper is the root's upper layer, if a directory lies in it, and InUpper
	// those that do, relative to it. The layer is this container's alone while
	// Lock is open.
	Upper   string
	InUpper []string
	Lock    *os.File

	mounts []directory
}

// directory is a storage directory, ready to be attached; without a mount the root's
// own is to be attached over itself, to stay writable.
type directory struct {
	path  string
	mount *os.File
}

// Unlock ends the container's hold of its root's upper layer.
func (s *Storage) Unlock() {
	if s.Lock != nil {
		sys.Unlock(s.Lock)
		s.Lock = nil
	}
}

func (s *Storage) close() {
	for _, f := range s.mounts {
		if f.mount != nil {
			f.mount.Close()
		}
	}
	s.mounts = nil
}

// errSystemPath: a link of the image leads to a place that no engine may have for its own.
var errSystemPath = errors.New("by a link it belongs to the system")

// PrepareStorage makes the plan's storage directories ready, with what the image
// has there, before the root is attached. If it answers true, it has changed a
// layer in a way that a mounted overlay does not see, and the root is to be
// mounted again.
func (t *Tree) PrepareStorage(ctx context.Context, root *os.File, upper *rootfs.Upper) (again bool, err error) {
	if len(t.Plan.Storage) == 0 {
		return false, nil
	}
	t.root = root
	defer func() {
		if err != nil {
			t.Storage.close()
		}
	}()
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(root.Fd()), &st); err != nil {
		return false, os.NewSyscallError("fstatfs", err)
	}
	writable := st.Flags&unix.ST_RDONLY == 0
	if upper == nil && writable && holdsOverlays(st.Type) {
		return false, t.preparePlain(ctx)
	}
	var u *rootfs.Layer
	if upper != nil {
		if u, err = rootfs.OpenUpper(upper, root, t.Fill); err != nil {
			return false, err
		}
		defer u.Close()
	}
	for _, s := range t.Plan.Storage {
		if err := t.prepare(ctx, s, u); err != nil {
			return false, fmt.Errorf("storage for %s: %w", s.Path, err)
		}
	}
	if u == nil {
		return false, nil
	}
	if len(t.Storage.InUpper) > 0 {
		t.Storage.Upper, t.Storage.Lock = upper.Dir, u.Lock()
	}
	return u.Changed(), nil
}

// holdsOverlays tells whether overlays can have their upper layers on a file
// system, and it takes nobody's memory.
func holdsOverlays(magic int64) bool {
	const bcachefs = 0xca451a4e
	switch magic {
	case unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.F2FS_SUPER_MAGIC, bcachefs:
		return true
	}
	return false
}

// preparePlain: the directories are fit as they are.
func (t *Tree) preparePlain(ctx context.Context) error {
	for _, s := range t.Plan.Storage {
		at, err := t.lookup(s.Path, unix.O_RDONLY|unix.O_DIRECTORY)
		if err == nil {
			if err = t.ownPlace(at); err == nil {
				err = t.Fill.Restore(ctx, at)
			}
			at.Close()
			if errors.Is(err, errSystemPath) {
				t.Log.Warn(fmt.Sprintf("no storage for %s: %v", s.Path, err))
				continue
			}
			if err != nil {
				return fmt.Errorf("storage for %s: %w", s.Path, err)
			}
		}
		if t.Plan.Rootfs.Readonly {
			t.Storage.mounts = append(t.Storage.mounts, directory{path: s.Path})
		}
	}
	return nil
}

// ownPlace looks where the links of an image have led to.
func (t *Tree) ownPlace(at *os.File) error {
	root, err := rootfs.ShownPath(t.root)
	if err != nil {
		return err
	}
	place, err := rootfs.ShownPath(at)
	if err != nil {
		return err
	}
	below, ok := strings.CutPrefix(place, strings.TrimSuffix(root, "/"))
	if below == "" {
		below = "/"
	}
	if !ok || plan.BelongsToSystem(below) {
		return fmt.Errorf("%w: %s", errSystemPath, below)
	}
	return nil
}

func (t *Tree) prepare(ctx context.Context, s plan.Storage, u *rootfs.Layer) error {
	at, err := t.storagePlace(s)
	if errors.Is(err, unix.EROFS) {
		t.Log.Warn(fmt.Sprintf("no storage for %s: the root is read-only and has no such directory", s.Path))
		return nil
	}
	if err != nil {
		return err
	}
	defer at.Close()
	if err := t.ownPlace(at); err != nil {
		if errors.Is(err, errSystemPath) {
			t.Log.Warn(fmt.Sprintf("no storage for %s: %v", s.Path, err))
			err = nil
		}
		return err
	}
	var m *os.File
	err = rootfs.ErrNotInUpper
	if u != nil {
		var below string
		if m, below, err = u.Directory(ctx, at, t.Storage.InUpper); err == nil {
			t.Storage.InUpper = append(t.Storage.InUpper, below)
		}
	}
	if errors.Is(err, rootfs.ErrOverlap) {
		t.Log.Warn(fmt.Sprintf("no storage for %s: %v", s.Path, err))
		return nil
	}
	if errors.Is(err, rootfs.ErrNotInUpper) {
		m, err = t.hostDirectory(ctx, s, at)
	}
	if err != nil {
		return err
	}
	t.Storage.mounts = append(t.Storage.mounts, directory{s.Path, m})
	return t.label(m)
}

// label gives a storage directory the label that the root is mounted with, and new files in it
// inherit: the directory is not seen through that mount, which would give it to all.
func (t *Tree) label(dir *os.File) error {
	if t.Plan.MountLabel == "" {
		return nil
	}
	name := "/proc/thread-self/fd/" + strconv.Itoa(int(dir.Fd()))
	err := unix.Setxattr(name, "security.selinux", append([]byte(t.Plan.MountLabel), 0), 0)
	if errors.Is(err, unix.ENOTSUP) { // its file system is mounted with a label of the host's
		return nil
	}
	return os.NewSyscallError("label the directory: setxattr", err)
}

// storagePlace opens a storage directory's place in the root. One that is missing
// is made with its mode: in an overlay it is then the upper layer's.
func (t *Tree) storagePlace(s plan.Storage) (*os.File, error) {
	const flags = unix.O_RDONLY | unix.O_DIRECTORY
	at, err := t.lookup(s.Path, flags)
	if !errors.Is(err, unix.ENOENT) {
		return at, err
	}
	p, err := t.directoryWith(s.Path, s.Mode)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	return sys.Openat2(p, ".", unix.OpenHow{Flags: flags})
}

// hostDirectory makes a directory on the host, with a copy of what the root has at its place.
func (t *Tree) hostDirectory(ctx context.Context, s plan.Storage, at *os.File) (*os.File, error) {
	dir, err := t.newHostDirectory(s)
	if err != nil {
		return nil, err
	}
	fd, err := uidmap.IDMapped(dir, t.UserNS, false)
	if errors.Is(err, uidmap.ErrNotIDMappable) {
		fd, err = t.given(dir)
	}
	if err != nil {
		return nil, err
	}
	if err = t.Fill.Copy(ctx, at, fd); err != nil {
		err = fmt.Errorf("copy what the image has there: %w", err)
	} else {
		err = t.Fill.Restore(ctx, fd)
	}
	if err != nil {
		fd.Close()
		return nil, err
	}
	return fd, nil
}

// newHostDirectory works on another goroutine: this thread has the container's
// fsuid, to which the directory would belong.
func (t *Tree) newHostDirectory(s plan.Storage) (dir string, err error) {
	done := make(chan error)
	go func() {
		done <- func() error {
			all, err := t.Storage.Host()
			if err != nil {
				return err
			}
			dir = all + "/" + strings.ReplaceAll(strings.Trim(s.Path, "/"), "/", "-")
			return os.Mkdir(dir, 0o700)
		}()
	}()
	err = <-done
	return dir, err
}

// given gives a new, empty directory on the host to the root of the container, where
// ids cannot be shifted, and clones its mount.
func (t *Tree) given(host string) (*os.File, error) {
	dir, err := sys.Openat2(nil, host, unix.OpenHow{Flags: unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW})
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	if err := dir.Chown(int(t.UID), int(t.GID)); err != nil {
		return nil, err
	}
	return sys.OpenTree(nil, host, false)
}

// attachStorage puts the storage directories in their places.
func (t *Tree) attachStorage() error {
	defer t.Storage.close()
	for _, f := range t.Storage.mounts {
		if err := t.attachStorageDirectory(f); err != nil {
			return fmt.Errorf("storage for %s: %w", f.path, err)
		}
	}
	return nil
}

func (t *Tree) attachStorageDirectory(f directory) error {
	at, err := t.directory(f.path)
	if err != nil {
		return err
	}
	defer at.Close()
	m := f.mount
	if m == nil {
		if m, err = sys.OpenTree(at, "", false); err != nil {
			return err
		}
		defer m.Close()
	}
	if err := t.attach(m, at); err != nil {
		return err
	}
	return sys.MountSetattr(m, false, 0, 0, unix.MS_PRIVATE)
}
