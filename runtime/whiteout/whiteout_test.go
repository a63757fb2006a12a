// SPDX-License-Identifier: Apache-2.0

package whiteout

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sysbox/runtime/fsutil"
)

// folder is a folder with whiteouts, opaque folders and other things in it.
func folder(t testing.TB) *os.File {
	t.Helper()
	dir := t.TempDir()
	err := errors.Join(
		os.MkdirAll(dir+"/a/b\n c", 0o755),
		os.Mkdir(dir+"/o", 0o755),
		os.WriteFile(dir+"/a/f", []byte("x"), 0o644),
		os.Symlink("/etc", dir+"/link"),
		unix.Mkfifo(dir+"/fifo", 0o644),
		unix.Mknod(dir+"/w", unix.S_IFCHR, 0),
		unix.Mknod(dir+"/a/b\n c/w", unix.S_IFCHR, 0),
		unix.Setxattr(dir+"/o", opaque, []byte("y"), 0),
	)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func ptr(n int) *int { return &n }

// shown lists a folder: each path with its kind, and "opaque".
func shown(t testing.TB, dir *os.File) string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(dir.Name(), func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		s := strings.TrimPrefix(p, dir.Name()) + " " + d.Type().String()
		var b [1]byte
		if n, err := unix.Lgetxattr(p, opaque, b[:]); err == nil && n == 1 {
			s += " opaque"
		}
		out = append(out, s)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(out, "|")
}

// TestParkAndRestore: parked, a folder has no whiteouts; restored it is what it was,
// also if an archive has dropped its attributes.
func TestParkAndRestore(t *testing.T) {
	dir := folder(t)
	before := shown(t, dir)
	for range 2 { // a second one parks what is parked
		if err := Stash(t.Context(), dir, ptr(Max)); err != nil {
			t.Fatal(err)
		}
	}
	parked := shown(t, dir)
	if strings.Contains(parked, "/w ") || !strings.Contains(parked, "/"+list) || !strings.Contains(parked, "/fifo") {
		t.Errorf("parked: %s", parked)
	}
	if err := unix.Removexattr(dir.Name()+"/o", opaque); err != nil {
		t.Fatal(err)
	}
	if err := Restore(t.Context(), dir, ptr(Max)); err != nil {
		t.Fatal(err)
	}
	if got := shown(t, dir); got != before {
		t.Errorf("restored: %s\nwant %s", got, before)
	}
}

// TestParkNothing: a folder without marks gets no list.
func TestParkNothing(t *testing.T) {
	dir := folder(t)
	for _, name := range []string{"/w", "/a/b\n c/w", "/o"} {
		if err := os.Remove(dir.Name() + name); err != nil {
			t.Fatal(err)
		}
	}
	before := shown(t, dir)
	if err := Stash(t.Context(), dir, ptr(Max)); err != nil {
		t.Fatal(err)
	}
	if got := shown(t, dir); got != before {
		t.Errorf("%s, was %s", got, before)
	}
}

// TestParkInterrupted: whenever a Park ends early, Restore makes the folder whole.
func TestParkInterrupted(t *testing.T) {
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for name, park := range map[string]func(dir *os.File) error{
		"by its context": func(dir *os.File) error {
			if err := Stash(gone, dir, ptr(Max)); !errors.Is(err, context.Canceled) {
				return err
			}
			return nil
		},
		"before a whiteout is removed": func(dir *os.File) error {
			if err := Stash(t.Context(), dir, ptr(Max)); err != nil {
				return err
			}
			return unix.Mknod(dir.Name()+"/w", unix.S_IFCHR, 0)
		},
		"with half a list beside": func(dir *os.File) error {
			return os.WriteFile(dir.Name()+"/"+unfinished, []byte(heading+"\x00w"), 0o600)
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := folder(t)
			before := shown(t, dir)
			if err := park(dir); err != nil {
				t.Fatal(err)
			}
			if err := Stash(t.Context(), dir, ptr(Max)); err != nil {
				t.Fatal(err)
			}
			if err := Restore(t.Context(), dir, ptr(Max)); err != nil {
				t.Fatal(err)
			}
			if got := shown(t, dir); got != before {
				t.Errorf("%s\nwant %s", got, before)
			}
		})
	}
}

// TestRestoreHostile: what stands in the list's place is not waited for, not followed,
// and, if it is no list, of no effect.
func TestRestoreHostile(t *testing.T) {
	outside := t.TempDir()
	for name, make := range map[string]func(p string) error{
		"a link":     func(p string) error { return os.Symlink(outside+"/list", p) },
		"a FIFO":     func(p string) error { return unix.Mkfifo(p, 0o644) },
		"a folder":   func(p string) error { return os.Mkdir(p, 0o755) },
		"a whiteout": func(p string) error { return unix.Mknod(p, unix.S_IFCHR, 0) },
		"zeroes":     func(p string) error { return os.WriteFile(p, make([]byte, 1<<16), 0o644) },
		"a way out": func(p string) error {
			return os.WriteFile(p, []byte(heading+"\x00w../x\x00w/etc/x\x00wlink/x\x00w"+outside+"/x\x00wa/../../x\x00o..\x00olink\x00w.\x00"), 0o644)
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := folder(t)
			before := shown(t, dir)
			up, err := os.ReadDir(filepath.Dir(dir.Name()))
			if err != nil {
				t.Fatal(err)
			}
			if err := make(dir.Name() + "/" + list); err != nil {
				t.Fatal(err)
			}
			if err := Restore(t.Context(), dir, ptr(Max)); err != nil {
				t.Fatal(err)
			}
			os.Remove(dir.Name() + "/" + list) // the folder
			if got := shown(t, dir); got != before {
				t.Errorf("%s\nwant %s", got, before)
			}
			now, _ := os.ReadDir(filepath.Dir(dir.Name()))
			if left, _ := os.ReadDir(outside); len(left) > 0 || len(now) != len(up) {
				t.Errorf("made outside: %v, %v", left, now)
			}
		})
	}
}

// growing is a list to which somebody adds while it is read.
type growing struct {
	head  string
	more  string // what is added, from the reading number after on
	after int
	reads int // Seeks
	rest  string
	n     int
}

func (g *growing) Seek(int64, int) (int64, error) {
	g.reads++
	g.rest = g.head
	return 0, nil
}

func (g *growing) Read(b []byte) (int, error) {
	if g.rest == "" && g.reads < g.after {
		return 0, io.EOF
	}
	if g.rest == "" {
		g.rest = g.more
	}
	n := copy(b, g.rest)
	g.rest = g.rest[n:]
	if g.n += n; g.n > 4*maxList {
		return 0, errors.New("it was read on and on")
	}
	return n, nil
}

// TestListThatGrows: another container of the pod that has the folder open makes the list
// longer while it is read. The reading ends, and no more is made for it.
func TestListThatGrows(t *testing.T) {
	dir := folder(t)
	g := &growing{head: heading + "\x00wnew\x00", more: "\x00"}
	if err := restore(t.Context(), g, dir, ptr(Max)); !errors.Is(err, ErrTooMany) {
		t.Errorf("while it is counted: %v", err)
	}
	if hasWhiteout(dir, "new") {
		t.Error("something was made of a list that is too long")
	}
	g = &growing{head: heading + "\x00wnew\x00", more: "wother\x00", after: 2}
	if err := restore(t.Context(), g, dir, ptr(Max)); !errors.Is(err, ErrTooMany) {
		t.Errorf("after it was counted: %v", err)
	}
	if !hasWhiteout(dir, "new") || hasWhiteout(dir, "other") {
		t.Error("not just what was counted was made")
	}
}

// TestListTooLong: of a list with more records than a container may have, or one that is a
// huge file, nothing is made, and it stays.
func TestListTooLong(t *testing.T) {
	for name, write := range map[string]func(p string) error{
		"records": func(p string) error {
			text := []byte(heading + "\x00")
			for i := range Max + 1 {
				text = fmt.Appendf(text, "wn%d\x00", i)
			}
			return os.WriteFile(p, text, 0o600)
		},
		"a huge sparse file": func(p string) error {
			return errors.Join(os.WriteFile(p, nil, 0o600), os.Truncate(p, 1<<40))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := folder(t)
			if err := write(dir.Name() + "/" + list); err != nil {
				t.Fatal(err)
			}
			before := shown(t, dir)
			left := Max
			for what, f := range map[string]func() error{
				"Restore": func() error { return Restore(t.Context(), dir, &left) },
				"Park":    func() error { return Stash(t.Context(), dir, &left) },
			} {
				if err := f(); !errors.Is(err, ErrTooMany) || !strings.Contains(err.Error(), list) {
					t.Errorf("%s: %v", what, err)
				}
			}
			if left != Max {
				t.Errorf("%d of %d are left", left, Max)
			}
			if got := shown(t, dir); got != before {
				t.Errorf("%s\nwant %s", got, before)
			}
		})
	}
}

// TestBoundsTogether: the folders of one container have their bound together. One that has
// more is left as it is, and the next task of the container has it so.
func TestBoundsTogether(t *testing.T) {
	left := 3
	first, second := folder(t), folder(t)
	before := shown(t, second)
	if err := Stash(t.Context(), first, &left); err != nil || left != 0 {
		t.Fatalf("%v, %d are left", err, left)
	}
	if err := Stash(t.Context(), second, &left); !errors.Is(err, ErrTooMany) {
		t.Errorf("the second folder: %v", err)
	}
	if got := shown(t, second); got != before {
		t.Errorf("%s\nwant %s", got, before)
	}
	left = 2
	if err := Restore(t.Context(), first, &left); !errors.Is(err, ErrTooMany) || left != 2 {
		t.Errorf("%v, %d are left", err, left)
	}
	left = 3
	if err := Restore(t.Context(), first, &left); err != nil || left != 0 {
		t.Errorf("%v, %d are left", err, left)
	}
}

// TestRestoreInterrupted: a Restore that its caller has given up ends before it makes more.
func TestRestoreInterrupted(t *testing.T) {
	dir := folder(t)
	before := shown(t, dir)
	if err := Stash(t.Context(), dir, ptr(Max)); err != nil {
		t.Fatal(err)
	}
	gone, cancel := context.WithCancelCause(t.Context())
	cancel(errGivenUp)
	parked := shown(t, dir)
	if err := Restore(gone, dir, ptr(Max)); !errors.Is(err, errGivenUp) {
		t.Errorf("%v", err)
	}
	if got := shown(t, dir); got != parked {
		t.Errorf("%s\nwant %s", got, parked)
	}
	if err := Restore(t.Context(), dir, ptr(Max)); err != nil {
		t.Fatal(err)
	}
	if got := shown(t, dir); got != before {
		t.Errorf("%s\nwant %s", got, before)
	}
}

var errGivenUp = errors.New("given up")

// TestOneInode: whiteouts are names of one file, and of further ones where the file system
// allows a file no more names, or somebody has removed it.
func TestOneInode(t *testing.T) {
	const many = 1000
	dir := folder(t)
	text := []byte(heading + "\x00")
	for i := range many {
		text = fmt.Appendf(text, "wa/n%d\x00", i)
	}
	if err := os.WriteFile(dir.Name()+"/"+list, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Restore(t.Context(), dir, ptr(Max)); err != nil {
		t.Fatal(err)
	}
	files := map[uint64]bool{}
	for i := range many {
		var st unix.Stat_t
		if err := unix.Lstat(fmt.Sprintf("%s/a/n%d", dir.Name(), i), &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != 0 {
			t.Fatalf("n%d: %v, mode %o", i, err, st.Mode)
		}
		files[st.Ino] = true
	}
	if len(files) > many/10 {
		t.Errorf("%d whiteouts are %d files", many, len(files))
	}
	var w fsutil.Whiteouts
	defer w.Close()
	if err := errors.Join(w.Make(dir, "x"), os.Remove(dir.Name()+"/x"), w.Make(dir, "y"), w.Make(dir, "z")); err != nil {
		t.Error(err)
	}
	if !hasWhiteout(dir, "y") || !hasWhiteout(dir, "z") {
		t.Error("after the removal of the first one none was made")
	}
	if err := w.Make(dir, "z"); !errors.Is(err, unix.EEXIST) {
		t.Errorf("in the place of another file: %v", err)
	}
}

// TestParkDeep: folders that are nested beyond all paths cost their container little to
// make. What is in there cannot be named, and to end the container takes no longer.
func TestParkDeep(t *testing.T) {
	const depth = 1000
	dir := folder(t)
	name := strings.Repeat("x", unix.NAME_MAX)
	at, err := unix.Open(dir.Name(), unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	for range depth {
		err := errors.Join(unix.Mknodat(at, "deep", unix.S_IFCHR, 0), unix.Mkdirat(at, name, 0o755))
		if err != nil {
			t.Fatal(err)
		}
		next, err := unix.Openat(at, name, unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		unix.Close(at)
		at = next
	}
	unix.Close(at)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if err := Stash(t.Context(), dir, ptr(Max)); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if taken := after.TotalAlloc - before.TotalAlloc; taken > 8<<20 {
		t.Errorf("names of %d MiB were built", taken>>20)
	}
	if hasWhiteout(dir, "deep") || hasWhiteout(dir, strings.Repeat(name+"/", 15)+"deep") {
		t.Error("what has a name was not parked")
	}
}

// FuzzRestore: whatever a list says, files that are there stay as they are, and what is
// new is a whiteout.
func FuzzRestore(f *testing.F) {
	f.Add([]byte(heading + "\x00wa/new\x00oa\x00w./w2\x00wa/f\x00"))
	f.Add([]byte(heading + "\x00w../x\x00w/etc/x\x00wlink/passwd\x00\x00w\x00wfifo/x"))
	f.Add([]byte("other\x00wa\x00"))
	f.Add([]byte(title + "2\x00wa/new\x00"))
	f.Fuzz(func(t *testing.T, text []byte) {
		dir := folder(t)
		before := strings.Split(shown(t, dir), "|")
		if err := os.WriteFile(dir.Name()+"/"+list, text, 0o600); err != nil {
			t.Fatal(err)
		}
		first, _, whole := strings.Cut(string(text), "\x00")
		_, later := laterVersion(first)
		if err := Restore(t.Context(), dir, ptr(Max)); (err != nil) != (later && whole) {
			t.Fatalf("%q: %v", text, err)
		}
		if later && whole {
			if got, err := os.ReadFile(dir.Name() + "/" + list); err != nil || !bytes.Equal(got, text) {
				t.Errorf("%q is now %q, %v", text, got, err)
			}
			os.Remove(dir.Name() + "/" + list)
		}
		old := map[string]bool{}
		for _, s := range before {
			old[s], old[s+" opaque"] = true, true
		}
		n := 0
		for _, s := range strings.Split(shown(t, dir), "|") {
			if old[s] {
				n++
			} else if !strings.HasSuffix(s, " Dc---------") {
				t.Errorf("%q: new is %q", text, s)
			}
		}
		if n != len(before) {
			t.Errorf("%q: %d of %d are left", text, n, len(before))
		}
	})
}
