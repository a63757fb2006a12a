// SPDX-License-Identifier: Apache-2.0

// Package testhost has what tests make and look for on the host: deep directories, a cgroup's end,
// threads that wait for FUSE.
//
// What does not belong here: anything of what is tested, since every package's tests may
// import this one.
package testhost

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sysbox/tests/pace"
)

// Deep makes folders in one another, depth of them, each of that name, below the folder root.
// each, if it is not nil, is called with an O_PATH descriptor of root and of every folder but
// the last, before the next is made. It returns the last one, open by O_PATH until the end of
// the test: its path may be longer than any that the kernel takes.
func Deep(t testing.TB, root, name string, depth int, each func(dir int) error) (last int) {
	t.Helper()
	at, err := unix.Open(root, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(at) })
	for range depth {
		if each != nil {
			if err := each(at); err != nil {
				t.Fatal(err)
			}
		}
		if err := unix.Mkdirat(at, name, 0o755); err != nil {
			t.Fatal(err)
		}
		next, err := unix.Openat(at, name, unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		unix.Close(at)
		at = next
	}
	return at
}

// RemoveCgroup ends what is in a cgroup of package runtime/cgroup, and removes it.
func RemoveCgroup(t testing.TB, c interface {
	KillAll(ctx context.Context) error
	Delete(ctx context.Context) error
},
) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second*pace.Patience())
	defer cancel()
	if err := c.KillAll(ctx); err != nil {
		t.Error(err)
	}
	if err := c.Delete(ctx); err != nil {
		t.Error(err)
	}
}

// WaitingForFUSE are the threads of a process, /proc/PID/task/TID, that wait for the server of
// a FUSE file system.
func WaitingForFUSE(t testing.TB, pid int) (threads []string) {
	t.Helper()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	if err != nil || len(tasks) == 0 {
		t.Fatal(tasks, err)
	}
	for _, task := range tasks {
		if at, err := os.ReadFile(task + "/wchan"); err == nil && string(at) == "request_wait_answer" {
			threads = append(threads, task)
		}
	}
	return threads
}
