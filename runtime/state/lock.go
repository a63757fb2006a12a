// SPDX-License-Identifier: Apache-2.0

package state

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"sysbox/runtime/fsutil"
	"sysbox/runtime/sys"
)

// Lock waits until nobody else removes the container of the record name; fs.ErrNotExist if
// somebody has. The record's own shim asks for no lock.
func Lock(ctx context.Context, name string) (unlock func(), err error) {
	return lock(name, 0, func(f *os.File) error { return sys.FlockContext(ctx, f) })
}

// LockStorage locks a storage directory, which its container's shim holds locked; how is 0,
// or LOCK_NB for who does not wait.
func LockStorage(dir string, how int) (unlock func(), err error) {
	return lock(dir, unix.O_DIRECTORY, func(f *os.File) error { return sys.Flock(f, unix.LOCK_EX|how) })
}

// lock takes the lock of a file that is removed while it is held.
func lock(name string, flags int, take func(*os.File) error) (unlock func(), err error) {
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW|flags, 0)
	if err != nil {
		return nil, err
	}
	if err := take(f); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	if !sys.SameFile(f, name) {
		sys.Unlock(f)
		return nil, &os.PathError{Op: "lock", Path: name, Err: fs.ErrNotExist}
	}
	return func() { sys.Unlock(f) }, nil
}

// NewStorage makes a storage directory, empty, and holds it locked. What is there is of a
// container that a power cut has ended: its record is gone.
func NewStorage(ctx context.Context, dir string) (unlock func(), err error) {
	for {
		err := os.Mkdir(dir, 0o700)
		switch {
		case err == nil:
			return LockStorage(dir, unix.LOCK_NB)
		case errors.Is(err, fs.ErrNotExist): // at first, or Reclaim has removed the empty parent
			if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
				return nil, err
			}
			continue
		case !errors.Is(err, fs.ErrExist):
			return nil, err
		}
		unlock, err := LockStorage(dir, 0)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		err = fsutil.RemoveAll(ctx, nil, dir)
		unlock()
		if err != nil {
			return nil, err
		}
	}
}
