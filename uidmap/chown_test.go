// SPDX-License-Identifier: Apache-2.0

package uidmap

import (
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sysbox/tests/testhost"
)

var treeMap = Map{{ContainerID: 0, HostID: 0x78000000, Size: 65536}}

func inUserNS(m Map) *syscall.SysProcAttr {
	maps := []syscall.SysProcIDMap{{ContainerID: int(m[0].ContainerID), HostID: int(m[0].HostID), Size: int(m[0].Size)}}
	return &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER, UidMappings: maps, GidMappings: maps}
}

// makeTree makes files of all kinds with all that a chown can spoil.
func makeTree(t *testing.T, root string, many int) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	file := func(name string, mode uint32, uid, gid int) string {
		p := filepath.Join(root, name)
		must(os.MkdirAll(filepath.Dir(p), 0o755))
		must(os.WriteFile(p, []byte(name), 0o600))
		must(os.Chown(p, uid, gid))
		must(unix.Chmod(p, mode))
		return p
	}
	file("bin/su", 0o4755, 0, 0)
	file("bin/wall", 0o2755, 0, 5)
	ping := file("bin/ping", 0o755, 0, 0)
	must(unix.Setxattr(ping, "security.capability", caps(t, "0100000200200000000000000000000000000000"), 0))
	must(os.Link(ping, filepath.Join(root, "bin/ping6")))
	file("etc/shadow", 0o640, 0, 42)
	acl := file("etc/acl", 0o640, 1, 2)
	// user::rw-, user:1000:rwx, group::r--, group:7:r-x, mask::rwx, other::---
	must(unix.Setxattr(acl, "system.posix_acl_access", caps(t,
		"02000000"+"01000600ffffffff"+"02000700e8030000"+"04000400ffffffff"+"0800050007000000"+"10000700ffffffff"+"20000000ffffffff"), 0))
	must(os.Symlink("/etc/shadow", filepath.Join(root, "link")))
	must(os.Lchown(filepath.Join(root, "link"), 3, 4))
	must(unix.Mkfifo(filepath.Join(root, "fifo"), 0o600))
	must(unix.Mknod(filepath.Join(root, "null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	must(os.Mkdir(filepath.Join(root, "sgid"), 0o755))
	must(unix.Chmod(filepath.Join(root, "sgid"), 0o3775))
	file("name\xff\nodd", 0o4755, 65535, 65535)
	file("unmapped", 0o644, 70000, 70000)
	for i := range many {
		file(fmt.Sprintf("many/%d/f", i), []uint32{0o644, 0o4755}[i%2], i, i)
	}
}

func caps(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("changes owners, which takes root")
	}
}

func TestShiftAndRevert(t *testing.T) {
	t.Parallel()
	needRoot(t)
	dir := t.TempDir()
	tree := filepath.Join(dir, "tree")
	makeTree(t, tree, 0)
	before := fullListing(t, tree)
	for range 2 { // the second finds it done
		if err := Shift(dir+"/journal", tree, treeMap, treeMap); err != nil {
			t.Fatal(err)
		}
	}
	shifted := strings.Join(fullListing(t, tree), "\n")
	for _, want := range []string{
		`"/bin/su" mode 104755 uid 2013265920 gid 2013265920 `,
		`"/bin/wall" mode 102755 uid 2013265920 gid 2013265925 `,
		`"/etc/shadow" mode 100640 uid 2013265920 gid 2013265962 `,
		`"/link" mode 120777 uid 2013265923 gid 2013265924 `,
		`"/unmapped" mode 100644 uid 70000 gid 70000 `,
		"security.capability=010000030020000000000000000000000000000000000078",
		"02000700e8030078", // user:1000 in the access list
	} {
		if !strings.Contains(shifted, want) {
			t.Errorf("no %s in\n%s", want, shifted)
		}
	}
	for range 2 {
		if err := Revert(dir+"/journal", tree); err != nil {
			t.Fatal(err)
		}
	}
	if d := diff(before, fullListing(t, tree)); d != "" {
		t.Errorf("after revert:\n%s", d)
	}
	noFiles(t, dir+"/journal")
}

// TestKilledWhileShifting: killed at any moment of shift and revert, and then
// reverted, the tree is as it was.
func TestKilledWhileShifting(t *testing.T) {
	t.Parallel()
	needRoot(t)
	dir := t.TempDir()
	tree := filepath.Join(dir, "tree")
	makeTree(t, tree, 300)
	before := fullListing(t, tree)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for range 25 {
		for _, do := range []string{"shift", "revert", "revert"} {
			c := other(do, dir, "")
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Duration(r.IntN(12000)) * time.Microsecond)
			_ = c.Process.Kill()
			_ = c.Wait()
		}
		if err := Revert(dir+"/journal", tree); err != nil {
			t.Fatal(err)
		}
		if d := diff(before, fullListing(t, tree)); d != "" {
			t.Fatalf("after revert:\n%s", d)
		}
	}
}

// TestSettle: the journals of a removed tree and of one that was reverted go, those of one
// whose disk is missing and of one that a container may use stay.
func TestSettle(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("changes owners, which takes root")
	}
	dir := t.TempDir()
	var roots []string
	for _, name := range []string{"removed", "there", "disk/snapshots/away", "reverted"} {
		root := filepath.Join(dir, name, "fs")
		if err := os.MkdirAll(root, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := Shift(dir+"/journal", root, treeMap, treeMap); err != nil {
			t.Fatal(err)
		}
		roots = append(roots, root)
	}
	for _, gone := range []string{"removed", "disk"} {
		if err := os.RemoveAll(filepath.Join(dir, gone)); err != nil {
			t.Fatal(err)
		}
	}
	must(t, Revert(dir+"/journal", roots[3]))
	got, err := FinishReverts(dir + "/journal")
	if err != nil || len(got) != 1 || got[0] != roots[0] {
		t.Errorf("forgot %v, %v; want %s", got, err, roots[0])
	}
	if left, _ := filepath.Glob(dir + "/journal/*.json"); len(left) != 2 {
		t.Errorf("left: %v", left)
	}
}

// TestChownDeep: folders that are nested beyond all paths, with a setuid file in each, cost
// their container little to make, and to take their owners back no more.
func TestChownDeep(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("changes owners, which takes root")
	}
	const depth = 600
	root, journals := t.TempDir(), t.TempDir()
	name := strings.Repeat("x", unix.NAME_MAX)
	setUserID := func(dir int) error { return unix.Mknodat(dir, "su", unix.S_IFREG|0o4755, 0) }
	at := testhost.Deep(t, root, name, depth, setUserID)
	if err := setUserID(at); err != nil {
		t.Fatal(err)
	}
	deepest := func() (st unix.Stat_t) {
		t.Helper()
		if err := unix.Fstatat(at, "su", &st, 0); err != nil {
			t.Fatal(err)
		}
		return st
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if err := Shift(journals, root, treeMap, treeMap); err != nil {
		t.Fatal(err)
	}
	if st := deepest(); st.Uid != treeMap[0].HostID || st.Mode&unix.S_ISUID == 0 {
		t.Errorf("the deepest file is %d's, mode %#o", st.Uid, st.Mode)
	}
	if err := Revert(journals, root); err != nil {
		t.Fatal(err)
	}
	if st := deepest(); st.Uid != 0 || st.Mode&unix.S_ISUID == 0 {
		t.Errorf("the deepest file is %d's again, mode %#o", st.Uid, st.Mode)
	}
	runtime.ReadMemStats(&after)
	if taken := after.TotalAlloc - before.TotalAlloc; taken > 32<<20 {
		t.Errorf("names of %d MiB were built", taken>>20)
	}
}
