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
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"sysbox/runtime/tree"
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
// their containers, by the records; storage folders whose record a reboot has taken;
// journals of chowned trees that there are no more. It looks at the directories of all
// configurations that were used since the host has booted, and at more. It returns what it
// removed.
//
// It can be called at any time, beside all else.
func Reclaim(ctx context.Context, more ...Dirs) (removed []string, err error) {
	var errs []error
	known := KnownDirs(more...)
	for _, d := range known {
		list, err := d.reclaim(ctx, known)
		removed, errs = append(removed, list...), append(errs, err)
	}
	return removed, errors.Join(append(errs, forgetDirs())...)
}

// reclaim is Reclaim of these directories; known are all that there are.
func (d Dirs) reclaim(ctx context.Context, known []Dirs) (removed []string, err error) {
	var errs []error
	note := func(what string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("reclaim %s: %w", what, err))
		} else {
			removed = append(removed, what)
		}
	}
	records, err := filepath.Glob(globEscaped(d.State) + "/containers/*/*.json")
	if err != nil {
		return nil, err
	}
	for _, name := range records {
		if done, err := reclaimRecord(ctx, d, name); done || err != nil {
			note("the container of "+name, err)
		}
	}
	folders, err := filepath.Glob(globEscaped(d.Data) + "/storage/*/*")
	if err != nil {
		return nil, err
	}
	for _, dir := range folders {
		if done, err := reclaimStorage(ctx, known, dir); done || err != nil {
			note(dir, err)
		}
	}
	gone, err := uidmap.Settle(d.journals())
	for _, root := range gone {
		note("the journal of "+root, nil)
	}
	return removed, errors.Join(append(errs, err)...)
}

// globEscaped is a path as a pattern that matches nothing else.
func globEscaped(p string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(p)
}

// reclaimRecord removes the container of a record whose shim is dead; a shim in
// another pid namespace is not ours to judge.
func reclaimRecord(ctx context.Context, d Dirs, name string) (bool, error) {
	dead := func() (*record, bool) {
		r, err := readRecord(name)
		return r, err == nil && r.PIDNS == ownPIDNamespace() && !r.Shim.alive()
	}
	if _, ok := dead(); !ok {
		return false, nil
	}
	unlock, err := lockRecord(ctx, name)
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
	return true, r.reclaim(ctx, d)
}

// lockRecord waits until nobody else removes the container of a record;
// fs.ErrNotExist if somebody has. The record's own shim asks for no lock.
func lockRecord(ctx context.Context, name string) (unlock func(), err error) {
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	unlock = func() {
		_ = unix.Flock(int(f.Fd()), unix.LOCK_UN)
		f.Close()
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			break
		}
		if err == unix.EWOULDBLOCK {
			select {
			case <-time.After(10 * time.Millisecond):
				continue
			case <-ctx.Done():
				err = ctx.Err()
			}
		}
		unlock()
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	if !same(f, name) {
		unlock()
		return nil, &os.PathError{Op: "lock", Path: name, Err: fs.ErrNotExist}
	}
	return unlock, nil
}

// same tells whether a name is still that of an open file.
func same(f *os.File, name string) bool {
	a, err := f.Stat()
	if err != nil {
		return false
	}
	b, err := os.Lstat(name)
	return err == nil && os.SameFile(a, b)
}

// reclaimStorage removes a storage folder of which there is no record. Two configurations
// may have a data directory in common, so all are looked at.
func reclaimStorage(ctx context.Context, known []Dirs, dir string) (bool, error) {
	namespace, id := filepath.Base(filepath.Dir(dir)), filepath.Base(dir)
	recorded := func() bool {
		return slices.ContainsFunc(known, func(d Dirs) bool { return d.Holds(namespace, id) })
	}
	if recorded() {
		return false, nil
	}
	unlock, err := lockStorage(dir, unix.LOCK_NB)
	if err != nil {
		return false, nil // a container with its record elsewhere; gone
	}
	defer unlock()
	if recorded() { // made meanwhile, by a Create that waits for the lock
		return false, nil
	}
	if err := tree.RemoveAll(ctx, nil, dir); err != nil {
		return false, err
	}
	os.Remove(filepath.Dir(dir)) // the namespace's, while it is empty
	return true, nil
}

// lockStorage locks a storage folder, which its container's shim holds locked.
func lockStorage(dir string, how int) (unlock func(), err error) {
	f, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	unlock = func() {
		_ = unix.Flock(int(f.Fd()), unix.LOCK_UN)
		f.Close()
	}
	for {
		if err = unix.Flock(int(f.Fd()), unix.LOCK_EX|how); err != unix.EINTR {
			break
		}
	}
	if err == nil && !same(f, dir) {
		err = fs.ErrNotExist
	}
	if err != nil {
		unlock()
		return nil, err
	}
	return unlock, nil
}

// newStorage makes a storage folder, empty, and holds it locked.
func newStorage(ctx context.Context, dir string) (unlock func(), err error) {
	for {
		err := os.Mkdir(dir, 0o700)
		switch {
		case err == nil:
			return lockStorage(dir, unix.LOCK_NB)
		case errors.Is(err, fs.ErrNotExist): // at first, or Reclaim has removed the empty parent
			if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
				return nil, err
			}
			continue
		case !errors.Is(err, fs.ErrExist):
			return nil, err
		}
		unlock, err := lockStorage(dir, 0)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		err = tree.RemoveAll(ctx, nil, dir)
		unlock()
		if err != nil {
			return nil, err
		}
	}
}

// ReclaimLater has a shim call Reclaim once, when nobody waits for it, unless another
// one has just done so. A warning tells of what is left.
func ReclaimLater() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	t := time.AfterFunc(reclaimAfter, func() {
		defer cancel()
		if err := reclaimOnce(ctx); err != nil && ctx.Err() == nil {
			slog.Warn(err.Error())
		}
	})
	return func() {
		t.Stop()
		cancel()
	}
}

func reclaimOnce(ctx context.Context) error {
	dir := filepath.Join(hostDir, "reclaim")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	lock, err := os.OpenFile(dir+"/lock", os.O_WRONLY|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close()
	st, err := lock.Stat()
	if err != nil || st.Size() > 0 && time.Since(st.ModTime()) < reclaimPause || unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		return err
	}
	defer unix.Flock(int(lock.Fd()), unix.LOCK_UN)           //nolint:errcheck // closed next
	if _, err := lock.WriteAt([]byte("\n"), 0); err != nil { // its time tells the others
		return err
	}
	_, err = Reclaim(ctx)
	return err
}

// ownPIDNamespace is the number of the namespace whose pids this process records.
var ownPIDNamespace = sync.OnceValue(func() uint64 {
	var st unix.Stat_t
	if err := unix.Stat("/proc/self/ns/pid", &st); err != nil {
		return 0
	}
	return st.Ino
})
