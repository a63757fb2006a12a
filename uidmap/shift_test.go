// SPDX-License-Identifier: Apache-2.0

package uidmap

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"sysbox/tests/pace"
)

var (
	testUID = Map{{ContainerID: 0, HostID: DefaultStart, Size: 65536}}
	testGID = Map{{ContainerID: 0, HostID: DefaultStart + 65536, Size: 65536}}
)

// fullListing is everything that Shift and Revert may change, or must not.
func fullListing(t *testing.T, root string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(root, func(p string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			return err
		}
		line := fmt.Sprintf("%q mode %o uid %d gid %d size %d rdev %d nlink %d mtime %d.%d", strings.TrimPrefix(p, root), st.Mode, st.Uid, st.Gid, st.Size, st.Rdev, st.Nlink, st.Mtim.Sec, st.Mtim.Nsec)
		b := make([]byte, 4096)
		n, err := unix.Llistxattr(p, b)
		if err != nil {
			return err
		}
		names := strings.Split(strings.TrimSuffix(string(b[:n]), "\x00"), "\x00")
		slices.Sort(names)
		for _, name := range names {
			if name == "" {
				continue
			}
			n, err := unix.Lgetxattr(p, name, b)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %s=%x", name, b[:n])
		}
		out = append(out, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func aclBytes(entries ...[3]uint32) []byte {
	le := binary.LittleEndian
	b := le.AppendUint32(nil, 2)
	for _, e := range entries {
		b = le.AppendUint16(b, uint16(e[0]))
		b = le.AppendUint16(b, uint16(e[1]))
		b = le.AppendUint32(b, e[2])
	}
	return b
}

// namedACL gives the user and the group an entry each.
func namedACL(uid, gid uint32) []byte {
	const none = 1<<32 - 1
	return aclBytes([3]uint32{1, 6, none}, [3]uint32{2, 4, uid}, [3]uint32{4, 4, none}, [3]uint32{8, 4, gid}, [3]uint32{0x10, 4, none}, [3]uint32{0x20, 0, none})
}

func capBytes(rootid uint32) []byte {
	le := binary.LittleEndian
	head := uint32(0x02000000)
	if rootid != 0 {
		head = 0x03000000
	}
	b := le.AppendUint32(nil, head|1) // effective
	for _, v := range []uint32{1 << 13, 0, 0, 0} {
		b = le.AppendUint32(b, v) // CAP_NET_RAW permitted
	}
	if rootid != 0 {
		b = le.AppendUint32(b, rootid)
	}
	return b
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// everything makes one of everything.
func everything(t *testing.T) string {
	t.Helper()
	root := filepath.Join(t.TempDir(), "rootfs")
	makeEverything(t, root)
	return root
}

func makeEverything(t *testing.T, root string) {
	t.Helper()
	p := func(name string) string { return filepath.Join(root, name) }
	file := func(name string, uid, gid int, mode uint32) {
		must(t, os.WriteFile(p(name), []byte(name), 0o600))
		must(t, os.Lchown(p(name), uid, gid))
		must(t, unix.Chmod(p(name), mode))
	}
	must(t, os.MkdirAll(p("a/b"), 0o755))
	must(t, os.Lchown(p("a"), 1000, 1001))
	must(t, unix.Chmod(p("a"), 0o3775))
	file("plain", 0, 0, 0o644)
	file("a/user", 1000, 1001, 0o640)
	file("a/b/last", 65535, 65534, 0o400)
	file("unmapped", 70000, 70001, 0o644)
	file("half", 70000, 5, 0o644)
	file("su", 0, 0, 0o4755)
	file("sg", 0, 42, 0o2755)
	file("both", 33, 42, 0o6711)
	file("bad\xff\nname", 1, 1, 0o4711)
	must(t, os.Link(p("both"), p("a/zlink")))
	must(t, os.Link(p("both"), p("0link")))
	file("caps", 0, 0, 0o755)
	must(t, unix.Setxattr(p("caps"), xattrCaps, capBytes(0), 0))
	file("caps-su", 7, 0, 0o4755)
	must(t, unix.Setxattr(p("caps-su"), xattrCaps, capBytes(0), 0))
	file("caps-v3", 0, 0, 0o755)
	must(t, unix.Setxattr(p("caps-v3"), xattrCaps, capBytes(1000), 0))
	file("caps-unmapped", 70000, 70000, 0o755)
	must(t, unix.Setxattr(p("caps-unmapped"), xattrCaps, capBytes(0), 0))
	file("acl", 0, 0, 0o640)
	must(t, unix.Setxattr(p("acl"), xattrACL, namedACL(1000, 1001), 0))
	must(t, unix.Setxattr(p("acl"), "user.note", []byte("x"), 0))
	must(t, unix.Setxattr(p("a/b"), xattrDefault, namedACL(0, 0), 0))
	must(t, os.Symlink("/etc/passwd", p("link")))
	must(t, os.Lchown(p("link"), 12, 13))
	must(t, os.Symlink("..", p("a/up")))
	must(t, unix.Mkfifo(p("fifo"), 0o622))
	must(t, unix.Mknod(p("null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	must(t, unix.Mknod(p("sock"), unix.S_IFSOCK|0o777, 0))
}

func diff(a, b []string) string {
	var out []string
	for _, l := range a {
		if !slices.Contains(b, l) {
			out = append(out, "- "+l)
		}
	}
	for _, l := range b {
		if !slices.Contains(a, l) {
			out = append(out, "+ "+l)
		}
	}
	return strings.Join(out, "\n")
}

// noFiles fails the test if FinishReverts leaves a journal.
func noFiles(t *testing.T, dir string) {
	t.Helper()
	_, err := FinishReverts(dir)
	must(t, err)
	if e, err := os.ReadDir(dir); err != nil || len(e) != 0 {
		t.Errorf("journals left: %v, %v", e, err)
	}
}

func TestShiftRevert(t *testing.T) {
	needRoot(t)
	root, dir := everything(t), filepath.Join(t.TempDir(), "chown")
	before := fullListing(t, root)
	must(t, Revert(dir, root)) // nothing to do
	must(t, Shift(dir, root, testUID, testGID))
	shifted := fullListing(t, root)

	want := func(name string, uid, gid, mode uint32) {
		t.Helper()
		var st unix.Stat_t
		must(t, unix.Lstat(filepath.Join(root, name), &st))
		if st.Uid != uid || st.Gid != gid || st.Mode&0o7777 != mode {
			t.Errorf("%s: %d:%d %o, want %d:%d %o", name, st.Uid, st.Gid, st.Mode&0o7777, uid, gid, mode)
		}
	}
	u, g := testUID[0].HostID, testGID[0].HostID
	want(".", u, g, 0o755)
	want("a", u+1000, g+1001, 0o3775)
	want("a/b/last", u+65535, g+65534, 0o400)
	want("unmapped", 70000, 70001, 0o644)
	want("half", 70000, g+5, 0o644)
	want("su", u, g, 0o4755)
	want("sg", u, g+42, 0o2755)
	want("0link", u+33, g+42, 0o6711)
	want("a/zlink", u+33, g+42, 0o6711)
	want("bad\xff\nname", u+1, g+1, 0o4711)
	want("link", u+12, g+13, 0o777)
	want("null", u, g, 0o666&^umask())
	xattr := func(file, name string, want []byte) {
		t.Helper()
		b := make([]byte, 256)
		n, err := unix.Lgetxattr(filepath.Join(root, file), name, b)
		if err != nil || string(b[:n]) != string(want) {
			t.Errorf("%s %s: %x, %v, want %x", file, name, b[:max(n, 0)], err, want)
		}
	}
	xattr("caps", xattrCaps, capBytes(u))
	xattr("caps-su", xattrCaps, capBytes(u))
	xattr("caps-v3", xattrCaps, capBytes(u+1000))
	xattr("caps-unmapped", xattrCaps, capBytes(u))
	xattr("acl", xattrACL, namedACL(u+1000, g+1001))
	xattr("a/b", xattrDefault, namedACL(u, g))

	must(t, Shift(dir, root, testUID, testGID))
	if d := diff(shifted, fullListing(t, root)); d != "" {
		t.Errorf("a second Shift changed\n%s", d)
	}
	if st, err := os.Stat(dir); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("journals' folder: %v, %v", st.Mode(), err)
	}
	must(t, Revert(dir, root))
	if d := diff(before, fullListing(t, root)); d != "" {
		t.Errorf("Revert left\n%s", d)
	}
	must(t, Revert(dir, root))
	noFiles(t, dir)
}

// umask is the process's, which has none meanwhile: not for a test that runs beside others.
func umask() uint32 {
	m := unix.Umask(0)
	unix.Umask(m)
	return uint32(m)
}

// What the container made is the host's afterwards, as if it had been made in
// an idmapped mount.
func TestRevertOfNewFiles(t *testing.T) {
	t.Parallel()
	needRoot(t)
	root, dir := t.TempDir(), t.TempDir()
	must(t, Shift(dir, root, testUID, testGID))
	name := filepath.Join(root, "new")
	must(t, os.WriteFile(name, nil, 0o600))
	must(t, os.Lchown(name, int(testUID[0].HostID)+5, int(testGID[0].HostID)+6))
	must(t, unix.Chmod(name, 0o6711))
	must(t, Revert(dir, root))
	var st unix.Stat_t
	must(t, unix.Lstat(name, &st))
	if st.Uid != 5 || st.Gid != 6 || st.Mode&0o7777 != 0o6711 {
		t.Errorf("%d:%d %o", st.Uid, st.Gid, st.Mode)
	}
}

func TestShiftToAnotherRange(t *testing.T) {
	t.Parallel()
	needRoot(t)
	root, dir := everything(t), t.TempDir()
	before := fullListing(t, root)
	must(t, Shift(dir, root, testUID, testGID))
	other := Map{{ContainerID: 0, HostID: DefaultStart + 1<<20, Size: 65536}}
	must(t, Shift(dir, root, other, other))
	if st, err := os.Lstat(filepath.Join(root, "su")); err != nil || st.Mode()&fs.ModeSetuid == 0 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
	var st unix.Stat_t
	must(t, unix.Lstat(root, &st))
	if st.Uid != other[0].HostID {
		t.Errorf("root belongs to %d", st.Uid)
	}
	must(t, Revert(dir, root))
	if d := diff(before, fullListing(t, root)); d != "" {
		t.Errorf("Revert left\n%s", d)
	}
}

func TestShiftStaysInTheTree(t *testing.T) {
	t.Parallel()
	needRoot(t)
	outside := t.TempDir()
	must(t, os.WriteFile(filepath.Join(outside, "f"), nil, 0o600))
	root, dir := everything(t), t.TempDir()
	must(t, os.Symlink(outside, filepath.Join(root, "out")))
	mnt := filepath.Join(root, "mnt")
	must(t, os.Mkdir(mnt, 0o755))
	must(t, unix.Mount(outside, mnt, "", unix.MS_BIND, ""))
	t.Cleanup(func() { must(t, unix.Unmount(mnt, unix.MNT_DETACH)) })
	before := fullListing(t, outside)
	must(t, Shift(dir, root, testUID, testGID))
	if d := diff(before, fullListing(t, outside)); d != "" {
		t.Errorf("outside of the tree:\n%s", d)
	}
	must(t, Revert(dir, root))
}

// A container can make a tree that is deeper than paths are long and than
// descriptors there are.
func TestShiftDeepTree(t *testing.T) {
	t.Parallel()
	needRoot(t)
	root, dir := t.TempDir(), t.TempDir()
	const depth = 3000
	fd, err := unix.Open(root, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	must(t, err)
	for range depth {
		must(t, unix.Mkdirat(fd, "dddd", 0o755))
		next, err := unix.Openat(fd, "dddd", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		must(t, err)
		unix.Close(fd)
		fd = next
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	must(t, Shift(dir, root, testUID, testGID))
	must(t, unix.Fstat(fd, &st))
	if st.Uid != testUID[0].HostID {
		t.Errorf("the deepest folder belongs to %d", st.Uid)
	}
	must(t, Revert(dir, root))
	must(t, unix.Fstat(fd, &st))
	if st.Uid != 0 {
		t.Errorf("after Revert the deepest folder belongs to %d", st.Uid)
	}
}

func TestShiftRefuses(t *testing.T) {
	root, dir := t.TempDir(), t.TempDir()
	overlapping := Map{{ContainerID: 0, HostID: 60000, Size: 65536}}
	if err := Shift(dir, root, overlapping, overlapping); err == nil || !strings.Contains(err.Error(), "overlap") {
		t.Errorf("overlapping ids: %v", err)
	}
	if err := Shift(dir, root, nil, testGID); err == nil {
		t.Error("no error for an empty mapping")
	}
	if err := Shift(dir, "relative", testUID, testGID); err == nil {
		t.Error("no error for a relative path")
	}
	if err := Shift(dir, filepath.Join(root, "none"), testUID, testGID); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no tree: %v", err)
	}
	noFiles(t, dir)
}

func TestRevertOfTreeThatIsGone(t *testing.T) {
	t.Parallel()
	needRoot(t)
	root, dir := everything(t), t.TempDir()
	must(t, Shift(dir, root, testUID, testGID))
	must(t, os.RemoveAll(root))
	must(t, Revert(dir, root))
	noFiles(t, dir)
}

func TestDamagedJournal(t *testing.T) {
	t.Parallel()
	needRoot(t)
	root, dir := t.TempDir(), t.TempDir()
	must(t, Shift(dir, root, testUID, testGID))
	name := journalPath(dir, root)
	whole, err := os.ReadFile(name)
	must(t, err)
	for n := range whole {
		must(t, os.WriteFile(name, whole[:n], 0o600))
		if err := Revert(dir, root); err == nil || !strings.Contains(err.Error(), name) {
			t.Fatalf("journal cut to %d bytes: %v", n, err)
		}
	}
	must(t, os.WriteFile(name, whole, 0o600))
	must(t, Revert(dir, root))
}

func init() {
	if v := os.Getenv("UIDMAP_TEST_DIE_AT"); v != "" {
		at, err := strconv.Atoi(v)
		if err != nil {
			panic(err)
		}
		step = func() {
			if at--; at < 0 {
				_ = unix.Kill(os.Getpid(), unix.SIGKILL)
				select {}
			}
		}
	}
}

// dies runs Shift or Revert in a child that kills itself after n steps; false
// if it came to its end before that.
func dies(t *testing.T, do, parent string, n int) bool {
	t.Helper()
	c := other(do, parent, "")
	c.Env = append(c.Env, "UIDMAP_TEST_DIE_AT="+strconv.Itoa(n))
	err := c.Run()
	if err == nil {
		return false
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) || !exit.Sys().(syscall.WaitStatus).Signaled() {
		t.Fatalf("%s to step %d: %v", do, n, err)
	}
	return true
}

// Killed at any step, both can be finished, and each can follow the other. An emulated
// machine takes every few steps, others in each run.
func TestKilledAtEachStep(t *testing.T) {
	t.Parallel()
	needRoot(t)
	stride := 1
	if pace.Machine() {
		stride = 5
	}
	first := rand.IntN(stride)
	t.Logf("killed at the steps %d, %d, ...", first, first+stride)
	parent := t.TempDir()
	root, dir := filepath.Join(parent, "tree"), filepath.Join(parent, "journal")
	makeEverything(t, root)
	before := fullListing(t, root)
	must(t, Shift(dir, root, treeMap, treeMap))
	after := fullListing(t, root)
	must(t, Revert(dir, root))
	check := func(what string, n int, want []string) {
		t.Helper()
		if d := diff(want, fullListing(t, root)); d != "" {
			t.Fatalf("%s at step %d:\n%s", what, n, d)
		}
	}
	n := first
	for ; dies(t, "shift", parent, n); n += stride {
		must(t, Shift(dir, root, treeMap, treeMap))
		check("Shift after a killed Shift", n, after)
		must(t, Revert(dir, root))
		check("Revert after that", n, before)
		if dies(t, "shift", parent, n) {
			must(t, Revert(dir, root))
			check("Revert after a killed Shift", n, before)
		}
	}
	if n < 40 {
		t.Errorf("Shift has only %d steps", n)
	}
	// Shifted now.
	for n = first; dies(t, "revert", parent, n); n += stride {
		must(t, Revert(dir, root))
		check("Revert after a killed Revert", n, before)
		must(t, Shift(dir, root, treeMap, treeMap))
		if dies(t, "revert", parent, n) {
			must(t, Shift(dir, root, treeMap, treeMap))
			check("Shift after a killed Revert", n, after)
		}
	}
	if n < 30 {
		t.Errorf("Revert has only %d steps", n)
	}
	check("Revert", n, before)
	noFiles(t, dir)
}
