// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"context"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"sysbox/runtime/plan"
)

// Pause freezes all processes.
func (c *Container) Pause(ctx context.Context) error {
	if c.traps == nil {
		return c.cgroup.Freeze(ctx)
	}
	err := c.traps.LockForFreeze(ctx)
	if err != nil {
		return err
	}
	if err = c.cgroup.Freeze(ctx); err != nil {
		c.traps.UnlockAfterFreeze()
	}
	return err
}

// Resume thaws them.
func (c *Container) Resume(ctx context.Context) error {
	err := c.cgroup.Thaw(ctx)
	if err == nil && c.traps != nil {
		c.traps.UnlockAfterFreeze()
	}
	return err
}

// Update applies new limits.
func (c *Container) Update(_ context.Context, r *specs.LinuxResources) error {
	if err := plan.CheckDeviceRules(r.Devices, c.cfg.BlockDeviceNumbers()); err != nil {
		return err
	}
	warnings, err := c.cgroup.Update(r)
	c.warn(warnings...)
	return err
}

// OOMKills is how many processes of the container the kernel has killed for
// want of memory.
func (c *Container) OOMKills() uint64 { return c.cgroup.OOMKills() }

// Pids lists the host pids of all processes in the container's cgroup.
func (c *Container) Pids(context.Context) ([]int, error) { return c.cgroup.Pids() }

// SignalAll sends a signal to every process of the container.
func (c *Container) SignalAll(_ context.Context, sig int) error {
	err := c.cgroup.SignalAll(unix.Signal(sig))
	if err == nil && unix.Signal(sig) == unix.SIGKILL {
		c.watch.Killed()
	}
	return err
}

// WatchOOM calls f, from a goroutine of its own, for each OOM kill until the
// container is deleted.
func (c *Container) WatchOOM(f func()) error {
	stop, err := c.cgroup.WatchOOM(func(uint64) { f() })
	if err != nil {
		return err
	}
	c.stopOOM = stop
	return nil
}
