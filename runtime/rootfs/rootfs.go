// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"sysbox/runtime/plan"
	"sysbox/runtime/sys"
	"sysbox/uidmap"
)

// Config says where a container's root file system comes from.
type Config struct {
	// Dir is where it is to be attached, and where it already is if Mounts is
	// empty. An absolute path.
	Dir string
	// Mounts are those that the caller hands over for the root file system, of which one is
	// taken.
	Mounts []plan.RootfsMount
	// UserNS is the container's user namespace, UID and GID its maps.
	UserNS   *os.File
	UID, GID uidmap.Map
	// Shift: ids have to be shifted; false where the caller has done it.
	Shift bool
	// Journal is the directory for journals of chowned trees.
	Journal string
	// BeforeChown is called with the tree before its first file is chowned,
	// so that it can be reverted after any crash.
	BeforeChown func(root string) error
	// Slow is told why the files are chowned, before the first one is; nil: nobody.
	Slow func(why error)
	// ForceChown and ForceAttached take the fallbacks where they are not
	// needed, for tests.
	ForceChown, ForceAttached bool
}

// Upper is the writable layer of an overlay, as it lies on the disk.
type Upper struct {
	// Dir and Work are upperdir and workdir: absolute paths on the host.
	Dir, Work string
	// UserNS has the maps by which the overlay's mount shifts the layer; nil if
	// it shows ids as they are on the disk. It is the one of [Config].
	UserNS *os.File
	// UserXattr: the overlay's own attributes are user.overlay.*, else
	// trusted.overlay.*.
	UserXattr bool
	// Caller is the directory on which the caller has an overlay of its own with this upper
	// layer; "" if it has none. CallerWork is the workdir of that.
	Caller, CallerWork string
}

// Mount returns the root file system as a detached mount, and its writable
// layer; nil if the root is not an overlay, or has no upper layer. The calling thread
// must have a mount namespace of its own, and, where c.Shift is set, the
// fsuid and fsgid of the container's root with all capabilities kept: an
// overlay whose upper layer is idmapped and whose maker is not mapped in it
// turns read-only.
func Mount(c Config) (*os.File, *Upper, error) {
	switch {
	case len(c.Mounts) == 0:
		return c.directory(c.Dir, nil)
	case len(c.Mounts) > 1:
		return nil, nil, fmt.Errorf("Create gives %d mounts for the root file system; give one, of type overlay or bind", len(c.Mounts))
	case c.Mounts[0].Target != "":
		return nil, nil, fmt.Errorf("Create gives a mount with the target %q; give one for the root itself", c.Mounts[0].Target)
	}
	m := c.Mounts[0]
	switch m.Type {
	case "overlay":
		return c.overlay(m.Options)
	case "bind", "rbind", "":
		return c.directory(m.Source, m.Options)
	}
	f, err := c.other(m)
	return f, nil, err
}

// directory is a root that is a directory of the host, or an overlay mounted there
// by the caller (Docker, CRI-O).
func (c Config) directory(dir string, options []string) (*os.File, *Upper, error) {
	attr, rest := mountAttrs(options)
	own := false
	if len(rest) > 0 {
		uid, gid, other, err := idOptions(rest)
		if err != nil {
			return nil, nil, err
		}
		// containerd adds the label to binds as well, where mount(2) does not look at it.
		other = slices.DeleteFunc(other, func(o string) bool { _, ok := plan.ContextOption(o); return ok })
		if len(other) > 0 {
			return nil, nil, fmt.Errorf("Create gives a bind of %s with the option %q, which is unknown; leave it out", dir, other[0])
		}
		if !c.Shift && len(uid) > 0 {
			ns, err := uidmap.UserNS(uid, gid)
			if err != nil {
				return nil, nil, err
			}
			defer ns.Close()
			c.UserNS, c.Shift, own = ns, true, true
		}
	}
	f, upper, err := c.shifted(dir, attr&unix.MOUNT_ATTR_RDONLY != 0)
	if own || attr&unix.MOUNT_ATTR_RDONLY != 0 {
		upper = nil // whose user namespace is closed; that nobody may write
	}
	if err != nil || attr == 0 {
		return f, upper, err
	}
	if err := sys.MountSetattr(f, false, attr, 0, 0); err != nil {
		f.Close()
		return nil, nil, os.NewSyscallError("mount_setattr", sys.Errno(err))
	}
	return f, upper, nil
}

// shifted returns a directory with its ids shifted; shared is one that other
// containers may use, too.
func (c Config) shifted(dir string, shared bool) (*os.File, *Upper, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return nil, nil, &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	layered := st.Type == unix.OVERLAYFS_SUPER_MAGIC
	why := errForced
	if c.Shift && !c.ForceChown {
		if layered {
			return c.again(dir)
		}
		f, err := uidmap.IDMapped(dir, c.UserNS, true)
		if err == nil || !errors.Is(err, uidmap.ErrNotIDMappable) {
			return f, nil, err
		}
		why = err
	}
	if c.Shift && shared {
		return nil, nil, fmt.Errorf("%s, given read-only, may be an image's, so its owners are not changed: %w; give a writable root file system", dir, uidmap.ErrNotIDMappable)
	}
	f, err := uidmap.Clone(dir, true)
	if err != nil {
		return nil, nil, err
	}
	if c.Shift {
		if err := c.chown(dir, f, why); err != nil {
			f.Close()
			return nil, nil, err
		}
	}
	if layered && st.Flags&unix.ST_RDONLY == 0 {
		return f, upperAt(dir), nil
	}
	return f, nil, nil
}

// upperAt finds the writable layer of an overlay that somebody else mounted on
// dir; nil where its options do not tell.
func upperAt(dir string) *Upper {
	options, err := overlayAt(dir)
	if err != nil {
		return nil
	}
	l, err := parseOverlay(options)
	if err != nil {
		return nil
	}
	return l.writable(nil)
}

var errForced = errors.New("it was asked for")

// chown gives the tree whose root is f to the container, until Revert of dir,
// which is where the changes are kept.
func (c Config) chown(dir string, f *os.File, why error) error {
	if c.Slow != nil {
		c.Slow(why)
	}
	if c.BeforeChown != nil {
		if err := c.BeforeChown(dir); err != nil {
			return err
		}
	}
	return uidmap.ShiftOpen(c.Journal, dir, f, c.UID, c.GID)
}

// other is a file system that is mounted from its source (erofs, ext4, …).
func (c Config) other(m plan.RootfsMount) (*os.File, error) {
	attr, rest := mountAttrs(m.Options)
	uid, gid, data, err := idOptions(rest)
	if err != nil {
		return nil, err
	}
	fs, err := openFS(m.Type)
	if err != nil {
		return nil, fmt.Errorf("the root file system of type %q: %w", m.Type, err)
	}
	defer fs.Close()
	for _, o := range append([]string{"source=" + m.Source}, data...) {
		if err := setOption(fs, m.Type, o); err != nil {
			return nil, err
		}
	}
	f, err := mountFS(fs, m.Type, attr)
	if err != nil {
		return nil, err
	}
	ns := c.UserNS
	if !c.Shift {
		if len(uid) == 0 {
			return f, nil
		}
		if ns, err = uidmap.UserNS(uid, gid); err != nil {
			f.Close()
			return nil, err
		}
		defer ns.Close()
	}
	if err := uidmap.SetIDMap(f, ns, false); err != nil {
		f.Close()
		return nil, fmt.Errorf("the root file system of type %q: %w; use a snapshotter that mounts overlays", m.Type, err)
	}
	return f, nil
}
