// SPDX-License-Identifier: Apache-2.0

package uidmap

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// chowner changes the owners of a tree by a function that returns the new value of an
// id, or false if it stays. It does not change an object again when it meets it a second
// time, by a hard link or after a crash.
type chowner struct {
	journal *journal
	change  func(m Map, id uint32) (uint32, bool)
}

// step is called after each change to disk; tests kill the process there.
var step = func() {}

func (c *chowner) tree(root *os.File) error {
	return walk(root, c.object)
}

func (c *chowner) uid(id uint32) (uint32, bool) { return c.change(c.journal.UID, id) }
func (c *chowner) gid(id uint32) (uint32, bool) { return c.change(c.journal.GID, id) }

func (c *chowner) object(h int, st *unix.Stat_t, path func() string) error {
	kind := st.Mode & unix.S_IFMT
	var caps []byte
	if kind != unix.S_IFLNK { // symbolic links have none of these
		var err error
		if caps, err = c.attributes(h); err != nil {
			return err
		}
	}
	uid, newUID := c.uid(st.Uid)
	gid, newGID := c.gid(st.Gid)
	had, interrupted := privileges{Mode: st.Mode & 0o7777, Caps: caps}, false
	if len(c.journal.lost) > 0 {
		var was privileges
		if was, interrupted = c.journal.lost[path()]; interrupted {
			had = was
		}
	}
	fragile := kind != unix.S_IFDIR && kind != unix.S_IFLNK && (had.Mode&(unix.S_ISUID|unix.S_ISGID) != 0 || had.Caps != nil)
	if fragile && !interrupted && (newUID || newGID) {
		// An object without a path cannot be found again after a crash, and nothing can execute it.
		if had.Path = []byte(path()); len(had.Path) > 0 {
			if err := c.journal.note(had); err != nil {
				return err
			}
		}
	}
	if newUID || newGID {
		u, g := -1, -1
		if newUID {
			u = int(uid)
		}
		if newGID {
			g = int(gid)
		}
		if err := unix.Fchownat(h, "", u, g, unix.AT_EMPTY_PATH|unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return os.NewSyscallError("fchownat", err)
		}
		step()
	}
	if !fragile {
		return nil
	}
	if had.Mode&(unix.S_ISUID|unix.S_ISGID) != 0 && (newUID || newGID || interrupted) {
		if err := unix.Chmod(procFD(h), had.Mode); err != nil {
			return os.NewSyscallError("chmod", err)
		}
		step()
	}
	if want := c.caps(had.Caps); want != nil && (newUID || newGID || !bytes.Equal(want, caps)) {
		if err := unix.Setxattr(procFD(h), xattrCaps, want, 0); err != nil {
			return os.NewSyscallError("setxattr "+xattrCaps, err)
		}
		step()
	}
	if kind == unix.S_IFREG && (newUID || newGID || interrupted) {
		return syncFile(h)
	}
	return nil // only regular files are executed, and a device must not be opened
}

// syncFile waits until a regular file is on disk, with its owner, mode and attributes; h is
// an O_PATH handle.
func syncFile(h int) error {
	// A lease on the file must not delay this.
	f, err := os.OpenFile(procFD(h), os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// procFD returns a path for calls that accept no O_PATH handle. It leads to the
// object itself, even if that is a symbolic link.
func procFD(h int) string { return "/proc/self/fd/" + strconv.Itoa(h) }

const (
	xattrCaps    = "security.capability"
	xattrACL     = "system.posix_acl_access"
	xattrDefault = "system.posix_acl_default"
)

// attributes changes the ids in ACLs and returns the capabilities of the file.
func (c *chowner) attributes(h int) (caps []byte, err error) {
	list, err := readXattr(func(b []byte) (int, error) { return unix.Listxattr(procFD(h), b) })
	if err != nil || len(list) == 0 {
		return nil, err
	}
	for _, name := range strings.Split(strings.TrimSuffix(string(list), "\x00"), "\x00") {
		if name != xattrCaps && name != xattrACL && name != xattrDefault {
			continue
		}
		v, err := readXattr(func(b []byte) (int, error) { return unix.Getxattr(procFD(h), name, b) })
		if err != nil {
			return nil, os.NewSyscallError("getxattr "+name, err)
		}
		if name == xattrCaps {
			caps = v
			continue
		}
		if c.acl(v) {
			if err := unix.Setxattr(procFD(h), name, v, 0); err != nil {
				return nil, os.NewSyscallError("setxattr "+name, err)
			}
			step()
		}
	}
	return caps, nil
}

// readXattr calls get with a buffer that is large enough; nil if the file system has
// no attributes, or the attribute was removed meanwhile.
func readXattr(get func([]byte) (int, error)) ([]byte, error) {
	for size := 512; ; size *= 4 {
		b := make([]byte, size)
		n, err := get(b)
		switch {
		case err == nil:
			return b[:n], nil
		case errors.Is(err, unix.ERANGE) && size < 1<<20, err == unix.EINTR:
			continue
		case err == unix.ENOTSUP, err == unix.ENODATA:
			return nil, nil
		}
		return nil, err
	}
}

// acl changes the ids of named users and groups in place (linux/posix_acl_xattr.h:
// le32 version, then per entry le16 tag, le16 permissions, le32 id).
func (c *chowner) acl(v []byte) (changed bool) {
	const version, user, group = 2, 0x02, 0x08
	le := binary.LittleEndian
	if len(v) < 4 || le.Uint32(v) != version {
		return false
	}
	for e := v[4:]; len(e) >= 8; e = e[8:] {
		id, ok := uint32(0), false
		switch le.Uint16(e) {
		case user:
			id, ok = c.uid(le.Uint32(e[4:]))
		case group:
			id, ok = c.gid(le.Uint32(e[4:]))
		}
		if ok {
			le.PutUint32(e[4:], id)
			changed = true
		}
	}
	return changed
}

// caps changes the root id of file capabilities (linux/capability.h: le32 revision and
// flags, two pairs of le32, and in revision 3 the root id of the namespace that they
// apply to). Revision 2 is revision 3 with root id 0.
func (c *chowner) caps(v []byte) []byte {
	const revision2, revision3, mask = 0x02000000, 0x03000000, 0xff000000
	le := binary.LittleEndian
	if len(v) < 20 {
		return v
	}
	head, root := le.Uint32(v), uint32(0)
	switch {
	case head&mask == revision3 && len(v) >= 24:
		root = le.Uint32(v[20:])
	case head&mask != revision2:
		return v
	}
	if id, ok := c.uid(root); ok {
		root = id
	}
	out := append([]byte(nil), v[:20]...)
	if root == 0 {
		le.PutUint32(out, head&^mask|revision2)
		return out
	}
	le.PutUint32(out, head&^mask|revision3)
	return le.AppendUint32(out, root)
}
