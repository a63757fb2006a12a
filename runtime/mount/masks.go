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

// maskPaths puts the read-only and masked paths of the plan in place. A path that
// the image does not have needs no guard.
func (t *Tree) maskPaths() error {
	for _, p := range t.Plan.Readonly {
		if err := t.readonly(p); err != nil {
			return fmt.Errorf("make %s read-only: %w", p, err)
		}
	}
	for _, p := range t.Plan.Masked {
		if err := t.mask(p); err != nil {
			return fmt.Errorf("mask %s: %w", p, err)
		}
	}
	return nil
}

func (t *Tree) readonly(p string) error {
	at, err := t.lookup(p, unix.O_PATH)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	defer at.Close()
	if err := t.rememberMasked(at); err != nil {
		return err
	}
	// The clone keeps the flags of the mount it comes from (nosuid, nodev, …).
	fd, err := sys.OpenTree(at, "", true)
	if err != nil {
		return err
	}
	defer fd.Close()
	if err := sys.MountSetattr(fd, true, unix.MOUNT_ATTR_RDONLY, 0, 0); err != nil {
		return err
	}
	return t.attach(fd, at)
}

// rememberMasked remembers the mount that a guard is put on: a copy of that mount alone would be
// one without the guard.
func (t *Tree) rememberMasked(at *os.File) error {
	id, err := sys.MountID(at, "")
	if err != nil {
		return err
	}
	if t.masked == nil {
		t.masked = map[uint64]bool{}
	}
	t.masked[id] = true
	return nil
}

// Masked are the ids of the mounts on which read-only and masked paths were put,
// see [sys.MountID]; valid after Build.
func (t *Tree) Masked() map[uint64]bool { return t.masked }

// mask covers a directory with an empty read-only tmpfs and anything else with
// the container's own /dev/null, whose node this package made itself.
func (t *Tree) mask(p string) error {
	at, err := t.lookup(p, unix.O_PATH)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	defer at.Close()
	if err := t.rememberMasked(at); err != nil {
		return err
	}
	if !isDirectory(at) {
		if t.null == nil {
			return errors.New("there is no /dev of the container's own to take null from; give the spec a tmpfs mount at /dev")
		}
		fd, err := sys.OpenTree(t.null, "", false)
		if err != nil {
			return err
		}
		defer fd.Close()
		return t.attach(fd, at)
	}
	return t.cover(at)
}

// coverDirectory hides a directory of the container, by its path.
func (t *Tree) coverDirectory(p string) error {
	at, err := t.directory(p)
	if err != nil {
		return err
	}
	defer at.Close()
	return t.cover(at)
}

// cover mounts an empty read-only tmpfs on a directory.
func (t *Tree) cover(at *os.File) error {
	const attrs = unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC
	var data []string
	if l := t.Plan.MountLabel; l != "" {
		data = append(data, "context="+l)
	}
	fd, err := t.newMount("tmpfs", "tmpfs", data, plan.Mount{Set: attrs})
	if err != nil {
		return err
	}
	defer fd.Close()
	return t.attach(fd, at)
}
