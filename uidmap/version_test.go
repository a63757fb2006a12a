// SPDX-License-Identifier: Apache-2.0

package uidmap

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// newestForm refuses nothing but what a later version wrote.
const newestForm = "use the version that wrote it"

// TestRecordOfLaterVersion: the range of a record whose form is unknown stays taken, whatever
// is done, and its owner is told why.
func TestRecordOfLaterVersion(t *testing.T) {
	for name, content := range map[string]string{
		"with all that is known":        `{"owner":"ns/a","version":2}`,
		"with an owner of another type": `{"owner":{"namespace":"ns","id":"a"},"version":7}`,
		"without an owner":              `{"version":2}`,
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			a, err := Open(dir, Pool{Start: 1 << 20, Size: 2 << 16, RangeSize: 65536, etc: "/nonexistent"})
			must(t, err)
			defer a.Close()
			l, err := a.Acquire("ns/a")
			must(t, err)
			file := a.path(recordName(l.UID()))
			must(t, os.WriteFile(file, []byte(content), 0o600))
			l.f.Close() // as when its process is killed

			must(t, a.Reclaim(nil))
			_, errAcquire := a.Acquire("ns/a")
			_, errAdopt := a.Adopt("ns/a")
			for what, err := range map[string]error{"Acquire": errAcquire, "Adopt": errAdopt, "ReleaseOwner": a.ReleaseOwner("ns/a")} {
				if err == nil || !strings.Contains(err.Error(), newestForm) || !strings.Contains(err.Error(), file) {
					t.Errorf("%s: %v; want an error that names the record and says %q", what, err, newestForm)
				}
			}
			b, err := Open(t.TempDir(), Pool{Start: 1 << 20, Size: 2 << 16, RangeSize: 65536, etc: "/nonexistent"})
			must(t, err)
			defer b.Close()
			b.AvoidRangesIn(dir)
			if _, err := b.Acquire("ns/a"); err == nil || !strings.Contains(err.Error(), newestForm) {
				t.Errorf("Acquire where the record is in the former directory: %v", err)
			}
			other, err := a.Acquire("ns/b")
			must(t, err)
			if _, err := a.Acquire("ns/c"); !isFull(err) { // which reclaims what nobody uses
				t.Errorf("a third owner of two ranges: %v", err)
			}
			must(t, other.Release())
			if got, err := os.ReadFile(file); err != nil || string(got) != content {
				t.Errorf("the record is %q, %v", got, err)
			}
			if _, err := os.Lstat(a.path(indexName("ns/a"))); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestRecordOfEarlierVersion: the records without a version are those of version 1, in both
// directions.
func TestRecordOfEarlierVersion(t *testing.T) {
	t.Parallel()
	a, err := Open(t.TempDir(), nobodys)
	must(t, err)
	defer a.Close()
	l, err := a.Acquire("ns/a")
	must(t, err)
	file := a.path(recordName(l.UID()))
	b, err := os.ReadFile(file)
	must(t, err)
	// As the first versions read it.
	var first struct {
		Owner string `json:"owner"`
	}
	if err := json.Unmarshal(b, &first); err != nil || first.Owner != "ns/a" {
		t.Errorf("%s is read as %+v, %v", b, first, err)
	}
	if !strings.Contains(string(b), `"version":1`) {
		t.Errorf("%s has no version", b)
	}
	// As they write it.
	must(t, os.WriteFile(file, []byte(`{"owner":"ns/a"}`), 0o600))
	l.f.Close()
	again, err := a.Adopt("ns/a")
	must(t, err)
	if again.UID() != l.UID() {
		t.Errorf("adopted %v, want %v", again.UID(), l.UID())
	}
	must(t, again.Release())
}

// TestJournalOfLaterVersion: nothing is done to a tree whose journal has an unknown form, and
// nothing to its files, even if the tree has gone.
func TestJournalOfLaterVersion(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	tree := filepath.Join(t.TempDir(), "a", "b")
	must(t, os.MkdirAll(tree, 0o700))
	j := &journal{Version: journalVersion + 1, Root: tree, UID: testUID, GID: testGID, State: stateReverting}
	same, err := summed(j, &j.Sum)
	must(t, err)
	stem := strings.TrimSuffix(journalPath(dir, tree), ".json")
	for name, head := range map[string]string{
		"of the form that is known": string(same),
		"of another":                `{"Version":9,"Tree":{"path":"/x"},"State":["a"],"UID":"0-100000"}`,
	} {
		t.Run(name, func(t *testing.T) {
			files := map[string]string{".json": head, ".log": "anything\n", ".json.new": "half"}
			for ext, content := range files {
				must(t, os.WriteFile(stem+ext, []byte(content), 0o600))
			}
			untouched := func(when string) {
				t.Helper()
				for ext, content := range files {
					if got, err := os.ReadFile(stem + ext); err != nil || string(got) != content {
						t.Errorf("%s: %s is %q, %v", when, ext, got, err)
					}
				}
			}
			for what, err := range map[string]error{"Shift": Shift(dir, tree, testUID, testGID), "Revert": Revert(dir, tree)} {
				if err == nil || !strings.Contains(err.Error(), newestForm) || !strings.Contains(err.Error(), stem+".json") {
					t.Errorf("%s: %v; want an error that names the journal and says %q", what, err, newestForm)
				}
				untouched(what)
			}
			for _, when := range []string{"FinishReverts", "FinishReverts without the tree"} {
				if gone, err := FinishReverts(dir); err != nil || len(gone) > 0 {
					t.Errorf("%s: %v, %v", when, gone, err)
				}
				untouched(when)
				must(t, os.RemoveAll(tree))
			}
			must(t, os.MkdirAll(tree, 0o700))
		})
	}
}

// TestJournalForFirstVersion: a journal and its log are, to the byte, what the first versions
// would have written, which take any other for damaged.
func TestJournalForFirstVersion(t *testing.T) {
	t.Parallel()
	head, log, notes := aJournal(t, t.TempDir())
	var first struct {
		Root     string
		UID, GID Map
		State    string
		Sum      uint32
	}
	if !readSummed(head, &first, &first.Sum) || first.Root != "/tree" || first.State != stateShifting {
		t.Errorf("%s is read as %+v", head, first)
	}
	read := 0
	for line := range strings.Lines(string(log)) {
		var p struct {
			Path []byte
			Mode uint32
			Caps []byte `json:",omitempty"`
			Sum  uint32
		}
		if readSummed([]byte(strings.TrimSuffix(line, "\n")), &p, &p.Sum) {
			read++
		}
	}
	if read != len(notes) {
		t.Errorf("%d lines of %d are read of %s", read, len(notes), log)
	}
}
