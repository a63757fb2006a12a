// SPDX-License-Identifier: Apache-2.0

package uidmap

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"sysbox/runtime/sys"
)

// The first versions of the shim took ranges from a directory below each state directory. Two
// state directories gave out the same ranges, so now there is one directory for the host.
// This file keeps the two schemes apart while both are in use on a host.

// surveyed is the file that says that the host was surveyed.
const surveyed = "surveyed"

// AvoidRangesIn makes the allocator respect the ranges that earlier versions keep in another
// directory. If that does not exist, it becomes a link to the directory of the allocator, so
// that an earlier version uses the same directory after a downgrade. AvoidRangesIn itself
// changes nothing on disk.
func (a *Allocator) AvoidRangesIn(dir string) { a.former = filepath.Clean(dir) }

// withFormer calls f with the ranges that are taken in the former directory, which is locked
// meanwhile. f returns the lease that it made; the former directory gets a link to its record,
// so that the range counts as taken there, too.
func (a *Allocator) withFormer(owner string, f func(taken []Range) (*Lease, error)) (*Lease, error) {
	old, err := a.openFormer(true)
	if err != nil {
		return nil, err
	}
	if old == nil {
		return f(nil)
	}
	defer old.Close()
	var l *Lease
	err = old.locked(func(*os.File) error {
		if err := old.heldByAnother(owner); err != nil {
			return err
		}
		taken, err := old.rangesExcept(a)
		if err != nil {
			return err
		}
		if l, err = f(taken); isFull(err) {
			// Finding ranges of dead owners, which are free, takes a look at all processes.
			if err = old.reclaim(nil); err == nil {
				taken, err = old.rangesExcept(a)
			}
			if err == nil {
				l, err = f(taken)
			}
		}
		if err != nil {
			return err
		}
		name := recordName(l.r)
		if err := os.Symlink(a.path(name), old.path(name)); err != nil && !errors.Is(err, fs.ErrExist) {
			return errors.Join(err, l.release())
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return l, nil
}

// openFormer opens the former directory; nil if it is not a directory of its own. With link
// set, it becomes a link to a's directory if it does not exist.
func (a *Allocator) openFormer(link bool) (*Allocator, error) {
	if a.former == "" || a.former == filepath.Clean(a.dir.Name()) {
		return nil, nil
	}
	st, err := os.Lstat(a.former)
	switch {
	case errors.Is(err, fs.ErrNotExist) && link:
		if err = os.MkdirAll(filepath.Dir(a.former), 0o700); err == nil {
			err = os.Symlink(a.dir.Name(), a.former)
		}
		if err == nil || errors.Is(err, fs.ErrExist) { // another shim was faster
			return nil, nil
		}
		return nil, err
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	case !st.IsDir() || sys.SameFile(a.dir, a.former):
		return nil, nil // a link, or the same directory by another path
	}
	d, err := os.OpenFile(a.former, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	return &Allocator{dir: d, pool: a.pool}, nil
}

// heldByAnother returns ErrHeld if a living process of an earlier version holds a range of
// the owner. The range of a dead process stays until its users exit and Reclaim removes it.
func (a *Allocator) heldByAnother(owner string) error {
	f, _, err := a.find(owner)
	if isLater(err) {
		return err
	}
	if err != nil {
		return nil //nolint:nilerr // the owner has none
	}
	defer f.Close()
	if sys.Flock(f, unix.LOCK_EX|unix.LOCK_NB) != nil {
		return ErrHeld
	}
	return nil
}

// rangesExcept lists the ranges that earlier versions have given out from this directory, and
// removes links to records in the directory of the host that are gone.
func (a *Allocator) rangesExcept(host *Allocator) ([]Range, error) {
	list, err := a.records()
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(list, func(r Range) bool {
		link, err := os.Readlink(a.path(recordName(r)))
		if err != nil {
			return false
		}
		if _, err := os.Lstat(link); errors.Is(err, fs.ErrNotExist) && strings.HasPrefix(link, host.dir.Name()+"/") {
			os.Remove(a.path(recordName(r)))
		}
		return true // the directory of the host has it
	}), nil
}

// survey runs once on a host. It reserves the ranges of the pool that processes use without a
// record: they belong to containers of earlier versions, whose shims keep their records below
// a state directory that this process does not know. Reclaim returns the ranges.
func (a *Allocator) survey(pool *slots) error {
	if _, err := os.Lstat(a.path(surveyed)); err == nil {
		return nil
	}
	list, err := users()
	if err != nil {
		return err
	}
	taken, err := a.records()
	if err != nil {
		return err
	}
	for _, u := range list {
		for _, m := range [2]Map{u.uid, u.gid} {
			for _, e := range m {
				for _, r := range pool.overlapping(e.host()) {
					if slices.ContainsFunc(taken, r.overlaps) {
						continue
					}
					f, err := a.write(r, "")
					if err != nil {
						return fmt.Errorf("reserve the ids %v, which process %s uses: %w", r, u.pid, err)
					}
					f.Close()
					taken = append(taken, r)
				}
			}
		}
	}
	f, err := a.open(surveyed, unix.O_WRONLY|unix.O_CREAT|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

// overlapping returns the ranges of the pool that share ids with r.
func (s *slots) overlapping(r Range) []Range {
	var out []Range
	for _, p := range s.parts {
		if !p.overlaps(r) {
			continue
		}
		from := uint64(max(r.HostID, p.HostID)-p.HostID) / uint64(s.size)
		for i := from; i < uint64(p.Size/s.size); i++ {
			slot := Range{p.HostID + uint32(i)*s.size, s.size}
			if uint64(slot.HostID) >= r.end() {
				break
			}
			out = append(out, slot)
		}
	}
	return out
}
