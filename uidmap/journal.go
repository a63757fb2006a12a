// SPDX-License-Identifier: Apache-2.0

package uidmap

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"sysbox/runtime/sys"
)

// A journal is two files: "HASH.json" says what is being done to which tree,
// and "HASH.log" what a chown is about to remove from a file. "HASH.lock" exists while a
// process uses the journal; the lock is not in the tree, which may be on a file system
// without flock for directories (NFS).
//
// The power may be cut at any time, and the tree may be on another disk than the journal, or
// on a file system that does not write in order (btrfs after an fsync). The journal waits only
// for the writes that the way back needs: a sync of the whole file system would also wait for
// everything that others have written to it.
//
//  1. A state is on disk before the first file changes: otherwise host ids could be in a tree
//     without a record of whose they are.
//  2. The line of a file in the log is on disk before its owner changes, since the change
//     removes its setuid bits and capabilities.
//  3. A file of the log has these back, on disk (fsync), before the log is removed, in the
//     state "shifted" or at the end of Revert: only the log can restore them.
//  4. Nothing waits for the owners of all other files, in either direction: ids show which
//     files are done, and another walk of the tree repairs what a power cut has undone.
//     For that the journal stays after Revert, in the state "reverting".
//  5. FinishReverts removes it, and Shift replaces it by one with other ids, only when all
//     owners are on disk (syncfs): only the journal knows whose the ids are. FinishReverts
//     runs when no caller waits; Shift seldom comes that soon, with other ids, to the
//     same tree.
//
// The removal of HASH.json or of the log need not be on disk: if they come back, the work is
// done again.
//
// A reader treats a journal, or a line of the log, with an unknown field as damaged, since
// its own rewrite would drop the field. So all versions so far write the form of version 0,
// without a version field; the first versions treat a journal with a version as damaged and
// leave it alone. A later form has a Version above journalVersion, which covers the log, too,
// and keeps the names of the files. This version never removes it.
type journal struct {
	// Version is journalVersion; it is not written while that is 0.
	Version  int `json:",omitempty"`
	Root     string
	UID, GID Map
	State    string
	// Sum is the checksum of the other fields, see [summed].
	Sum uint32

	path string   // of HASH.json
	lock *os.File // HASH.lock, locked
	log  *os.File
	// lost is the content of the log, by path. Inode numbers do not identify a file:
	// one mount can have several files with the same number (btrfs, overlay).
	lost map[string]privileges
	// later: a later version wrote HASH.json, so all files stay.
	later bool
}

// journalVersion is the version of journals written, and the highest one read.
const journalVersion = 0

// States of a tree. No container runs in a tree that is being shifted or
// reverted.
const (
	stateShifting  = "shifting"
	stateShifted   = "shifted"
	stateReverting = "reverting"
)

// privileges are what the kernel removes from a file when its owner changes
// (chown(2)).
type privileges struct {
	Path []byte // below the root; any bytes
	Mode uint32 // with the setuid and setgid bits
	Caps []byte `json:",omitempty"` // security.capability
	Sum  uint32 // as in journal
}

// summed returns v as JSON, with the checksum of its JSON without a checksum in sum, a field
// of v. A journal outlives reboots, and owners and setuid bits are restored from it.
func summed(v any, sum *uint32) ([]byte, error) {
	*sum = 0
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	*sum = crc32.ChecksumIEEE(b)
	return json.Marshal(v)
}

// readSummed reads what summed wrote; false if any byte differs.
func readSummed(b []byte, v any, sum *uint32) bool {
	if json.Unmarshal(b, v) != nil {
		return false
	}
	again, err := summed(v, sum)
	return err == nil && bytes.Equal(again, b)
}

func journalPath(dir, root string) string {
	h := sha256.Sum256([]byte(filepath.Clean(root)))
	return filepath.Join(dir, hex.EncodeToString(h[:16])+".json")
}

func (j *journal) stem() string     { return strings.TrimSuffix(j.path, ".json") }
func (j *journal) logPath() string  { return j.stem() + ".log" }
func (j *journal) newPath() string  { return j.path + ".new" }
func (j *journal) lockPath() string { return j.stem() + ".lock" }

// hasJournal reports whether a tree has a journal, or what a killed process left
// of one.
func hasJournal(dir, root string) bool {
	j := &journal{path: journalPath(dir, root)}
	for _, name := range []string{j.path, j.newPath(), j.logPath(), j.lockPath()} {
		if _, err := os.Lstat(name); !errors.Is(err, fs.ErrNotExist) {
			return true
		}
	}
	return false
}

// openJournal locks and reads the journal of a tree; State is "" if it has none.
func openJournal(dir, root string) (*journal, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	j := &journal{Root: filepath.Clean(root), path: journalPath(dir, root), lost: map[string]privileges{}}
	if err := j.takeLock(); err != nil {
		return nil, err
	}
	if err := j.read(); err != nil {
		j.close()
		return nil, err
	}
	return j, nil
}

var errBusy = errors.New("another process is using it")

// takeLock creates and locks the lock file. close removes the file if the journal is
// done, so the locked file may be gone by then.
func (j *journal) takeLock() error {
	for {
		f, err := os.OpenFile(j.lockPath(), unix.O_RDWR|unix.O_CREAT|unix.O_NOFOLLOW, 0o600)
		if err != nil {
			return err
		}
		if err := sys.Flock(f, unix.LOCK_EX|unix.LOCK_NB); err != nil {
			f.Close()
			return fmt.Errorf("%w: lock %s: %w", errBusy, f.Name(), sys.Errno(err))
		}
		if sys.SameFile(f, f.Name()) {
			j.lock = f
			return nil
		}
		f.Close()
	}
}

func (j *journal) read() error {
	b, err := os.ReadFile(j.path)
	if errors.Is(err, fs.ErrNotExist) {
		// remove leaves only the log if it is killed.
		return j.dropLog()
	}
	if err != nil {
		return err
	}
	if err := checkVersion("the journal "+j.path, b, journalVersion); err != nil {
		j.later = true
		return err
	}
	root := j.Root
	if !readSummed(b, j, &j.Sum) || j.Root != root || j.UID.Check() != nil || j.GID.Check() != nil {
		return fmt.Errorf("the journal %s is damaged; restore the owners of the files by hand and remove it", j.path)
	}
	switch j.State {
	case stateShifting, stateShifted, stateReverting:
	default:
		return fmt.Errorf("the journal %s has the state %q, which is unknown; use the version that wrote it", j.path, j.State)
	}
	b, err = os.ReadFile(j.logPath())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for line := range bytes.Lines(b) {
		var p privileges
		// The last line may be incomplete: its file was not changed yet.
		if line, whole := bytes.CutSuffix(line, []byte("\n")); whole && readSummed(line, &p, &p.Sum) {
			j.lost[string(p.Path)] = p
		}
	}
	return nil
}

func (j *journal) close() {
	j.closeLog()
	if j.State == "" && !j.later {
		os.Remove(j.newPath()) // left if a write was killed
		os.Remove(j.lockPath())
	}
	sys.Unlock(j.lock)
}

func (j *journal) closeLog() {
	if j.log != nil {
		j.log.Close()
		j.log = nil
	}
}

// write stores the journal with a new state, atomically.
func (j *journal) write(state string) error {
	j.State = state
	b, err := summed(j, &j.Sum)
	if err != nil {
		return err
	}
	tmp := j.newPath()
	f, err := os.OpenFile(tmp, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		os.Remove(tmp)
		return fmt.Errorf("write the journal: %w", err)
	}
	if err := os.Rename(tmp, j.path); err != nil {
		return err
	}
	step()
	return syncDir(filepath.Dir(j.path))
}

// note writes to disk what a chown is about to remove from a file.
func (j *journal) note(p privileges) error {
	if j.log == nil {
		f, err := os.OpenFile(j.logPath(), unix.O_RDWR|unix.O_CREAT|unix.O_APPEND|unix.O_NOFOLLOW, 0o600)
		if err != nil {
			return err
		}
		j.log = f
		if err := syncDir(filepath.Dir(j.path)); err != nil {
			return err
		}
		// Ends a line that a killed process left incomplete.
		if _, err := f.WriteString("\n"); err != nil {
			return err
		}
	}
	b, err := summed(&p, &p.Sum)
	if err != nil {
		return err
	}
	if _, err := j.log.Write(append(b, '\n')); err != nil {
		return fmt.Errorf("write the journal: %w", err)
	}
	if err := unix.Fdatasync(int(j.log.Fd())); err != nil {
		return fmt.Errorf("write the journal: %w", err)
	}
	step()
	return nil
}

func (j *journal) dropLog() error {
	j.closeLog()
	clear(j.lost)
	if err := os.Remove(j.logPath()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (j *journal) remove() error {
	// The log first: without the journal it would look like the rest of another one.
	if err := j.dropLog(); err != nil {
		return err
	}
	step()
	if err := os.Remove(j.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	j.State = ""
	step()
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
