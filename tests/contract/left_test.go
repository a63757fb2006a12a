// SPDX-License-Identifier: Apache-2.0

package contract

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sysbox/runtime/sys"
	"sysbox/tests/leak"
	"sysbox/tests/pace"
)

// left says what there still is of a case's containers and shims, after a while in which
// what is just ending may end.
func (r *rig) left() string {
	for deadline := time.Now().Add(5 * time.Second * pace.Patience()); ; time.Sleep(50 * time.Millisecond) {
		out := slices.Concat(r.leftMounts(), r.leftProcesses(), r.leftCgroups(), r.leftSockets(), r.leftFiles())
		slices.Sort(out)
		out = slices.Compact(out)
		// A dead shim's socket is removed by nobody any more.
		if len(out) == 0 || len(out) == 1 && out[0] == "socket" && r.dead() || time.Now().After(deadline) {
			return strings.Join(out, "; ")
		}
	}
}

// dead tells whether no shim lives.
func (r *rig) dead() bool {
	return !slices.ContainsFunc(r.shims, func(s *shim) bool { return !s.gone(0) })
}

func (r *rig) leftMounts() (out []string) {
	for _, m := range mountsIn(r.dir) {
		if slices.Contains(r.mounts, m) {
			continue
		}
		rel, _ := filepath.Rel(filepath.Join(r.dir, "b"), m)
		out = append(out, "mount "+rel)
	}
	return out
}

func mountsIn(dir string) (out []string) {
	for m, err := range sys.MountsOf("/proc/self/mountinfo") {
		if err != nil {
			return append(out, err.Error())
		}
		if strings.HasPrefix(m.Point, dir+"/") {
			out = append(out, m.Point)
		}
	}
	return out
}

// processes are those of the case's containers, by their cgroup, and shims, by their
// command line.
func (r *rig) processes() map[int]string {
	out := map[int]string{}
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		dir := filepath.Join("/proc", e.Name())
		if b, _ := os.ReadFile(filepath.Join(dir, "cgroup")); strings.Contains(string(b), r.parent()+"/") {
			out[pid] = "process of a container"
			continue
		}
		b, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
		if args := strings.Split(string(b), "\x00"); slices.Contains(args, r.namespace) && strings.Contains(args[0], "containerd-shim") {
			out[pid] = "shim"
		}
	}
	return out
}

func (r *rig) leftProcesses() (out []string) {
	for _, what := range r.processes() {
		out = append(out, what)
	}
	return out
}

// cgroupDirs are the folders of a cgroup in all hierarchies.
func cgroupDirs(path string) []string {
	dirs, _ := filepath.Glob("/sys/fs/cgroup/*" + path)
	if _, err := os.Stat("/sys/fs/cgroup" + path); err == nil {
		dirs = append(dirs, "/sys/fs/cgroup"+path)
	}
	return dirs
}

func (r *rig) leftCgroups() (out []string) {
	for _, dir := range cgroupDirs(r.parent()) {
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			if e.IsDir() {
				out = append(out, "cgroup of "+e.Name())
			}
		}
	}
	return out
}

func (r *rig) leftSockets() (out []string) {
	seen := map[string]bool{}
	for _, s := range r.shims {
		path := strings.TrimPrefix(s.address, "unix://")
		if _, err := os.Stat(path); err == nil && !seen[path] {
			seen[path] = true
			out = append(out, "socket")
		}
	}
	return out
}

// leftFiles are those of state folders: runc's and ours.
func (r *rig) leftFiles() (out []string) {
	runc, _ := filepath.Glob(filepath.Join("/run/containerd/runc", r.namespace, "*"))
	for _, p := range runc {
		out = append(out, "runc's state of "+filepath.Base(p))
	}
	for _, dir := range []string{"run", "lib"} {
		_ = filepath.WalkDir(filepath.Join(r.dir, dir), func(p string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() && !slices.Contains(leak.Standing, d.Name()) {
				rel, _ := filepath.Rel(r.dir, p)
				out = append(out, "file "+rel)
			}
			return nil
		})
		storage, _ := filepath.Glob(filepath.Join(r.dir, dir, "storage/*/*"))
		for range storage {
			out = append(out, "storage")
		}
	}
	return out
}

// clear removes all there is of the case, whatever it is.
func (r *rig) clear() {
	r.events.leave()
	for _, s := range r.shims {
		s.client.Close()
		_ = unix.PidfdSendSignal(s.pidfd, unix.SIGKILL, nil, 0)
		s.gone(patience)
		unix.Close(s.pidfd)
		os.Remove(strings.TrimPrefix(s.address, "unix://"))
	}
	eventually(func() bool {
		left := r.processes()
		for pid := range left {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		return len(left) == 0
	})
	r.unmount()
	list := mountsIn(r.dir)
	for _, m := range slices.Backward(list) {
		_ = unix.Unmount(m, unix.MNT_DETACH)
	}
	for _, dir := range cgroupDirs(r.parent()) {
		removeCgroups(dir)
	}
	os.RemoveAll(filepath.Join("/run/containerd/runc", r.namespace))
	if err := os.RemoveAll(r.dir); err != nil {
		r.t.Error(err)
	}
}

func removeCgroups(dir string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if e.IsDir() {
			removeCgroups(filepath.Join(dir, e.Name()))
		}
	}
	os.Remove(dir)
}

// removeParents removes the cgroup of the whole run.
func removeParents(t *testing.T) {
	t.Helper()
	for _, dir := range cgroupDirs("/" + session) {
		if err := os.Remove(dir); err != nil {
			t.Error(fmt.Errorf("remove the run's cgroup: %w", err))
		}
	}
}
