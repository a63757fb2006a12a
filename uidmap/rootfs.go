package uidmap

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// Mount is one of the mounts that a caller hands over for a root file system,
// as in containerd's api/types.Mount.
type Mount struct {
	Type, Source, Target string
	Options              []string
}

// Rootfs says how to come by a container's root file system.
type Rootfs struct {
	// Dir is where it is to be attached, and where it already is if Mounts is
	// empty. An absolute path.
	Dir    string
	Mounts []Mount
	// UserNS is the container's user namespace, UID and GID its maps.
	UserNS   *os.File
	UID, GID Map
	// Shift: ids have to be shifted; false where the caller has done it.
	Shift bool
	// Journal is the folder for journals of chowned trees.
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
	// it shows ids as they are on the disk. It is the one of [Rootfs].
	UserNS *os.File
	// UserXattr: the overlay's own attributes are user.overlay.*, else
	// trusted.overlay.*.
	UserXattr bool
	// Caller is the folder on which the caller has an overlay of its own with this upper
	// layer; "" if it has none. CallerWork is the workdir of that.
	Caller, CallerWork string
}

// Mount returns the root file system as a detached mount, and its writable
// layer; nil if it is no overlay, or has none. The calling thread
// must have a mount namespace of its own, and, where Shift is set, the
// fsuid and fsgid of the container's root with all capabilities kept: an
// overlay whose upper layer is idmapped and whose maker is not mapped in it
// turns read-only.
func (r Rootfs) Mount() (*os.File, *Upper, error) {
	switch {
	case len(r.Mounts) == 0:
		return r.folder(r.Dir, nil)
	case len(r.Mounts) > 1:
		return nil, nil, fmt.Errorf("Create gives %d mounts for the root file system; give one, of type overlay or bind", len(r.Mounts))
	case r.Mounts[0].Target != "":
		return nil, nil, fmt.Errorf("Create gives a mount with the target %q; give one for the root itself", r.Mounts[0].Target)
	}
	m := r.Mounts[0]
	switch m.Type {
	case "overlay":
		return r.overlay(m.Options)
	case "bind", "rbind", "":
		return r.folder(m.Source, m.Options)
	}
	f, err := r.other(m)
	return f, nil, err
}

// folder is a root that is a folder of the host, or an overlay mounted there
// by the caller (Docker, CRI-O).
func (r Rootfs) folder(dir string, options []string) (*os.File, *Upper, error) {
	attr, rest := mountAttrs(options)
	own := false
	if len(rest) > 0 {
		uid, gid, other, err := idOptions(rest)
		if err != nil {
			return nil, nil, err
		}
		// containerd adds the label to binds as well, where mount(2) does not look at it.
		other = slices.DeleteFunc(other, func(o string) bool { _, ok := ContextOption(o); return ok })
		if len(other) > 0 {
			return nil, nil, fmt.Errorf("Create gives a bind of %s with the option %q, which is unknown; leave it out", dir, other[0])
		}
		if !r.Shift && len(uid) > 0 {
			ns, err := UserNS(uid, gid)
			if err != nil {
				return nil, nil, err
			}
			defer ns.Close()
			r.UserNS, r.Shift, own = ns, true, true
		}
	}
	f, upper, err := r.shifted(dir, attr&unix.MOUNT_ATTR_RDONLY != 0)
	if own || attr&unix.MOUNT_ATTR_RDONLY != 0 {
		upper = nil // whose user namespace is closed; that nobody may write
	}
	if err != nil || attr == 0 {
		return f, upper, err
	}
	if err := unix.MountSetattr(int(f.Fd()), "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: attr}); err != nil {
		f.Close()
		return nil, nil, os.NewSyscallError("mount_setattr", err)
	}
	return f, upper, nil
}

// shifted returns a folder with its ids shifted; shared is one that other
// containers may use, too.
func (r Rootfs) shifted(dir string, shared bool) (*os.File, *Upper, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return nil, nil, &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	layered := st.Type == unix.OVERLAYFS_SUPER_MAGIC
	why := errForced
	if r.Shift && !r.ForceChown {
		if layered {
			return r.again(dir)
		}
		f, err := IDMapped(dir, r.UserNS, true)
		if err == nil || !errors.Is(err, ErrNotIDMappable) {
			return f, nil, err
		}
		why = err
	}
	if r.Shift && shared {
		return nil, nil, fmt.Errorf("%s, given read-only, may be an image's, so its owners are not changed: %w; give a writable root file system", dir, ErrNotIDMappable)
	}
	f, err := clone(dir, true)
	if err != nil {
		return nil, nil, err
	}
	if r.Shift {
		if err := r.chown(dir, f, why); err != nil {
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
func (r Rootfs) chown(dir string, f *os.File, why error) error {
	if r.Slow != nil {
		r.Slow(why)
	}
	if r.BeforeChown != nil {
		if err := r.BeforeChown(dir); err != nil {
			return err
		}
	}
	return shift(r.Journal, dir, f, r.UID, r.GID)
}

// other is a file system that is mounted from its source (erofs, ext4, …).
func (r Rootfs) other(m Mount) (*os.File, error) {
	attr, rest := mountAttrs(m.Options)
	uid, gid, data, err := idOptions(rest)
	if err != nil {
		return nil, err
	}
	fs, err := openFS(m.Type)
	if err != nil {
		return nil, fmt.Errorf("the root file system of type %q: %w", m.Type, err)
	}
	defer fs.close()
	if err := fs.set("source", m.Source); err != nil {
		return nil, err
	}
	for _, o := range data {
		if err := fs.option(o); err != nil {
			return nil, err
		}
	}
	f, err := fs.mount(attr)
	if err != nil {
		return nil, err
	}
	ns := r.UserNS
	if !r.Shift {
		if len(uid) == 0 {
			return f, nil
		}
		if ns, err = UserNS(uid, gid); err != nil {
			f.Close()
			return nil, err
		}
		defer ns.Close()
	}
	if err := setIDMap(f, ns, false); err != nil {
		f.Close()
		return nil, fmt.Errorf("the root file system of type %q: %w; use a snapshotter that mounts overlays", m.Type, err)
	}
	return f, nil
}
