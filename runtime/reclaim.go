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
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"sysbox/runtime/fsutil"
	"sysbox/runtime/state"
	"sysbox/runtime/sys"
	"sysbox/uidmap"
)

const (
	// reclaimAfter is how long after a pod's first Create its shim looks for what
	// others have left: nobody waits then, and whoever removes a killed shim's
	// containers itself, as containerd does, has done so.
	reclaimAfter = 10 * time.Second
	// reclaimPause is how long no shim looks again after one has.
	reclaimPause = time.Minute
)

// Reclaim removes what dead shims left, for callers that never run delete (CRI-O): of
// their containers, by the records; storage directories whose record a reboot has taken;
// journals of chowned trees that there are no more. It looks at the directories of all
// configurations that were used since the host has booted, and at more. It returns what it
// removed.
//
// It can be called at any time, beside all else.
func Reclaim(ctx context.Context, log *slog.Logger, more ...state.Dirs) (removed []string, err error) {
	var errs []error
	known := state.Known(more...)
	for _, d := range known {
		list, err := reclaimDirs(ctx, log, d, known)
		removed, errs = append(removed, list...), append(errs, err)
	}
	return removed, errors.Join(append(errs, state.Forget())...)
}

// reclaimDirs is Reclaim of the directories d; known are all that there are.
func reclaimDirs(ctx context.Context, log *slog.Logger, d state.Dirs, known []state.Dirs) (removed []string, err error) {
	var errs []error
	note := func(what string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("reclaim %s: %w", what, err))
		} else {
			removed = append(removed, what)
		}
	}
	records, err := filepath.Glob(state.GlobEscaped(d.State) + "/containers/*/*.json")
	if err != nil {
		return nil, err
	}
	for _, name := range records {
		if done, err := reclaimRecord(ctx, log, d, name); done || err != nil {
			note("the container of "+name, err)
		}
	}
	directories, err := filepath.Glob(state.GlobEscaped(d.Data) + "/storage/*/*")
	if err != nil {
		return nil, err
	}
	for _, dir := range directories {
		if done, err := reclaimStorage(ctx, known, dir); done || err != nil {
			note(dir, err)
		}
	}
	gone, err := uidmap.FinishReverts(d.Journals())
	for _, root := range gone {
		note("the journal of "+root, nil)
	}
	return removed, errors.Join(append(errs, err)...)
}

// reclaimRecord removes the container of a record whose shim is dead; a shim in
// another pid namespace is not ours to judge.
func reclaimRecord(ctx context.Context, log *slog.Logger, d state.Dirs, name string) (bool, error) {
	dead := func() (*state.Record, bool) {
		r, err := state.Read(name)
		return r, err == nil && r.PIDNS == state.PIDNamespace() && !r.Shim.Alive()
	}
	if _, ok := dead(); !ok {
		return false, nil
	}
	unlock, err := state.Lock(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil // its caller was faster
	}
	if err != nil {
		return false, err
	}
	defer unlock()
	r, ok := dead()
	if !ok {
		return false, nil
	}
	return true, reclaim(ctx, log.With("container", r.ID), d, r)
}

// reclaimStorage removes a storage directory of which there is no record. Two configurations
// may have a data directory in common, so all are looked at.
func reclaimStorage(ctx context.Context, known []state.Dirs, dir string) (bool, error) {
	namespace, id := filepath.Base(filepath.Dir(dir)), filepath.Base(dir)
	recorded := func() bool {
		return slices.ContainsFunc(known, func(d state.Dirs) bool { return d.Holds(namespace, id) })
	}
	if recorded() {
		return false, nil
	}
	unlock, err := state.LockStorage(dir, unix.LOCK_NB)
	if err != nil {
		return false, nil // a container with its record elsewhere; gone
	}
	defer unlock()
	if recorded() { // made meanwhile, by a Create that waits for the lock
		return false, nil
	}
	if err := fsutil.RemoveAll(ctx, nil, dir); err != nil {
		return false, err
	}
	os.Remove(filepath.Dir(dir)) // the namespace's, while it is empty
	return true, nil
}

// ReclaimLater has a shim call Reclaim once, when nobody waits for it, unless another
// one has just done so. A warning tells of what is left.
func ReclaimLater(log *slog.Logger) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	t := time.AfterFunc(reclaimAfter, func() {
		defer cancel()
		if err := reclaimOnce(ctx, log); err != nil && ctx.Err() == nil {
			log.Warn(err.Error())
		}
	})
	return func() {
		t.Stop()
		cancel()
	}
}

func reclaimOnce(ctx context.Context, log *slog.Logger) error {
	dir := filepath.Join(state.HostDir, "reclaim")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	lock, err := os.OpenFile(dir+"/lock", os.O_WRONLY|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	defer sys.Unlock(lock)
	st, err := lock.Stat()
	if err != nil || st.Size() > 0 && time.Since(st.ModTime()) < reclaimPause || sys.Flock(lock, unix.LOCK_EX|unix.LOCK_NB) != nil {
		return err
	}
	if _, err := lock.WriteAt([]byte("\n"), 0); err != nil { // its time tells the others
		return err
	}
	_, err = Reclaim(ctx, log)
	return err
}
