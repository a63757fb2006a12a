// SPDX-License-Identifier: Apache-2.0

// Package mount builds a container's mount tree in the outer mount namespace:
// the root file system, /dev, proc, sysfs, binds, masks. It runs on a locked
// thread that has a mount namespace of its own, owned by the host's user
// namespace; the container's init then copies the finished tree into a mount
// namespace of its own, and that copy is what the kernel locks
// (docs/architecture.md).
//
// What does not belong here: deciding what is mounted (package plan), the
// mounts that init makes itself because they need not be locked (package
// process), mounting the root file system itself and what lies in its upper
// layer (package rootfs), and shifting ids (package uidmap).
package mount

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"sysbox/runtime/fill"
	"sysbox/runtime/plan"
	"sysbox/runtime/sys"
)

// Tree is one container's tree while it is being built.
type Tree struct {
	// Plan says what to mount.
	Plan *plan.Plan
	// Dir is the host directory on which the root is attached: an absolute path
	// without symbolic links.
	Dir string
	// UserNS, PIDNS and NetNS are the container's namespaces.
	UserNS, PIDNS, NetNS *os.File
	// IPCNS is the ipc namespace whose mqueue file system the plan leaves to the
	// tree, since init has no power over it; nil if init mounts its own.
	IPCNS *os.File
	// UID and GID are the host's ids of the container's root; all that is made
	// in the tree belongs to them.
	UID, GID uint32
	// Storage has what is made for Plan.Storage.
	Storage Storage
	// Fill copies what the image has into storage directories and tmpfs.
	Fill *fill.Filler
	// ForceHelper makes proc as on kernels without the option pidns, for tests.
	ForceHelper bool
	// RefuseUnshifted makes a bind that cannot be idmapped an error.
	RefuseUnshifted bool
	// Log takes warnings about what was done less well than asked.
	Log *slog.Logger

	root *os.File
	null *os.File
	// masked is what Masked returns.
	masked map[uint64]bool
	// late are what AttachLate attaches.
	late []late
	// unmasked are clones of proc and sysfs for attachUnmasked, by name.
	unmasked map[string]*os.File
}

// Root is the handle of the container's root, valid after Build.
func (t *Tree) Root() *os.File { return t.root }

// Build attaches everything below the root file system rootfs (a detached
// mount), in the plan's order, and the mount points of what init mounts
// itself. The calling thread must be in its own mount namespace, with fsuid
// and fsgid of the container's root and all capabilities kept.
func (t *Tree) Build(ctx context.Context, rootfs *os.File) error {
	defer t.close()
	if err := t.attachRoot(rootfs); err != nil {
		return err
	}
	if err := t.attachStorage(); err != nil {
		return err
	}
	var own []string
	for _, m := range t.Plan.Mounts {
		if m.Own {
			// Below another mount of init's own the point cannot exist yet.
			if !below(m.Destination, own) {
				if err := t.makeMountpoint(m.Destination); err != nil {
					return err
				}
			}
			own = append(own, m.Destination)
			continue
		}
		if err := t.mount(ctx, m); err != nil {
			if m.Optional && !isHostile(err) {
				t.Log.Warn(err.Error())
				continue
			}
			return err
		}
	}
	if err := t.devicesOutsideDev(); err != nil {
		return err
	}
	if err := t.attachUnmasked(); err != nil {
		return fmt.Errorf("keep a complete proc and sysfs: %w", err)
	}
	if cwd := t.Plan.Process.Cwd; cwd != "" {
		if err := t.makeMountpoint(cwd); err != nil {
			return fmt.Errorf("process.cwd is %q: %w; use a directory of the container", cwd, err)
		}
	}
	if err := t.maskLate(); err != nil {
		return err
	}
	return t.maskPaths()
}

// close gives up the handles that only the build needs.
func (t *Tree) close() {
	for _, f := range t.unmasked {
		f.Close()
	}
	if t.null != nil {
		t.null.Close()
	}
	t.Storage.close()
	t.unmasked, t.null = nil, nil
}

func below(p string, dirs []string) bool {
	for _, d := range dirs {
		if strings.HasPrefix(p, d+"/") {
			return true
		}
	}
	return false
}

// makeMountpoint makes a directory of the container, unless it is there.
func (t *Tree) makeMountpoint(p string) error {
	f, err := t.directory(p)
	if errors.Is(err, unix.ENOTDIR) {
		return err // it says what is in the way
	}
	if err != nil {
		return fmt.Errorf("make the directory %s in the root: %w", p, err)
	}
	return f.Close()
}

// attachRoot puts the root file system on Dir, in this namespace only: the
// host never sees it, so nothing has to be unmounted when the shim dies.
func (t *Tree) attachRoot(rootfs *os.File) error {
	dir, err := os.OpenFile(t.Dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return fmt.Errorf("attach the root file system: %w", err)
	}
	defer dir.Close()
	if err := sys.MoveMount(rootfs, dir); err != nil {
		return fmt.Errorf("attach the root file system on %s: %w", t.Dir, err)
	}
	t.root = rootfs
	return nil
}

// Seal makes the root read-only if asked and turns it into this thread's
// root, with nothing of the host left in the namespace.
func (t *Tree) Seal() error {
	r := t.Plan.Rootfs
	if r.Readonly {
		if err := sys.MountSetattr(t.root, false, unix.MOUNT_ATTR_RDONLY, 0, 0); err != nil {
			return fmt.Errorf("make the root read-only: %w", err)
		}
	}
	if err := unix.Fchdir(int(t.root.Fd())); err != nil {
		return fmt.Errorf("enter the root: %w", err)
	}
	if err := sys.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot into the root: %w", err)
	}
	if err := sys.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("detach the host's tree: %w", err)
	}
	return unix.Chdir("/")
}
