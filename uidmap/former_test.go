// SPDX-License-Identifier: Apache-2.0

package uidmap

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// acquire takes a range as a shim does: with an allocator of its own.
func acquire(t *testing.T, dir, former, owner string, p Pool) (*Lease, error) {
	t.Helper()
	a, err := Open(dir, p)
	must(t, err)
	t.Cleanup(func() { a.Close() })
	if former != "" {
		a.AvoidRangesIn(former)
	}
	return a.Acquire(owner)
}

// TestFormerDirectory: while shims of a version that has a directory for each state
// directory hold ranges, neither they nor this version give out what the other has.
func TestFormerDirectory(t *testing.T) {
	p := Pool{Start: 1 << 30, Size: 4 << 18, etc: "/nonexistent"}
	host, former := t.TempDir()+"/ids", t.TempDir()+"/ids"
	seen := map[Range]string{}
	take := func(dir, former, owner string) *Lease {
		t.Helper()
		l, err := acquire(t, dir, former, owner, p)
		must(t, err)
		if was := seen[l.UID()]; was != "" {
			t.Errorf("%s and %s have the range %v", was, owner, l.UID())
		}
		seen[l.UID()] = owner
		return l
	}
	old := take(former, "", "ns/old")
	take(host, former, "ns/this")
	take(former, "", "ns/old too")
	last := take(host, former, "ns/this too")
	if _, err := acquire(t, host, former, "ns/old", p); !errors.Is(err, ErrHeld) {
		t.Errorf("an owner whose shim of the version before lives: %v", err)
	}
	for _, dir := range []string{host, former} {
		f := former
		if dir == former {
			f = ""
		}
		if l, err := acquire(t, dir, f, "ns/more", p); err == nil {
			t.Errorf("a fifth range of four, %v, from %s", l.UID(), dir)
		}
	}
	// What this version gives back, the other has again once this one has looked.
	must(t, last.Release())
	delete(seen, last.UID())
	must(t, take(host, former, "ns/this again").Release())
	// A shim of the version before is killed: its range goes to the next, its own delete
	// command having run here.
	old.f.Close()
	delete(seen, old.UID())
	a, err := Open(host, p)
	must(t, err)
	defer a.Close()
	a.AvoidRangesIn(former)
	must(t, a.ReleaseOwner("ns/old"))
	if _, err := os.Lstat(filepath.Join(former, recordName(old.UID()))); err == nil {
		t.Error("the record of the version before is left")
	}
	take(host, former, "ns/new")
}

// TestFormerOwnersDied: ranges of a version before whose owners have died, and of which
// nobody asks, are given out when no others are left.
func TestFormerOwnersDied(t *testing.T) {
	p := Pool{Start: 1 << 30, Size: 2 << 18, etc: "/nonexistent"}
	host, former := t.TempDir()+"/ids", t.TempDir()+"/ids"
	for i := range 2 {
		l, err := acquire(t, former, "", fmt.Sprint("ns/", i), p)
		must(t, err)
		l.f.Close()
	}
	for i := range 2 {
		if _, err := acquire(t, host, former, fmt.Sprint("ns/new", i), p); err != nil {
			t.Error(err)
		}
	}
}

// TestFormerLink: without a directory of the version before, there is a link in its place:
// after a downgrade it takes what is free on the host.
func TestFormerLink(t *testing.T) {
	p := Pool{Start: 1 << 30, Size: 3 << 18, etc: "/nonexistent"}
	host := t.TempDir() + "/ids"
	state := t.TempDir() + "/not/there"
	seen := map[Range]bool{}
	for _, dir := range []string{state + "/one", state + "/two"} {
		l, err := acquire(t, host, dir+"/ids", "ns/this in "+dir, p)
		must(t, err)
		seen[l.UID()] = true
	}
	l, err := acquire(t, state+"/one/ids", "", "ns/old", p)
	must(t, err)
	seen[l.UID()] = true
	if len(seen) != 3 {
		t.Errorf("three shims have the ranges %v", seen)
	}
	a, err := Open(state+"/one/ids", p)
	must(t, err)
	defer a.Close()
	l.f.Close()
	must(t, a.ReleaseOwner("ns/old"))
	// The state directory of the host itself, by another path.
	must(t, os.Symlink(filepath.Dir(host), state+"/same"))
	if _, err := acquire(t, host, state+"/same/ids", "ns/same", p); err != nil {
		t.Error(err)
	}
}

// TestSurvey: what processes use when the first range of the host is taken is not given
// out, though there is no record of it.
func TestSurvey(t *testing.T) {
	needRoot(t)
	p := Pool{Start: 0x42000000, Size: 2 << 18, etc: "/nonexistent"}
	sleep := exec.Command("/bin/sleep", "100")
	sleep.SysProcAttr = inUserNS(Map{{ContainerID: 0, HostID: 0x42000000 + 7, Size: 65536}})
	must(t, sleep.Start())
	dir := t.TempDir()
	l, err := acquire(t, dir, "", "ns/one", p)
	must(t, err)
	if l.UID().HostID != 0x42000000+1<<18 {
		t.Errorf("got %v, which process %d uses", l.UID(), sleep.Process.Pid)
	}
	if _, err := acquire(t, dir, "", "ns/two", p); err == nil {
		t.Error("a second range of one")
	}
	_ = sleep.Process.Kill()
	_ = sleep.Wait()
	if _, err := acquire(t, dir, "", "ns/two", p); err != nil {
		t.Errorf("after its end: %v", err)
	}
}
