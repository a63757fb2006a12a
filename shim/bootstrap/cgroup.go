// SPDX-License-Identifier: Apache-2.0

package bootstrap

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"sysbox/runtime/sys"
)

// joinCgroup moves a process to the cgroup of that path in each mounted hierarchy:
// every v1 controller's, and cgroup2. The path comes from the configuration of the
// caller, so the administrator chose it; it is still kept below the roots.
func joinCgroup(path string, pid int) error {
	roots, err := cgroupRoots("/proc/self/mountinfo", sys.MountInfo.Reached)
	if err != nil {
		return err
	}
	if len(roots) == 0 {
		return fmt.Errorf("no cgroup hierarchy is mounted")
	}
	for _, root := range roots {
		dir := filepath.Join(root, filepath.Clean("/"+path))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := inheritCpuset(root, dir); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0); err != nil {
			return err
		}
	}
	return nil
}

// inheritCpuset fills the empty cpuset of a new v1 cgroup from its parent:
// a process cannot join a cgroup without cpus and mems, cpuset(7).
func inheritCpuset(root, dir string) error {
	for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
		if _, err := os.Stat(filepath.Join(root, name)); err != nil {
			return nil // not a cpuset hierarchy
		}
		at := root
		rel, _ := filepath.Rel(root, dir)
		for _, part := range strings.Split(rel, "/") {
			up, err := os.ReadFile(filepath.Join(at, name))
			if err != nil {
				return err
			}
			at = filepath.Join(at, part)
			own, err := os.ReadFile(filepath.Join(at, name))
			if err != nil {
				return err
			}
			if strings.TrimSpace(string(own)) == "" {
				if err := os.WriteFile(filepath.Join(at, name), up, 0); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// cgroupRoots lists the mount points of cgroup hierarchies, each hierarchy
// once, by mounts that are reachable. Fields as in proc_pid_mountinfo(5).
func cgroupRoots(mountinfo string, reached func(sys.MountInfo) bool) ([]string, error) {
	var roots []string
	seen := map[uint64]bool{}
	for m, err := range sys.MountsOf(mountinfo) {
		if err != nil {
			return nil, err
		}
		if strings.HasPrefix(m.Type, "cgroup") && m.Root == "/" && !seen[m.Dev] && reached(m) {
			seen[m.Dev] = true
			roots = append(roots, m.Point)
		}
	}
	return roots, nil
}
