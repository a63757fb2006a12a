// SPDX-License-Identifier: Apache-2.0

package uidmap

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sysbox/tests/pace"
)

// disk is a file system in a file, which has what was written to the disk and no more: a copy
// of the file is what a power cut leaves.
type disk struct{ image, at string }

func command(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %q: %v: %s", name, args, err, bytes.TrimSpace(out))
	}
}

func newDisk(t *testing.T, dir, name string) *disk {
	t.Helper()
	d := &disk{image: filepath.Join(dir, name+".img"), at: filepath.Join(dir, name)}
	must(t, os.WriteFile(d.image, nil, 0o600))
	must(t, os.Truncate(d.image, 16<<20))
	must(t, os.Mkdir(d.at, 0o700))
	command(t, "mkfs.ext4", "-q", "-F", d.image)
	// Nothing is written because of its age.
	command(t, "mount", "-o", "loop,commit=3000", d.image, d.at)
	t.Cleanup(func() { _ = unix.Unmount(d.at, unix.MNT_DETACH) })
	return d
}

func (d *disk) sync(t *testing.T) {
	t.Helper()
	f, err := os.Open(d.at)
	must(t, err)
	defer f.Close()
	must(t, unix.Syncfs(int(f.Fd())))
}

// cut shows, by the same paths, what a power cut now would leave of the disks, while f runs.
func cut(t *testing.T, f func(), disks ...*disk) {
	t.Helper()
	for _, d := range disks {
		b, err := os.ReadFile(d.image)
		must(t, err)
		must(t, os.WriteFile(d.image+".cut", b, 0o600))
	}
	for _, d := range disks {
		command(t, "mount", "-o", "loop", d.image+".cut", d.at)
	}
	defer func() {
		for _, d := range disks {
			command(t, "umount", d.at)
		}
	}()
	f()
}

// TestPowerCut: whatever has come to the disk of what Shift, Revert and FinishReverts wrote when the
// power is cut, Revert gives each file back what it had. The journal and the tree are on disks
// of their own: one of them has all that was written to it, the other nothing but what was
// waited for; or the tree has what was written up to some step, so that it may lie between
// the change of an owner and the return of the bits that this takes away.
func TestPowerCut(t *testing.T) {
	needRoot(t)
	if _, err := exec.LookPath("mkfs.ext4"); err != nil {
		t.Skip("no mkfs.ext4")
	}
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		t.Skip("no loop devices")
	}
	dir := t.TempDir()
	trees, journals := newDisk(t, dir, "trees"), newDisk(t, dir, "journals")
	root, j := filepath.Join(trees.at, "tree"), filepath.Join(journals.at, "chown")
	makeEverything(t, root)
	must(t, os.Mkdir(j, 0o700))
	before := fullListing(t, root)
	other := Map{{ContainerID: 0, HostID: treeMap[0].HostID + 1<<18, Size: 65536}}
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	old := step
	t.Cleanup(func() { step = old })

	// life shifts, reverts, and does so by another range; each is called at each of its
	// steps, and at the end of each.
	life := func(each func(what string)) {
		do := func(what string, f func() error) {
			// f calls step on a goroutine of its own, which no test can end.
			at, on, done := make(chan bool), make(chan bool), make(chan error)
			step = func() { at <- true; <-on }
			go func() { done <- f() }()
			for {
				select {
				case <-at:
					each(what)
					on <- true
					continue
				case err := <-done:
					must(t, err)
				}
				step = func() {}
				each("after " + what)
				return
			}
		}
		for _, m := range []Map{treeMap, other} {
			do("Shift", func() error { return Shift(j, root, m, m) })
			do("Revert", func() error { return Revert(j, root) })
		}
		do("FinishReverts", func() error { _, err := FinishReverts(j); return err })
		trees.sync(t)
		journals.sync(t)
	}
	look := func(n int, what string) {
		t.Helper()
		now := step
		defer func() { step = now }()
		step = func() {}
		cut(t, func() {
			must(t, Revert(j, root))
			if d := diff(before, fullListing(t, root)); d != "" {
				t.Fatalf("the power is cut at step %d, %s:\n%s", n, what, d)
			}
		}, trees, journals)
	}
	steps := 0
	life(func(string) { steps++ })
	t.Logf("%d steps", steps)
	stride := 4
	if pace.Machine() {
		stride = 20
	}
	for _, x := range []struct {
		name           string
		tree, journals bool
	}{{"all of the tree", true, false}, {"all of the journal", false, true}} {
		t.Run(x.name, func(t *testing.T) {
			n, next := 0, r.IntN(stride)
			life(func(what string) {
				if n++; x.tree {
					trees.sync(t)
				}
				if x.journals {
					journals.sync(t)
				}
				if n > next {
					next += stride
					look(n, what)
				}
			})
		})
	}
	t.Run("the tree up to a step", func(t *testing.T) {
		for until := 1 + r.IntN(stride); until < steps; until += stride {
			n, looked := 0, false
			life(func(what string) {
				if n++; n == until {
					trees.sync(t)
				}
				if n > until && !looked && strings.HasPrefix(what, "after") {
					journals.sync(t)
					look(n, fmt.Sprintf("%s, the tree as of step %d", what, until))
					looked = true
				}
			})
		}
	})
}
