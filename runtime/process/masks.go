// SPDX-License-Identifier: Apache-2.0

package process

import (
	"golang.org/x/sys/unix"

	"sysbox/runtime/plan"
	"sysbox/runtime/program"
)

// revealDir lies in the container's own /dev, so that the image cannot be in its way.
const revealDir = "/dev/.sysbox"

// reveal keeps a complete proc and sysfs under a cover: a nested user namespace, in which all
// of init's mounts are locked, may mount its own in spite of the masks (mount_too_revealing in
// the kernel's fs/namespace.c wants one that is fully visible, and does not mind a cover).
//
// Where a link of the image has led a locked mount below /proc or /sys, the kernel makes no copy,
// and nested user namespaces have no proc of their own.
func (c *calls) reveal(p *plan.Plan) {
	if !p.InitReveal {
		return
	}
	const none = "without a complete proc"
	c.do("make the directory of the complete proc", unix.SYS_MKDIRAT, cwd, str(revealDir), num(0o755))
	for _, name := range []string{"proc", "sys"} {
		at := revealDir + "/" + name
		tree := c.add(program.Call{
			Name: "copy the mount of /" + name, Nr: unix.SYS_OPEN_TREE, Args: []program.Arg{cwd, str("/" + name), num(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC)},
			OnError: none, Errno: unix.EINVAL,
		})
		c.do("make the directory "+at, unix.SYS_MKDIRAT, cwd, str(at), num(0o755))
		c.do("attach the copy at "+at, unix.SYS_MOVE_MOUNT, tree, str(""), cwd, str(at), num(unix.MOVE_MOUNT_F_EMPTY_PATH))
		c.do("close the copy", unix.SYS_CLOSE, tree)
	}
	c.mark(none)
	c.add(coverCall(revealDir, p.MountLabel))
}

// coverCall mounts an empty read-only tmpfs.
func coverCall(path, label string) program.Call {
	data := num(0)
	if label != "" {
		data = str(`context="` + label + `"`)
	}
	return program.Call{
		Name: "cover " + path, Nr: unix.SYS_MOUNT,
		Args: []program.Arg{str("tmpfs"), str(path), str("tmpfs"), num(unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC), data},
	}
}

// masks covers directories of proc and sysfs with an empty tmpfs and files with /dev/null, and
// makes others read-only. What the kernel does not have is left out.
func (c *calls) masks(p *plan.Plan) {
	for _, path := range p.InitReadonly {
		done := "after " + path
		c.unlessThere(path, done)
		c.do("bind "+path+" on itself", unix.SYS_MOUNT, str(path), str(path), num(0), num(unix.MS_BIND|unix.MS_REC), num(0))
		c.do("make "+path+" read-only", unix.SYS_MOUNT_SETATTR, cwd, str(path), num(unix.AT_RECURSIVE), words(unix.MOUNT_ATTR_RDONLY, 0, 0, 0), num(32))
		c.mark(done)
	}
	for _, path := range p.InitMasked {
		file, done := "a file "+path, "behind "+path
		c.unlessThere(path, done)
		cover := coverCall(path, p.MountLabel)
		cover.OnError, cover.Errno = file, unix.ENOTDIR
		c.add(cover)
		c.put(program.Goto(done))
		c.mark(file)
		c.do("cover "+path+" with /dev/null", unix.SYS_MOUNT, str("/dev/null"), str(path), num(0), num(unix.MS_BIND), num(0))
		c.mark(done)
	}
}

// attributes sets those of mounts that would be locked if the host's side had set them.
func (c *calls) attributes(p *plan.Plan) {
	for _, m := range p.Mounts {
		if m.InitSet != 0 {
			c.do("set the attributes of "+m.Destination, unix.SYS_MOUNT_SETATTR, cwd, str(m.Destination), num(0), words(m.InitSet, 0, 0, 0), num(32))
		}
	}
}

// unlessThere goes on at a mark if the kernel does not have a path, or does not let root to it.
func (c *calls) unlessThere(path, mark string) {
	c.add(program.Call{
		Name: "look for " + path, Nr: unix.SYS_FACCESSAT, Args: []program.Arg{cwd, str(path), num(unix.F_OK)},
		OnError: mark,
	})
}
