// SPDX-License-Identifier: Apache-2.0

package private

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"sysbox/runtime/sys"
)

// prefix is how the names of all runs' cgroups begin.
const prefix = "sysbox-run-"

// leaf is where the tests are, in a hierarchy of version 2 with controllers: a group that
// has groups below it with controllers may have no processes, but for the real root.
const leaf = "tests"

// groups are a cgroup in each hierarchy, of which a run takes them for the roots. A run
// holds a lock (flock) on each as long as it lives: what nobody holds is left from a run
// that was killed.
type groups struct {
	name string
	dirs []string
	held []*os.File
}

// hierarchies are the mount points of cgroups that are not hidden by another mount, and
// whether they are of version 2.
func hierarchies() (map[string]bool, error) {
	out := map[string]bool{}
	for m, err := range sys.MountsOf("/proc/self/mountinfo") {
		if err != nil {
			return nil, err
		}
		switch m.Type {
		case "cgroup":
			out[m.Point] = false
		case "cgroup2":
			out[m.Point] = true
		}
	}
	return out, nil
}

// makeGroups makes the cgroups of a run. In hierarchies that may not be written, as in
// many containers, it makes none.
func makeGroups() (*groups, error) {
	g := &groups{name: prefix + strings.ToLower(rand.Text()[:8])}
	roots, err := hierarchies()
	for root, two := range roots {
		if err != nil {
			break
		}
		err = g.make(root, two)
	}
	return g, err
}

func (g *groups) make(root string, two bool) (err error) {
	// Nobody tidies between our making the group and our taking its lock. The root itself
	// may be the group of a run that this one is within.
	parent, err := os.Open(filepath.Join(root, "cgroup.procs"))
	if err != nil {
		return err
	}
	defer sys.Unlock(parent)
	if err := sys.Flock(parent, unix.LOCK_EX); err != nil {
		return fmt.Errorf("lock %s: %w", root, err)
	}
	tidy(root)
	dir := filepath.Join(root, g.name)
	switch err := os.Mkdir(dir, 0o755); {
	case errors.Is(err, unix.EROFS), errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return nil
	case errors.Is(err, unix.EEXIST): // the hierarchy is mounted twice
		g.dirs = append(g.dirs, dir)
		return nil
	case err != nil:
		return err
	}
	g.dirs = append(g.dirs, dir)
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	g.held = append(g.held, f)
	if err := sys.Flock(f, unix.LOCK_EX); err != nil {
		return fmt.Errorf("lock %s: %w", dir, err)
	}
	if two {
		return nil
	}
	// A new group of cpuset has neither CPUs nor memory, and takes no process.
	for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
		b, err := os.ReadFile(filepath.Join(root, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), b, 0)
		}
		if err != nil {
			return fmt.Errorf("give %s what its parent has: %w", dir, err)
		}
	}
	realTime(root, dir)
	return nil
}

// realTime gives a group a tenth of the time for real-time processes that its parent has,
// as a new one has none, and runs share what there is. Where nothing is left, tests of
// real-time processes fail and say so.
func realTime(root, dir string) {
	const name = "cpu.rt_runtime_us"
	b, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		return // no hierarchy of CPU time
	}
	if n, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil {
		_ = os.WriteFile(filepath.Join(dir, name), []byte(strconv.Itoa(n/10)), 0)
	}
}

// tidy removes the groups of runs that were killed.
func tidy(root string) {
	left, _ := filepath.Glob(filepath.Join(root, prefix+"*"))
	for _, dir := range left {
		f, err := os.Open(dir)
		if err != nil {
			continue
		}
		if sys.Flock(f, unix.LOCK_EX|unix.LOCK_NB) == nil {
			_ = removeTree(dir) // there may be processes yet, which are ending
		}
		f.Close()
	}
}

// remove removes the groups, when all that was in them has ended.
func (g *groups) remove() error {
	defer func() {
		for _, f := range g.held {
			f.Close()
		}
	}()
	var err error
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		err = nil
		for _, dir := range g.dirs {
			err = errors.Join(err, removeTree(dir))
		}
		if err == nil || time.Now().After(deadline) {
			return err
		}
	}
}

func removeTree(dir string) error {
	var dirs []string
	_ = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, p)
		}
		return nil
	})
	var err error
	for _, d := range slices.Backward(dirs) {
		if e := unix.Rmdir(d); e != nil && !errors.Is(e, unix.ENOENT) {
			err = fmt.Errorf("remove the cgroup %s: %w", d, e)
		}
	}
	return err
}

// joinGroups moves this process to the run's groups, which become the roots of its
// cgroup namespace.
func joinGroups(name string) (*groups, error) {
	g := &groups{name: name}
	roots, err := hierarchies()
	if err != nil {
		return nil, err
	}
	for root := range roots {
		dir := filepath.Join(root, name)
		if _, err := os.Stat(dir); err != nil {
			continue // none was made
		}
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte("0"), 0); err != nil {
			return nil, fmt.Errorf("join %s: %w", dir, err)
		}
		g.dirs = append(g.dirs, dir)
	}
	if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
		return nil, fmt.Errorf("make a cgroup namespace: %w", err)
	}
	for _, dir := range g.dirs {
		if roots[filepath.Dir(dir)] {
			if err := delegate(dir); err != nil {
				return nil, err
			}
		}
	}
	return g, nil
}

// delegate gives a group of version 2 the controllers that its parent has, and moves this
// process out of their way.
func delegate(dir string) error {
	b, err := os.ReadFile(filepath.Join(filepath.Dir(dir), "cgroup.controllers"))
	if err != nil || len(strings.Fields(string(b))) == 0 {
		return err
	}
	tests := filepath.Join(dir, leaf)
	if err := os.Mkdir(tests, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(tests, "cgroup.procs"), []byte("0"), 0); err != nil {
		return fmt.Errorf("join %s: %w", tests, err)
	}
	for c := range strings.FieldsSeq(string(b)) {
		for _, d := range []string{filepath.Dir(dir), dir} {
			// What the parent may not give, as when processes are in it, tests miss and say so.
			_ = os.WriteFile(filepath.Join(d, "cgroup.subtree_control"), []byte("+"+c), 0)
		}
	}
	return nil
}

// cover puts the groups where the hierarchies are mounted.
func (g *groups) cover() error {
	for _, dir := range g.dirs {
		root := filepath.Dir(dir)
		tree, err := unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
		if err != nil {
			return fmt.Errorf("open_tree %s: %w", dir, err)
		}
		// In a container it may be locked to what is mounted above; then it is hidden.
		_ = unix.Unmount(root, unix.MNT_DETACH)
		err = unix.MoveMount(tree, "", unix.AT_FDCWD, root, unix.MOVE_MOUNT_F_EMPTY_PATH)
		unix.Close(tree)
		if err != nil {
			return fmt.Errorf("mount %s on %s: %w", dir, root, err)
		}
	}
	return nil
}
