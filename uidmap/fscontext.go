package uidmap

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// fsContext is a file system being configured, fsopen(2).
type fsContext struct {
	f      *os.File
	fstype string
}

func openFS(fstype string) (*fsContext, error) {
	fd, err := unix.Fsopen(fstype, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("fsopen "+fstype, err)
	}
	return &fsContext{os.NewFile(uintptr(fd), fstype), fstype}, nil
}

func (c *fsContext) close() { c.f.Close() }

func (c *fsContext) set(key, value string) error {
	return c.explain(key+"="+value, unix.FsconfigSetString(int(c.f.Fd()), key, value))
}

// ContextOption tells whether a mount option is one of SELinux's, and returns it without
// the quotes that mount(2) wants around a label with commas: fsconfig(2) wants none.
func ContextOption(option string) (plain string, ok bool) {
	k, v, ok := strings.Cut(option, "=")
	if !ok {
		return option, false
	}
	switch k {
	case "context", "fscontext", "defcontext", "rootcontext":
		if len(v) > 1 && v[0] == '"' && v[len(v)-1] == '"' {
			v = v[1 : len(v)-1]
		}
		return k + "=" + v, true
	}
	return option, false
}

// option sets "key=value" or a flag.
func (c *fsContext) option(o string) error {
	o, _ = ContextOption(o)
	if k, v, ok := strings.Cut(o, "="); ok {
		return c.set(k, v)
	}
	return c.explain(o, unix.FsconfigSetFlag(int(c.f.Fd()), o))
}

func (c *fsContext) mount(attr uint64) (*os.File, error) {
	if err := c.explain("make it", unix.FsconfigCreate(int(c.f.Fd()))); err != nil {
		return nil, err
	}
	fd, err := unix.Fsmount(int(c.f.Fd()), unix.FSMOUNT_CLOEXEC, int(attr))
	if err != nil {
		return nil, c.explain("mount it", err)
	}
	return os.NewFile(uintptr(fd), c.fstype), nil
}

// explain adds the kernel's own messages to a failure.
func (c *fsContext) explain(what string, err error) error {
	if err == nil {
		return nil
	}
	var said []string
	for range 16 {
		b := make([]byte, 1024)
		n, e := unix.Read(int(c.f.Fd()), b)
		if e != nil || n < 2 {
			break
		}
		said = append(said, strings.TrimSpace(string(b[2:n])))
	}
	if len(said) > 0 {
		return fmt.Errorf("%s: %s: %w: %s", c.fstype, what, err, strings.Join(said, "; "))
	}
	return fmt.Errorf("%s: %s: %w", c.fstype, what, err)
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
func idOptions(options []string) (uid, gid Map, rest []string, err error) {
	for _, o := range options {
		k, v, _ := strings.Cut(o, "=")
		switch k {
		case "uidmap":
			uid, err = Parse(v)
		case "gidmap":
			gid, err = Parse(v)
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
