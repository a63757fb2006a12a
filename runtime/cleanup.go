// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sysbox/runtime/cgroup"
	"sysbox/runtime/kill"
	"sysbox/runtime/state"
	"sysbox/runtime/sys"
	"sysbox/uidmap"
)

// Cleanup removes all that a container left whose shim has died or cannot be
// reached: processes, cgroups, storage, ids, its record. It can be called
// again and again, also after an orderly Delete, and is harmless to the
// siblings of the pod. It returns how init ended as far as that is known: 137.
//
// It asks nothing of the configuration, which may have changed since, or be broken: d are the
// directories with which the container was made, and its record has the rest.
func Cleanup(ctx context.Context, log *slog.Logger, d state.Dirs, namespace, id string) (Exit, error) {
	exit := Exit{Status: 128 + int(syscall.SIGKILL), At: time.Now()}
	name, err := state.Path(d, namespace, id)
	if err != nil {
		return exit, err
	}
	unlock, err := state.Lock(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		return exit, nil // deleted in order, or never made
	}
	if err != nil {
		return exit, err
	}
	defer unlock()
	r, err := state.Read(name)
	if errors.Is(err, fs.ErrNotExist) {
		return exit, nil // by its shim, at this moment
	}
	if errors.Is(err, state.ErrEmpty) {
		// The shim was killed before it had written a line, which it does before
		// it makes anything.
		return exit, (&state.Record{Namespace: namespace, ID: id}).Remove(d)
	}
	if err != nil {
		return exit, err
	}
	siblings, err := r.Siblings(d)
	if err != nil {
		return exit, err
	}
	if err := reclaim(ctx, log.With("container", id), d, r); err != nil {
		return exit, err
	}
	if len(siblings) == 0 {
		// A caller that cannot reach a living shim has given it up, and will
		// never ask it to shut down.
		return exit, r.Shim.Signal(syscall.SIGTERM)
	}
	return exit, nil
}

// reclaim ends what still runs of a container without a shim, and undoes its
// record.
func reclaim(ctx context.Context, log *slog.Logger, d state.Dirs, r *state.Record) error {
	if err := r.Init.Signal(syscall.SIGKILL); err != nil {
		return err
	}
	var cg *cgroup.Cgroup
	if r.Cgroup != nil {
		var err error
		if cg, err = cgroup.Load(*r.Cgroup); err != nil {
			return err
		}
		if err := deadTarget(log, d, r, cg).KillAll(ctx); err != nil {
			return err
		}
	}
	if err := undoRecord(ctx, log, r, d, cg); err != nil {
		return err
	}
	return leave(ctx, log, d, r)
}

// leave removes the record and, with the last of its pod, the ids that the pod's
// containers share. A dead shim of a pod brings a delete for each of them, perhaps all at
// once: under the lock one of them is the last.
func leave(ctx context.Context, log *slog.Logger, d state.Dirs, r *state.Record) error {
	name, err := state.Path(d, r.Namespace, r.ID)
	if err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // another delete of the same container was quicker
	}
	if err != nil {
		return err
	}
	if err := sys.Flock(dir, unix.LOCK_EX); err != nil {
		dir.Close()
		return err
	}
	defer sys.Unlock(dir)
	siblings, err := r.Siblings(d)
	if err != nil {
		return err
	}
	for _, s := range siblings {
		if s.IDOwner == r.IDOwner {
			return r.Remove(d)
		}
	}
	if r.IDOwner != "" {
		kill.AbortAll(log, r.UID) // a thread of the dead shim may wait for one
		if err := releaseIDs(ctx, d, r.IDOwner); err != nil {
			return err
		}
	}
	return r.Remove(d)
}

// endGrace is how long a killed process may take from leaving its cgroup to its end.
const endGrace = 2 * time.Second

// releaseIDs gives the ids of a pod back. A process that was killed has left its cgroup
// before it has left its user namespace.
func releaseIDs(ctx context.Context, d state.Dirs, owner string) error {
	a, err := openAllocator(d, uidmap.Pool{}) // whose pool no release asks for
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, endGrace)
	defer cancel()
	for {
		err := a.ReleaseOwner(owner)
		if !errors.Is(err, uidmap.ErrInUse) || ctx.Err() != nil {
			return errors.Join(err, a.Close())
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// deadTarget is what a dead shim left, for package kill.
func deadTarget(log *slog.Logger, d state.Dirs, r *state.Record, cg *cgroup.Cgroup) *kill.Target {
	ids := r.UID
	if ids == nil { // of a shim that did not record them
		threads, _ := cg.Threads()
		for _, tid := range threads {
			if uid, _, err := uidmap.ReadMaps(fmt.Sprintf("/proc/%d/ns/user", tid)); err == nil {
				ids = uid
				break
			}
		}
	}
	return &kill.Target{Cgroup: cg, IDs: ids, ID: r.ID, Log: log, Alone: func() bool { return r.Alone(d) }}
}
