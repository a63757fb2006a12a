// SPDX-License-Identifier: Apache-2.0

package fsutil

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// RemoveAll removes a directory with all its content, below the directory dir (nil: name is an
// absolute path). A directory that does not exist is not an error.
//
// The content comes from a container: directories can be nested deeper than the number of files
// that this process can open, and paths can be longer than any that can be opened. os.RemoveAll
// keeps a file and a buffer for each level. RemoveAll has one directory open at a time, and
// remembers sixteen bytes for each level.
//
// It returns early if ctx ends, since the container decides how much there is. Another call
// continues.
//
// Two delete actions may remove the same directory. If a file vanishes meanwhile, the other
// has removed it, and RemoveAll looks again.
func RemoveAll(ctx context.Context, dir *os.File, name string) error {
	in := unix.AT_FDCWD
	if dir != nil {
		in = int(dir.Fd())
	}
	for range 1000 {
		if err := removeAll(ctx, in, name); !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	return fmt.Errorf("remove %s: another process keeps creating it", name)
}

func removeAll(ctx context.Context, in int, name string) error {
	at, err := openDir(in, name)
	if err == unix.ENOENT {
		return nil
	}
	if err != nil {
		return &os.PathError{Op: "open", Path: name, Err: err}
	}
	defer func() { unix.Close(at) }()
	id, err := fileOf(at)
	way := []file{id} // the directories from root to at
	for err == nil {
		var sub int
		if sub, err = thin(ctx, at); err != nil {
			break
		}
		if sub >= 0 {
			unix.Close(at)
			at = sub
			if id, err = fileOf(at); err == nil {
				way = append(way, id)
			}
			continue
		}
		if len(way) == 1 {
			break
		}
		if sub, err = openDir(at, ".."); err != nil {
			break
		}
		unix.Close(at)
		at = sub
		way = way[:len(way)-1]
		// Another container may have access to one of the directories, and move it.
		if id, err = fileOf(at); err == nil && id != way[len(way)-1] {
			err = errMoved
		}
	}
	if err == nil {
		err = unix.Unlinkat(in, name, unix.AT_REMOVEDIR)
	}
	if err != nil {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	return nil
}

// thin removes the content of a directory until it finds a directory that is not empty, which
// it opens; -1 if there is none, and the directory is empty.
func thin(ctx context.Context, at int) (int, error) {
	for {
		own, err := openDir(at, ".")
		if err != nil {
			return -1, err
		}
		sub, removed, err := thinOnce(ctx, os.NewFile(uintptr(own), "directory"))
		if err != nil || sub >= 0 || !removed {
			return sub, err
		}
		// The removals may have changed the order and hidden an entry.
	}
}

func thinOnce(ctx context.Context, dir *os.File) (sub int, removed bool, err error) {
	defer dir.Close()
	at := int(dir.Fd())
	for {
		if ctx.Err() != nil {
			return -1, removed, context.Cause(ctx)
		}
		names, err := dir.Readdirnames(256)
		for _, name := range names {
			err := unix.Unlinkat(at, name, 0)
			if err == unix.EISDIR {
				err = unix.Unlinkat(at, name, unix.AT_REMOVEDIR)
			}
			if err == unix.ENOTEMPTY || err == unix.EEXIST {
				sub, err = openDir(at, name)
				return sub, removed, err
			}
			if err != nil && err != unix.ENOENT {
				return -1, removed, err
			}
			removed = true
		}
		if err == io.EOF {
			return -1, removed, nil
		}
		if err != nil {
			return -1, removed, err
		}
	}
}

func openDir(at int, name string) (int, error) {
	for {
		fd, err := unix.Openat(at, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// file identifies a file.
type file struct{ dev, ino uint64 }

func fileOf(fd int) (file, error) {
	var st unix.Stat_t
	err := unix.Fstat(fd, &st)
	return file{uint64(st.Dev), st.Ino}, err
}
