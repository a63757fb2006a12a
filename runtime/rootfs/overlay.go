// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
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

// layers are the directories of an overlay, and the options that are not directories.
type layers struct {
	lower       []string // topmost first
	upper, work string
	data        []string
	attr        uint64     // MOUNT_ATTR_*
	uid, gid    uidmap.Map // of the options uidmap= and gidmap=
}

func parseOverlay(options []string) (*layers, error) {
	l := &layers{}
	var rest []string
	l.attr, rest = mountAttrs(options)
	var err error
	if l.uid, l.gid, rest, err = idOptions(rest); err != nil {
		return nil, err
	}
	for _, o := range rest {
		k, v, _ := strings.Cut(o, "=")
		switch k {
		case "lowerdir":
			l.lower = append(l.lower, splitEscaped(v, ':')...)
		case "lowerdir+":
			l.lower = append(l.lower, v)
		case "upperdir":
			l.upper = v
		case "workdir":
			l.work = v
		default:
			l.data = append(l.data, o)
		}
	}
	for _, dir := range append([]string{l.upper, l.work}, l.lower...) {
		if dir != "" && !path.IsAbs(dir) {
			return nil, fmt.Errorf("the overlay's layer %q is not an absolute path; its mount cannot be made again from here, so let Create bring the mounts, or use a directory as root.path", dir)
		}
	}
	switch {
	case len(l.lower) == 0:
		return nil, errors.New("the overlay for the root file system has no lowerdir; give at least one")
	case (l.upper == "") != (l.work == ""):
		return nil, errors.New("the overlay for the root file system has one of upperdir and workdir; give both or none")
	}
	return l, nil
}

// writable is the upper layer, shifted by the user namespace if there is one;
// nil if the overlay cannot be written.
func (l *layers) writable(userns *os.File) *Upper {
	if l.upper == "" || l.attr&unix.MOUNT_ATTR_RDONLY != 0 {
		return nil
	}
	return &Upper{Dir: l.upper, Work: l.work, UserNS: userns, UserXattr: slices.Contains(l.data, "userxattr")}
}

// overlay mounts the layers, each through an idmapped mount where ids are to
// be shifted.
func (c Config) overlay(options []string) (*os.File, *Upper, error) {
	l, err := parseOverlay(options)
	if err != nil {
		return nil, nil, err
	}
	if len(l.lower) == 1 && l.upper == "" { // overlayfs wants two
		c.Mounts = nil
		f, _, err := c.directory(l.lower[0], []string{"ro"})
		return f, nil, err
	}
	userns := c.UserNS
	switch {
	case c.Shift:
	case len(l.uid) > 0:
		if userns, err = uidmap.UserNS(l.uid, l.gid); err != nil {
			return nil, nil, err
		}
		defer userns.Close()
	default:
		userns = nil
	}
	why := errForced
	if !c.ForceChown {
		f, err := c.mount(l, userns)
		// EINVAL: Linux before 5.19 refuses layers that are shifted. What is
		// wrong with the options is wrong without shifts as well.
		if err == nil && !c.Shift {
			return f, l.writable(nil), nil // containerd's mappings are of the lower layers
		}
		if err == nil || !c.Shift || !errors.Is(err, uidmap.ErrNotIDMappable) && !errors.Is(err, unix.EINVAL) {
			return f, l.writable(userns), err
		}
		why = err
	}
	f, err := c.chownedOverlay(l, why)
	return f, l.writable(nil), err
}

// mount mounts the layers, shifted by the user namespace if there is one.
func (c Config) mount(l *layers, userns *os.File) (*os.File, error) {
	m := &overlayMaker{layers: l, userns: userns, dir: c.Dir, upperToo: c.Shift}
	defer m.close()
	if err := m.open(); err != nil {
		return nil, err
	}
	if c.ForceAttached {
		return m.attached()
	}
	f, err := m.detached()
	if errors.Is(err, errNoLayerFD) {
		return m.attached()
	}
	return f, err
}

// chownedOverlay gives an overlay of layers that cannot be shifted to the
// container by chown. That copies all files to the upper layer: the lower ones
// are the image's. (With metacopy=on it would not, but then the upper layer is
// no more what a snapshotter can commit.)
func (c Config) chownedOverlay(l *layers, why error) (*os.File, error) {
	if l.upper == "" {
		return nil, fmt.Errorf("the overlay of %s has no upperdir, and the image's files must not change their owners: %w; give a writable root file system", l.lower[0], uidmap.ErrNotIDMappable)
	}
	f, err := c.mount(l, nil)
	if err != nil {
		return nil, err
	}
	if err := c.chown(l.upper, f, why); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

type overlayMaker struct {
	*layers
	userns *os.File
	// upperToo: the upper layer is shifted as well; containerd's own mappings
	// are of the lower layers, its upper is written with the host's ids.
	upperToo bool
	dir      string
	opened   []*os.File
	lowers   []*os.File
	base     *os.File // the mount that has upper and work
	parent   string   // its directory
}

func (m *overlayMaker) close() {
	for _, f := range m.opened {
		f.Close()
	}
}

func (m *overlayMaker) open() error {
	for _, dir := range m.lower {
		f, err := m.layer(dir, true)
		if err != nil {
			return err
		}
		m.lowers = append(m.lowers, f)
	}
	if m.upper == "" {
		return nil
	}
	// Both must lie in one mount, or a rename between them is a copy.
	m.parent = path.Dir(m.upper)
	for !strings.HasPrefix(path.Clean(m.work)+"/", strings.TrimSuffix(m.parent, "/")+"/") {
		m.parent = path.Dir(m.parent)
	}
	var err error
	m.base, err = m.layer(m.parent, m.upperToo)
	return err
}

func (m *overlayMaker) layer(dir string, shift bool) (*os.File, error) {
	var f *os.File
	var err error
	if m.userns != nil && shift {
		f, err = uidmap.IDMapped(dir, m.userns, false)
	} else {
		f, err = uidmap.Clone(dir, false)
	}
	if err != nil {
		return nil, fmt.Errorf("a layer of the root file system: %w", err)
	}
	m.opened = append(m.opened, f)
	return f, nil
}

// errNoLayerFD: the kernel does not take layers as open files.
var errNoLayerFD = errors.New("overlay takes no layers as files (before Linux 6.13)")

// detached gives the layers to the kernel as open files: attaching each to a
// path first costs ten times as much.
func (m *overlayMaker) detached() (*os.File, error) {
	fs, err := openFS("overlay")
	if err != nil {
		return nil, err
	}
	defer fs.Close()
	if err := setOption(fs, "overlay", "source=overlay"); err != nil {
		return nil, err
	}
	for i, f := range m.lowers {
		err := fs.SetFD("lowerdir+", f)
		if i == 0 && err != nil {
			return nil, errNoLayerFD
		}
		if err != nil {
			return nil, explained("overlay", "lowerdir+ "+m.lower[i], err)
		}
	}
	if m.upper != "" {
		for _, d := range [][2]string{{"upperdir", m.upper}, {"workdir", m.work}} {
			fd, err := unix.Openat(int(m.base.Fd()), "."+strings.TrimPrefix(d[1], strings.TrimSuffix(m.parent, "/")), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
			if err != nil {
				return nil, &os.PathError{Op: "open", Path: d[1], Err: err}
			}
			dir := os.NewFile(uintptr(fd), d[1])
			err = fs.SetFD(d[0], dir)
			dir.Close()
			if err != nil {
				return nil, explained("overlay", d[0]+" "+d[1], err)
			}
		}
	}
	return m.finish(fs)
}

// attached gives the layers to the kernel as paths: each is attached in a
// tmpfs that covers the root's directory in this thread's namespace for as long.
func (m *overlayMaker) attached() (*os.File, error) {
	if err := sys.Mount("layers", m.dir, "tmpfs", 0, "mode=755"); err != nil {
		return nil, &os.PathError{Op: "mount a tmpfs for layers on", Path: m.dir, Err: sys.Errno(err)}
	}
	defer sys.Unmount(m.dir, unix.MNT_DETACH) //nolint:errcheck // it goes with this thread's namespace
	if err := unix.Chdir(m.dir); err != nil { // short names: an option has 255 bytes
		return nil, &os.PathError{Op: "chdir", Path: m.dir, Err: err}
	}
	defer unix.Chdir("/") //nolint:errcheck // which is always there
	attach := func(f *os.File, name string) error {
		if err := unix.Mkdir(name, 0o755); err != nil {
			return &os.PathError{Op: "mkdir", Path: name, Err: err}
		}
		at, err := sys.Openat2(nil, name, unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW})
		if err != nil {
			return &os.PathError{Op: "open", Path: name, Err: sys.Errno(err)}
		}
		defer at.Close()
		return os.NewSyscallError("move_mount", sys.Errno(sys.MoveMount(f, at)))
	}
	var names []string
	for i, f := range m.lowers {
		names = append(names, strconv.Itoa(i))
		if err := attach(f, names[i]); err != nil {
			return nil, err
		}
	}
	fs, err := openFS("overlay")
	if err != nil {
		return nil, err
	}
	defer fs.Close()
	options := []string{"source=overlay", "lowerdir=" + strings.Join(names, ":")}
	if m.upper != "" {
		if err := attach(m.base, "u"); err != nil {
			return nil, err
		}
		below := strings.TrimSuffix(m.parent, "/")
		options = append(options, "upperdir=u"+strings.TrimPrefix(m.upper, below), "workdir=u"+strings.TrimPrefix(m.work, below))
	}
	for _, o := range options {
		if err := setOption(fs, "overlay", o); err != nil {
			return nil, err
		}
	}
	return m.finish(fs)
}

func (m *overlayMaker) finish(fs *sys.FS) (*os.File, error) {
	for _, o := range m.data {
		if err := setOption(fs, "overlay", o); err != nil {
			return nil, err
		}
	}
	f, err := mountFS(fs, "overlay", m.attr)
	if err != nil {
		if strings.Contains(strings.Join(m.data, ","), "volatile") {
			err = fmt.Errorf("%w; if the upper layer was used with \"volatile\" before, remove %s/work/incompat/volatile", err, m.work)
		}
		return nil, err
	}
	// Where the kernel could not prepare workdir it says so in its log only.
	var st unix.Statfs_t
	if m.upper != "" && m.attr&unix.MOUNT_ATTR_RDONLY == 0 && unix.Fstatfs(int(f.Fd()), &st) == nil && st.Flags&unix.ST_RDONLY != 0 {
		f.Close()
		return nil, fmt.Errorf("the kernel made the overlay over %s read-only; see its log for the reason", m.upper)
	}
	return f, nil
}

// overlayAt reads the options of the overlay that is mounted on dir.
func overlayAt(dir string) ([]string, error) {
	id, err := sys.MountID(nil, dir)
	if err != nil {
		return nil, err
	}
	var options []string
	for m, err := range sys.MountsOf("/proc/thread-self/mountinfo") {
		if err != nil {
			return nil, err
		}
		// Another overlay may have been mounted there before, and be covered.
		if m.ID == id && m.Type == "overlay" && m.Point == path.Clean(dir) {
			options = splitOptions(m.SuperOptions)
		}
	}
	if options == nil {
		return nil, fmt.Errorf("%s lies on an overlay but is not the root of one; give the overlay's own mount point as root.path", dir)
	}
	return options, nil
}

// splitOptions splits at commas, and drops what the kernel shows but does not
// take, or what is of the mount and not of the layers.
func splitOptions(s string) []string {
	var out []string
	for s != "" {
		var o string
		if o, s = cutOption(s); o != "" && o != "rw" && o != "uuid=on" && o != "nouserxattr" {
			out = append(out, o)
		}
	}
	return out
}

// cutOption returns the first option and the others. A label may have commas, in quotes;
// quotes elsewhere are part of a path.
func cutOption(s string) (option, others string) {
	key, value, _ := strings.Cut(s, "=")
	if _, label := plan.ContextOption(s); label && strings.HasPrefix(value, `"`) {
		if i := strings.Index(value[1:], `"`); i >= 0 {
			end := len(key) + len(`="`) + i + len(`"`)
			return s[:end], strings.TrimPrefix(s[end:], ",")
		}
	}
	option, others, _ = strings.Cut(s, ",")
	return option, others
}
