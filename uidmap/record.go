// SPDX-License-Identifier: Apache-2.0

package uidmap

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"sysbox/runtime/sys"
)

// A record is the file "r-START-SIZE" in the allocator's directory: the name
// alone reserves the range. It is written under the name "new" and then renamed,
// so a reader never sees half of one. The owner's shim holds its flock while it
// lives.
//
// A reader ignores unknown fields, including those of earlier versions. So a new field needs
// no higher version, unless earlier readers would misunderstand the record. A later version
// keeps "version", in a JSON object of at most maxRecord bytes, and the name.
type record struct {
	Owner string `json:"owner"`
	// Version is recordVersion; 0, of the first versions, has the same form.
	Version int `json:"version"`
}

// recordVersion is the version of records written, and the highest one read.
const recordVersion = 1

// maxRecord bounds how much of a record is read.
const maxRecord = 64 << 10

const unfinished = "new"

func recordName(r Range) string { return fmt.Sprintf("r-%d-%d", r.HostID, r.Size) }

func parseRecordName(name string) (r Range, ok bool) {
	n, err := fmt.Sscanf(name, "r-%d-%d", &r.HostID, &r.Size)
	return r, err == nil && n == 2 && r.Size > 0 && recordName(r) == name
}

// indexName is a symbolic link to the record of the owner. It is a hint: it is made
// before the record and removed after it, and readers check where it leads.
func indexName(owner string) string {
	h := sha256.Sum256([]byte(owner))
	return "o-" + hex.EncodeToString(h[:12])
}

// openRecord opens a record and reads its owner; "" if the content is not readable. The
// error satisfies [isLater] if a later version wrote it.
func (a *Allocator) openRecord(name string) (f *os.File, owner string, err error) {
	f, err = a.open(name, unix.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, "", err
	}
	b, err := io.ReadAll(io.LimitReader(f, maxRecord))
	if err != nil {
		f.Close()
		return nil, "", err
	}
	if err := checkVersion("the record "+f.Name(), b, recordVersion); err != nil {
		f.Close()
		return nil, "", err
	}
	var r record
	if json.Unmarshal(b, &r) == nil {
		owner = r.Owner
	}
	return f, owner, nil
}

// find opens the record of the owner; fs.ErrNotExist if it has none. The allocator is
// locked.
func (a *Allocator) find(owner string) (*os.File, Range, error) {
	name, err := os.Readlink(a.path(indexName(owner)))
	r, ok := parseRecordName(name)
	if err != nil || !ok {
		return nil, Range{}, fs.ErrNotExist
	}
	f, got, err := a.openRecord(name)
	if err != nil {
		return nil, Range{}, err
	}
	if got != owner {
		f.Close()
		return nil, Range{}, fs.ErrNotExist
	}
	return f, r, nil
}

// write makes the record of a free range and returns it locked. The allocator is
// locked, so an existing "new" was left by a killed process.
func (a *Allocator) write(r Range, owner string) (*os.File, error) {
	b, err := json.Marshal(record{Owner: owner, Version: recordVersion})
	if err != nil {
		return nil, err
	}
	f, err := a.open(unfinished, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if errors.Is(err, fs.ErrExist) {
		if err := os.Remove(a.path(unfinished)); err != nil {
			return nil, err
		}
		f, err = a.open(unfinished, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW, 0o600)
	}
	if err != nil {
		return nil, err
	}
	undo := func(err error) (*os.File, error) {
		os.Remove(a.path(unfinished))
		f.Close()
		return nil, err
	}
	if _, err := f.Write(b); err != nil {
		return undo(err)
	}
	if err := sys.Flock(f, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return undo(sys.Errno(err))
	}
	index := a.path(indexName(owner))
	if owner != "" {
		if err := os.Symlink(recordName(r), index); err != nil {
			// The index leads to a record that is gone or belongs to another owner.
			if err = os.Remove(index); err == nil {
				err = os.Symlink(recordName(r), index)
			}
			if err != nil {
				return undo(err)
			}
		}
	}
	err = unix.Renameat2(int(a.dir.Fd()), unfinished, int(a.dir.Fd()), recordName(r), unix.RENAME_NOREPLACE)
	if err != nil {
		if link, e := os.Readlink(index); e == nil && link == recordName(r) {
			os.Remove(index)
		}
		return undo(err)
	}
	return f, nil
}

// remove deletes a record, and the index of the owner if it leads there. The
// allocator is locked.
func (a *Allocator) remove(r Range, owner string) error {
	name := recordName(r)
	if err := os.Remove(a.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if a.former != "" {
		if link, err := os.Readlink(filepath.Join(a.former, name)); err == nil && link == a.path(name) {
			os.Remove(filepath.Join(a.former, name)) // if it stays, rangesExcept removes it
		}
	}
	if owner == "" {
		return nil
	}
	index := a.path(indexName(owner))
	if link, err := os.Readlink(index); err == nil && link == name {
		return os.Remove(index)
	}
	return nil
}

// records lists all ranges that are taken.
func (a *Allocator) records() ([]Range, error) {
	d, err := os.Open(a.path("."))
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var out []Range
	for _, n := range names {
		if r, ok := parseRecordName(n); ok {
			out = append(out, r)
		} else if strings.HasPrefix(n, "o-") {
			a.pruneIndex(n)
		}
	}
	return out, nil
}

// pruneIndex removes an index without a record, which a process leaves if it is killed
// while it makes one.
func (a *Allocator) pruneIndex(name string) {
	link, err := os.Readlink(a.path(name))
	if err != nil {
		return
	}
	if _, err := os.Lstat(a.path(link)); errors.Is(err, fs.ErrNotExist) {
		os.Remove(a.path(name))
	}
}
