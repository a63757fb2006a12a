// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"context"
	"errors"
	"fmt"
	"path"
	"time"

	"golang.org/x/sys/unix"

	"sysbox/runtime/sys"
)

// applyDevices sets the rules of a new cgroup: through the v1 controller if it is
// mounted, otherwise by a BPF program on the v2 directory (Linux 4.15).
func (c *Cgroup) applyDevices(rules []rule) error {
	if c.layout.v1("devices") == "" {
		return c.attachDevices(rules)
	}
	v, err := toV1(rules)
	if err != nil {
		return err
	}
	dir := c.dir("devices")
	fds := map[string]int{}
	defer func() {
		for _, fd := range fds {
			unix.Close(fd)
		}
	}()
	for _, w := range v.writes() {
		fd, ok := fds[w[0]]
		if !ok {
			if fd, err = openat(dir+"/"+w[0], unix.O_WRONLY); err != nil {
				return fmt.Errorf("device rules: %w", err)
			}
			fds[w[0]] = fd
		}
		if err := writeFd(fd, dir+"/"+w[0], w[1]); err != nil {
			if errors.Is(err, unix.EPERM) {
				return fmt.Errorf("device rules: the parent cgroup %s denies a device that this container is allowed: %w", path.Dir(dir), err)
			}
			return fmt.Errorf("device rules: %w", err)
		}
	}
	return nil
}

// replaceDevices changes the rules of a running container. With v1 the list is
// rewritten entry by entry, so the container is frozen meanwhile and never runs
// with half a list.
func (c *Cgroup) replaceDevices(rules []rule) (err error) {
	if c.layout.v1("devices") != "" {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		frozen, err := c.Frozen()
		if err != nil {
			return err
		}
		if !frozen {
			if err := c.Freeze(ctx); err != nil {
				return err
			}
			defer func() { err = errors.Join(err, c.Thaw(ctx)) }()
		}
		return c.applyDevices(rules)
	}
	// All programs of a directory must allow an access. Attaching the new one before
	// detaching the old ones leaves no moment without rules.
	dir, err := openDir(c.layout.Unified + c.path)
	if err != nil {
		return err
	}
	defer dir.Close()
	old, err := sys.DevicePrograms(dir)
	if err != nil {
		return fmt.Errorf("device rules: list BPF programs of %s: %w", dir.Name(), err)
	}
	if err := c.attachDevices(rules); err != nil {
		return err
	}
	for _, id := range old {
		prog, name, err := sys.OpenProgram(id)
		if err != nil {
			return fmt.Errorf("device rules: old BPF program: %w", err)
		}
		if name == programName { // programs of others, such as systemd, are theirs to remove
			err = sys.DetachDeviceProgram(dir, prog)
		}
		prog.Close()
		if err != nil {
			return fmt.Errorf("device rules: detach old BPF program: %w", err)
		}
	}
	return nil
}

// programName distinguishes our BPF programs from others; the kernel keeps 15 bytes.
const programName = "sysbox_devices"

func (c *Cgroup) attachDevices(rules []rule) error {
	if c.layout.Unified == "" {
		return errors.New("device rules: this host has neither the v1 devices controller nor cgroup2; mount one of them")
	}
	dir, err := openDir(c.layout.Unified + c.path)
	if err != nil {
		return err
	}
	defer dir.Close()
	prog, err := sys.LoadDeviceProgram(programName, deviceProgram(rules))
	if err != nil {
		return fmt.Errorf("device rules: load BPF program (needs CONFIG_CGROUP_BPF and CAP_BPF): %w", err)
	}
	defer prog.Close() // the attachment holds it
	// The systemd of the container may add programs below ours; all of them must allow an access.
	if err := sys.AttachDeviceProgram(dir, prog); err != nil {
		return fmt.Errorf("device rules: attach BPF program to %s: %w", dir.Name(), err)
	}
	return nil
}
