package tree

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// RemoveAll removes a folder with all that is in it, below the folder dir (nil: an
// absolute path); that there is none is no error.
//
// What is in it was a container's: folders can be nested deeper than this process can
// have files open, and paths be longer than any that can be opened. os.RemoveAll keeps
// a file and a buffer for each level. This has one folder open at a time and remembers
// sixteen bytes for each.
//
// It ends early with ctx: how much there is a container has decided. Another call goes on.
//
// Two delete actions may remove the same folder: what goes missing under one's hands is the
// other's doing, and one looks again.
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
	return fmt.Errorf("remove %s: somebody else does, and makes it anew", name)
}

func removeAll(ctx context.Context, in int, name string) error {
	at, err := openFolder(in, name)
	if err == unix.ENOENT {
		return nil
	}
	if err != nil {
		return &os.PathError{Op: "open", Path: name, Err: err}
	}
	defer func() { unix.Close(at) }()
	id, err := fileOf(at)
	way := []file{id} // from the folder to at
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
		if sub, err = openFolder(at, ".."); err != nil {
			break
		}
		unix.Close(at)
		at = sub
		way = way[:len(way)-1]
		// Another container may have been given one of the folders, and move it.
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

// thin removes what is in a folder until it comes upon a folder that is not empty, which
// it opens; -1 if there is none, and the folder is empty.
func thin(ctx context.Context, at int) (int, error) {
	for {
		own, err := openFolder(at, ".")
		if err != nil {
			return -1, err
		}
		sub, removed, err := thinOnce(ctx, os.NewFile(uintptr(own), "folder"))
		if err != nil || sub >= 0 || !removed {
			return sub, err
		}
		// Removing may have changed the order, and hidden something.
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
				sub, err = openFolder(at, name)
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

func openFolder(at int, name string) (int, error) {
	for {
		fd, err := unix.Openat(at, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// file is a file's identity.
type file struct{ dev, ino uint64 }

func fileOf(fd int) (file, error) {
	var st unix.Stat_t
	err := unix.Fstat(fd, &st)
	return file{uint64(st.Dev), st.Ino}, err
}
