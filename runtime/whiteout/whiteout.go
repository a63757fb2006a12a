// Package whiteout takes the marks of overlays that a container has mounted out of
// a folder while no task uses it, and puts them back before the next one does.
//
// The folder lies in the upper layer of the container's own root. What an inner
// overlay (Docker's in the container) has there as a whiteout, a character device
// 0:0, is one for the outer overlay as well: its listing has the name, and any look
// at it fails, with which a commit by containerd fails as a whole. And what a layer's
// archive cannot hold (whiteouts, the attribute user.overlay.opaque) an image made of
// the container would lack. So both are written to a list, a plain file that any
// archive holds, and the whiteouts removed.
//
// The list is read back from what a container or an image has there: it can make
// whiteouts and opaque folders in that folder, in places where nothing is, and no more.
// [Max] bounds how many, and a whiteout costs a name, no inode. A list that a later version
// of this program wrote is left as it is, with an error.
//
// What does not belong here: when this is done, and where such folders are, which
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

	"sysbox/runtime/sys"
	"sysbox/runtime/tree"
)

const (
	// list is the file's name, in the folder itself.
	list = ".sysbox-overlays"
	// heading is the file's first record; each ends with a NUL byte. The others are a
	// letter and a path below the folder. The version of the form is its last word. The
	// first versions of this program take any heading but that of form 1 for no list, and
	// remove the file: a form that they would lose is to have another name as well.
	heading = title + "1"
	title   = "whiteouts and opaque folders of inner overlays, "
	// version is that of lists that are written, and the highest that is read.
	version = 1
	// maxList bounds the file, in bytes; a whiteout has some hundred.
	maxList = 32 << 20

	isWhiteout, isOpaque = 'w', 'o'

	opaque = "user.overlay.opaque"
)

// Max is how many records the lists of one container have together. An image that is built
// in the container has a whiteout for each file or folder that one of its steps removes, a
// few dozen for a cache of packages, some thousands where a distribution is replaced; Max is
// some hundred such images. To restore as many takes half a second.
const Max = 1 << 16

// ErrTooMany is the error of lists that together are too long. Nothing was changed then.
var ErrTooMany = errors.New("too many whiteouts and opaque folders of inner overlays")

// below is how paths of a list are resolved.
const below = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV

// Park writes the list of a folder that no process uses, and then removes the
// whiteouts. A crash at any point leaves a folder that Restore makes whole. It ends
// early with ctx, or with [ErrTooMany], nothing being changed. The records are taken from
// left.
func Park(ctx context.Context, dir *os.File, left *int) error {
	again := *left
	if err := Restore(ctx, dir, &again); err != nil { // what a crash has left half
		return err
	}
	w := writer{dir: dir, left: *left}
	defer w.close()
	var seen *os.File
	err := tree.Walk(dir, func(in *os.File, entries []os.DirEntry, path func(string) string) error {
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
			if e.Type()&os.ModeCharDevice == 0 || !there(in, e.Name()) {
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
	// No end with ctx: what is half removed would be half a commit.
	return each(w.f, dir, func(kind byte, in *os.File, name string) error {
		if kind == isWhiteout && there(in, name) {
			return unix.Unlinkat(int(in.Fd()), name, 0)
		}
		return nil
	})
}

// Has tells whether a folder has a list, or what stands in its place.
func Has(dir *os.File) (bool, error) {
	var st unix.Stat_t
	err := unix.Fstatat(int(dir.Fd()), list, &st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	return err == nil, os.NewSyscallError("stat "+list, err)
}

// Restore makes what the folder's list says, if it has one, and removes the list. The
// calling thread's ids own what is made. The records are taken from left; [ErrTooMany] if
// the list has more. It ends early with ctx, and the next Restore goes on.
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
		return nil // whatever it is, it is no list
	}
	return os.NewSyscallError("unlinkat "+list, err)
}

func restore(ctx context.Context, f io.ReadSeeker, dir *os.File, left *int) error {
	n, err := count(f, *left)
	if err != nil {
		return err
	}
	*left -= n
	var whiteouts tree.Whiteouts
	defer whiteouts.Close()
	return each(f, dir, func(kind byte, in *os.File, name string) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		// Somebody who adds to the list meanwhile does not get more for it.
		if n--; n < 0 {
			return tooMany("more than when it was counted")
		}
		return remake(&whiteouts, kind, in, name)
	})
}

// tooMany is the error of a list.
func tooMany(how string) error {
	return fmt.Errorf("the file %s names %w (%s); remove it, with which inner images show again what they have deleted", list, ErrTooMany, how)
}

// count counts the records of a list, up to one more than left.
func count(r io.ReadSeeker, left int) (int, error) {
	s, err := scan(r)
	n := 0
	for err == nil && s.Scan() {
		if n++; n > left {
			return n, tooMany(fmt.Sprintf("more than the %d that its container may yet have, of %d", left, Max))
		}
	}
	return n, err
}

// openList opens a folder's list; nil for what can be none. The type is that of the very
// file which is then read: another container of the pod may be at work in the folder.
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

func remake(whiteouts *tree.Whiteouts, kind byte, in *os.File, name string) error {
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
		return nil // somebody has been at work there
	}
	return err
}

// gone: what a list names is not there, or not what it was.
func gone(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) || errors.Is(err, unix.EXDEV)
}

// there tells whether something is a whiteout.
func there(in *os.File, name string) bool {
	var st unix.Stat_t
	err := unix.Fstatat(int(in.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW)
	return err == nil && st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0
}

func opaqueAlready(dir *os.File) bool {
	var b [1]byte
	n, err := unix.Fgetxattr(int(dir.Fd()), opaque, b[:])
	return err == nil && n == 1 && b[0] == 'y'
}

// scan returns the records of a list, without its heading; none of what is no list, and an
// error for one that a later version wrote. A
// record that is half is left out, and so is what a list that grows under its reader has
// beyond maxList.
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
			return nil, fmt.Errorf("the file %s has the form %d, and this version reads forms up to %d; use the version that wrote it, or remove the file, with which inner images show again what they have deleted", list, n, version)
		}
		return bufio.NewScanner(strings.NewReader("")), nil
	}
	return s, nil
}

// laterVersion tells whether a first record is the heading of a later form.
func laterVersion(first string) (int, bool) {
	word, ok := strings.CutPrefix(first, title)
	if !ok {
		return 0, false
	}
	n, err := strconv.Atoi(word)
	return n, err == nil && n > version && strconv.Itoa(n) == word
}

// each calls f with the records of a list: their folder, open, and the name in it. One that
// names nothing is left out.
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
			return &os.PathError{Op: "inner overlay's mark", Path: p, Err: err}
		}
	}
	return nil
}

// writer writes a list beside its place, from the first record on.
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
		return nil // no archive has it, and no path leads there
	}
	w.left--
	// Half, so that a list which was written fits, whatever comes to it in the writing.
	if w.n += len(p) + 2; w.n > maxList/2 || w.left < 0 {
		return fmt.Errorf("%w, more than %d or paths of more than %d bytes", ErrTooMany, Max, maxList/2)
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

// finish puts the list in its place, whole and on the disk.
func (w *writer) finish() error {
	err := w.buf.Flush()
	if err == nil {
		err = w.f.Sync()
	}
	if err == nil {
		err = unix.Renameat(int(w.dir.Fd()), unfinished, int(w.dir.Fd()), list)
	}
	if err != nil {
		return fmt.Errorf("write the list of inner overlays' marks: %w", err)
	}
	return unix.Fsync(int(w.dir.Fd()))
}

func (w *writer) close() {
	if w.f != nil {
		w.f.Close()
		_ = unix.Unlinkat(int(w.dir.Fd()), unfinished, 0) // there only after an error
	}
}
