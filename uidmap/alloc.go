// SPDX-License-Identifier: Apache-2.0

package uidmap

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"sysbox/runtime/sys"
)

// ErrHeld: another living process holds the owner's range.
var ErrHeld = errors.New("the range is held by a living process")

// ErrInUse: processes still run with ids of the range.
var ErrInUse = errors.New("processes still use the range")

// Allocator hands out ranges of ids that nothing else on the host uses. Any number of
// processes may use one directory at once, and may be killed at any time.
//
// All changes are made under the flock of the file "lock". Its content is a hint: the
// signature of the pool and the number of the range to try next.
type Allocator struct {
	dir    *os.File
	pool   func() (*slots, error)
	former string // where earlier versions keep ranges, see AvoidRangesIn; "" if nowhere
}

// HostDir is the directory from which all shims of a host take ranges. It is not
// configurable: two directories would give out the same ids.
const HostDir = "/run/sysbox/ids"

// Open creates the directory of records if it does not exist. The directory must be on a
// file system that is empty after a reboot, as ranges do not outlive processes.
func Open(dir string, p Pool) (*Allocator, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("id ranges: %w", err)
	}
	d, err := os.OpenFile(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, fmt.Errorf("id ranges: %w", err)
	}
	return &Allocator{dir: d, pool: sync.OnceValues(p.slots)}, nil
}

// Close closes the directory; leases stay.
func (a *Allocator) Close() error { return a.dir.Close() }

func (a *Allocator) path(name string) string { return filepath.Join(a.dir.Name(), name) }

func (a *Allocator) open(name string, flags int, perm os.FileMode) (*os.File, error) {
	return os.OpenFile(a.path(name), flags|unix.O_CLOEXEC, perm)
}

// locked runs f while no other process does.
func (a *Allocator) locked(f func(lock *os.File) error) error {
	l, err := a.open("lock", unix.O_RDWR|unix.O_CREAT|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	defer sys.Unlock(l)
	if err := sys.Flock(l, unix.LOCK_EX); err != nil {
		return fmt.Errorf("lock %s: %w", l.Name(), sys.Errno(err))
	}
	return f(l)
}

// Lease is a range that this process holds. The range stays taken when the
// process dies, until [Allocator.ReleaseOwner] or [Allocator.Reclaim].
type Lease struct {
	alloc *Allocator
	owner string
	r     Range

	mu sync.Mutex
	f  *os.File // the locked record; guarded by mu; nil after Release
}

// UID is the range of user ids.
func (l *Lease) UID() Range { return l.r }

// GID is the range of group ids, which starts at the same id as that of user ids.
func (l *Lease) GID() Range { return l.r }

// Owner is the name of the owner of the range.
func (l *Lease) Owner() string { return l.owner }

// Release returns the range. The caller guarantees that no process uses it any
// more. Release can be called again.
func (l *Lease) Release() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f == nil {
		return nil
	}
	if err := l.alloc.locked(func(*os.File) error { return l.release() }); err != nil {
		return fmt.Errorf("release the ids %v of %s: %w", l.r, l.owner, err)
	}
	l.f.Close()
	l.f = nil
	return nil
}

// release removes the record. The allocator is locked.
func (l *Lease) release() error {
	// ReleaseOwner may have removed it, and another process may have made one of the same name.
	if !sys.SameFile(l.f, l.alloc.path(recordName(l.r))) {
		return nil
	}
	return l.alloc.remove(l.r, l.owner)
}

// Acquire takes a range for an owner, a name such as "k8s.io/POD". If the shim of the
// owner and all its processes are dead, the owner gets the same range again. ErrHeld
// if a living process holds a range for that owner.
func (a *Allocator) Acquire(owner string) (*Lease, error) {
	if owner == "" {
		return nil, errors.New("acquire ids: the name of the owner is empty")
	}
	if !utf8.ValidString(owner) { // JSON would change the name in the record
		return nil, fmt.Errorf("acquire ids: the name of the owner, %q, must be UTF-8", owner)
	}
	pool, err := a.pool()
	if err != nil {
		return nil, err
	}
	var out *Lease
	err = a.locked(func(lock *os.File) error {
		if err := a.survey(pool); err != nil {
			return err
		}
		f, r, err := a.find(owner)
		if err == nil {
			if sys.Flock(f, unix.LOCK_EX|unix.LOCK_NB) != nil {
				f.Close()
				return ErrHeld
			}
			list, err := users()
			if err != nil {
				f.Close()
				return err
			}
			if holder(list, r) == "" && r.Size == pool.size {
				out = &Lease{alloc: a, owner: owner, r: r, f: f}
				return nil
			}
			// Its processes keep the range; Reclaim will find it.
			f.Close()
		} else if isLater(err) {
			return err // the owner may have a range that this process does not know
		}
		out, err = a.withFormer(owner, func(taken []Range) (*Lease, error) { return a.next(lock, pool, owner, taken) })
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("acquire ids for %s: %w", owner, err)
	}
	return out, nil
}

// next takes the first free range, starting at the hint; taken are ranges that are not
// free although they have no record here.
func (a *Allocator) next(lock *os.File, pool *slots, owner string, taken []Range) (*Lease, error) {
	sig, from := readHint(lock)
	if sig != pool.signature() {
		from = 0
	}
	l, i, err := a.scan(pool, owner, from, sig == pool.signature(), taken)
	if isFull(err) {
		if err := a.reclaim(nil); err != nil {
			return nil, err
		}
		l, i, err = a.scan(pool, owner, 0, false, taken)
	}
	if err != nil {
		return nil, err
	}
	return l, a.writeHint(lock, pool, i+1)
}

// fullError: no range of the pool is free.
type fullError struct{ pool *slots }

func (e fullError) Error() string {
	return fmt.Sprintf("%s: all %d ranges of %d ids are taken; delete containers, or configure a larger pool (the lines of ids.subid_user in /etc/subuid and /etc/subgid, or ids.pool_start and ids.pool_size) or smaller ranges (ids.range_size)", e.pool.name, e.pool.count, e.pool.size)
}

func isFull(err error) bool { return errors.As(err, new(fullError)) }

// scan tries all ranges of the pool once, starting at the number from. If all records
// are known to be from this pool (same), a range is free if the name of its record is
// free. Otherwise, after a change of the pool, scan compares each range with all records.
func (a *Allocator) scan(pool *slots, owner string, from int, same bool, taken []Range) (*Lease, int, error) {
	if !same {
		list, err := a.records()
		if err != nil {
			return nil, 0, err
		}
		taken = slices.Concat(taken, list)
	}
	taken = merge(taken)
	for n := range pool.count {
		i := (from + n) % pool.count
		r := pool.at(i)
		// The first taken range that ends after the start of r.
		k, _ := slices.BinarySearchFunc(taken, r.HostID, func(t Range, id uint32) int {
			if t.end() <= uint64(id) {
				return -1
			}
			return 1
		})
		if k < len(taken) && taken[k].overlaps(r) {
			continue
		}
		if same {
			if _, err := os.Lstat(a.path(recordName(r))); err == nil {
				continue
			}
		}
		f, err := a.write(r, owner)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return nil, 0, err
		}
		return &Lease{alloc: a, owner: owner, r: r, f: f}, i, nil
	}
	return nil, 0, fullError{pool}
}

func readHint(lock *os.File) (sig uint64, next int) {
	b := make([]byte, 64)
	n, _ := lock.ReadAt(b, 0) // io.EOF, since it is shorter
	var i uint32
	if k, err := fmt.Sscanf(string(b[:n]), "%16x %8x\n", &sig, &i); err != nil || k != 2 {
		return 0, 0
	}
	return sig, int(i)
}

// writeHint stores the signature only when no record of another pool remains.
func (a *Allocator) writeHint(lock *os.File, pool *slots, next int) error {
	sig := pool.signature()
	if old, _ := readHint(lock); old != sig {
		taken, err := a.records()
		if err != nil {
			return err
		}
		grid := map[Range]bool{}
		for i := range pool.count {
			grid[pool.at(i)] = true
		}
		for _, t := range taken {
			if !grid[t] {
				sig = 0
			}
		}
	}
	_, err := lock.WriteAt(fmt.Appendf(nil, "%016x %08x\n", sig, next%pool.count), 0)
	return err
}

// Adopt takes over the range of an owner whose holder has died, whether or not its processes
// still run. fs.ErrNotExist if the owner has none, ErrHeld if the holder
// lives.
func (a *Allocator) Adopt(owner string) (*Lease, error) {
	var out *Lease
	err := a.locked(func(*os.File) error {
		f, r, err := a.find(owner)
		if err != nil {
			return err
		}
		if sys.Flock(f, unix.LOCK_EX|unix.LOCK_NB) != nil {
			f.Close()
			return ErrHeld
		}
		out = &Lease{alloc: a, owner: owner, r: r, f: f}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("adopt the ids of %s: %w", owner, err)
	}
	return out, nil
}

// ReleaseOwner returns the range of an owner whose processes have exited; it does nothing
// if the owner has none. ErrInUse, with the pid of a process, if one still runs.
func (a *Allocator) ReleaseOwner(owner string) error {
	err := a.locked(func(*os.File) error {
		os.Remove(a.path(unfinished))
		f, r, err := a.find(owner)
		if errors.Is(err, fs.ErrNotExist) {
			a.pruneIndex(indexName(owner)) // left by a process that was killed during Acquire
			return nil
		}
		if err != nil {
			return err
		}
		defer f.Close()
		list, err := users()
		if err != nil {
			return err
		}
		if pid := holder(list, r); pid != "" {
			return fmt.Errorf("%w %v: process %s; kill it first", ErrInUse, r, pid)
		}
		return a.remove(r, owner)
	})
	if err != nil {
		return fmt.Errorf("release the ids of %s: %w", owner, err)
	}
	// An earlier version may have given the range to the owner.
	switch old, err := a.openFormer(false); {
	case err != nil:
		return fmt.Errorf("release the ids of %s: %w", owner, err)
	case old != nil:
		return errors.Join(old.ReleaseOwner(owner), old.Close())
	}
	return nil
}

// Reclaim returns the ranges that no living process holds or uses and whose
// owner is not alive; alive may be nil, which means that no owner is.
func (a *Allocator) Reclaim(alive func(owner string) bool) error {
	err := a.locked(func(*os.File) error { return a.reclaim(alive) })
	if err != nil {
		return fmt.Errorf("reclaim ids: %w", err)
	}
	return nil
}

func (a *Allocator) reclaim(alive func(owner string) bool) error {
	os.Remove(a.path(unfinished))
	taken, err := a.records()
	if err != nil {
		return err
	}
	list := sync.OnceValues(users)
	for _, r := range taken {
		if err := a.reclaimOne(r, alive, list); err != nil {
			return err
		}
	}
	_, err = a.records() // again, since indexes of records removed above must go, too
	return err
}

func (a *Allocator) reclaimOne(r Range, alive func(string) bool, list func() ([]user, error)) error {
	f, owner, err := a.openRecord(recordName(r))
	if err != nil {
		return nil // not our file, or one of a later version: the range stays taken
	}
	defer f.Close()
	if sys.Flock(f, unix.LOCK_EX|unix.LOCK_NB) != nil || alive != nil && alive(owner) {
		return nil
	}
	us, err := list()
	if err != nil {
		return err
	}
	if holder(us, r) != "" {
		return nil
	}
	return a.remove(r, owner)
}
