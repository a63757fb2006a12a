// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// JoinFiles opens the v1 "tasks" files for writing, one per hierarchy; none on
// a v2 host. A process with a single thread joins by writing "0" to each: a thread that
// moves itself takes no write lock on cgroup_threadgroup_rwsem. Any other way takes it
// and waits for an RCU grace period: on Linux 6.18, 30 ms after the last such move,
// "0" to tasks takes 50 µs; a pid to tasks, and either to cgroup.procs, takes 5.9 ms
// (BenchmarkMove). The kernel checks the permissions of the process that opened the
// file, so the writer needs none. The caller closes the files.
//
// A joined process counts for pids.limit: if a process joins only to clone init of the
// container, a limit of 1 is too low for the clone (EAGAIN). Then init itself has to
// join the file whose name is in the pids hierarchy.
func (c *Cgroup) JoinFiles() ([]*os.File, error) {
	files := make([]*os.File, 0, len(c.layout.V1))
	for _, h := range c.layout.V1 {
		name := h.Mount + c.path + "/tasks"
		fd, err := openat(name, unix.O_WRONLY)
		if err != nil {
			for _, f := range files {
				f.Close()
			}
			return nil, fmt.Errorf("join cgroup: %w", err)
		}
		files = append(files, os.NewFile(uintptr(fd), name))
	}
	return files, nil
}

// UnifiedFD opens the v2 directory for CLONE_INTO_CGROUP (Linux 5.7); nil on a host
// without cgroup2. The caller closes it.
func (c *Cgroup) UnifiedFD() (*os.File, error) {
	if c.layout.Unified == "" {
		return nil, nil
	}
	return openDir(c.layout.Unified + c.path)
}

// ExecFD is UnifiedFD for a further process of a running container. If the container
// has enabled controllers for its sub-cgroups, its root cgroup can no longer hold
// processes (EBUSY), so the new process goes to the cgroup of init.
func (c *Cgroup) ExecFD(initPid int) (*os.File, error) {
	if c.layout.Unified == "" {
		return nil, nil
	}
	root := c.layout.Unified + c.path
	s, err := readFile(root + "/cgroup.subtree_control")
	if err != nil {
		return nil, err
	}
	if s == "" {
		return openDir(root)
	}
	at, err := readFile("/proc/" + strconv.Itoa(initPid) + "/cgroup")
	if err != nil {
		return nil, err
	}
	for line := range strings.SplitSeq(at, "\n") {
		// The path is relative to the root of our own cgroup namespace; it ends in the path
		// of the container and what the container has added.
		p, ok := strings.CutPrefix(line, "0::")
		if !ok {
			continue
		}
		if i := strings.Index(p+"/", c.path+"/"); i >= 0 {
			return openDir(path.Clean(c.layout.Unified + p[i:]))
		}
	}
	return nil, fmt.Errorf("process %d is not in cgroup %s, where the runtime has put init", initPid, c.path)
}

func openDir(dir string) (*os.File, error) {
	fd, err := openat(dir, unix.O_DIRECTORY|unix.O_RDONLY|unix.O_NOFOLLOW)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), dir), nil
}

// Add moves a process with all its threads into the cgroup from outside. It is slow
// (see JoinFiles): for tests and for callers that cannot spawn inside.
func (c *Cgroup) Add(pid int) error {
	for _, m := range c.layout.mounts() {
		name := m + c.path + "/cgroup.procs"
		err := writeFile(name, strconv.Itoa(pid))
		if err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("move process %d: %w", pid, err)
		}
		if err != nil {
			return fmt.Errorf("move process %d: %w", pid, os.ErrProcessDone)
		}
	}
	return nil
}
