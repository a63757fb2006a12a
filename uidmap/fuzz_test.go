// SPDX-License-Identifier: Apache-2.0

package uidmap

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
)

// aJournal writes a journal with a log of three files and returns both files' content.
func aJournal(t testing.TB, dir string) (head, log []byte, notes []privileges) {
	t.Helper()
	j, err := openJournal(dir, "/tree")
	must(t, err)
	defer j.close()
	j.UID, j.GID = Map{{0, 100000, 65536}}, Map{{0, 100000, 65536}}
	must(t, j.write(stateShifting))
	notes = []privileges{{Path: []byte("bin/su"), Mode: 0o104755}, {Path: []byte("a\nb\xff"), Mode: 0o102755}, {Path: []byte("ping"), Mode: 0o100755, Caps: []byte{1, 0, 0, 2}}}
	for _, p := range notes {
		must(t, j.note(p))
	}
	head, err = os.ReadFile(j.path)
	must(t, err)
	log, err = os.ReadFile(j.logPath())
	must(t, err)
	return head, log, notes
}

// reopen reads a journal of this content.
func reopen(t testing.TB, dir string, head, log []byte) (*journal, error) {
	t.Helper()
	j := &journal{path: journalPath(dir, "/tree")}
	must(t, os.WriteFile(j.path, head, 0o600))
	must(t, os.WriteFile(j.logPath(), log, 0o600))
	opened, err := openJournal(dir, "/tree")
	if err == nil {
		opened.close()
	}
	return opened, err
}

// TestJournalAnywhere: a journal that is cut or has a bit changed anywhere is told of, and
// a log says of a file what was noted or nothing.
func TestJournalAnywhere(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	head, log, notes := aJournal(t, dir)
	j, err := reopen(t, dir, head, log)
	must(t, err)
	if len(j.lost) != len(notes) {
		t.Fatalf("the whole log has %d of %d files", len(j.lost), len(notes))
	}
	noted := func(j *journal) {
		t.Helper()
		for path, got := range j.lost {
			got.Sum = 0
			if !slices.ContainsFunc(notes, func(p privileges) bool { return reflect.DeepEqual(p, got) }) || path != string(got.Path) {
				t.Fatalf("the log says %+v, which nobody noted", got)
			}
		}
	}
	for n := range head {
		if j, err := reopen(t, dir, head[:n], log); err == nil {
			t.Fatalf("a journal cut at %d is read: %+v", n, j)
		}
	}
	for i := range head {
		b := bytes.Clone(head)
		for bit := range 8 {
			b[i] = head[i] ^ 1<<bit
			if j, err := reopen(t, dir, b, log); err == nil {
				t.Fatalf("a journal with bit %d of byte %d changed is read: %+v", bit, i, j)
			}
		}
	}
	for i := range log {
		j, err := reopen(t, dir, head, log[:i])
		must(t, err)
		noted(j)
		if i > 0 && len(j.lost) != bytes.Count(log[1:max(1, i)], []byte("\n")) {
			t.Fatalf("a log cut at %d has %d files", i, len(j.lost))
		}
		b := bytes.Clone(log)
		b[i] ^= 1 << (i % 8)
		j, err = reopen(t, dir, head, b)
		must(t, err)
		noted(j)
	}
}

// TestHintAnywhere: whatever the allocator's hint says, ranges are given out once.
func TestHintAnywhere(t *testing.T) {
	p := Pool{Start: 1 << 20, Size: 3 << 16, RangeSize: 65536, etc: "/nonexistent"}
	a, err := Open(t.TempDir(), p)
	must(t, err)
	defer a.Close()
	held, err := a.Acquire("ns/held")
	must(t, err)
	hint, err := os.ReadFile(a.path("lock"))
	must(t, err)
	var bad [][]byte
	for i := range hint {
		bad = append(bad, hint[:i])
		for bit := range 8 {
			b := bytes.Clone(hint)
			b[i] ^= 1 << bit
			bad = append(bad, b)
		}
	}
	for _, b := range bad {
		must(t, os.WriteFile(a.path("lock"), b, 0o600))
		one, err := a.Acquire("ns/one")
		must(t, err)
		two, err := a.Acquire("ns/two")
		must(t, err)
		if one.UID().overlaps(held.UID()) || two.UID().overlaps(held.UID()) || one.UID().overlaps(two.UID()) {
			t.Fatalf("with the hint %q: %v, %v, %v", b, held.UID(), one.UID(), two.UID())
		}
		must(t, two.Release())
		must(t, one.Release())
	}
}

// FuzzJournal: whatever the files have, a journal that is read is one that was written.
func FuzzJournal(f *testing.F) {
	dir := f.TempDir()
	head, log, _ := aJournal(f, dir)
	f.Add(head, log)
	f.Add([]byte("null"), []byte("null\n{}\n"))
	f.Add(bytes.ToLower(head), bytes.ToLower(log))
	f.Fuzz(func(t *testing.T, head, log []byte) {
		j, err := reopen(t, dir, head, log)
		if err != nil {
			return
		}
		again, err := summed(j, &j.Sum)
		if err != nil || !bytes.Equal(again, head) || j.Root != "/tree" || j.UID.Check() != nil || j.GID.Check() != nil {
			t.Errorf("%q is read as %+v (%v)", head, j, err)
		}
		for path, p := range j.lost {
			if line, err := summed(&p, &p.Sum); err != nil || !bytes.Contains(log, line) || path != string(p.Path) {
				t.Errorf("the log says %+v of %q (%v)", p, path, err)
			}
		}
	})
}

// FuzzPool: whatever the host's files have, no range holds root or an id that somebody
// has, and ranges are apart and within the pool.
func FuzzPool(f *testing.F) {
	f.Add([]byte("sysbox:100000:1000000\nother:300000:65536\n"), []byte("root:x:0:0::/:\na:x:1000:\n"), []byte("x:x:1500000:\n"), uint32(1), uint32(1<<22), uint32(1<<16))
	f.Add([]byte("sysbox:0:4294967295\n"), []byte{}, []byte{}, uint32(0), uint32(0), uint32(0))
	f.Add([]byte("sysbox:1:2:3\nsysbox:-1:5\n#sysbox:1:99999\nsysbox:4294967290:9"), []byte("+::\n:::\n"), []byte("a\x00:b:70000"), uint32(65536), uint32(1<<20), uint32(1000))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, subid, passwd, group []byte, start, size, each uint32) {
		for name, b := range map[string][]byte{"subuid": subid, "subgid": subid, "passwd": passwd, "group": group} {
			must(t, os.WriteFile(filepath.Join(dir, name), b, 0o600))
		}
		for _, user := range []string{"sysbox", ""} {
			p := Pool{User: user, Start: start, Size: size, RangeSize: each, etc: dir}
			s, err := p.slots()
			if err != nil {
				continue
			}
			ids, err := fileIDs(filepath.Join(dir, "passwd"))
			must(t, err)
			more, err := fileIDs(filepath.Join(dir, "group"))
			must(t, err)
			own, other, err := subids(filepath.Join(dir, "subuid"), user)
			must(t, err)
			bounds := own
			if len(own) == 0 {
				other = append(append(other, ids...), more...)
				bounds = []Range{{start, size}}
				if size == 0 {
					bounds = []Range{{DefaultStart, DefaultPoolSize}}
				}
			} else {
				other = nil // the administrator has given them to us
			}
			var before Range
			for i := range min(s.count, 300) {
				r := s.at(i)
				within := func(b Range) bool { return b.HostID <= r.HostID && r.end() <= b.end() }
				if r.HostID == 0 || r.Size != s.size || r.end() > noID || !slices.ContainsFunc(bounds, within) {
					t.Fatalf("range %d of %+v is %v", i, p, r)
				}
				if i > 0 && uint64(r.HostID) < before.end() {
					t.Fatalf("range %d of %+v, %v, overlaps %v", i, p, r, before)
				}
				if at := slices.IndexFunc(other, r.overlaps); at >= 0 {
					t.Fatalf("range %d of %+v, %v, holds the ids %v, which are others'", i, p, r, other[at])
				}
				before = r
			}
		}
	})
}

// FuzzRecordName: of all names, those that reserve a range are the range's own.
func FuzzRecordName(f *testing.F) {
	for _, s := range []string{"r-1-2", "r-01-2", "r-+1-2", "r-1-2 ", "r-1-0", "r-4294967296-1", "r-1-2\n", "r- 1-2"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		r, ok := parseRecordName(name)
		if ok && fmt.Sprintf("r-%d-%d", r.HostID, r.Size) != name {
			t.Errorf("%q is read as %v", name, r)
		}
		if back, ok := parseRecordName(recordName(r)); r.Size > 0 && (!ok || back != r) {
			t.Errorf("%v came back as %v", r, back)
		}
	})
}
