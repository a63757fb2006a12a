// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"sysbox/runtime/plan"
	"sysbox/runtime/sys"
)

// late is a detached mount for [Tree.AttachLate].
type late struct {
	mount *os.File
	at    string // clean absolute path in the container
}

// holdLate keeps a bind for AttachLate, and makes its mount point.
func (t *Tree) holdLate(fd *os.File, m plan.Mount) error {
	at, err := t.mountpointFor(isDirectory(fd), m.Destination, false)
	if err != nil {
		return err
	}
	at.Close()
	if err := finish(fd, m); err != nil {
		return err
	}
	n, err := unix.FcntlInt(fd.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("fcntl(F_DUPFD_CLOEXEC)", err)
	}
	t.late = append(t.late, late{os.NewFile(uintptr(n), m.Destination), m.Destination})
	return nil
}

// maskLate keeps the container's /dev/null for the files of late binds that the plan masks.
func (t *Tree) maskLate() error {
	if len(t.late) == 0 {
		return nil
	}
	for _, p := range t.Plan.LateMasked {
		null, err := sys.OpenTree(t.null, "", false)
		if err != nil {
			return fmt.Errorf("mask %s: %w", p, err)
		}
		t.late = append(t.late, late{null, p})
	}
	return nil
}

// AttachLate attaches the plan's Late binds, and masks on them, in the mount namespace of init,
// whose host pid is given and which has not executed anything of the container: what is
// attached there is not locked. proc is the host's /proc. The calling thread must be one that is
// thrown away, as it stays in that namespace.
func (t *Tree) AttachLate(proc *os.File, pid int) error {
	if len(t.late) == 0 {
		return nil
	}
	ns, err := sys.Openat2(proc, fmt.Sprintf("%d/ns/mnt", pid), unix.OpenHow{Flags: unix.O_RDONLY})
	if err != nil {
		return err
	}
	defer ns.Close()
	if err := sys.Setns(ns, unix.CLONE_NEWNS); err != nil {
		return err
	}
	root, err := os.OpenFile("/", unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer root.Close()
	inside := &Tree{root: root}
	for _, l := range t.late {
		if err := inside.attachLate(l); err != nil {
			return fmt.Errorf("mount at %s: %w", l.at, err)
		}
	}
	return nil
}

// attachLate leaves out what is not there: a mask's file, or a mount point that another mount
// has hidden.
func (t *Tree) attachLate(l late) error {
	at, err := t.lookup(l.at, unix.O_PATH)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	defer at.Close()
	return t.attach(l.mount, at)
}

// Close gives up what was kept for AttachLate.
func (t *Tree) Close() {
	for _, l := range t.late {
		l.mount.Close()
	}
	t.late = nil
}
