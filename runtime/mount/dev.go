// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"sysbox/runtime/plan"
	"sysbox/runtime/sys"
)

// dev makes the container's /dev: a tmpfs whose superblock is the host's, so
// that its nodes open, with every node owned as the plan says.
func (t *Tree) dev(m plan.Mount) error {
	m.Set &^= unix.MOUNT_ATTR_NODEV
	fd, err := t.newMount("tmpfs", "tmpfs", t.ownTmpfs(m.Data), m)
	if err != nil {
		return err
	}
	defer fd.Close()
	dir, err := sys.Openat2(fd, ".", unix.OpenHow{Flags: unix.O_RDONLY | unix.O_DIRECTORY})
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := t.fillDev(dir); err != nil {
		return err
	}
	at, err := t.realDirectory("/dev")
	if err != nil {
		return err
	}
	defer at.Close()
	if err := t.attach(fd, at); err != nil {
		return err
	}
	return finish(fd, m)
}

func (t *Tree) fillDev(dir *os.File) error {
	for _, name := range []string{"pts", "shm", "mqueue"} {
		if err := unix.Mkdirat(int(dir.Fd()), name, 0o755); err != nil {
			return fmt.Errorf("make /dev/%s: %w", name, err)
		}
	}
	for _, link := range [][2]string{
		{"fd", "/proc/self/fd"},
		{"stdin", "/proc/self/fd/0"},
		{"stdout", "/proc/self/fd/1"},
		{"stderr", "/proc/self/fd/2"},
		{"ptmx", "pts/ptmx"},
	} {
		if err := unix.Symlinkat(link[1], int(dir.Fd()), link[0]); err != nil {
			return fmt.Errorf("make /dev/%s: %w", link[0], err)
		}
	}
	if t.Plan.Process.Terminal {
		if err := unix.Mknodat(int(dir.Fd()), "console", unix.S_IFREG|0o620, 0); err != nil {
			return fmt.Errorf("make /dev/console: %w", err)
		}
	}
	for _, d := range t.Plan.Devices {
		name, ok := strings.CutPrefix(d.Path, "/dev/")
		if !ok {
			continue
		}
		if err := t.node(dir, name, d); err != nil {
			return err
		}
	}
	null, err := sys.Openat2(dir, "null", unix.OpenHow{Flags: unix.O_PATH | unix.O_NOFOLLOW})
	if err != nil {
		return fmt.Errorf("the plan has no /dev/null: %w", err)
	}
	t.null = null
	return nil
}

// devicesOutsideDev makes the nodes that the spec wants elsewhere.
func (t *Tree) devicesOutsideDev() error {
	for _, d := range t.Plan.Devices {
		if strings.HasPrefix(d.Path, "/dev/") {
			continue
		}
		dir, err := t.directory(path.Dir(d.Path))
		if err != nil {
			return fmt.Errorf("device %s: %w", d.Path, err)
		}
		err = t.node(dir, path.Base(d.Path), d)
		dir.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// node makes one device node below dir; directories on the way are made.
func (t *Tree) node(dir *os.File, name string, d plan.Device) error {
	at := int(dir.Fd())
	for i, c := range name {
		if c != '/' {
			continue
		}
		if err := unix.Mkdirat(at, name[:i], 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("device %s: %w", d.Path, err)
		}
	}
	kind := map[string]uint32{"c": unix.S_IFCHR, "u": unix.S_IFCHR, "b": unix.S_IFBLK, "p": unix.S_IFIFO}[d.Type]
	uid, okU := t.Plan.IDs.UID.ToHost(d.UID)
	gid, okG := t.Plan.IDs.GID.ToHost(d.GID)
	if !okU || !okG {
		return fmt.Errorf("device %s: owner %d:%d is not mapped in the container; use ids that are", d.Path, d.UID, d.GID)
	}
	dev := unix.Mkdev(d.Major, d.Minor)
	umask := unix.Umask(0) // this thread's own
	err := unix.Mknodat(at, name, kind|d.Mode&0o7777, int(dev))
	unix.Umask(umask)
	if errors.Is(err, fs.ErrExist) {
		return nil // /dev/ptmx and the like: ours comes first
	}
	if err == nil {
		err = give(at, name, kind, dev, uid, gid)
	}
	if err != nil {
		return fmt.Errorf("make device %s (%s %d:%d): %w", d.Path, d.Type, d.Major, d.Minor, err)
	}
	return nil
}

// give changes the owner of the node that was just made. Outside of /dev it may lie in a
// volume that another container has as well: what has the name now is that node,
// or nothing is done to it.
func give(at int, name string, kind uint32, dev uint64, uid, gid uint32) error {
	fd, err := unix.Openat(at, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != kind || kind != unix.S_IFIFO && uint64(st.Rdev) != dev {
		return fmt.Errorf("somebody has put something else there: %w", errHostile)
	}
	return unix.Fchownat(fd, "", int(uid), int(gid), unix.AT_EMPTY_PATH)
}
