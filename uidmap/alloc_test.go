// SPDX-License-Identifier: Apache-2.0

package uidmap

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sysbox/tests/leak"
)

// nobodys is a pool that depends neither on /etc nor on containers that run
// meanwhile.
var nobodys = Pool{Start: 0x50000000, Size: 100 << 18, etc: "/nonexistent"}

// TestMain is also the process that tests start many of: it takes a range, or
// takes and returns ranges until it is killed, or shifts a tree.
func TestMain(m *testing.M) {
	dir := os.Getenv("UIDMAP_TEST_DIR")
	switch os.Getenv("UIDMAP_TEST_DO") {
	case "":
		os.Exit(leak.Main(m, ""))
	case "hold":
		l := mustAcquire(dir, os.Getenv("UIDMAP_TEST_OWNER"))
		fmt.Println(l.UID().HostID)
		_, _ = os.Stdin.Read(make([]byte, 1))
	case "loop":
		fmt.Println("ready")
		for i := 0; ; i++ {
			l := mustAcquire(dir, fmt.Sprintf("%s/%d", os.Getenv("UIDMAP_TEST_OWNER"), i))
			if i%2 == 0 {
				if err := l.Release(); err != nil {
					panic(err)
				}
			}
		}
	case "shift":
		if err := Shift(dir+"/journal", dir+"/tree", treeMap, treeMap); err != nil {
			panic(err)
		}
	case "revert":
		if err := Revert(dir+"/journal", dir+"/tree"); err != nil {
			panic(err)
		}
	}
	os.Exit(0)
}

func mustAcquire(dir, owner string) *Lease {
	a, err := Open(dir, nobodys)
	if err != nil {
		panic(err)
	}
	l, err := a.Acquire(owner)
	if err != nil {
		panic(err)
	}
	return l
}

func other(do, dir, owner string) *exec.Cmd {
	c := exec.Command("/proc/self/exe")
	c.Env = append(os.Environ(), "UIDMAP_TEST_DO="+do, "UIDMAP_TEST_DIR="+dir, "UIDMAP_TEST_OWNER="+owner)
	c.Stderr = os.Stderr
	return c
}

// reclaimed fails unless nothing but the lock is left of dead owners.
func reclaimed(t *testing.T, dir string) {
	t.Helper()
	a, err := Open(dir, nobodys)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if err := a.Reclaim(nil); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != "lock" && e.Name() != surveyed {
			t.Errorf("%s is left", e.Name())
		}
	}
}

// TestManyProcesses: 64 processes take ranges at once, and no two get the same.
func TestManyProcesses(t *testing.T) {
	dir := t.TempDir()
	seen := map[string]bool{}
	var cmds []*exec.Cmd
	var outs []*bufio.Scanner
	for i := range 64 {
		c := other("hold", dir, fmt.Sprint("ns/", i))
		if _, err := c.StdinPipe(); err != nil {
			t.Fatal(err)
		}
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		cmds, outs = append(cmds, c), append(outs, bufio.NewScanner(out))
	}
	for i, out := range outs {
		if !out.Scan() || seen[out.Text()] {
			t.Errorf("process %d got %q", i, out.Text())
		}
		seen[out.Text()] = true
	}
	for _, c := range cmds {
		_ = c.Process.Kill()
		_ = c.Wait()
	}
	reclaimed(t, dir)
}

// TestKilledWhileAllocating: a process killed at any moment leaves nothing
// that cannot be reclaimed.
func TestKilledWhileAllocating(t *testing.T) {
	dir := t.TempDir()
	for i := range 30 {
		c := other("loop", dir, fmt.Sprint("k", i))
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		bufio.NewScanner(out).Scan()
		time.Sleep(time.Duration(i) * 300 * time.Microsecond)
		_ = c.Process.Kill()
		_ = c.Wait()
	}
	reclaimed(t, dir)
}

func TestExhausted(t *testing.T) {
	a, err := Open(t.TempDir(), Pool{Start: 1 << 30, Size: 2 << 18, etc: "/nonexistent"})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	one, err := a.Acquire("ns/one")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Acquire("ns/one"); !errors.Is(err, ErrHeld) {
		t.Errorf("the same owner again: %v", err)
	}
	if _, err := a.Acquire("ns/two"); err != nil {
		t.Fatal(err)
	}
	_, err = a.Acquire("ns/three")
	if err == nil || !strings.Contains(err.Error(), "all 2 ranges of 262144 ids are taken") {
		t.Errorf("a third range of two: %v", err)
	}
	t.Log(err)
	if err := one.Release(); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Acquire("ns/three"); err != nil {
		t.Errorf("after a release: %v", err)
	}
}

// TestSpoiledRecords: a record cut off at any byte stops nobody.
func TestSpoiledRecords(t *testing.T) {
	dir := t.TempDir()
	for n := range 16 {
		a, err := Open(dir, nobodys)
		if err != nil {
			t.Fatal(err)
		}
		l, err := a.Acquire("ns/spoiled")
		if err != nil {
			t.Fatal(err)
		}
		records, _ := filepath.Glob(dir + "/r-*")
		if len(records) != 1 {
			t.Fatalf("records %v", records)
		}
		if err := os.Truncate(records[0], int64(n)); err != nil {
			t.Fatal(err)
		}
		l.f.Close() // as when its process is killed
		l.f = nil
		next, err := a.Acquire("ns/next")
		if err != nil {
			t.Errorf("with a record of %d bytes: %v", n, err)
		} else if err := next.Release(); err != nil {
			t.Error(err)
		}
		if err := a.ReleaseOwner("ns/spoiled"); err != nil {
			t.Errorf("release with a record of %d bytes: %v", n, err)
		}
		if err := a.Reclaim(nil); err != nil {
			t.Error(err)
		}
		a.Close()
	}
	reclaimed(t, dir)
}

// TestInUse: a range is not given out while a process lives in a user
// namespace mapped to it, although its owner's shim is dead.
func TestInUse(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("makes a user namespace with a range, which takes root")
	}
	// Not of the default pool, which containers of other tests may live in.
	pool := Pool{Start: 0x41000000, Size: 1 << 18, etc: "/nonexistent"}
	a, err := Open(t.TempDir(), pool)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	l, err := a.Acquire("ns/dead")
	if err != nil {
		t.Fatal(err)
	}
	m := Map{{ContainerID: 0, HostID: l.UID().HostID, Size: l.UID().Size}}
	sleep := exec.Command("/bin/sleep", "100")
	sleep.SysProcAttr = inUserNS(m)
	if err := sleep.Start(); err != nil {
		t.Fatal(err)
	}
	l.f.Close()
	l.f = nil
	_, err = a.Acquire("ns/other")
	if err == nil {
		t.Error("the range of a living process was given out")
	}
	_ = sleep.Process.Kill()
	_ = sleep.Wait()
	if got, err := a.Acquire("ns/other"); err != nil || got.UID() != l.UID() {
		t.Errorf("after its end: %v", err)
	}
}

func TestSubids(t *testing.T) {
	etc := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(etc, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	lines := "alice:100000:65536\n# a comment\nsysbox:300000:524288\nbad line\nsysbox:x:y\nsysbox:4294967290:100\n"
	write("subuid", lines)
	write("subgid", lines)
	a, err := Open(t.TempDir(), Pool{User: "sysbox", RangeSize: 1 << 18, etc: etc})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	for i := range 2 {
		l, err := a.Acquire(fmt.Sprint("ns/", i))
		if err != nil {
			t.Fatal(err)
		}
		if r := l.UID(); r.HostID < 300000 || r.end() > 300000+524288 {
			t.Errorf("range %v is not of the user's", r)
		}
	}
	if l, err := a.Acquire("ns/3"); err == nil {
		t.Errorf("a third range %v of two", l.UID())
	}
}

func BenchmarkAcquire(b *testing.B) {
	a, err := Open(b.TempDir(), Pool{Start: 1 << 30, Size: 1100 << 16, RangeSize: 1 << 16, etc: "/nonexistent"})
	if err != nil {
		b.Fatal(err)
	}
	defer a.Close()
	for i := range 1000 {
		if _, err := a.Acquire(fmt.Sprint("ns/", i)); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		l, err := a.Acquire("ns/x")
		if err != nil {
			b.Fatal(err)
		}
		if err := l.Release(); err != nil {
			b.Fatal(err)
		}
	}
}

// TestReleaseOfHalfAcquired: what one leaves who is killed in the midst of Acquire goes
// with the owner's release.
func TestReleaseOfHalfAcquired(t *testing.T) {
	dir := t.TempDir()
	a, err := Open(dir, nobodys)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if err := os.WriteFile(a.path(unfinished), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(recordName(Range{HostID: 5, Size: 6}), a.path(indexName("ns/pod"))); err != nil {
		t.Fatal(err)
	}
	if err := a.ReleaseOwner("ns/pod"); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 || entries[0].Name() != "lock" {
		t.Errorf("left are %v, %v; want the lock alone", entries, err)
	}
}
