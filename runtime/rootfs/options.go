// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"sysbox/runtime/plan"
	"sysbox/runtime/sys"
	"sysbox/uidmap"
)

// openFS begins to make a file system; the caller closes it.
func openFS(fstype string) (*sys.FS, error) {
	c, err := sys.Fsopen(fstype)
	if err != nil {
		return nil, fmt.Errorf("fsopen %s: %w", fstype, sys.Errno(err))
	}
	return c, nil
}

// setOption sets an option as mount(8) has it: "key=value" or a flag.
func setOption(c *sys.FS, fstype, option string) error {
	option, _ = plan.ContextOption(option)
	k, v, ok := strings.Cut(option, "=")
	if ok {
		return explained(fstype, option, c.SetString(k, v))
	}
	return explained(fstype, option, c.SetFlag(option))
}

// mountFS makes the file system and a detached mount of it.
func mountFS(c *sys.FS, fstype string, attr uint64) (*os.File, error) {
	if err := c.Create(); err != nil {
		return nil, explained(fstype, "make it", err)
	}
	f, err := c.Mount(int(attr))
	return f, explained(fstype, "mount it", err)
}

// explained names a failed step in the caller's words, with the message that the kernel
// has left: "overlay: upperdir=/a: device or resource busy: overlay: upperdir is in use".
func explained(fstype, what string, err error) error {
	var e *sys.Error
	if !errors.As(err, &e) {
		return err
	}
	if e.Detail != "" {
		return fmt.Errorf("%s: %s: %w: %s", fstype, what, e.Err, e.Detail)
	}
	return fmt.Errorf("%s: %s: %w", fstype, what, e.Err)
}

// mountAttrs takes the options that are attributes of the mount.
func mountAttrs(options []string) (attr uint64, rest []string) {
	for _, o := range options {
		switch o {
		case "ro":
			attr |= unix.MOUNT_ATTR_RDONLY
		case "nosuid":
			attr |= unix.MOUNT_ATTR_NOSUID
		case "nodev":
			attr |= unix.MOUNT_ATTR_NODEV
		case "noexec":
			attr |= unix.MOUNT_ATTR_NOEXEC
		case "noatime":
			attr |= unix.MOUNT_ATTR_NOATIME
		case "rw", "bind", "rbind", "relatime", "defaults", "suid", "dev", "exec", "":
		default:
			rest = append(rest, o)
		}
	}
	return attr, rest
}

// idOptions takes containerd's options uidmap= and gidmap= out.
func idOptions(options []string) (uid, gid uidmap.Map, rest []string, err error) {
	for _, o := range options {
		k, v, _ := strings.Cut(o, "=")
		switch k {
		case "uidmap":
			uid, err = uidmap.Parse(v)
		case "gidmap":
			gid, err = uidmap.Parse(v)
		default:
			rest = append(rest, o)
		}
		if err != nil {
			return nil, nil, nil, fmt.Errorf("mount option %s: %w", o, err)
		}
	}
	if (len(uid) == 0) != (len(gid) == 0) {
		return nil, nil, nil, fmt.Errorf("mount options %v: one of uidmap and gidmap is missing; give both or none", options)
	}
	return uid, gid, rest, nil
}

// splitEscaped splits at a separator that no backslash precedes, and takes
// the backslashes away (overlayfs.rst: lowerdir).
func splitEscaped(s string, sep byte) []string {
	var out []string
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
		case s[i] == sep:
			out = append(out, b.String())
			b.Reset()
		default:
			b.WriteByte(s[i])
		}
	}
	return append(out, b.String())
}
