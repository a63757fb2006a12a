// SPDX-License-Identifier: Apache-2.0

// Package fsutil copies, walks and removes trees of files that a container has
// made, on the host. It does not follow symbolic links or enter other mounts, and the
// depth and the number of files cost neither open files nor memory without bound.
//
// What does not belong here: owners and id mappings (package uidmap), and what the
// files mean.
package fsutil

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"sysbox/runtime/sys"
)

// Copy copies the content of one directory into another: types, owners, modes, times,
// extended attributes, holes, and hard links within the tree. On neither side does it
// follow a symbolic link or enter another mount.
//
// The tree may come from a container, in an earlier life of its root. Two files are open for
// each level, so directories with paths longer than the limit for a path are an error. Copy
// subtracts what it copies from the budget, and fails if that is exceeded.
func Copy(from, to *os.File, left *Budget) error {
	c := copier{links: map[file]link{}, limit: maxLinks, left: left}
	return c.copy(from, to)
}

func (c *copier) copy(from, to *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(from.Fd()), &st); err != nil {
		return err
	}
	dst, err := sys.Openat2(to, ".", unix.OpenHow{Flags: unix.O_RDONLY | unix.O_DIRECTORY})
	if err != nil {
		return err
	}
	defer dst.Close()
	c.root = dst
	defer c.whiteouts.Close()
	if err := c.directory(from, dst, ""); err != nil {
		return err
	}
	return c.attributes(from, dst, &st)
}

// maxLinks bounds the memory for files with several names, in bytes.
const maxLinks = 64 << 20

// Budget is what may still be copied.
type Budget struct {
	Files int64 // names, including directories and links
	Bytes int64 // file data without holes, and attribute values
}

// ErrBudget is the error if a copy is too large.
var ErrBudget = errors.New("this exceeds the limit of what is copied for one container")

// takeFile and takeBytes subtract from the budget.
func (b *Budget) takeFile() error {
	if b.Files--; b.Files < 0 {
		return fmt.Errorf("%w: too many files", ErrBudget)
	}
	return nil
}

func (b *Budget) takeBytes(n int64) error {
	if b.Bytes -= n; b.Bytes < 0 {
		return fmt.Errorf("%w: too many bytes", ErrBudget)
	}
	return nil
}

type copier struct {
	root      *os.File
	links     map[file]link
	bytes     int // of the names in links
	limit     int // what bytes may be
	left      *Budget
	whiteouts Whiteouts
}

// link is a file with names that have not been found yet.
type link struct {
	first string // its first path in the copy, below root
	left  uint64 // number of names
}

// perLink is what a link costs in addition to its path.
const perLink = 64

// met returns the path in the copy of a file with several names, or "" if this is the
// first name. It forgets the file with the last name.
func (c *copier) met(st *unix.Stat_t, path string) (first string, err error) {
	id := file{uint64(st.Dev), st.Ino}
	l, ok := c.links[id]
	if !ok {
		l = link{first: path, left: uint64(st.Nlink)}
		c.bytes += len(path) + perLink
	} else {
		first = l.first
	}
	if l.left--; l.left == 0 {
		c.bytes -= len(l.first) + perLink
		delete(c.links, id)
		return first, nil
	}
	if c.bytes > c.limit {
		return "", fmt.Errorf("files with several names have more than %d bytes of names", c.limit)
	}
	c.links[id] = l
	return first, nil
}

// hidden is the mode of a whiteout in the listing of an overlay, if the directory exists in
// one layer only: the overlay lists the name, but no such file. The whiteout belongs not to
// that overlay but to an overlay in the container, and is a file to copy.
const hidden = fs.ModeDevice | fs.ModeCharDevice

func (c *copier) directory(from, to *os.File, prefix string) error {
	for {
		entries, err := from.ReadDir(512)
		for _, e := range entries {
			name := e.Name()
			err := c.left.takeFile()
			if err == nil {
				err = c.entry(from, to, prefix, name)
			}
			if errors.Is(err, unix.ENOENT) && e.Type() == hidden {
				err = c.whiteouts.Make(to, name)
			}
			if err != nil {
				var inner *os.PathError
				if errors.As(err, &inner) {
					return err // has its path already; adding one for each level would make it too long
				}
				return &os.PathError{Op: "copy", Path: prefix + name, Err: err}
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (c *copier) entry(from, to *os.File, prefix, name string) error {
	if len(prefix)+len(name) >= unix.PathMax {
		return unix.ENAMETOOLONG
	}
	var st unix.Stat_t
	if err := unix.Fstatat(int(from.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	kind := st.Mode & unix.S_IFMT
	if kind == unix.S_IFSOCK {
		return nil // no process can be listening on it
	}
	if st.Nlink > 1 && kind != unix.S_IFDIR {
		first, err := c.met(&st, prefix+name)
		if err != nil {
			return err
		}
		if first != "" {
			return unix.Linkat(int(c.root.Fd()), first, int(to.Fd()), name, 0)
		}
	}
	switch kind {
	case unix.S_IFLNK:
		buf := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(int(from.Fd()), name, buf)
		if err != nil {
			return err
		}
		if err := unix.Symlinkat(string(buf[:n]), int(to.Fd()), name); err != nil {
			return err
		}
		return unix.Fchownat(int(to.Fd()), name, int(st.Uid), int(st.Gid), unix.AT_SYMLINK_NOFOLLOW)
	case unix.S_IFDIR, unix.S_IFREG:
		return c.content(from, to, prefix, name, &st)
	}
	if err := unix.Mknodat(int(to.Fd()), name, st.Mode, int(st.Rdev)); err != nil {
		return err
	}
	return unix.Fchownat(int(to.Fd()), name, int(st.Uid), int(st.Gid), unix.AT_SYMLINK_NOFOLLOW)
}

func (c *copier) content(from, to *os.File, prefix, name string, st *unix.Stat_t) error {
	how := unix.OpenHow{Flags: unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_XDEV}
	src, err := sys.Openat2(from, name, how)
	if errors.Is(err, unix.EXDEV) {
		return nil
	}
	if err != nil {
		return err
	}
	defer src.Close()
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		if err := unix.Mkdirat(int(to.Fd()), name, 0o700); err != nil {
			return err
		}
		dst, err := sys.Openat2(to, name, unix.OpenHow{Flags: unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW, Resolve: unix.RESOLVE_BENEATH})
		if err != nil {
			return err
		}
		defer dst.Close()
		if err := c.directory(src, dst, prefix+name+"/"); err != nil {
			return err
		}
		return c.attributes(src, dst, st)
	}
	dst, err := sys.Openat2(to, name, unix.OpenHow{Flags: unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL, Mode: 0o600, Resolve: unix.RESOLVE_BENEATH})
	if err != nil {
		return err
	}
	defer dst.Close()
	if err := copyData(src, dst, st.Size, c.left); err != nil {
		return err
	}
	return c.attributes(src, dst, st)
}

// copyData copies the data of a file without its holes: a sparse file of terabytes costs
// the container nothing.
func copyData(src, dst *os.File, size int64, left *Budget) error {
	if err := dst.Truncate(size); err != nil {
		return err
	}
	for end := int64(0); end < size; {
		start, err := src.Seek(end, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) { // only a hole follows
			return nil
		}
		if err == nil {
			end, err = src.Seek(start, unix.SEEK_HOLE)
		}
		if err == nil {
			err = left.takeBytes(end - start)
		}
		if err == nil {
			_, err = src.Seek(start, io.SeekStart)
		}
		if err == nil {
			_, err = dst.Seek(start, io.SeekStart)
		}
		if err == nil {
			_, err = io.CopyN(dst, src, end-start)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// attributes are set last: chown clears set-user-id bits and capabilities, and a write
// changes times.
func (c *copier) attributes(src, dst *os.File, st *unix.Stat_t) error {
	if err := unix.Fchown(int(dst.Fd()), int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	if err := unix.Fchmod(int(dst.Fd()), st.Mode&0o7777); err != nil {
		return err
	}
	if err := copyXattrs(src, dst, c.left); err != nil {
		return err
	}
	return unix.UtimesNanoAt(int(dst.Fd()), "", []unix.Timespec{st.Atim, st.Mtim}, unix.AT_EMPTY_PATH)
}

// notCopied is the prefix of the marks of an overlay. The overlay hides the marks of its own
// layers, but an image can make it show others (Documentation/filesystems/overlayfs.rst,
// "Nesting overlayfs mounts"), which would become marks where they are copied to.
const notCopied = "trusted.overlay."

func copyXattrs(src, dst *os.File, left *Budget) error {
	buf := make([]byte, 64<<10)
	n, err := unix.Flistxattr(int(src.Fd()), buf)
	if err != nil {
		if errors.Is(err, unix.ENOTSUP) {
			return nil
		}
		return err
	}
	val := make([]byte, 64<<10)
	for _, name := range splitNames(buf[:n]) {
		if strings.HasPrefix(name, notCopied) {
			continue
		}
		n, err := unix.Fgetxattr(int(src.Fd()), name, val)
		if err == nil {
			if err := left.takeBytes(int64(n)); err != nil {
				return err
			}
			err = unix.Fsetxattr(int(dst.Fd()), name, val[:n], 0)
		}
		if err != nil && !errors.Is(err, unix.ENOTSUP) && !errors.Is(err, unix.ENODATA) {
			return fmt.Errorf("extended attribute %s: %w", name, err)
		}
	}
	return nil
}

func splitNames(b []byte) []string {
	var out []string
	for start, i := 0, 0; i < len(b); i++ {
		if b[i] == 0 {
			out = append(out, string(b[start:i]))
			start = i + 1
		}
	}
	return out
}
