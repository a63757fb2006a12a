// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"sysbox/runtime/plan"
	"sysbox/runtime/seccomp"
	"sysbox/runtime/sys"
	"sysbox/runtime/trap"
)

// compileFilters compiles the profile's filter, and takes the notification filter for a system
// container: in an ordinary one nothing is answered.
func (c *Container) compileFilters() (err error) {
	if c.plan.System {
		if c.trap, err = trap.Filter(); err != nil {
			return fmt.Errorf("make the notification filter: %w", err)
		}
	}
	if c.plan.Seccomp == nil {
		return nil
	}
	if c.filter, err = seccomp.Compile(c.plan.Seccomp); err != nil {
		return fmt.Errorf("linux.seccomp: %w", err)
	}
	if c.filter.Listener {
		c.filter.Flags |= unix.SECCOMP_FILTER_FLAG_NEW_LISTENER
	}
	return nil
}

// makeTraps makes the server of the container's trapped calls. It runs on the thread that has
// built the mount tree, while that is still the host's. guarded are the mounts with masks, see
// mount.Tree.
func (c *Container) makeTraps(userns, proc *os.File, guarded map[uint64]bool) error {
	if c.trap == nil {
		return nil
	}
	tree, err := sys.Openat2(proc, "thread-self/ns/mnt", unix.OpenHow{Flags: unix.O_RDONLY})
	if err != nil {
		return err
	}
	fuse, err := c.fuseServers(proc)
	if err != nil {
		tree.Close()
		return err
	}
	c.traps, err = trap.New(trap.Config{
		UserNS: userns, UID: c.plan.IDs.UID, GID: c.plan.IDs.GID, Proc: proc, Tree: tree, Masked: guarded,
		Devices: c.plan.Devices, Modules: c.cfg.Modules, FUSE: fuse,
		Memory: c.cgroup.Memory, Processes: c.cgroup.Tasks, Join: c.joinFiles, Log: c.log,
		Received: c.cfg.Testing.Received,
	})
	if err != nil {
		tree.Close()
		if fuse != nil {
			fuse.Init.Close()
		}
		return err
	}
	c.undo.add(c.closeTraps)
	return nil
}

// closeTraps waits until no thread answers calls any more. One can wait for a file system
// that a process of another container serves, and the callers have ended.
func (c *Container) closeTraps(ctx context.Context) error {
	if c.traps == nil {
		return nil
	}
	if c.trapsOver == nil {
		over := make(chan struct{})
		c.trapsOver = over
		go func() {
			defer close(over)
			c.traps.Close()
		}()
	}
	if err := c.target().Wait(ctx, c.trapsOver); err != nil {
		return fmt.Errorf("delete container %s: a thread that answered a system call has not ended: %w; if it is a FUSE file system of another pod that it waits for, end that one", c.rec.ID, err)
	}
	return nil
}

// fuseServers are the configuration's servers of block file systems; nil for none. It is
// called before init executes the container's own.
func (c *Container) fuseServers(proc *os.File) (*trap.FUSE, error) {
	if len(c.cfg.FUSEMounts) == 0 {
		return nil, nil
	}
	f := &trap.FUSE{Servers: map[string][]string{}, Filters: 1, NoNewPrivs: c.plan.Process.NoNewPrivs, Run: c.runServer}
	if c.filter != nil {
		f.Filters++
	}
	for typ, command := range c.cfg.FUSEMounts {
		f.Servers[typ] = strings.Fields(command)
	}
	var err error
	f.Init, err = sys.Openat2(proc, strconv.Itoa(c.init.Pid()), unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY})
	return f, err
}

const (
	// serverDeadline bounds a server's set-up: it may have a journal to play back.
	serverDeadline = time.Minute
	// serverOutput bounds what is kept of a server's words, in bytes.
	serverOutput = 400
)

// runServer runs a server of FUSE in the container as [Container.Exec] runs a process,
// until it has gone to the background. What it leaves there is the container's, as any
// daemon is. After a minute the error is os.ErrDeadlineExceeded.
func (c *Container) runServer(ctx context.Context, p plan.Process) (output string, status int, err error) {
	init := c.plan.Process
	p.AppArmorProfile, p.SELinuxLabel, p.OOMScoreAdj = init.AppArmorProfile, init.SELinuxLabel, init.OOMScoreAdj
	p.Personality, p.MemoryPolicy, p.CPUs = init.Personality, init.MemoryPolicy, c.plan.ExecCPUs
	ctx, cancel := context.WithTimeoutCause(ctx, cmp.Or(c.cfg.Testing.ServerDeadline, serverDeadline), os.ErrDeadlineExceeded)
	defer cancel()
	h := helper{process: p, namespaces: c.namespaces, filter: c.filter, stdout: true, keep: firstWords}
	said, exit, err := h.run(ctx, c)
	if err != nil && ctx.Err() != nil {
		err = os.ErrDeadlineExceeded // of the caller's context, too
	}
	return said, exit.Status, err
}

// firstWords keeps the beginning of what a server says.
func firstWords(r io.Reader) string {
	kept, _ := io.ReadAll(io.LimitReader(r, serverOutput))
	_, _ = io.Copy(io.Discard, r)
	return string(kept)
}
