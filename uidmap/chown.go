// SPDX-License-Identifier: Apache-2.0

package uidmap

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Shift changes the owners of a tree from the ids of a container to ids of the host, for
// file systems and kernels that cannot do so in a mount. It changes files, their POSIX
// ACLs and file capabilities; setuid and setgid bits stay. It does not follow symbolic
// links nor cross mounts.
//
// Shift does not change ids that are already in the host ranges of the maps, nor ids that the
// maps lack. So it can be called again, also after a crash. Therefore no owner in the tree may
// be in the host ranges before, and no file of the tree may have hard links outside of it.
//
// Before the first change Shift writes a journal to journalDir, which it creates if needed and
// which must survive a reboot. A tree that is shifted by other maps is reverted first.
func Shift(journalDir, root string, uid, gid Map) error {
	return ShiftOpen(journalDir, root, nil, uid, gid)
}

// ShiftOpen is [Shift] for a tree whose root is open. Revert finds the journal by the name of
// the tree that changes: for an overlay, its upper layer.
func ShiftOpen(journalDir, root string, open *os.File, uid, gid Map) error {
	for name, m := range map[string]Map{"uid": uid, "gid": gid} {
		if err := checkShiftable(m); err != nil {
			return fmt.Errorf("change the owners of %s: %s mapping: %w", root, name, err)
		}
	}
	return withRoot(journalDir, root, open, func(j *journal, dir *os.File) error {
		if dir == nil {
			return fs.ErrNotExist
		}
		others := j.State != "" && (j.UID.String() != uid.String() || j.GID.String() != gid.String())
		if others || j.State == stateReverting {
			if err := j.revert(dir); err != nil {
				return err
			}
		}
		if others { // the new journal will not know its ids
			if err := syncTree(dir); err != nil {
				return err
			}
		}
		return j.shift(dir, uid, gid)
	})
}

// Revert undoes [Shift], also for files that the container has created: ids in the host
// ranges become ids of the container. Other ids do not change, so Revert can be called
// again, also after a crash. It does nothing if the tree has no journal or is gone.
//
// The processes of the container must have exited. The journal stays until [FinishReverts],
// since Revert does not wait until the owners are on disk.
func Revert(journalDir, root string) error {
	if !hasJournal(journalDir, root) {
		return nil
	}
	return withRoot(journalDir, root, nil, func(j *journal, dir *os.File) error {
		switch {
		case j.State == "":
			return nil
		case dir == nil:
			return j.remove()
		}
		return j.revert(dir)
	})
}

// FinishReverts removes the journals that Revert has left once the owners are on disk, which
// may take seconds. It also removes journals of trees that are gone, and returns the names of
// those trees; but if the parent directory of a tree is gone, too, it keeps the journal, since
// a disk may be missing. It skips journals that another process is using.
func FinishReverts(journalDir string) (gone []string, err error) {
	entries, err := os.ReadDir(journalDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, e := range entries {
		name := filepath.Join(journalDir, e.Name())
		if filepath.Ext(name) != ".json" {
			continue
		}
		b, err := os.ReadFile(name)
		j := &journal{}
		if err != nil || checkVersion(name, b, journalVersion) != nil || !readSummed(b, j, &j.Sum) || journalPath(journalDir, j.Root) != name {
			continue // being removed, of a later version, or damaged; the next user of the tree gets the error
		}
		_, missing := os.Lstat(j.Root)
		if missing == nil {
			if j.State != stateReverting {
				continue
			}
			if err := finishRevert(journalDir, j.Root); err != nil && !errors.Is(err, errBusy) {
				return gone, err
			}
			continue
		}
		if _, err := os.Lstat(filepath.Dir(filepath.Dir(j.Root))); err != nil || !errors.Is(missing, fs.ErrNotExist) {
			continue
		}
		if err := Revert(journalDir, j.Root); err != nil {
			return gone, err
		}
		gone = append(gone, j.Root)
	}
	return gone, nil
}

// finishRevert ends a journal in the state "reverting". The Revert may have been killed, so it
// walks the tree again.
func finishRevert(journalDir, root string) error {
	return withRoot(journalDir, root, nil, func(j *journal, dir *os.File) error {
		if j.State != stateReverting || dir == nil {
			return nil // another Shift has started, or the tree is gone
		}
		if err := j.revert(dir); err != nil {
			return err
		}
		if err := syncTree(dir); err != nil {
			return err
		}
		return j.remove()
	})
}

// syncTree waits until all owners in the tree are on disk, together with all other writes to
// the file system.
func syncTree(dir *os.File) error {
	return os.NewSyscallError("syncfs", unix.Syncfs(int(dir.Fd())))
}

// checkShiftable rejects maps with which a shifted id looks like an id that is not
// shifted yet.
func checkShiftable(m Map) error {
	if err := m.Check(); err != nil {
		return err
	}
	for _, c := range m {
		for _, h := range m {
			if c.container().overlaps(h.host()) {
				return fmt.Errorf("the host ids of %v overlap the container ids of %v, so after a crash the shifted files could not be found; let the pool start after ids.range_size", h, c)
			}
		}
	}
	return nil
}

// withRoot opens a tree (nil if it is gone; again if it is open already) and its journal,
// which no other process can use meanwhile.
//
// It runs on its own goroutine: the thread of the caller may have the fsuid of the
// container, and the journal would belong to that.
func withRoot(journalDir, root string, open *os.File, f func(*journal, *os.File) error) error {
	done := make(chan error)
	go func() {
		err := lockedRoot(journalDir, root, open, f)
		if err != nil {
			err = fmt.Errorf("change the owners of %s: %w", root, err)
		}
		done <- err
	}()
	return <-done
}

func lockedRoot(journalDir, root string, open *os.File, f func(*journal, *os.File) error) error {
	if !filepath.IsAbs(root) {
		return errors.New("the path must be absolute")
	}
	name := root
	if open != nil {
		name = procFD(int(open.Fd()))
	}
	dir, err := os.OpenFile(name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if dir != nil {
		defer dir.Close()
	}
	j, err := openJournal(journalDir, root)
	if err != nil {
		return err
	}
	defer j.close()
	return f(j, dir)
}

func (j *journal) shift(dir *os.File, uid, gid Map) error {
	if j.State == stateShifted {
		// The log describes files from before the container ran.
		if err := j.dropLog(); err != nil {
			return err
		}
	}
	j.UID, j.GID = uid, gid
	if err := j.write(stateShifting); err != nil {
		return err
	}
	c := chowner{journal: j, change: func(m Map, id uint32) (uint32, bool) {
		if _, ok := m.ToContainer(id); ok {
			return 0, false
		}
		return m.ToHost(id)
	}}
	if err := c.tree(dir); err != nil {
		return err
	}
	if err := j.write(stateShifted); err != nil {
		return err
	}
	return j.dropLog()
}

func (j *journal) revert(dir *os.File) error {
	if j.State == stateShifted {
		if err := j.dropLog(); err != nil {
			return err
		}
	}
	if err := j.write(stateReverting); err != nil {
		return err
	}
	c := chowner{journal: j, change: Map.ToContainer}
	if err := c.tree(dir); err != nil {
		return err
	}
	return j.dropLog()
}
