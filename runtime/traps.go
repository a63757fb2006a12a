package runtime

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"golang.org/x/sys/unix"

	"sysbox/runtime/process"
	"sysbox/runtime/program"
	"sysbox/runtime/sys"
	"sysbox/runtime/trap"
)

// trapFilter is the notification filter of the container's processes, nil for an
// ordinary container, in which nothing is answered.
func (c *Container) trapFilter() (*process.Filter, error) {
	if !c.plan.System {
		return nil, nil
	}
	f, err := trap.Filter()
	if err != nil {
		return nil, fmt.Errorf("make the notification filter: %w", err)
	}
	return f, nil
}

// makeTraps makes the server of the container's trapped calls. It runs on the
// thread that has built the mount tree, while that is still the host's.
func (c *Container) makeTraps(userns, proc *os.File) error {
	if c.trap == nil {
		return nil
	}
	tree, err := sys.Openat2(proc, "thread-self/ns/mnt", unix.OpenHow{Flags: unix.O_RDONLY})
	if err != nil {
		return err
	}
	fuse, err := c.fuseServers(proc)
	if err != nil {
		return err
	}
	c.traps, err = trap.New(trap.Config{
		UserNS: userns, UID: c.plan.IDs.UID, GID: c.plan.IDs.GID, Proc: proc, Tree: tree, Guarded: c.guarded,
		Devices: c.plan.Devices, Modules: c.cfg.Modules, FUSE: fuse,
		Memory: c.cgroup.Memory, Processes: c.cgroup.Tasks, Join: c.joinFiles, Log: func(s string) { c.warn(s) },
		Received: trapReceived,
	})
	if err != nil {
		tree.Close()
		if fuse != nil {
			fuse.Init.Close()
		}
	}
	return err
}

// joinFiles opens what a process joins the cgroups with that init is in.
func (c *Container) joinFiles() (tasks []*os.File, unified *os.File, err error) {
	if tasks, err = c.cgroup.JoinFiles(); err != nil {
		return nil, nil, err
	}
	if unified, err = c.cgroup.ExecFD(c.init.Pid()); err != nil {
		closeAll(tasks)
		return nil, nil, err
	}
	return tasks, unified, nil
}

// warn logs what was done otherwise than asked, or happens in a running container.
func (c *Container) warn(texts ...string) {
	for _, t := range texts {
		slog.Warn(t, "container", c.rec.ID)
	}
}

// listenerSocket passes a program the socket over which it sends the listener of one
// of its filters, and returns the other end; nil if none has one.
func (s *spawn) listenerSocket(filter, trap *process.Filter) (*os.File, error) {
	if trap == nil && !listens(filter) {
		return nil, nil
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make the socket for a seccomp listener: %w", err)
	}
	s.own(os.NewFile(uintptr(pair[1]), "listener's socket"), process.FDTrap)
	return os.NewFile(uintptr(pair[0]), "listener's socket"), nil
}

// serveTraps takes the listener of a process that is executing its own file, and so
// has sent it, and answers its calls.
func (c *Container) serveTraps(socket *os.File) error {
	if socket == nil || c.traps == nil {
		return nil
	}
	defer socket.Close()
	fd, err := program.ReceiveFile(socket)
	if err != nil {
		return fmt.Errorf("take the seccomp listener: %w", err)
	}
	if fd < 0 {
		return nil // a filter of an outer container's is in force
	}
	return c.traps.Serve(os.NewFile(uintptr(fd), "seccomp listener"))
}

// closeTraps waits until no thread answers calls any more. One can wait for a file system
// that a process of another container serves, and the callers have ended.
func (c *Container) closeTraps(ctx context.Context) error {
	if c.trapsOver == nil {
		over := make(chan struct{})
		c.trapsOver = over
		go func() {
			defer close(over)
			c.traps.Close()
		}()
	}
	err := c.grip().wait(ctx, c.trapsOver)
	if err != nil {
		return fmt.Errorf("delete container %s: a thread that answered a system call has not ended: %w; if it is a FUSE file system of another pod that it waits for, end that one", c.rec.ID, err)
	}
	return nil
}

// trapReceived is called for each trapped call, in tests.
var trapReceived func(tid int)
