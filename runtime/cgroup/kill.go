// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Pids lists the host pids of all processes, including those in sub-cgroups. A cgroup
// that is gone has none.
func (c *Cgroup) Pids() ([]int, error) {
	pids, err := pidsBelow(c.procsDir())
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	return pids, nil
}

// procsDir is the hierarchy that lists the processes of a container: v2 has all of them;
// of v1 a hierarchy that is never delegated, and so has no sub-cgroups.
func (c *Cgroup) procsDir() string {
	if c.layout.Unified == "" {
		for _, ctrl := range []string{"pids", "freezer", "memory", "devices"} {
			if m := c.layout.v1(ctrl); m != "" {
				return m + c.path
			}
		}
		return c.layout.V1[0].Mount + c.path
	}
	return c.layout.Unified + c.path
}

func pidsBelow(dir string) ([]int, error) { return idsBelow(dir, "cgroup.procs") }

// idsBelow collects the ids in all files of this name in a cgroup and below.
func idsBelow(dir, file string) ([]int, error) {
	var ids []int
	err := walk(dir, func(fd int) error {
		own, err := idsOf(fd, file)
		ids = append(ids, own...)
		return err
	}, func(int, string) error { return nil })
	if gone(err) {
		err = nil
	}
	return ids, err
}

// idsOf lists the processes or threads of one cgroup.
func idsOf(fd int, file string) ([]int, error) {
	s, err := readBelow(fd, file)
	switch {
	case err == nil:
	case gone(err):
		return nil, nil
	case errors.Is(err, unix.EOPNOTSUPP):
		// A threaded cgroup: a cgroup above lists its processes.
		return nil, nil
	default:
		return nil, err
	}
	var ids []int
	for line := range strings.SplitSeq(s, "\n") {
		if line == "" || line == "0" { // 0: in a pid namespace that isn't below ours
			continue
		}
		id, err := strconv.Atoi(line)
		if err != nil {
			return nil, fmt.Errorf("%s has the line %q", file, line)
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// Threads lists the host ids of all threads, including those in sub-cgroups. If a process
// whose leading thread has exited waits in the kernel while it exits, its threads are here,
// but no process list of version 2 has the process.
func (c *Cgroup) Threads() ([]int, error) {
	file := "cgroup.threads"
	if c.layout.Unified == "" {
		file = "tasks"
	}
	ids, err := idsBelow(c.procsDir(), file)
	if err != nil {
		return nil, fmt.Errorf("list threads: %w", err)
	}
	return ids, nil
}

// Populated reports whether any task of the container has not exited. It uses the count of the
// kernel, which includes what the process lists lack; see [Cgroup.Threads].
func (c *Cgroup) Populated() (bool, error) {
	if c.layout.Unified == "" {
		// Version 1 has no such count. These lists have every task that prevents the removal.
		ids, err := c.Threads()
		return len(ids) > 0, err
	}
	n, err := keyValue(c.layout.Unified+c.path+"/cgroup.events", "populated")
	if gone(err) {
		return false, nil
	}
	return n > 0, err
}

// SignalAll sends a signal to every process in the cgroup.
func (c *Cgroup) SignalAll(sig unix.Signal) error {
	pids, err := c.Pids()
	if err != nil || len(pids) == 0 {
		return err
	}
	// A pid from the list may belong to another process by now. A pidfd holds the process:
	// if its pid is still in the list, it is the right one.
	fds := make(map[int]int, len(pids))
	defer func() {
		for _, fd := range fds {
			unix.Close(fd)
		}
	}()
	for _, pid := range pids {
		fd, err := unix.PidfdOpen(pid, 0)
		if errors.Is(err, unix.ESRCH) {
			continue
		}
		if err != nil {
			return fmt.Errorf("signal process %d: pidfd_open: %w", pid, err)
		}
		fds[pid] = fd
	}
	still, err := c.Pids()
	if err != nil {
		return err
	}
	var errs []error
	for _, pid := range still {
		fd, ok := fds[pid]
		if !ok {
			continue
		}
		if err := unix.PidfdSendSignal(fd, sig, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
			errs = append(errs, fmt.Errorf("signal process %d: %w", pid, err))
		}
	}
	return errors.Join(errs...)
}

// Kill sends SIGKILL to every process, and thaws those of version 1, which do not die while frozen.
func (c *Cgroup) Kill() error {
	if c.layout.Unified != "" {
		// Linux 5.14: one write, atomic against forks, whether frozen or not.
		err := writeFile(c.layout.Unified+c.path+"/cgroup.kill", "1")
		if err == nil || !gone(err) {
			return err
		}
	}
	err := c.SignalAll(unix.SIGKILL)
	if freezer := c.layout.v1("freezer"); freezer != "" {
		_ = writeFile(c.dir("freezer")+"/freezer.state", "THAWED") // the next Kill sends the signal again
	}
	return err
}

// killInterval is how often new processes are killed.
const killInterval = time.Second

// KillAll kills every process and returns when none is left, or when ctx ends.
func (c *Cgroup) KillAll(ctx context.Context) error {
	atomic := c.layout.Unified != "" && exists(c.layout.Unified+c.path+"/cgroup.kill")
	var killed time.Time
	for wait := 50 * time.Microsecond; ; wait = min(2*wait, 20*time.Millisecond) {
		if !atomic || time.Since(killed) > killInterval {
			if err := c.Kill(); err != nil {
				return fmt.Errorf("kill processes: %w", err)
			}
			killed = time.Now()
		}
		if left, err := c.Populated(); err != nil || !left {
			return err
		}
		if err := pause(ctx, wait); err != nil {
			return fmt.Errorf("%s: %w", c.survivors(), err)
		}
	}
}

// survivors describes what was killed but has not exited.
func (c *Cgroup) survivors() string {
	tids, err := c.Threads()
	if err != nil || len(tids) == 0 {
		return fmt.Sprintf("processes of cgroup %s were killed but have not exited", c.path)
	}
	at, _ := readFile(fmt.Sprintf("/proc/%d/wchan", tids[0]))
	return fmt.Sprintf("processes of cgroup %s were killed but have not exited: %d threads remain, and the first, %d, waits in the kernel (%s)", c.path, len(tids), tids[0], at)
}
