// SPDX-License-Identifier: Apache-2.0

package sys

import (
	"context"
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// lockPoll is how often [FlockContext] tries again.
const lockPoll = 10 * time.Millisecond

// Flock locks or unlocks an open file with flock(2); how is LOCK_SH, LOCK_EX or LOCK_UN,
// with LOCK_NB to return instead of waiting: the error then wraps EWOULDBLOCK.
func Flock(f *os.File, how int) error {
	return control(f, func(fd int) error {
		return call(func() error { return unix.Flock(fd, how) }, "flock", "%s, %#x", name(f), how)
	})
}

// FlockContext waits for an exclusive lock until ctx ends; then it returns the error of ctx.
func FlockContext(ctx context.Context, f *os.File) error {
	for {
		err := Flock(f, unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return err
		}
		select {
		case <-time.After(lockPoll):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Unlock unlocks and closes the file. Closing alone does not unlock it while a child is
// between fork and execve, since the child shares the open file (flock(2)).
func Unlock(f *os.File) {
	_ = Flock(f, unix.LOCK_UN)
	f.Close()
}

// SameFile reports whether path still leads to an open file, without following a link at
// its end. A previous holder of a lock may have removed the file during the wait.
func SameFile(f *os.File, path string) bool {
	a, err := f.Stat()
	if err != nil {
		return false
	}
	b, err := os.Lstat(path)
	return err == nil && os.SameFile(a, b)
}
