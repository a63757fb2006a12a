// SPDX-License-Identifier: Apache-2.0

package process

import (
	"strings"

	"golang.org/x/sys/unix"

	"sysbox/runtime/plan"
)

// ownMounts makes the mounts that do not have to be locked.
func (c *calls) ownMounts(p *plan.Plan) {
	var made []string
	for _, m := range p.Mounts {
		if !m.Own {
			continue
		}
		for _, dir := range Missing(m.Destination, made) {
			c.try("make "+dir, unix.SYS_MKDIRAT, cwd, str(dir), num(0o755))
		}
		made = append(made, m.Destination)
		c.mount(m, p.MountLabel)
	}
	if f := p.Rootfs.Propagation; f != 0 {
		c.do("set the root's propagation", unix.SYS_MOUNT, num(0), str("/"), num(0), num(f), num(0))
	}
	for _, m := range p.Mounts {
		// The copy into this mount namespace has lost the flag.
		if m.Propagation&unix.MS_UNBINDABLE != 0 {
			c.do("make "+m.Destination+" unbindable", unix.SYS_MOUNT, num(0), str(m.Destination), num(0), num(m.Propagation), num(0))
		}
	}
}

// Missing returns the directories on the way to destination that cannot be made before the mounts
// in made exist, because they are on one of them.
func Missing(destination string, made []string) []string {
	base := ""
	for _, m := range made {
		if strings.HasPrefix(destination, m+"/") && len(m) > len(base) {
			base = m
		}
	}
	if base == "" {
		return nil
	}
	var out []string
	at := base
	for part := range strings.SplitSeq(destination[len(base)+1:], "/") {
		at += "/" + part
		out = append(out, at)
	}
	return out
}

// mount makes a new file system and attaches it. It finds the mount point without magic links.
// Nothing of the container has run yet, but a process that shares a volume with it may change the
// path in the meantime. An mqueue needs an explicit label.
func (c *calls) mount(m plan.Mount, label string) {
	do := c.do
	if m.Optional {
		do = c.try
	}
	what := m.Type + " at " + m.Destination
	how := words(unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0, unix.RESOLVE_NO_MAGICLINKS)
	at := do("open the mount point "+m.Destination, unix.SYS_OPENAT2, cwd, str(m.Destination), how, num(24))
	fs := do("open a file system for "+what, unix.SYS_FSOPEN, str(m.Type), num(unix.FSOPEN_CLOEXEC))
	source := m.Source
	if source == "" {
		source = m.Type
	}
	do("name "+what, unix.SYS_FSCONFIG, fs, num(unix.FSCONFIG_SET_STRING), str("source"), str(source), num(0))
	for _, d := range m.Data {
		if k, v, ok := strings.Cut(d, "="); ok {
			do("set option "+d+" of "+what, unix.SYS_FSCONFIG, fs, num(unix.FSCONFIG_SET_STRING), str(k), str(v), num(0))
		} else {
			do("set option "+d+" of "+what, unix.SYS_FSCONFIG, fs, num(unix.FSCONFIG_SET_FLAG), str(d), num(0), num(0))
		}
	}
	do("make "+what, unix.SYS_FSCONFIG, fs, num(unix.FSCONFIG_CMD_CREATE), num(0), num(0), num(0))
	fd := do("mount "+what, unix.SYS_FSMOUNT, fs, num(unix.FSMOUNT_CLOEXEC), num(m.Set))
	if label != "" && m.Type == "mqueue" {
		// The mount has no path yet, and through fd, which is O_PATH, the kernel sets no
		// attribute.
		c.do("enter "+what, unix.SYS_FCHDIR, fd)
		c.do("label "+what, unix.SYS_SETXATTR, str("."), str("security.selinux"), str(label), num(len(label)+1), num(0))
		c.do("return to the root", unix.SYS_CHDIR, str("/"))
	}
	do("attach "+what, unix.SYS_MOVE_MOUNT, fd, str(""), at, str(""), num(unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH))
	for _, f := range []ref{at, fs, fd} {
		c.try("close a handle", unix.SYS_CLOSE, f)
	}
}
