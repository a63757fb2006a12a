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

// Allocator hands out ranges that no one else on the host has. Any number of
// processes may use one folder at once, and may be killed at any point.
//
// All changes are made under the flock of the file "lock", whose content is a
// hint: the signature of the pool and the number of the range to try next.
type Allocator struct {
	dir    *os.File
	pool   func() (*slots, error)
	former string // where a version before keeps ranges, see Heed; "" for nowhere
}

// HostDir is the directory from which all shims of a host take ranges. It is not to be
// configured: two directories would give out the same ids.
const HostDir = "/run/sysbox/ids"

// Open makes the folder of records if need be. The folder must be on a file
// system that is empty after a reboot, as ranges don't outlive processes.
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

// Close gives up the folder's handle; leases stay.
func (a *Allocator) Close() error { return a.dir.Close() }

func (a *Allocator) path(name string) string { return filepath.Join(a.dir.Name(), name) }

func (a *Allocator) open(name string, flags int, perm os.FileMode) (*os.File, error) {
	return os.OpenFile(a.path(name), flags|unix.O_CLOEXEC, perm)
}

// locked runs f as the only one of all processes.
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

// Lease is a range that this process holds. The range stays taken after the
// process's death, until [Allocator.ReleaseOwner] or [Allocator.Reclaim].
type Lease struct {
	alloc *Allocator
	owner string
	r     Range

	mu sync.Mutex
	f  *os.File // the locked record; guarded by mu; nil after Release
}

// UID is the range of user ids.
func (l *Lease) UID() Range { return l.r }

// GID is the range of group ids, which begins where that of user ids does.
func (l *Lease) GID() Range { return l.r }

// Owner is the name that the range was acquired for.
func (l *Lease) Owner() string { return l.owner }

// Release gives the range back. The caller vouches that no process uses it any
// more. It can be called again.
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
	// ReleaseOwner may have removed it, and another may have made one of the same name.
	if !sys.SameFile(l.f, l.alloc.path(recordName(l.r))) {
		return nil
	}
	return l.alloc.remove(l.r, l.owner)
}

// Acquire takes a range for an owner, a name such as "k8s.io/POD". An owner
// whose shim died, with none of its processes left, gets the same range again.
// ErrHeld if a living process holds a range for that owner.
func (a *Allocator) Acquire(owner string) (*Lease, error) {
	if owner == "" {
		return nil, errors.New("acquire ids: the owner has no name")
	}
	if !utf8.ValidString(owner) { // what a record gives back would be another name
		return nil, fmt.Errorf("acquire ids: the owner's name %q is not UTF-8; give one that is", owner)
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
			// Left to its processes; Reclaim will find it.
			f.Close()
		} else if isLater(err) {
			return err // the owner has a range, of which nothing is known here
		}
		out, err = a.withFormer(owner, func(taken []Range) (*Lease, error) { return a.next(lock, pool, owner, taken) })
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("acquire ids for %s: %w", owner, err)
	}
	return out, nil
}

// next takes the first free range from the hint on; taken are some that are not free
// though they have no record here.
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
	return fmt.Sprintf("%s: all %d ranges of %d ids are taken; delete containers, or make the pool larger (the lines of ids.subid_user in /etc/subuid and /etc/subgid, or ids.pool_start and ids.pool_size in the configuration) or the ranges smaller (ids.range_size)", e.pool.name, e.pool.count, e.pool.size)
}

func isFull(err error) bool { return errors.As(err, new(fullError)) }

// scan tries the ranges from number from on, round the pool once. Where all
// records are known to be of this pool (same), a range is free if its record's
// name is; else, after a change of the pool, each is compared with all.
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
		// The first of the taken ones that ends behind r's beginning.
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
	n, _ := lock.ReadAt(b, 0) // io.EOF, as it's shorter
	var i uint32
	if k, err := fmt.Sscanf(string(b[:n]), "%16x %8x\n", &sig, &i); err != nil || k != 2 {
		return 0, 0
	}
	return sig, int(i)
}

// writeHint stores the signature only once no record of another pool is left.
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

// Adopt takes over the range of an owner whose holder has died, its processes
// running or not. fs.ErrNotExist if the owner has none, ErrHeld if the holder
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

// ReleaseOwner gives back the range of an owner whose processes have ended;
// nothing if it has none. ErrInUse, with the pid of one, while they have not.
func (a *Allocator) ReleaseOwner(owner string) error {
	err := a.locked(func(*os.File) error {
		os.Remove(a.path(unfinished))
		f, r, err := a.find(owner)
		if errors.Is(err, fs.ErrNotExist) {
			a.pruneIndex(indexName(owner)) // of one who was killed in the midst of Acquire
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
			return fmt.Errorf("%w %v: process %s; end it first", ErrInUse, r, pid)
		}
		return a.remove(r, owner)
	})
	if err != nil {
		return fmt.Errorf("release the ids of %s: %w", owner, err)
	}
	// A version before may have given the owner its range.
	switch old, err := a.openFormer(false); {
	case err != nil:
		return fmt.Errorf("release the ids of %s: %w", owner, err)
	case old != nil:
		return errors.Join(old.ReleaseOwner(owner), old.Close())
	}
	return nil
}

// Reclaim gives back the ranges that no living process holds or uses and whose
// owner is not alive; alive may be nil: none is.
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
	_, err = a.records() // once more, for indexes whose records are gone only now
	return err
}

func (a *Allocator) reclaimOne(r Range, alive func(string) bool, list func() ([]user, error)) error {
	f, owner, err := a.openRecord(recordName(r))
	if err != nil {
		return nil // no file of ours, or one of a later version: the range stays taken
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
