// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Freeze stops all processes of the container and returns when they have stopped. If
// ctx ends first, it thaws them again.
func (c *Cgroup) Freeze(ctx context.Context) error {
	err := c.setFrozen(ctx, true)
	if err != nil {
		undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		return errors.Join(err, c.setFrozen(undo, false))
	}
	return nil
}

// Thaw resumes the processes.
func (c *Cgroup) Thaw(ctx context.Context) error { return c.setFrozen(ctx, false) }

// Frozen reports whether the container is frozen, or about to be.
func (c *Cgroup) Frozen() (bool, error) {
	if c.v2Freezer() {
		n, err := keyValue(c.layout.Unified+c.path+"/cgroup.events", "frozen")
		return n == 1, err
	}
	s, err := readFile(c.dir("freezer") + "/freezer.state")
	return s == "FROZEN", err
}

// v2Freezer prefers the v2 freezer (Linux 5.2), also on hybrid hosts: a process that it
// has stopped can be killed, unlike with v1.
func (c *Cgroup) v2Freezer() bool {
	return c.layout.Unified != "" && exists(c.layout.Unified+c.path+"/cgroup.freeze")
}

func (c *Cgroup) setFrozen(ctx context.Context, want bool) error {
	verb := map[bool]string{true: "freeze", false: "thaw"}[want]
	file, value := "", ""
	switch {
	case c.v2Freezer():
		file, value = c.layout.Unified+c.path+"/cgroup.freeze", map[bool]string{true: "1", false: "0"}[want]
	case c.layout.v1("freezer") != "":
		file, value = c.dir("freezer")+"/freezer.state", map[bool]string{true: "FROZEN", false: "THAWED"}[want]
	default:
		return fmt.Errorf("%s: this host has no freezer; mount the v1 controller or use cgroup v2 with Linux 5.2", verb)
	}
	for wait := 50 * time.Microsecond; ; wait = min(2*wait, 20*time.Millisecond) {
		// v1 stays FREEZING if a process forks at the wrong moment, and needs another write.
		if err := writeFile(file, value); err != nil {
			return fmt.Errorf("%s: %w", verb, err)
		}
		if is, err := c.Frozen(); err != nil || is == want {
			return err
		}
		if err := pause(ctx, wait); err != nil {
			return fmt.Errorf("%s %s: not all processes followed in time: %w", verb, c.path, err)
		}
	}
}

// pause sleeps, or returns why ctx ended.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
