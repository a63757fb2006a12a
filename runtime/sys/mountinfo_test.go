// SPDX-License-Identifier: Apache-2.0

package sys

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestMounts(t *testing.T) {
	const text = `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 shared:7 - ext3 /dev/root rw,errors=continue
40 36 0:35 / /a\040b\134c rw - fuse.x\043y \011src rw,lowerdir=/l\054m
41 36 0:36 / /none rw - tmpfs  rw
`
	var got []MountInfo
	for m, err := range Mounts(strings.NewReader(text)) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, m)
	}
	want := []MountInfo{
		{
			ID: 36, Parent: 35, Dev: unix.Mkdev(98, 0), Root: "/mnt1", Point: "/mnt2", Options: "rw,noatime",
			Propagation: []string{"master:1", "shared:7"}, Type: "ext3", Source: "/dev/root", SuperOptions: "rw,errors=continue",
		},
		{ID: 40, Parent: 36, Dev: unix.Mkdev(0, 35), Root: "/", Point: `/a b\c`, Options: "rw", Type: "fuse.x#y", Source: "\tsrc", SuperOptions: "rw,lowerdir=/l,m"},
		{ID: 41, Parent: 36, Dev: unix.Mkdev(0, 36), Root: "/", Point: "/none", Options: "rw", Type: "tmpfs", SuperOptions: "rw"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestMountsBadLine(t *testing.T) {
	for _, line := range []string{"x", "1 2 3 / / rw - a b c", "1 2 0:3 / / rw", "1 2 0:3 / - a b c", "1 x 0:3 / / rw - a b c"} {
		n := 0
		for _, err := range Mounts(strings.NewReader(line + "\n" + line)) {
			n++
			if err == nil {
				t.Errorf("%q: no error", line)
			}
		}
		if n != 1 {
			t.Errorf("%q: %d values; the first error is the last", line, n)
		}
	}
}

// The kernel's own text: the mount of each path is the one that statx(2) names.
func TestMountsOfSelf(t *testing.T) {
	byID := map[uint64]MountInfo{}
	for m, err := range MountsOf("/proc/self/mountinfo") {
		if err != nil {
			t.Fatal(err)
		}
		byID[m.ID] = m
	}
	for _, path := range []string{"/", "/proc"} {
		var st unix.Statx_t
		if err := unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_MNT_ID, &st); err != nil {
			t.Fatal(err)
		}
		if got := byID[st.Mnt_id]; got.Point != path {
			t.Errorf("mount %d, of %s, is shown at %q", st.Mnt_id, path, got.Point)
		}
	}
}

func FuzzMounts(f *testing.F) {
	f.Add("36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw\n")
	f.Add("1 2 0:3 /\\040 / rw - a  c")
	f.Fuzz(func(t *testing.T, text string) {
		for m, err := range Mounts(strings.NewReader(text)) {
			if err == nil && (m.Point == "" || m.Options == "") {
				t.Errorf("%q: a mount without a point or options: %+v", text, m)
			}
		}
	})
}

func TestSameFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if !SameFile(f, path) {
		t.Error("a file that was just made is said to be another")
	}
	if err := os.Rename(path, path+".old"); err != nil {
		t.Fatal(err)
	}
	if SameFile(f, path) {
		t.Error("a path that leads nowhere is said to lead to the file")
	}
	if err := os.Symlink(path+".old", path); err != nil {
		t.Fatal(err)
	}
	if SameFile(f, path) {
		t.Error("a link is followed")
	}
}

func TestFlock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	open := func() *os.File {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	first, second := open(), open()
	defer second.Close()
	if err := Flock(first, unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if err := Flock(second, unix.LOCK_EX|unix.LOCK_NB); !errors.Is(err, unix.EWOULDBLOCK) {
		t.Errorf("a second lock: %v", err)
	}
	done := make(chan error)
	go func() { done <- FlockContext(t.Context(), second) }()
	Unlock(first)
	if err := <-done; err != nil {
		t.Errorf("a lock that was waited for: %v", err)
	}
}
