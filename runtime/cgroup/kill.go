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

// Pids lists the host pids of all processes, those of sub-cgroups included.
// A cgroup that's gone has none.
func (c *Cgroup) Pids() ([]int, error) {
	pids, err := pidsBelow(c.procsDir())
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	return pids, nil
}

// procsDir is the hierarchy that a container's processes are read from: v2
// holds all of them; in v1 one that's never delegated, so a flat one.
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

func pidsBelow(dir string) ([]int, error) {
	var pids []int
	err := walk(dir, func(fd int) error {
		own, err := pidsOf(fd)
		pids = append(pids, own...)
		return err
	}, func(int, string) error { return nil })
	if gone(err) {
		err = nil
	}
	return pids, err
}

// pidsOf lists the processes of one cgroup.
func pidsOf(fd int) ([]int, error) {
	s, err := readBelow(fd, "cgroup.procs")
	switch {
	case err == nil:
	case gone(err):
		return nil, nil
	case errors.Is(err, unix.EOPNOTSUPP):
		// A threaded cgroup: its processes are in the list of one above.
		return nil, nil
	default:
		return nil, err
	}
	var pids []int
	for line := range strings.SplitSeq(s, "\n") {
		if line == "" || line == "0" { // 0: in a pid namespace that isn't below ours
			continue
		}
		pid, err := strconv.Atoi(line)
		if err != nil {
			return nil, fmt.Errorf("cgroup.procs has the line %q", line)
		}
		pids = append(pids, pid)
	}
	return pids, nil
}

// SignalAll sends a signal to every process that's in the cgroup.
func (c *Cgroup) SignalAll(sig unix.Signal) error {
	pids, err := c.Pids()
	if err != nil || len(pids) == 0 {
		return err
	}
	// A pid read from the list may be another process by now. One that's
	// held by a pidfd and is still in the list is the right one.
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

// KillAll ends every process and returns when none is left, or when ctx ends.
func (c *Cgroup) KillAll(ctx context.Context) error {
	if c.layout.Unified != "" {
		// Linux 5.14: one write, atomic against forks, frozen or not.
		err := writeFile(c.layout.Unified+c.path+"/cgroup.kill", "1")
		if err == nil {
			return c.waitEmpty(ctx, nil)
		}
		if !gone(err) {
			return fmt.Errorf("kill processes: %w", err)
		}
	}
	// A frozen v1 process doesn't die before it's thawed.
	thaw := func() {
		if frozen, err := c.Frozen(); err == nil && frozen {
			_ = c.Thaw(ctx) // SIGKILL is sent again with the next round
		}
	}
	return c.waitEmpty(ctx, func() error {
		err := c.SignalAll(unix.SIGKILL)
		thaw()
		return err
	})
}

// waitEmpty calls kill, if there is one, until no process is left.
func (c *Cgroup) waitEmpty(ctx context.Context, kill func() error) error {
	for wait := 50 * time.Microsecond; ; wait = min(2*wait, 20*time.Millisecond) {
		if kill != nil {
			if err := kill(); err != nil {
				return err
			}
		}
		pids, err := c.Pids()
		if err != nil || len(pids) == 0 {
			return err
		}
		if err := pause(ctx, wait); err != nil {
			return fmt.Errorf("kill processes of %s: %d still there, the first is %d: %w", c.path, len(pids), pids[0], err)
		}
	}
}
