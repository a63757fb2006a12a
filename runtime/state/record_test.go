// SPDX-License-Identifier: Apache-2.0

package state

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"sysbox/runtime/cgroup"
)

// someRecords are one container's, as its making goes on.
func someRecords() []*Record {
	r := Record{Namespace: "ns", ID: "c1", Sandbox: "pod", Bundle: "/b", Shim: Process{12, 345}, IDOwner: "ns/pod", Storage: "/data/storage/ns/c1"}
	second := r
	second.Cgroup = &cgroup.State{}
	third := second
	third.Init = Process{67, 890}
	third.Annotations = map[string]string{"a": "b\n\x00é"}
	third.Poststop = []specs.Hook{{Path: "/bin/true", Args: []string{"true"}}}
	return []*Record{&r, &second, &third}
}

func linesOf(t testing.TB, list []*Record) (whole []byte, ends []int) {
	t.Helper()
	for _, r := range list {
		b, err := r.line()
		if err != nil {
			t.Fatal(err)
		}
		whole = append(whole, b...)
		ends = append(ends, len(whole))
	}
	return whole, ends
}

// TestRecordCutAnywhere: a record that ends anywhere gives the last state that is whole in
// it, and one that is written on after that gives the new one.
func TestRecordCutAnywhere(t *testing.T) {
	list := someRecords()
	whole, ends := linesOf(t, list)
	next := *list[2]
	next.Sandbox = "later"
	appended, err := next.line()
	if err != nil {
		t.Fatal(err)
	}
	for n := range len(whole) + 1 {
		var want *Record
		for i, end := range ends {
			if n >= end {
				want = list[i]
			}
		}
		got, err := parse("name", whole[:n])
		if want == nil && !errors.Is(err, ErrEmpty) || want != nil && (err != nil || !reflect.DeepEqual(got, want)) {
			t.Fatalf("cut at %d: %+v, %v", n, got, err)
		}
		if got, err := parse("name", append(bytes.Clone(whole[:n]), appended...)); err != nil || !reflect.DeepEqual(got, &next) {
			t.Fatalf("cut at %d and written on: %+v, %v", n, got, err)
		}
	}
}

// TestRecordFlipped: a record with a bit that is not as it was written gives a state that
// was written, or none.
func TestRecordFlipped(t *testing.T) {
	list := someRecords()
	whole, _ := linesOf(t, list)
	for i := range whole {
		for bit := range 8 {
			b := bytes.Clone(whole)
			b[i] ^= 1 << bit
			got, err := parse("name", b)
			if err != nil || !written(got, list) {
				t.Fatalf("bit %d of byte %d: %+v, %v", bit, i, got, err) // the other two are whole
			}
		}
	}
	one, _ := linesOf(t, list[2:])
	for i := range one {
		b := bytes.Clone(one)
		b[i] ^= 1
		if got, err := parse("name", b); err == nil && i > 0 && i < len(one)-1 {
			t.Fatalf("byte %d of the only line: %+v", i, got)
		}
	}
}

func written(got *Record, list []*Record) bool {
	for _, r := range list {
		if reflect.DeepEqual(got, r) {
			return true
		}
	}
	return false
}

// FuzzRecord: whatever a file has, a record that is read is one that can be written, and
// any bytes before a whole line do no harm to it.
func FuzzRecord(f *testing.F) {
	list := someRecords()
	whole, ends := linesOf(f, list)
	f.Add(whole)
	f.Add(whole[:ends[0]])
	f.Add(whole[:ends[1]-1])
	f.Add([]byte("\nnull\n{}\n00000000 \n"))
	f.Add(whole[10 : ends[0]-1])
	f.Fuzz(func(t *testing.T, b []byte) {
		// As it is, and as JSON with its right checksum.
		for _, file := range [][]byte{b, fmt.Appendf(nil, "%08x %s\n", crc32.ChecksumIEEE(b), b)} {
			r, err := parse("name", file)
			if err != nil {
				continue
			}
			line, err := r.line()
			if err != nil {
				t.Fatal(err)
			}
			again, err := parse("name", line)
			if err != nil {
				t.Fatal(err)
			}
			if twice, err := again.line(); err != nil || !bytes.Equal(line, twice) {
				t.Errorf("%s came back as %s (%v)", line, twice, err)
			}
		}
		after, err := parse("name", append(bytes.Clone(b), whole...))
		if err != nil || !reflect.DeepEqual(after, list[2]) {
			t.Errorf("behind %q: %+v, %v", b, after, err)
		}
	})
}

// TestSiblingsDamaged: a record that is damaged, or of a later version, counts as a sibling,
// and one of which nothing was written yet does not.
func TestSiblingsDamaged(t *testing.T) {
	d := Dirs{State: t.TempDir(), Data: t.TempDir()}
	r := someRecords()[0]
	if err := r.Write(d); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(d.State, "containers", "ns")
	later, _ := linesOf(t, someRecords()[:1])
	later = withVersion(later, Version+1)
	for name, content := range map[string]string{"empty": "", "begun": "\n0123", "damaged": "\n01234567 {}\n", "later": string(later)} {
		if err := os.WriteFile(filepath.Join(dir, name+".json"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	siblings, err := r.Siblings(d)
	if err != nil || len(siblings) != 2 || siblings[0].Sandbox != "pod" || siblings[1].Sandbox != "pod" {
		t.Errorf("siblings are %+v, %v", siblings, err)
	}
	if _, err := Read(filepath.Join(dir, "later.json")); err == nil || !strings.Contains(err.Error(), "is of version 2") || !strings.Contains(err.Error(), "a later one") {
		t.Errorf("a later version's record gives %v", err)
	}
	r.Annotations = map[string]string{"a": strings.Repeat("x", maxLine)}
	if err := r.Write(d); err == nil || !strings.Contains(err.Error(), "annotations") {
		t.Errorf("a record too large to be read back was written (%v)", err)
	}
}

// withVersion is a record's line as another version would write it.
func withVersion(line []byte, version int) []byte {
	_, b, _ := bytes.Cut(bytes.TrimSpace(line), []byte(" "))
	b = bytes.Replace(b, fmt.Appendf(nil, `"version":%d`, Version), fmt.Appendf(nil, `"version":%d`, version), 1)
	return fmt.Appendf(nil, "\n%08x %s\n", crc32.ChecksumIEEE(b), b)
}

// TestRecordOfBefore: a record without a version is read.
func TestRecordOfBefore(t *testing.T) {
	b := []byte(`{"namespace":"ns","id":"c1","sandbox":"pod","bundle":"/b","shim":{"pid":1,"start":2},"init":{"pid":0,"start":0},"pidns":3}`)
	r, err := parse("name", fmt.Appendf(nil, "\n%08x %s\n", crc32.ChecksumIEEE(b), b))
	if err != nil || r.ID != "c1" || r.Version != 0 || r.PIDNS != 3 {
		t.Errorf("%+v, %v", r, err)
	}
}
