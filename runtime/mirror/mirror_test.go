// SPDX-License-Identifier: Apache-2.0

package mirror

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sysbox/runtime/sys"
	"sysbox/uidmap"
)

// base is the host's id of a root in these tests.
const base = 300000

var ids = uidmap.Map{{ContainerID: 0, HostID: base, Size: 65536}}

// mirrored makes a mirror of a folder of the container's root, and returns where both are.
func mirrored(t testing.TB) (behind, front string, m *Mirror) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("a FUSE file system, which takes root")
	}
	behind = t.TempDir()
	if err := os.Chown(behind, base, base); err != nil {
		t.Fatal(err)
	}
	m, err := New(ids, ids)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	root, err := sys.OpenTree(nil, behind, false)
	if err == nil {
		err = m.Serve(root)
	}
	if err != nil {
		t.Fatal(err)
	}
	front = fmt.Sprintf("/proc/%d/fd/%d/", os.Getpid(), m.mount.Fd())
	// This process uses what it serves itself. The kernel asks once whether there is
	// something for poll and at a close, and Go's poller would wait for the first without
	// letting others run.
	must(t, os.WriteFile(behind+"/first", nil, 0o644))
	fd, err := unix.Open(front+"first", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	must(t, err)
	_, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	must(t, err, unix.Close(fd), os.Remove(behind+"/first"))
	return behind + "/", front, m
}

func must(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func wantErr(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

// shows compares what a path is with "mode uid:gid size" and the content of a file.
func shows(t *testing.T, path, want string) {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		t.Error(err)
		return
	}
	got := fmt.Sprintf("%o %d:%d", st.Mode, st.Uid, st.Gid)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		b, err := os.ReadFile(path)
		got += fmt.Sprintf(" %d %s %d", st.Size, b, st.Nlink)
		if err != nil {
			t.Error(err)
		}
	case unix.S_IFLNK:
		to, err := os.Readlink(path)
		got += " " + to
		if err != nil {
			t.Error(err)
		}
	case unix.S_IFCHR:
		got += fmt.Sprintf(" %d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
	}
	if got != want {
		t.Errorf("%s is %q, want %q", path, got, want)
	}
}

// TestWrites: what a caller does arrives, with the container's ids.
func TestWrites(t *testing.T) {
	behind, front, _ := mirrored(t)
	defer unix.Umask(unix.Umask(0o027))
	must(t,
		os.Mkdir(front+"d", 0o777), os.Mkdir(front+"d/e", 0o700), os.Remove(front+"d/e"), os.Mkdir(front+"d/e", 0o700),
		os.WriteFile(front+"d/e/f", []byte("hello"), 0o666), os.Lchown(front+"d/e/f", 5, 6), unix.Chmod(front+"d/e/f", 0o4751),
		os.Link(front+"d/e/f", front+"hard"), os.Symlink("/etc/shadow", front+"sym"), os.Lchown(front+"sym", 7, 8),
		unix.Mkfifo(front+"p", 0o600), unix.Mknod(front+"c", unix.S_IFCHR|0o600, int(unix.Mkdev(300, 70000))),
		os.WriteFile(front+"old", nil, 0o600), os.Rename(front+"old", front+"d/new"), os.Truncate(front+"d/new", 3),
		os.Chtimes(front+"d/new", time.Unix(1, 2), time.Unix(981173106, 7)),
	)
	for _, at := range []struct {
		path     string
		uid, gid int
	}{{front, 0, 0}, {behind, base, base}} {
		shows(t, at.path+"d", fmt.Sprintf("40750 %d:%d", at.uid, at.gid))
		shows(t, at.path+"d/e/f", fmt.Sprintf("104751 %d:%d 5 hello 2", at.uid+5, at.gid+6))
		shows(t, at.path+"sym", fmt.Sprintf("120777 %d:%d /etc/shadow", at.uid+7, at.gid+8))
		shows(t, at.path+"p", fmt.Sprintf("10600 %d:%d", at.uid, at.gid))
		shows(t, at.path+"c", fmt.Sprintf("20600 %d:%d 300:70000", at.uid, at.gid))
		shows(t, at.path+"d/new", fmt.Sprintf("100600 %d:%d 3 \x00\x00\x00 1", at.uid, at.gid))
		st, err := os.Stat(at.path + "d/new")
		must(t, err)
		if got := st.ModTime(); !got.Equal(time.Unix(981173106, 7)) {
			t.Errorf("changed at %v", got)
		}
	}
	_, err := os.Lstat(behind + "old")
	wantErr(t, "what was renamed", err, fs.ErrNotExist)
	wantErr(t, "an id that the container has not", os.Lchown(front+"d", 70000, 0), unix.EINVAL)
	wantErr(t, "a folder with files", os.Remove(front+"d"), unix.ENOTEMPTY)
	f, err := os.OpenFile(front+"hard", os.O_WRONLY|os.O_APPEND, 0)
	must(t, err)
	_, err = f.WriteString(", again")
	must(t, err, f.Sync(), f.Chmod(0o640), os.Remove(front+"hard"), f.Close())
	shows(t, behind+"d/e/f", fmt.Sprintf("100640 %d:%d 12 hello, again 1", base+5, base+6))
	must(t, unix.Renameat2(unix.AT_FDCWD, front+"d/e", unix.AT_FDCWD, front+"sym", unix.RENAME_EXCHANGE))
	shows(t, front+"sym/f", "100640 5:6 12 hello, again 1")
	shows(t, front+"d/e", "120777 7:8 /etc/shadow")
	must(t, os.RemoveAll(front+"sym"), os.RemoveAll(front+"d"))
	_, err = os.Lstat(behind + "d")
	wantErr(t, "what was removed", err, fs.ErrNotExist)
}

// TestFresh: what the container changes is seen at once, whatever was seen before.
func TestFresh(t *testing.T) {
	behind, front, _ := mirrored(t)
	must(t, os.Mkdir(behind+"d", 0o755), os.WriteFile(behind+"d/f", []byte("one"), 0o644))
	open, err := os.Open(front + "d/f")
	must(t, err)
	defer open.Close()
	dir, err := os.Open(front + "d")
	must(t, err)
	defer dir.Close()
	for _, s := range []string{"two", "longer", ""} {
		must(t, os.WriteFile(behind+"d/f", []byte(s), 0o644))
		b := make([]byte, 100)
		n, _ := open.ReadAt(b, 0)
		if got, err := os.ReadFile(front + "d/f"); string(got) != s || string(b[:n]) != s {
			t.Errorf("read %q (%v) and, by an open file, %q; want %q", got, err, b[:n], s)
		}
		must(t, os.WriteFile(behind+"n", []byte(s), 0o644), os.Rename(behind+"n", behind+"d/g"))
		if got, err := os.ReadFile(front + "d/g"); string(got) != s {
			t.Errorf("read %q (%v) of the file that replaces another; want %q", got, err, s)
		}
		must(t, os.Remove(behind+"d/g"))
		_, err := os.Lstat(front + "d/g")
		wantErr(t, "a file that is gone", err, fs.ErrNotExist)
		must(t, os.Mkdir(behind+"d/g", 0o755), os.WriteFile(front+"d/g/x", nil, 0o644), os.RemoveAll(behind+"d/g"))
	}
	must(t, os.Rename(behind+"d", behind+"e"), os.Symlink("/", behind+"d"))
	if _, err := os.Lstat(fmt.Sprintf("/proc/self/fd/%d/f", dir.Fd())); err == nil {
		t.Error("a handle of a folder led through the link in its place")
	}
}

// TestLargeFolder: every name is read once, whatever the size of the answers.
func TestLargeFolder(t *testing.T) {
	behind, front, _ := mirrored(t)
	want := []string{}
	for i := range 3000 {
		want = append(want, fmt.Sprintf("%04d%s", i, strings.Repeat("x", i%200)))
		must(t, os.WriteFile(behind+want[i], nil, 0o600))
	}
	d, err := os.Open(front)
	must(t, err)
	defer d.Close()
	for _, again := range []bool{false, true} {
		got, err := d.Readdirnames(0)
		must(t, err)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%d names, want %d (again: %v)", len(got), len(want), again)
		}
		if _, err := d.Seek(0, 0); err != nil {
			t.Fatal(err)
		}
	}
}

// TestMuch: a file of many pages, written and read in odd pieces.
func TestMuch(t *testing.T) {
	behind, front, _ := mirrored(t)
	want := bytes.Repeat([]byte("0123456789abcde"), 300000)
	f, err := os.Create(front + "f")
	must(t, err)
	for b := want; len(b) > 0; {
		n := min(len(b), 777777)
		_, err := f.Write(b[:n])
		must(t, err)
		b = b[n:]
	}
	must(t, f.Close())
	for _, name := range []string{behind + "f", front + "f"} {
		if got, err := os.ReadFile(name); !bytes.Equal(got, want) {
			t.Errorf("%s has %d bytes, want %d, or others (%v)", name, len(got), len(want), err)
		}
	}
}

// TestSpecial: a device, a FIFO, a link in the place of a file is not opened by the shim.
func TestSpecial(t *testing.T) {
	behind, front, m := mirrored(t)
	must(t, os.WriteFile(behind+"f", nil, 0o644))
	f, err := os.OpenFile(front+"f", unix.O_PATH, 0) // the kernel has looked the file up
	must(t, err)
	defer f.Close()
	number := m.nodes.last
	for name, make := range map[string]func() error{
		"a device": func() error { return unix.Mknod(behind+"n", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5))) },
		"a FIFO":   func() error { return unix.Mkfifo(behind+"n", 0o666) },
		"a link":   func() error { return os.Symlink("/etc/passwd", behind+"n") },
		"a folder": func() error { return os.Mkdir(behind+"n", 0o755) },
	} {
		must(t, make(), os.RemoveAll(behind+"f"), os.Rename(behind+"n", behind+"f"))
		n, err := m.handle(number)
		must(t, err)
		if got, err := content(n, unix.O_RDWR); err == nil {
			t.Errorf("%s was opened: %v", name, got)
		}
		n.Close()
	}
}

// TestSwapped: folders that the container swaps for links lead a caller nowhere else.
func TestSwapped(t *testing.T) {
	behind, front, _ := mirrored(t)
	outside := t.TempDir()
	must(t, os.Mkdir(behind+"d", 0o755), os.Symlink(outside, behind+"l"), os.Chown(outside, base, base))
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				_ = unix.Renameat2(unix.AT_FDCWD, behind+"d", unix.AT_FDCWD, behind+"l", unix.RENAME_EXCHANGE)
			}
		}
	}()
	made := 0
	for i := range 3000 {
		// By a handle of the folder, as the caller's own path would follow the link.
		fd, err := unix.Open(front+"d", unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			continue
		}
		name := fmt.Sprint(i)
		if f, err := unix.Openat(fd, name, unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o644); err == nil {
			made++
			unix.Close(f)
		}
		_ = unix.Fchmodat(fd, name, 0o777, 0)
		_ = unix.Mkdirat(fd, name+"d", 0o755)
		unix.Close(fd)
	}
	close(stop)
	<-done
	if left, err := os.ReadDir(outside); len(left) > 0 || err != nil || made == 0 {
		t.Errorf("%d names outside (%v), %d files made", len(left), err, made)
	}
}

// TestSilent: a root that never answers makes nobody wait longer than the deadline, and
// does not keep others from an end.
func TestSilent(t *testing.T) {
	defer func(d time.Duration) { deadline = d }(deadline)
	deadline = 300 * time.Millisecond
	_, _, m := mirrored(t)
	silent, err := New(ids, ids) // which nobody serves
	must(t, err)
	m.root.Close()
	m.root, err = os.OpenFile(fdPath(silent.mount), unix.O_PATH|unix.O_DIRECTORY, 0)
	must(t, err)
	front := fmt.Sprintf("/proc/%d/fd/%d/", os.Getpid(), m.mount.Fd())
	ends := make(chan error)
	for i := range 3 * threads {
		go func() {
			_, err := os.Lstat(fmt.Sprintf("%s%d", front, i))
			ends <- err
		}()
	}
	for range 3 * threads {
		wantErr(t, "a root that never answers", <-ends, unix.ETIMEDOUT)
	}
	must(t, silent.Close())
}

// TestLate: who makes one call after the other, as a copy does, waits for as many as there are
// threads, and then no more; files that it closes meanwhile are closed in the end.
func TestLate(t *testing.T) {
	defer func(d, l time.Duration) { deadline, lateDeadline = d, l }(deadline, lateDeadline)
	deadline, lateDeadline = 300*time.Millisecond, 30*time.Millisecond
	behind, front, m := mirrored(t)
	must(t, os.WriteFile(behind+"f", nil, 0o644))
	f, err := os.Open(front + "f")
	must(t, err)
	silent, err := New(ids, ids) // which nobody serves
	must(t, err)
	m.root.Close()
	m.root, err = os.OpenFile(fdPath(silent.mount), unix.O_PATH|unix.O_DIRECTORY, 0)
	must(t, err)
	for i := range 3 * threads {
		_, err := os.Lstat(fmt.Sprintf("%s%d", front, i))
		want := unix.ETIMEDOUT
		if i >= threads {
			want = unix.EBUSY
		}
		wantErr(t, fmt.Sprintf("call %d", i), err, want)
	}
	must(t, f.Close(), silent.Close())
	open := func() int {
		m.files.mu.Lock()
		defer m.files.mu.Unlock()
		return len(m.files.open)
	}
	for until := time.Now().Add(10 * time.Second); (open() > 0 || m.late.Load() > 0) && time.Now().Before(until); {
		time.Sleep(10 * time.Millisecond)
	}
	if n := open(); n > 0 || m.late.Load() != 0 {
		t.Errorf("%d files are open, %d threads late", n, m.late.Load())
	}
}

// TestBelowItself: a folder that is moved below itself, as it can seem where the container
// moves folders as well, has no path.
func TestBelowItself(t *testing.T) {
	var n nodes
	n.init()
	root := n.ids[rootID]
	a := n.found(root, "a", unix.S_IFDIR, false)
	b := n.found(a, "b", unix.S_IFDIR, false)
	n.renamed(place{root, "a"}, place{b, "c"}, false)
	_, err := n.path(b)
	wantErr(t, "its path", err, unix.ENAMETOOLONG)
}

// TestAttach: over a folder and away, by itself and by others after the process's death.
func TestAttach(t *testing.T) {
	behind, _, m := mirrored(t)
	must(t, os.WriteFile(behind+"f", nil, 0o644))
	over := filepath.Join(t.TempDir(), "with a space")
	must(t, os.Mkdir(over, 0o755), os.WriteFile(over+"/caller", nil, 0o644), m.Attach(over))
	shows(t, over+"/f", "100644 65534:65534 0  1") // an id that is not the container's
	must(t, m.Detach(), m.Detach(), Remove(over, ""))
	shows(t, over+"/caller", "100644 0:0 0  1")

	_, _, m = mirrored(t)
	work := t.TempDir()
	must(t, os.Mkdir(work+"/work", 0o755), m.Attach(over), m.Guard(work), sys.Mount("other", over, "tmpfs", 0, ""))
	wantErr(t, "the guarded folder", os.Remove(work+"/work"), unix.EBUSY)
	m.attached.Store(false) // as if it had died
	must(t, m.Close(), Remove(over, work))
	shows(t, over+"/caller", "100644 0:0 0  1")
	must(t, os.Remove(work+"/work"))
}

// TestAttributes: extended attributes; a program's capabilities are shown as an image has
// them.
func TestAttributes(t *testing.T) {
	behind, front, _ := mirrored(t)
	must(t, os.WriteFile(behind+"f", nil, 0o755), os.Symlink("nowhere", behind+"l"))
	must(t, unix.Setxattr(front+"f", "trusted.x", []byte("value"), 0))
	b := make([]byte, 100)
	n, err := unix.Getxattr(behind+"f", "trusted.x", b)
	if string(b[:max(n, 0)]) != "value" || err != nil {
		t.Errorf("%q, %v", b[:max(n, 0)], err)
	}
	if n, err = unix.Getxattr(front+"f", "trusted.x", nil); n != 5 || err != nil {
		t.Errorf("its size is %d, %v", n, err)
	}
	_, err = unix.Getxattr(front+"f", "trusted.x", b[:2])
	wantErr(t, "too little room", err, unix.ERANGE)
	n, err = unix.Listxattr(front+"f", b)
	must(t, err)
	if !strings.Contains(string(b[:n]), "trusted.x\x00") {
		t.Errorf("the list is %q", b[:n])
	}
	must(t, unix.Removexattr(front+"f", "trusted.x"))
	_, err = unix.Getxattr(behind+"f", "trusted.x", b)
	wantErr(t, "what was removed", err, unix.ENODATA)
	_, err = unix.Lgetxattr(front+"l", "trusted.x", b)
	wantErr(t, "of a link", err, unix.ENODATA)
	_, err = unix.Getxattr(front+"f", "system.posix_acl_access", b)
	wantErr(t, "with ids", err, unix.EOPNOTSUPP)

	v3 := make([]byte, capabilitySize3)
	v3[3], v3[5] = revision3>>24, 0x20 // cap_net_raw
	order.PutUint32(v3[capabilitySize2:], base)
	must(t, unix.Setxattr(behind+"f", capability, v3, 0))
	n, err = unix.Getxattr(front+"f", capability, b)
	must(t, err)
	want := append([]byte{0, 0, 0, revision2 >> 24}, v3[4:capabilitySize2]...)
	if !bytes.Equal(b[:n], want) {
		t.Errorf("capabilities are %x, want %x", b[:n], want)
	}
}

// TestForgotten: nothing is kept of names that nobody uses.
func TestForgotten(t *testing.T) {
	behind, front, m := mirrored(t)
	for i := range 2000 {
		must(t, os.WriteFile(fmt.Sprintf("%s%d", behind, i), nil, 0o644))
	}
	must(t, filepath.WalkDir(front, func(p string, d fs.DirEntry, err error) error {
		if err == nil && p != front {
			_, err = os.ReadFile(p)
		}
		return err
	}))
	left := func() int {
		m.nodes.mu.Lock()
		defer m.nodes.mu.Unlock()
		return len(m.nodes.ids) + len(m.nodes.at)
	}
	for until := time.Now().Add(10 * time.Second); left() > 10 && time.Now().Before(until); {
		time.Sleep(10 * time.Millisecond)
	}
	if n := left(); n > 10 {
		t.Errorf("%d names are kept", n)
	}
	m.files.mu.Lock()
	defer m.files.mu.Unlock()
	if len(m.files.open) > 0 {
		t.Errorf("%d files are open", len(m.files.open))
	}
}

// FuzzRequest: no call, whatever its bytes, stops the mirror.
// TestManyNames: a caller that looks at more names than many has the kernel forget them
// meanwhile, however its calls are numbered.
func TestManyNames(t *testing.T) {
	for before := range 2 { // calls, which shift the numbers of the others
		behind, front, m := mirrored(t)
		must(t, os.WriteFile(behind+"0", nil, 0o644))
		for range before {
			_, err := os.Readlink(front + "0")
			wantErr(t, "a file as a link", err, unix.EINVAL)
		}
		most := 0
		for i := range maxNames + 2048 {
			name := fmt.Sprint("name", i)
			must(t, os.Link(behind+"0", behind+name))
			_, err := os.Lstat(front + name)
			must(t, err)
			most = max(most, m.nodes.count())
		}
		if most > maxNames+1024 {
			t.Errorf("%d names were kept, want %d or some more (%d calls before)", most, maxNames, before)
		}
	}
}

func FuzzRequest(f *testing.F) {
	f.Add(uint32(opLookup), uint64(1), []byte("f\x00"))
	f.Add(uint32(opRename2), uint64(1), []byte("\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00f\x00../g\x00"))
	f.Add(uint32(opSetxattr), uint64(1), []byte("\xff\xff\xff\xff\x00\x00\x00\x00user.x\x00v"))
	f.Add(uint32(opCreate), uint64(1), []byte("\xff\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00\x00\x00\x00\x00..\x00"))
	behind, _, m := mirrored(f)
	parent := filepath.Dir(filepath.Clean(behind))
	before, err := os.ReadDir(parent)
	must(f, err)
	f.Fuzz(func(t *testing.T, op uint32, node uint64, data []byte) {
		r := &request{m: m, opcode: op, node: node, data: data}
		switch op {
		case opForget, opBatchForget:
			m.forget(r)
		case opInit:
			_, _ = initReply(r)
		default:
			_, _ = m.do(r)
		}
		after, err := os.ReadDir(parent)
		must(t, err)
		if len(after) != len(before) {
			t.Errorf("%d names beside the root, %d before", len(after), len(before))
		}
		m.files.closeAll()
	})
}

// BenchmarkLife is what a mirror costs a container that nobody copies into.
func BenchmarkLife(b *testing.B) {
	over := b.TempDir()
	root, work := b.TempDir(), b.TempDir()
	must(b, os.Mkdir(work+"/work", 0o755))
	for b.Loop() {
		m, err := New(ids, ids)
		must(b, err)
		alone, err := sys.OpenTree(nil, root, false)
		must(b, err, m.Serve(alone), m.Attach(over), m.Guard(work), m.Detach(), m.Close())
	}
}

// BenchmarkLookUp is one name of a file, by lstat: a look-up and its attributes.
func BenchmarkLookUp(b *testing.B) {
	behind, front, _ := mirrored(b)
	must(b, os.WriteFile(behind+"f", nil, 0o644))
	for b.Loop() {
		_, err := os.Lstat(front + "f")
		must(b, err)
	}
}

// TestRemoveBeside: of a mirror that its own process detaches while others remove it, nothing
// below is unmounted.
func TestRemoveBeside(t *testing.T) {
	over := t.TempDir()
	must(t, unix.Mount("caller", over, "tmpfs", 0, ""))
	defer unix.Unmount(over, unix.MNT_DETACH)
	must(t, os.WriteFile(over+"/of the caller", nil, 0o600))
	for range 50 {
		_, _, m := mirrored(t)
		must(t, m.Attach(over))
		start := make(chan struct{})
		errs := make(chan error, 4)
		for range 3 {
			go func() { <-start; errs <- Remove(over, "") }()
		}
		go func() { <-start; errs <- m.Detach() }()
		close(start)
		for range 4 {
			must(t, <-errs)
		}
		if _, err := os.Stat(over + "/of the caller"); err != nil {
			t.Fatalf("what the caller has mounted is gone: %v", err)
		}
		must(t, m.Close())
	}
}
