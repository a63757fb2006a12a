// SPDX-License-Identifier: Apache-2.0

package fsutil

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"sysbox/runtime/sys"
)

// Walk calls f with each directory of a tree, root itself first, and with its entries, in parts
// of some hundred. path returns the path of the directory below root, "" for root, or the path
// of an entry.
//
// One directory is open at a time; Walk finds its parent by ".." and compares it. It skips
// directories whose path is longer than the limit for a path: the content cannot be named, and
// building the names would take quadratic time.
func Walk(root *os.File, f func(dir *os.File, entries []os.DirEntry, path func(name string) string) error) error {
	w := walker{f: f, limit: maxPending}
	return w.walk(root)
}

func (w *walker) walk(root *os.File) error {
	dir, err := w.open(root, ".")
	if err != nil {
		return err
	}
	defer func() { dir.Close() }()
	if err := w.enter(dir, ""); err != nil {
		return err
	}
	for {
		top := &w.way[len(w.way)-1]
		next := ".."
		if n := len(top.below); n > 0 {
			next, top.below = top.below[n-1], top.below[:n-1]
			w.pending -= len(next) + perName
		} else if len(w.way) == 1 {
			return nil
		}
		sub, err := w.open(dir, next)
		if next != ".." && (errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EXDEV)) {
			continue // removed meanwhile, or a mount
		}
		if err != nil {
			return err
		}
		dir.Close()
		dir = sub
		if next != ".." {
			if err := w.enter(dir, next); err != nil {
				return err
			}
			continue
		}
		w.way = w.way[:len(w.way)-1]
		if id, err := fileOf(int(dir.Fd())); err != nil || id != w.way[len(w.way)-1].id {
			return errors.Join(err, errMoved)
		}
	}
}

var errMoved = errors.New("directories were moved during the walk")

// maxPending bounds the names of directories still to be visited, in bytes.
const maxPending = 64 << 20

// perName is what a name costs in addition to its bytes.
const perName = 32

type walker struct {
	f       func(*os.File, []os.DirEntry, func(string) string) error
	way     []level // from root to the open directory
	pending int     // bytes of names in way
	limit   int     // what pending may be
}

type level struct {
	id     file
	name   string
	length int      // of the path with a trailing slash
	below  []string // directories still to be visited
}

func (w *walker) open(at *os.File, name string) (*os.File, error) {
	// The walk never leaves root upwards, since way is empty there.
	return sys.Openat2(at, name, unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW,
		Resolve: unix.RESOLVE_NO_XDEV | unix.RESOLVE_NO_MAGICLINKS,
	})
}

func (w *walker) enter(dir *os.File, name string) error {
	id, err := fileOf(int(dir.Fd()))
	if err != nil {
		return err
	}
	here := level{id: id, name: name}
	if len(w.way) > 0 {
		here.length = w.way[len(w.way)-1].length + len(name) + 1
	}
	w.way = append(w.way, here)
	top := &w.way[len(w.way)-1]
	for {
		entries, err := dir.ReadDir(512)
		if err := w.f(dir, entries, w.path); err != nil {
			return err
		}
		for _, e := range entries {
			if !e.IsDir() || top.length+len(e.Name()) >= unix.PathMax {
				continue
			}
			top.below = append(top.below, e.Name())
			if w.pending += len(e.Name()) + perName; w.pending > w.limit {
				return fmt.Errorf("a directory has subdirectories with more than %d bytes of names", w.limit)
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

func (w *walker) path(name string) string {
	var b strings.Builder
	for _, l := range w.way[1:] {
		b.WriteString(l.name + "/")
	}
	return b.String() + name
}
