// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"sysbox/runtime/feature"
	"sysbox/runtime/fill"
	"sysbox/runtime/hooks"
	"sysbox/runtime/image"
	"sysbox/runtime/mount"
	"sysbox/runtime/rootfs"
	"sysbox/runtime/state"
	"sysbox/runtime/sys"
)

// buildTree builds the mount tree and pivots this thread, and with it init,
// into it.
func (c *creation) buildTree(ctx context.Context, h *handles) error {
	root := c.root()
	t := &mount.Tree{
		Plan: c.plan, UserNS: h.user, PIDNS: h.pid, NetNS: h.net, IPCNS: c.ipc,
		UID: root.UID, GID: root.GID, Storage: mount.Storage{Host: func() (string, error) { return c.hostStorage(ctx) }}, ForceHelper: c.cfg.Testing.ProcHelper,
		Fill:            &fill.Filler{Join: c.joinFiles, UID: root.UID, GID: root.GID},
		RefuseUnshifted: c.cfg.Unshifted == "refuse",
		Log:             c.log,
	}
	c.tree = t
	c.after = append(c.after, t.Close)
	var err error
	if t.Dir, err = filepath.EvalSymlinks(c.plan.Rootfs.Path); err != nil {
		return fmt.Errorf("root.path: %w; make the directory before Create", err)
	}
	return sys.AsFSID(int(root.UID), int(root.GID), func() error {
		rootfs, err := c.mountRootfs(ctx, t)
		if err != nil {
			return err
		}
		defer rootfs.Close()
		if err := t.Build(ctx, rootfs); err != nil {
			return err
		}
		if err := c.serveMirror(rootfs); err != nil {
			return err
		}
		c.masked = t.Masked()
		if err := c.lookAtImage(rootfs); err != nil {
			return err
		}
		for _, kind := range []hooks.Kind{hooks.Prestart, hooks.CreateRuntime, hooks.CreateContainer} {
			if err := c.runHooks(ctx, kind); err != nil {
				return err
			}
		}
		return t.Seal()
	})
}

// mountRootfs returns the root file system as a detached mount, its ids shifted, and
// makes the tree's storage directories ready.
func (c *creation) mountRootfs(ctx context.Context, t *mount.Tree) (*os.File, error) {
	spec := c.rootfs(t.UserNS)
	root, upper, err := rootfs.Mount(spec)
	if err != nil {
		return nil, err
	}
	if len(c.plan.Storage) > 0 {
		if err := image.AddDockerRoot(c.plan, root); err != nil {
			c.warn(err.Error())
		}
	}
	again, err := t.PrepareStorage(ctx, root, upper)
	if err == nil && len(t.Storage.InUpper) > 0 {
		c.holds = append(c.holds, t.Storage.Unlock)
		c.rec.Upper, c.rec.InUpper = t.Storage.Upper, t.Storage.InUpper
		err = c.saveRecord()
	}
	if err != nil || again {
		root.Close()
	}
	if err == nil && again {
		root, upper, err = rootfs.Mount(spec)
	}
	if err == nil && upper != nil && upper.Caller != "" {
		if err = c.openMirror(root, upper); err != nil {
			root.Close()
		}
	}
	return root, err
}

// rootfs is the root file system that the plan asks for.
func (c *creation) rootfs(userns *os.File) rootfs.Config {
	r := c.plan.Rootfs
	return rootfs.Config{
		Dir: r.Path, Mounts: r.Mounts, UserNS: userns, UID: c.plan.IDs.UID, GID: c.plan.IDs.GID, Shift: c.plan.IDs.ShiftRootfs,
		Journal: c.cfg.Dirs().Journals(), ForceChown: c.cfg.Testing.Chown,
		Slow: func(why error) {
			c.warn(fmt.Sprintf("the ids of the root file system cannot be shifted, so that its files are chowned now and when the container is deleted, those of an image copied before; this takes long: %v", why))
		},
		BeforeChown: func(root string) error {
			c.warn("root file system " + r.Path + ": this kernel or file system has no overlay over idmapped layers: " + feature.NoIDMappedOverlay)
			c.rec.Shifted = root
			return c.saveRecord()
		},
	}
}

// lookAtImage finds what of the mounted image has to be known: its device, and init's home.
func (c *creation) lookAtImage(rootfs *os.File) error {
	var st unix.Statx_t
	if err := unix.Statx(int(rootfs.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_TYPE, &st); err != nil {
		return err
	}
	c.homes.UID, c.homes.GID = c.root().UID, c.root().GID
	c.homes.Dev = unix.Mkdev(st.Dev_major, st.Dev_minor)
	if hasEnv(c.plan.Process.Env, "HOME") {
		return nil
	}
	root, err := sys.Openat2(rootfs, ".", unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY})
	if err != nil {
		return err
	}
	c.home = c.homes.OfImage(root, c.plan.Process.UID)
	return nil
}

// hostStorage records and makes the host's directory of storage directories.
func (c *creation) hostStorage(ctx context.Context) (string, error) {
	if c.rec.Storage != "" {
		return c.rec.Storage, nil
	}
	c.rec.Storage = filepath.Join(c.cfg.DataDir, "storage", c.rec.Namespace, c.rec.ID)
	if err := c.saveRecord(); err != nil {
		return "", err
	}
	unlock, err := state.NewStorage(ctx, c.rec.Storage)
	if err != nil {
		return "", err
	}
	c.holds = append(c.holds, unlock)
	return c.rec.Storage, nil
}
