// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"sysbox/runtime/plan"
	"sysbox/runtime/sys"
	"sysbox/uidmap"
)

// mount makes one mount of the plan and everything that belongs to it.
func (t *Tree) mount(ctx context.Context, m plan.Mount) error {
	if err := t.mountKind(ctx, m); err != nil {
		return fmt.Errorf("mount %s (%s) at %s: %w", m.Source, m.Type, m.Destination, err)
	}
	return nil
}

func (t *Tree) mountKind(ctx context.Context, m plan.Mount) error {
	switch {
	case m.Type == "bind":
		return t.bind(m)
	case m.Destination == "/dev" && m.Type == "tmpfs":
		return t.dev(m)
	case m.Type == "proc":
		return t.proc(m)
	case m.Type == "sysfs":
		return t.sysfs(m)
	case m.Type == "tmpfs":
		return t.tmpfs(ctx, m)
	case m.Type == "mqueue":
		return t.mqueue(m)
	}
	fd, err := t.newMount(m.Type, m.Source, m.Data, m)
	if err != nil {
		return err
	}
	defer fd.Close()
	return t.attachDirectory(fd, m)
}

// newMount makes a detached mount of a new file system, options from data.
func (t *Tree) newMount(fstype, source string, data []string, m plan.Mount) (*os.File, error) {
	fs, err := sys.Fsopen(fstype)
	if err != nil {
		return nil, err
	}
	defer fs.Close()
	if source == "" {
		source = fstype // else the mount shows as "none"
	}
	if err := fs.SetString("source", source); err != nil {
		return nil, err
	}
	for _, d := range data {
		if err := setOption(fs, d); err != nil {
			return nil, err
		}
	}
	if err := fs.Create(); err != nil {
		return nil, err
	}
	return fs.Mount(int(m.Set))
}

func cutOption(option string) (key, value string, ok bool) { return strings.Cut(option, "=") }

func setOption(fs *sys.FS, option string) error {
	if k, v, ok := cutOption(option); ok {
		return fs.SetString(k, v)
	}
	return fs.SetFlag(option)
}

// attachDirectory puts a detached mount on the directory m.Destination and sets its
// propagation.
func (t *Tree) attachDirectory(fd *os.File, m plan.Mount) error {
	at, err := t.directory(m.Destination)
	if err != nil {
		return err
	}
	defer at.Close()
	if err := t.attach(fd, at); err != nil {
		return err
	}
	return finish(fd, m)
}

// finish applies what of a mount's options works only once it is attached.
func finish(fd *os.File, m plan.Mount) error {
	if m.RecSet|m.RecClear != 0 {
		if err := sys.MountSetattr(fd, true, m.RecSet, m.RecClear, 0); err != nil {
			return err
		}
	}
	p := m.Propagation &^ (unix.MS_REC | unix.MS_SILENT)
	// Init marks what is unbindable: the mark goes with the copy into the container's mount
	// namespace on new kernels and stays on old ones (6.1), there for mounts below, too.
	if p == 0 || p == unix.MS_UNBINDABLE {
		p = unix.MS_PRIVATE
	}
	return sys.MountSetattr(fd, m.Recursive || m.Propagation&unix.MS_REC != 0, 0, 0, uint64(p))
}

// proc mounts the procfs of the container's pid namespace. Its superblock
// belongs to the container's user namespace, as the kernel takes that from
// the pid namespace.
func (t *Tree) proc(m plan.Mount) error {
	fd, err := t.newProc(m)
	if err != nil {
		return err
	}
	defer fd.Close()
	return t.attachKernel("proc", fd, m)
}

func (t *Tree) newProc(m plan.Mount) (*os.File, error) {
	fs, err := sys.Fsopen("proc")
	if err != nil {
		return nil, err
	}
	defer fs.Close()
	if err := fs.SetString("source", "proc"); err != nil {
		return nil, err
	}
	if t.ForceHelper {
		return t.procByHelper(m)
	}
	if err := fs.SetFD("pidns", t.PIDNS); err != nil { // Linux 6.17
		if sys.Unsupported(err) || errors.Is(err, unix.EBADF) {
			return t.procByHelper(m)
		}
		return nil, err
	}
	for _, d := range m.Data {
		if err := setOption(fs, d); err != nil {
			return nil, err
		}
	}
	if err := fs.Create(); err != nil {
		return nil, err
	}
	return fs.Mount(int(m.Set))
}

// sysfs mounts the sysfs of the container's network namespace, which this
// thread joins for good: it is thrown away after the build.
func (t *Tree) sysfs(m plan.Mount) error {
	if err := sys.Setns(t.NetNS, unix.CLONE_NEWNET); err != nil {
		return err
	}
	fd, err := t.newMount("sysfs", "sysfs", m.Data, m)
	if err != nil {
		return err
	}
	defer fd.Close()
	return t.attachKernel("sys", fd, m)
}

// mqueue mounts the message queues of an ipc namespace that is not the container's own, and
// which this thread joins for good. Its files belong to ids of that namespace's owner: what
// the container may do with them is for the kernel to say.
func (t *Tree) mqueue(m plan.Mount) error {
	if err := sys.Setns(t.IPCNS, unix.CLONE_NEWIPC); err != nil {
		return err
	}
	fd, err := t.newMount("mqueue", m.Source, m.Data, m)
	if err != nil {
		return err
	}
	defer fd.Close()
	if label := t.Plan.MountLabel; label != "" {
		if err := unix.Setxattr(fmt.Sprintf("/proc/thread-self/fd/%d", fd.Fd()), "security.selinux", append([]byte(label), 0), 0); err != nil {
			return fmt.Errorf("linux.mountLabel is %q: %w", label, err)
		}
	}
	return t.attachDirectory(fd, m)
}

// attachKernel attaches a proc or sysfs, whose place must be a real directory.
func (t *Tree) attachKernel(name string, fd *os.File, m plan.Mount) error {
	at, err := t.realDirectory(m.Destination)
	if err != nil {
		return err
	}
	defer at.Close()
	if err := t.attach(fd, at); err != nil {
		return err
	}
	if err := finish(fd, m); err != nil {
		return err
	}
	return t.keepUnmasked(name, fd)
}

// tmpfs mounts a tmpfs made by the host whose files belong to the container.
func (t *Tree) tmpfs(ctx context.Context, m plan.Mount) error {
	data := t.ownTmpfs(m.Data)
	fd, err := t.newMount("tmpfs", m.Source, data, m)
	if err != nil {
		return err
	}
	defer fd.Close()
	if m.CopyUp {
		if from, err := t.lookup(m.Destination, unix.O_RDONLY|unix.O_DIRECTORY); err == nil {
			err = t.Fill.Copy(ctx, from, fd)
			from.Close()
			if err != nil {
				return fmt.Errorf("copy the image's %s: %w", m.Destination, err)
			}
		}
	}
	return t.attachDirectory(fd, m)
}

// ownTmpfs turns a tmpfs's uid= and gid= into the host's numbers and gives it
// to the container's root where it has none.
func (t *Tree) ownTmpfs(data []string) []string {
	uid, gid := t.UID, t.GID
	out := make([]string, 0, len(data)+2)
	for _, d := range data {
		k, v, _ := strings.Cut(d, "=")
		n, err := strconv.ParseUint(v, 10, 32)
		switch {
		case k == "uid" && err == nil:
			if h, ok := t.Plan.IDs.UID.ToHost(uint32(n)); ok {
				uid = h
			}
		case k == "gid" && err == nil:
			if h, ok := t.Plan.IDs.GID.ToHost(uint32(n)); ok {
				gid = h
			}
		default:
			out = append(out, d)
		}
	}
	return append(out, "uid="+strconv.FormatUint(uint64(uid), 10), "gid="+strconv.FormatUint(uint64(gid), 10))
}

// bind clones a host's file or directory, idmapped as the plan says, and
// attaches it.
func (t *Tree) bind(m plan.Mount) error {
	if m.Links.Copy {
		if target, err := os.Readlink(m.Source); err == nil {
			return t.link(target, m.Destination)
		}
	}
	if m.Links.Source {
		link, err := os.OpenFile(m.Source, unix.O_PATH|unix.O_NOFOLLOW, 0)
		if err != nil {
			return noSource(err)
		}
		defer link.Close()
		// It leads to the open file and no further.
		m.Source = "/proc/thread-self/fd/" + strconv.Itoa(int(link.Fd()))
	}
	fd, err := t.clone(m)
	if err != nil {
		return err
	}
	defer fd.Close()
	if m.Set|m.Clear != 0 {
		if err := sys.MountSetattr(fd, false, m.Set, m.Clear, 0); err != nil {
			return err
		}
	}
	if m.Late {
		return t.holdLate(fd, m)
	}
	at, err := t.mountpointFor(isDirectory(fd), m.Destination, m.Links.Destination)
	if err != nil {
		return err
	}
	defer at.Close()
	if err := t.attach(fd, at); err != nil {
		return err
	}
	return finish(fd, m)
}

func (t *Tree) clone(m plan.Mount) (*os.File, error) {
	var ns *os.File
	switch m.IDMap {
	case plan.IDMapContainer:
		if !t.belongs(m.Source) {
			ns = t.UserNS
		}
	case plan.IDMapExplicit, plan.IDMapExplicitRecursive:
		if slices.Equal(m.UID, t.Plan.IDs.UID) && slices.Equal(m.GID, t.Plan.IDs.GID) {
			ns = t.UserNS // as CRI asks for every volume of a pod
			break
		}
		n, err := uidmap.UserNS(m.UID, m.GID)
		if err != nil {
			return nil, err
		}
		defer n.Close()
		ns = n
	}
	if ns == nil {
		fd, err := sys.OpenTree(nil, m.Source, m.Recursive)
		return fd, noSource(err)
	}
	// A recursive bind is shifted as a whole: a container that could write as
	// a stranger to what is mounted below would be no better than unshifted.
	fd, err := uidmap.IDMapped(m.Source, ns, m.Recursive)
	if err == nil || m.IDMap != plan.IDMapContainer || !errors.Is(err, uidmap.ErrNotIDMappable) {
		return fd, noSource(err)
	}
	if t.RefuseUnshifted {
		return nil, fmt.Errorf("%w; use a file system that can, or set unshifted_binds to \"warn\"", err)
	}
	t.Log.Warn(fmt.Sprintf("mount %s at %s: ids are not shifted, so its owner shows as nobody: %v", m.Source, m.Destination, err))
	return sys.OpenTree(nil, m.Source, m.Recursive)
}

// noSource adds the way out where a bind's source is missing.
func noSource(err error) error {
	if errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("%w; make the source on the host first (a relative one is looked for in the bundle)", err)
	}
	return err
}

// belongs tells whether a bind's source is already owned by the container's
// range, so that shifting it again would lose its owner.
func (t *Tree) belongs(source string) bool {
	var st unix.Stat_t
	if err := unix.Stat(source, &st); err != nil {
		return false
	}
	_, ok := t.Plan.IDs.UID.ToContainer(st.Uid)
	return ok
}

// attachUnmasked keeps a complete proc and sysfs at a hidden place, so that nested
// user namespaces may mount their own in spite of masks (the kernel's
// mount_too_revealing wants one fully visible instance, and does not mind that
// it is covered). The cover is locked like all of the tree; still, no
// isolation rests on a mask.
func (t *Tree) attachUnmasked() error {
	if !t.Plan.RevealProc || len(t.unmasked) == 0 {
		return nil
	}
	for name, fd := range t.unmasked {
		at, err := t.directory(path.Join(unmaskedDir, name))
		if err != nil {
			return err
		}
		err = t.attach(fd, at)
		at.Close()
		if err != nil {
			return err
		}
	}
	return t.coverDirectory(unmaskedDir)
}

// keepUnmasked clones a proc or sysfs for attachUnmasked, before anything is mounted on it.
func (t *Tree) keepUnmasked(name string, fd *os.File) error {
	if !t.Plan.RevealProc {
		return nil
	}
	clone, err := sys.OpenTree(fd, "", false)
	if err != nil {
		return err
	}
	if t.unmasked == nil {
		t.unmasked = map[string]*os.File{}
	}
	t.unmasked[name] = clone
	return nil
}

// unmaskedDir lies in our own /dev, so that the image cannot be in its way.
const unmaskedDir = "/dev/.sysbox"
