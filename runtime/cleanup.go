package runtime

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sysbox/runtime/cgroup"
	"sysbox/uidmap"
)

// Cleanup removes all that a container left whose shim has died or cannot be
// reached: processes, cgroups, storage, ids, its record. It can be called
// again and again, also after an orderly Delete, and is harmless to the
// siblings of the pod. It returns how init ended as far as that is known: 137.
//
// It asks nothing of the configuration, which may have changed since, or be broken: d are the
// directories with which the container was made, and its record has the rest.
func Cleanup(ctx context.Context, d Dirs, namespace, id string) (Exit, error) {
	exit := Exit{Status: 128 + int(syscall.SIGKILL), At: time.Now()}
	name, err := recordPath(d, namespace, id)
	if err != nil {
		return exit, err
	}
	unlock, err := lockRecord(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		return exit, nil // deleted in order, or never made
	}
	if err != nil {
		return exit, err
	}
	defer unlock()
	r, err := readRecord(name)
	if errors.Is(err, fs.ErrNotExist) {
		return exit, nil // by its shim, at this moment
	}
	if errors.Is(err, errNoRecord) {
		// The shim was killed before it had written a line, which it does before
		// it makes anything.
		return exit, (&record{Namespace: namespace, ID: id}).remove(d)
	}
	if err != nil {
		return exit, err
	}
	siblings, err := r.siblings(d)
	if err != nil {
		return exit, err
	}
	if err := r.reclaim(ctx, d); err != nil {
		return exit, err
	}
	if len(siblings) == 0 {
		// A caller that cannot reach a living shim has given it up, and will
		// never ask it to shut down.
		return exit, r.Shim.signal(syscall.SIGTERM)
	}
	return exit, nil
}

// reclaim ends what still runs of a container without a shim, and undoes its
// record.
func (r *record) reclaim(ctx context.Context, d Dirs) error {
	if err := r.Init.signal(syscall.SIGKILL); err != nil {
		return err
	}
	var cg *cgroup.Cgroup
	if r.Cgroup != nil {
		var err error
		if cg, err = cgroup.Load(*r.Cgroup); err != nil {
			return err
		}
		if err := r.grip(d, cg).killAll(ctx); err != nil {
			return err
		}
	}
	if err := r.undo(ctx, d, cg); err != nil {
		return err
	}
	return r.leave(ctx, d)
}

// leave removes the record and, with the last of its pod, the ids that the pod's
// containers share. A dead shim of a pod brings a delete for each of them, perhaps all at
// once: under the lock one of them is the last.
func (r *record) leave(ctx context.Context, d Dirs) error {
	name, err := recordPath(d, r.Namespace, r.ID)
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
	defer dir.Close() // and with it the lock
	for err = unix.EINTR; err == unix.EINTR; {
		err = unix.Flock(int(dir.Fd()), unix.LOCK_EX)
	}
	if err != nil {
		return &os.PathError{Op: "lock", Path: dir.Name(), Err: err}
	}
	siblings, err := r.siblings(d)
	if err != nil {
		return err
	}
	for _, s := range siblings {
		if s.IDOwner == r.IDOwner {
			return r.remove(d)
		}
	}
	if r.IDOwner != "" {
		abortAll(r.UID) // a thread of the dead shim may wait for one
		if err := releaseIDs(ctx, d, r.IDOwner); err != nil {
			return err
		}
	}
	return r.remove(d)
}

// endGrace is how long a killed process may take from leaving its cgroup to its end.
const endGrace = 2 * time.Second

// releaseIDs gives the ids of a pod back. A process that was killed has left its cgroup
// before it has left its user namespace.
func releaseIDs(ctx context.Context, d Dirs, owner string) error {
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
