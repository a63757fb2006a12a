// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"os"
	"path/filepath"

	"sysbox/runtime/mirror"
	"sysbox/runtime/rootfs"
	"sysbox/runtime/sys"
)

// openMirror prepares a root for a caller that has mounted the overlay itself.
func (c *creation) openMirror(root *os.File, upper *rootfs.Upper) error {
	if _, ok := c.plan.Annotations["io.kubernetes.cri-o.ContainerType"]; ok {
		return c.shareRoot(root, upper.Caller) // CRI-O copies nothing into what runs
	}
	m, err := mirror.New(c.plan.IDs.UID, c.plan.IDs.GID)
	if err != nil {
		c.warn("while this container runs, docker cp damages directories of its image, and reads what was there before; use docker exec -i with tar: the root file system cannot be shown to the caller: " + err.Error())
		return c.shareRoot(root, upper.Caller)
	}
	c.mirror.Store(m)
	c.undo.add(closing(c.closeMirror))
	c.rec.Mirror, c.rec.MirrorWork = upper.Caller, upper.CallerWork
	return c.saveRecord()
}

// shareRoot is what can be done without a mirror.
func (c *creation) shareRoot(root *os.File, dir string) error {
	var directories []string
	for _, m := range c.plan.Mounts {
		if m.Type == "bind" && m.Origin == "spec" { // dockerd mounts them, too, to copy files out of the container
			directories = append(directories, filepath.Dir(m.Destination))
		}
	}
	return rootfs.Share(root, dir, directories)
}

// serveMirror gives the mirror its root, which is attached: the mount alone, without
// those below it.
func (c *creation) serveMirror(root *os.File) error {
	m := c.mirror.Load()
	if m == nil {
		return nil
	}
	alone, err := sys.OpenTree(root, "", false)
	if err != nil {
		return err
	}
	return m.Serve(alone)
}

// showMirror covers the caller's mount. It is called on a thread of the shim's own mount
// namespace, which is the caller's.
func (c *creation) showMirror() error {
	m := c.mirror.Load()
	if m == nil {
		return nil
	}
	if err := m.Attach(c.rec.Mirror); err != nil {
		return err
	}
	if err := m.Guard(c.rec.MirrorWork); err != nil {
		c.warn("after a restart of dockerd (live-restore, overlay2) docker cp may damage directories of this container: " + err.Error())
	}
	return nil
}

// hideMirror uncovers the caller's mount when init has ended, before the caller learns of
// it and unmounts its own.
func (c *Container) hideMirror() {
	m := c.mirror.Load()
	if m == nil {
		return
	}
	if err := m.Detach(); err != nil {
		c.warn("uncover the root file system: " + err.Error())
		return
	}
	rootfs.Forget(c.rec.Mirror)
}

// closeMirror ends the mirror.
func (c *Container) closeMirror() {
	m := c.mirror.Swap(nil)
	if m == nil {
		return
	}
	if err := m.Close(); err == nil {
		c.rec.Mirror = "" // else the record's way is tried
	}
}
