// SPDX-License-Identifier: Apache-2.0

// Package kill ends containers, also those that wait for something that no signal ends.
//
// SIGKILL does not end a task that waits for a FUSE request which the file system's server has
// read. The server may be a thread of the same process, or sit in another container of the
// pod, so that neither would exit: the connection is aborted.
//
// What does not belong here: finding and aborting connections (package fusectl), and what is
// removed after the end (package runtime).
package kill

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"sysbox/runtime/cgroup"
	"sysbox/runtime/fusectl"
	"sysbox/runtime/sys"
	"sysbox/uidmap"
)

const (
	// stuckAfter is how long what was told to end may take until it is looked for what keeps
	// it, and lookPause how long until it is looked again.
	stuckAfter = time.Second
	lookPause  = 500 * time.Millisecond
	// mountedOnly is how many looks are for what the threads have mounted where they are;
	// later ones are for all that the pod's ids own, as it may be unmounted (MNT_DETACH),
	// outside of a thread's root directory, or another container's of the pod.
	mountedOnly = 3
	// lookBudget bounds how long one look reads lists of mounts, which a container can make
	// very long.
	lookBudget = 2 * time.Second
	// deadline bounds how long a killed container is waited for, and looked after.
	deadline = 30 * time.Second
)

// Target is a container that is to end.
type Target struct {
	Cgroup *cgroup.Cgroup
	// IDs are how the container's user ids are mapped, by which its connections are known.
	IDs uidmap.Map
	// Alone tells whether nobody else uses these ids any more.
	Alone func() bool
	// ID is the container's, for errors; Log has it already.
	ID  string
	Log *slog.Logger
}

// release aborts connections, after a while and then again and again, until stop is called.
// (A timer costs an ordinary end less than a goroutine.)
func (t *Target) release() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	timer := time.AfterFunc(stuckAfter, func() {
		for look := 0; ctx.Err() == nil; look++ {
			t.look(look)
			select {
			case <-ctx.Done():
			case <-time.After(lookPause):
			}
		}
	})
	return func() {
		timer.Stop()
		cancel()
	}
}

// look aborts the connections that may be what is waited for. Those of the host, which may
// be volumes of many pods, have other owners.
func (t *Target) look(look int) {
	n, err := fusectl.Abort(func(all []fusectl.Connection) []fusectl.Connection {
		own := slices.DeleteFunc(all, func(c fusectl.Connection) bool { return !isOwn(t.IDs, c) })
		if len(own) == 0 || t.Alone() {
			return own
		}
		threads, _ := t.Cgroup.Threads() // none, if they cannot be listed: all of them may be meant
		mounted := mountedBy(threads)
		widely := look >= mountedOnly && (len(threads) == 0 || slices.ContainsFunc(threads, uninterruptible))
		return slices.DeleteFunc(own, func(c fusectl.Connection) bool {
			return !mounted[c.Minor] && (!widely || !c.Waiting)
		})
	})
	if n > 0 {
		t.Log.Warn(fmt.Sprintf("the container was to end and did not: %d of its FUSE connections were aborted", n))
	}
	if err != nil {
		t.Log.Warn("end a container that may wait for FUSE: " + err.Error())
	}
}

// isOwn never tells the host's root to be a container's.
func isOwn(ids uidmap.Map, c fusectl.Connection) bool {
	_, own := ids.ToContainer(c.Owner)
	return own && c.Owner != 0
}

// mountedBy are the minor numbers of the file systems that threads see mounted. (A thread
// that ends after its process's leading thread has these lists; the process has none.)
func mountedBy(threads []int) map[uint32]bool {
	minors, seen := map[uint32]bool{}, map[string]bool{}
	for end := time.Now().Add(lookBudget); len(threads) > 0 && time.Now().Before(end); threads = threads[1:] {
		task := fmt.Sprintf("/proc/%d/", threads[0])
		ns, err := os.Readlink(task + "ns/mnt")
		if err != nil || seen[ns] {
			continue
		}
		seen[ns] = true
		for m, err := range sys.MountsOf(task + "mountinfo") {
			if err != nil || time.Now().After(end) {
				break
			}
			if unix.Major(m.Dev) == 0 {
				minors[unix.Minor(m.Dev)] = true
			}
		}
	}
	return minors
}

// uninterruptible tells whether a thread waits for something that no signal ends.
func uninterruptible(tid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", tid))
	return err == nil && bytes.HasPrefix(b[bytes.LastIndexByte(b, ')')+1:], []byte(" D"))
}

// KillAll kills all processes of a container, and waits for their end, for a while.
func (t *Target) KillAll(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	defer t.release()()
	if err := t.Cgroup.KillAll(ctx); err != nil {
		return fmt.Errorf("end container %s: %w; if it is a FUSE file system of another pod that is waited for, end that one", t.ID, err)
	}
	return nil
}

// Wait waits until done is closed, for a while.
func (t *Target) Wait(ctx context.Context, done <-chan struct{}) error {
	select {
	case <-done:
		return nil
	default:
	}
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	defer t.release()()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// AbortAll aborts the connections of ids that nobody uses any more.
func AbortAll(log *slog.Logger, ids uidmap.Map) {
	_, err := fusectl.Abort(func(all []fusectl.Connection) []fusectl.Connection {
		return slices.DeleteFunc(all, func(c fusectl.Connection) bool { return !isOwn(ids, c) })
	})
	if err != nil {
		log.Warn("abort the FUSE connections that a pod has left: " + err.Error())
	}
}
