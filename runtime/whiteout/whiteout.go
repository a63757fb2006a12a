// SPDX-License-Identifier: Apache-2.0

// Package whiteout removes the marks of overlays that a container has mounted from a
// directory while no task uses it, and restores them before the next task does.
//
// The directory is in the upper layer of the container's root. A whiteout of an inner
// overlay (that of Docker in the container) is a character device 0:0, and so also a
// whiteout of the outer overlay: the outer listing has the name, but opening it fails, and a
// commit by containerd fails as a whole. In addition, the archive of a layer cannot hold
// whiteouts or the attribute user.overlay.opaque, so an image made of the container would
// lack them. So both are written to a list, a plain file that any archive holds, and the
// whiteouts are removed.
//
// The list is read back from a file that a container or an image controls: it can make
// whiteouts and opaque directories in that directory, where nothing else is, and no
// more. [Max] bounds their number, and a whiteout costs a name but no inode. A list that a
// later version of this program wrote stays unchanged, with an error.
//
// What does not belong here: when this happens and where such directories are, which
// packages runtime and mount know.
package whiteout

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"sysbox/runtime/fsutil"
	"sysbox/runtime/sys"
)

const (
	// list is the name of the file, in the directory itself.
	list = ".sysbox-overlays"
	// heading is the first record of the file; each record ends with a NUL byte. The other
	// records are a letter and a path below the directory. The last word of the heading is
	// the version of the form. The first versions of this program ignore and remove a file
	// with any heading but that of form 1: a form that they must not lose needs another
	// file name, too.
	heading = title + "1"
	title   = "whiteouts and opaque folders of inner overlays, "
	// version is the version of lists written, and the highest one read.
	version = 1
	// maxList bounds the file, in bytes; a whiteout takes about a hundred.
	maxList = 32 << 20

	isWhiteout, isOpaque = 'w', 'o'

	opaque = "user.overlay.opaque"
)

// Max bounds the records in all lists of one container. An image built in the container has a
// whiteout for each file or directory that one of its steps removes: a few dozen for a cache
// of packages, some thousands if a distribution is replaced. Max is some hundred such images.
// Restoring as many takes half a second.
const Max = 1 << 16

// ErrTooMany is the error of lists that together have too many records. Nothing was changed.
var ErrTooMany = errors.New("too many whiteouts and opaque directories of inner overlays")

// below is how the paths of a list are resolved.
const below = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV

// Stash writes the list of a directory that no process uses, and then removes the
// whiteouts. After a crash at any point Restore completes the directory. If ctx ends, or with
// [ErrTooMany], it returns without changes. It subtracts the number of records from
// left.
func Stash(ctx context.Context, dir *os.File, left *int) error {
	again := *left
	if err := Restore(ctx, dir, &again); err != nil { // completes what a crash has interrupted
		return err
	}
	w := writer{dir: dir, left: *left}
	defer w.close()
	var seen *os.File
	err := fsutil.Walk(dir, func(in *os.File, entries []os.DirEntry, path func(string) string) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if in != seen {
			if seen != nil && opaqueAlready(in) {
				if err := w.add(isOpaque, path(".")); err != nil {
					return err
				}
			}
			seen = in
		}
		for _, e := range entries {
			if e.Type()&os.ModeCharDevice == 0 || !hasWhiteout(in, e.Name()) {
				continue
			}
			if err := w.add(isWhiteout, path(e.Name())); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil || w.f == nil {
		return err
	}
	if err := w.finish(); err != nil {
		return err
	}
	*left = w.left
	// ctx does not end this: a commit would see half of the whiteouts.
	return each(w.f, dir, func(kind byte, in *os.File, name string) error {
		if kind == isWhiteout && hasWhiteout(in, name) {
			return unix.Unlinkat(int(in.Fd()), name, 0)
		}
		return nil
	})
}

// Has reports whether a directory has a list, or anything in its place.
func Has(dir *os.File) (bool, error) {
	var st unix.Stat_t
	err := unix.Fstatat(int(dir.Fd()), list, &st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	return err == nil, os.NewSyscallError("stat "+list, err)
}

// Restore makes what the list of the directory says and removes the list; without a list it
// does nothing. The ids of the calling thread own what it makes. It subtracts the number of
// records from left; [ErrTooMany] if the list has more. If ctx ends it returns, and the next
// Restore continues.
func Restore(ctx context.Context, dir *os.File, left *int) error {
	f, err := openList(dir)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	if f != nil {
		err = restore(ctx, f, dir, left)
		f.Close()
		if err != nil {
			return err
		}
	}
	err = unix.Unlinkat(int(dir.Fd()), list, 0)
	if errors.Is(err, unix.EISDIR) {
		return nil // not a list
	}
	return os.NewSyscallError("unlinkat "+list, err)
}

func restore(ctx context.Context, f io.ReadSeeker, dir *os.File, left *int) error {
	n, err := count(f, *left)
	if err != nil {
		return err
	}
	*left -= n
	var whiteouts fsutil.Whiteouts
	defer whiteouts.Close()
	return each(f, dir, func(kind byte, in *os.File, name string) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		// The container may add to the list meanwhile, but does not get more than was counted.
		if n--; n < 0 {
			return tooMany("more than when it was counted")
		}
		return remake(&whiteouts, kind, in, name)
	})
}

// tooMany returns the error for a list.
func tooMany(how string) error {
	return fmt.Errorf("the file %s has %w (%s); remove it, after which inner images show deleted files again", list, ErrTooMany, how)
}

// count counts the records of a list, up to one more than left.
func count(r io.ReadSeeker, left int) (int, error) {
	s, err := scan(r)
	n := 0
	for err == nil && s.Scan() {
		if n++; n > left {
			return n, tooMany(fmt.Sprintf("more than the remaining %d of %d for its container", left, Max))
		}
	}
	return n, err
}

// openList opens the list of a directory; nil if it cannot be a list. It checks the type of the
// file that it has opened: another container of the pod may be changing the directory.
func openList(dir *os.File) (*os.File, error) {
	h, err := sys.Openat2(dir, list, unix.OpenHow{Flags: unix.O_PATH | unix.O_NOFOLLOW, Resolve: below})
	if err != nil {
		return nil, err
	}
	defer h.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(h.Fd()), &st); err != nil {
		return nil, &os.PathError{Op: "stat", Path: list, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, nil
	}
	if st.Size > maxList {
		return nil, tooMany(fmt.Sprintf("it has more than %d bytes", maxList))
	}
	return os.OpenFile(fmt.Sprintf("/proc/thread-self/fd/%d", h.Fd()), os.O_RDONLY|unix.O_NONBLOCK, 0)
}

func remake(whiteouts *fsutil.Whiteouts, kind byte, in *os.File, name string) error {
	var err error
	switch kind {
	case isWhiteout:
		err = whiteouts.Make(in, name)
	case isOpaque:
		var f *os.File
		if f, err = sys.Openat2(in, name, unix.OpenHow{Flags: unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW, Resolve: below}); err == nil {
			if !opaqueAlready(f) {
				err = unix.Fsetxattr(int(f.Fd()), opaque, []byte("y"), 0)
			}
			f.Close()
		}
	}
	if gone(err) || errors.Is(err, unix.EEXIST) {
		return nil // something else is there now
	}
	return err
}

// gone: an entry of the list does not exist, or has changed.
func gone(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) || errors.Is(err, unix.EXDEV)
}

// hasWhiteout reports whether name is a whiteout.
func hasWhiteout(in *os.File, name string) bool {
	var st unix.Stat_t
	err := unix.Fstatat(int(in.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW)
	return err == nil && st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0
}

func opaqueAlready(dir *os.File) bool {
	var b [1]byte
	n, err := unix.Fgetxattr(int(dir.Fd()), opaque, b[:])
	return err == nil && n == 1 && b[0] == 'y'
}

// scan returns the records of a list without its heading; none if it is not a list, and an
// error if a later version wrote it. It ignores an incomplete record, and what a list that
// grows while it is read has beyond maxList.
func scan(r io.ReadSeeker) (*bufio.Scanner, error) {
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	s := bufio.NewScanner(io.LimitReader(r, maxList))
	s.Buffer(nil, 2*unix.PathMax)
	s.Split(func(data []byte, _ bool) (int, []byte, error) {
		if i := bytes.IndexByte(data, 0); i >= 0 {
			return i + 1, data[:i], nil
		}
		return 0, nil, nil
	})
	if !s.Scan() || s.Text() != heading {
		if n, ok := laterVersion(s.Text()); ok {
			return nil, fmt.Errorf("the file %s has the format version %d, but this version only reads up to %d; use the version that wrote it, or remove the file, after which inner images show deleted files again", list, n, version)
		}
		return bufio.NewScanner(strings.NewReader("")), nil
	}
	return s, nil
}

// laterVersion reports whether a first record is the heading of a later form, and which.
func laterVersion(first string) (int, bool) {
	word, ok := strings.CutPrefix(first, title)
	if !ok {
		return 0, false
	}
	n, err := strconv.Atoi(word)
	return n, err == nil && n > version && strconv.Itoa(n) == word
}

// each calls f with the records of a list: their directory, open, and the name in it. It skips
// records whose directory does not exist.
func each(r io.ReadSeeker, dir *os.File, f func(kind byte, in *os.File, name string) error) error {
	s, err := scan(r)
	if err != nil {
		return err
	}
	var in *os.File
	inPath := ""
	defer func() { in.Close() }()
	for s.Scan() {
		if len(s.Bytes()) < 2 {
			continue
		}
		kind, p := s.Bytes()[0], path.Clean(string(s.Bytes()[1:]))
		if path.IsAbs(p) || p == "." {
			continue
		}
		if in == nil || path.Dir(p) != inPath {
			in.Close()
			in, err = sys.Openat2(dir, path.Dir(p), unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW, Resolve: below})
			if gone(err) {
				continue
			}
			if err != nil {
				return err
			}
			inPath = path.Dir(p)
		}
		if err := f(kind, in, path.Base(p)); err != nil {
			return &os.PathError{Op: "restore mark", Path: p, Err: err}
		}
	}
	return nil
}

// writer writes a list under a temporary name, starting with the first record.
type writer struct {
	dir  *os.File
	f    *os.File
	buf  *bufio.Writer
	n    int // bytes
	left int // records
}

const unfinished = list + ".new"

func (w *writer) add(kind byte, p string) error {
	if len(p) >= unix.PathMax {
		return nil // an archive cannot hold it, and no path leads there
	}
	w.left--
	// Half, so that a list still fits when entries are added while it is written.
	if w.n += len(p) + 2; w.n > maxList/2 || w.left < 0 {
		return fmt.Errorf("%w: more than %d, or paths of more than %d bytes", ErrTooMany, Max, maxList/2)
	}
	if w.f == nil {
		if err := unix.Unlinkat(int(w.dir.Fd()), unfinished, 0); err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
		f, err := sys.Openat2(w.dir, unfinished, unix.OpenHow{
			Flags: unix.O_RDWR | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW, Mode: 0o600, Resolve: below,
		})
		if err != nil {
			return err
		}
		w.f, w.buf = f, bufio.NewWriter(f)
		if _, err := w.buf.WriteString(heading + "\x00"); err != nil {
			return err
		}
	}
	_, err := w.buf.WriteString(string(kind) + p + "\x00")
	return err
}

// finish puts the complete list in its place, on disk.
func (w *writer) finish() error {
	err := w.buf.Flush()
	if err == nil {
		err = w.f.Sync()
	}
	if err == nil {
		err = unix.Renameat(int(w.dir.Fd()), unfinished, int(w.dir.Fd()), list)
	}
	if err != nil {
		return fmt.Errorf("write the list of marks of inner overlays: %w", err)
	}
	return unix.Fsync(int(w.dir.Fd()))
}

func (w *writer) close() {
	if w.f != nil {
		w.f.Close()
		_ = unix.Unlinkat(int(w.dir.Fd()), unfinished, 0) // exists only after an error
	}
}
