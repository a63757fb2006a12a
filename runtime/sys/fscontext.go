// SPDX-License-Identifier: Apache-2.0

package sys

import (
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// FS is a file system context, fsopen(2) (Linux 5.2): a file system that is being
// configured. Errors of its methods end with the message of the kernel, if it left one.
type FS struct {
	f      *os.File
	fstype string
}

// Fsopen starts to create a file system of a type such as "tmpfs".
func Fsopen(fstype string) (*FS, error) {
	f, err := open(func() (int, error) { return unix.Fsopen(fstype, unix.FSOPEN_CLOEXEC) },
		"file system context of "+fstype, "fsopen", "%q", fstype)
	if err != nil {
		return nil, err
	}
	return &FS{f, fstype}, nil
}

// Fspick starts to reconfigure the file system that is mounted at path.
func Fspick(path string) (*FS, error) {
	f, err := open(func() (int, error) { return unix.Fspick(unix.AT_FDCWD, path, unix.FSPICK_CLOEXEC) },
		"file system context of "+path, "fspick", "%q", path)
	if err != nil {
		return nil, err
	}
	return &FS{f, "the file system at " + path}, nil
}

// SetFlag sets an option without a value, such as "ro".
func (c *FS) SetFlag(key string) error {
	return c.config(func(fd int) error { return unix.FsconfigSetFlag(fd, key) }, "FSCONFIG_SET_FLAG, %q", key)
}

// SetString sets an option; the value is at most 255 bytes long.
func (c *FS) SetString(key, value string) error {
	return c.config(func(fd int) error { return unix.FsconfigSetString(fd, key, value) }, "FSCONFIG_SET_STRING, %q, %q", key, value)
}

// SetFD sets an option to an open file, such as "lowerdir+" of overlay (Linux 6.13) or
// "pidns" of proc (Linux 6.17).
func (c *FS) SetFD(key string, f *os.File) error {
	return c.config(func(fd int) error {
		return control(f, func(value int) error { return unix.FsconfigSetFd(fd, key, value) })
	}, "FSCONFIG_SET_FD, %q, %s", key, name(f))
}

// Create creates the file system, or finds the existing one with these options.
func (c *FS) Create() error {
	return c.config(unix.FsconfigCreate, "FSCONFIG_CMD_CREATE")
}

// Reconfigure changes the options of the file system (a remount).
func (c *FS) Reconfigure() error {
	return c.config(unix.FsconfigReconfigure, "FSCONFIG_CMD_RECONFIGURE")
}

// Mount makes a detached mount of the created file system. attr are MOUNT_ATTR_* bits.
func (c *FS) Mount(attr int) (*os.File, error) {
	var out *os.File
	err := control(c.f, func(fd int) (err error) {
		out, err = open(func() (int, error) { return unix.Fsmount(fd, unix.FSMOUNT_CLOEXEC, attr) },
			"mount of "+c.fstype, "fsmount", "%s, %s", c.fstype, flags(attr, mountAttrs...))
		return err
	})
	return out, c.explain(err)
}

// Close closes the context. Mounts stay.
func (c *FS) Close() error { return c.f.Close() }

func (c *FS) config(f func(fd int) error, format string, args ...any) error {
	return c.explain(control(c.f, func(fd int) error {
		return call(func() error { return f(fd) }, "fsconfig", c.fstype+", "+strings.ReplaceAll(format, "\n", " "), args...)
	}))
}

// explain adds the messages in the log of the context to an error. Reading a message removes
// it; ENODATA ends the log. Each starts with e (error), w (warning) or i, and a space.
func (c *FS) explain(err error) error {
	e, ok := err.(*Error)
	if !ok {
		return err
	}
	var log []string
	_ = control(c.f, func(fd int) error {
		for range 16 {
			b := make([]byte, 1024)
			n, err := unix.Read(fd, b)
			if err != nil || n < 2 {
				return err
			}
			log = append(log, strings.TrimSpace(string(b[2:n])))
		}
		return nil
	})
	e.Detail = strings.Join(log, "; ")
	return e
}

var mountAttrs = []flagName{
	{unix.MOUNT_ATTR_RDONLY, "MOUNT_ATTR_RDONLY"},
	{unix.MOUNT_ATTR_NOSUID, "MOUNT_ATTR_NOSUID"},
	{unix.MOUNT_ATTR_NODEV, "MOUNT_ATTR_NODEV"},
	{unix.MOUNT_ATTR_NOEXEC, "MOUNT_ATTR_NOEXEC"},
	{unix.MOUNT_ATTR_STRICTATIME, "MOUNT_ATTR_STRICTATIME"},
	{unix.MOUNT_ATTR_NOATIME, "MOUNT_ATTR_NOATIME"},
	{unix.MOUNT_ATTR_NODIRATIME, "MOUNT_ATTR_NODIRATIME"},
	{unix.MOUNT_ATTR_IDMAP, "MOUNT_ATTR_IDMAP"},
	{unix.MOUNT_ATTR_NOSYMFOLLOW, "MOUNT_ATTR_NOSYMFOLLOW"},
}
