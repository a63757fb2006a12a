package uidmap

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Shift changes the owners of a tree from a container's ids to the host's, for
// file systems and kernels that cannot do it in a mount: of its files, their
// POSIX ACLs and file capabilities; setuid and setgid bits stay. It does not
// follow symbolic links nor cross mounts.
//
// Ids that lie in the host's ranges already, and ids that the maps lack, are
// left as they are. So it can be called again, after a crash as well. For the
// same reason a tree must not have owners in the host's ranges before, and no
// hard links from outside of it.
//
// Before the first change a journal is written to journalDir, which is made if
// need be and must survive a reboot. A tree that is shifted by other maps is
// reverted first.
func Shift(journalDir, root string, uid, gid Map) error {
	return ShiftOpen(journalDir, root, nil, uid, gid)
}

// ShiftOpen is [Shift] of a tree whose root is open, under the name by which Revert
// finds what has changed: of an overlay, its upper layer.
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
		if others { // whose ids the journal will no longer tell
			if err := syncTree(dir); err != nil {
				return err
			}
		}
		return j.shift(dir, uid, gid)
	})
}

// Revert undoes [Shift], what the container has made since included: ids in
// the host's ranges become the container's. All others are left as they are,
// so it can be called again, after a crash as well. Nothing is done if there
// is no journal of the tree, or no tree any more.
//
// The container's processes must have ended. The journal stays until [Settle], since the
// owners are not waited for to be on disk.
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

// Settle removes the journals that Revert has left, once the owners are on disk, which may
// take seconds, and those of trees that are gone, whose names it returns. One with which the
// folder above its own is gone is kept: a disk may be missing. What another process is at is
// left to it.
func Settle(journalDir string) (gone []string, err error) {
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
			continue // being removed; of a later version, or damaged, which the tree's next user is told
		}
		_, missing := os.Lstat(j.Root)
		if missing == nil {
			if j.State != stateReverting {
				continue
			}
			if err := settle(journalDir, j.Root); err != nil && !errors.Is(err, errBusy) {
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

// settle ends a journal in the state "reverting". A Revert may have been killed, so the tree
// is walked once more.
func settle(journalDir, root string) error {
	return withRoot(journalDir, root, nil, func(j *journal, dir *os.File) error {
		if j.State != stateReverting || dir == nil {
			return nil // another Shift has begun, or the tree has gone
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

// syncTree waits until all owners in the tree are on disk, and with them whatever else was
// written to the file system.
func syncTree(dir *os.File) error {
	return os.NewSyscallError("syncfs", unix.Syncfs(int(dir.Fd())))
}

// checkShiftable refuses maps by which a shifted id cannot be told from one
// that is yet to be shifted.
func checkShiftable(m Map) error {
	if err := m.Check(); err != nil {
		return err
	}
	for _, c := range m {
		for _, h := range m {
			if c.container().overlaps(h.host()) {
				return fmt.Errorf("the host's ids of %v overlap the container's of %v, and after a crash nothing would tell which files are done; let the pool begin behind ids.range_size", h, c)
			}
		}
	}
	return nil
}

// withRoot opens a tree, nil if it is gone, anew if it is open, and its journal
// as the only one on the host.
//
// It works on a goroutine of its own: the caller's thread may have the
// container's fsuid, to which the journal would belong.
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
		return errors.New("give an absolute path")
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
		// What the log says was before the container ran.
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
