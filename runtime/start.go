// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"sysbox/runtime/hooks"
	"sysbox/runtime/process"
	"sysbox/runtime/program"
	"sysbox/runtime/seccomp"
)

// Start lets init go on to its execve. After an error init never ran.
func (c *Container) Start(ctx context.Context) error {
	p := c.pending
	if p == nil {
		return errors.New("cannot start a container twice")
	}
	if err := c.runHooks(ctx, hooks.StartContainer); err != nil {
		c.init.Signal(int(unix.SIGKILL)) // runtime-spec, lifecycle: the container is stopped
		return err
	}
	c.pending = nil
	err := c.release(p)
	p.close()
	if err != nil {
		c.init.Signal(int(unix.SIGKILL))
		return err
	}
	// A failed poststart hook is a warning (runtime-spec, lifecycle).
	if err := c.runHooks(ctx, hooks.Poststart); err != nil {
		c.warn(err.Error())
	}
	return nil
}

// release lets init go on, and returns when it has executed its own file.
func (c *Container) release(p *pending) error {
	handed := c.forwardListener(c.filter, p.socket, c.init, specs.StateCreated)
	_, err := p.sync.Write([]byte{1})
	p.sync.Close()
	if err == nil {
		err = p.setup.Executed(c.plan.Process.Args[0])
	}
	if e := handed(); e != nil {
		err = e
	}
	if err == nil && c.trap != nil {
		err = c.serveTraps(p.socket)
	}
	return err
}

// forwardListener gives the listener of a process's filter to the agent at
// linux.seccomp.listenerPath of the spec, while the process continues to its execve, which may be
// the first call that waits for the agent. The returned function waits for the delivery. After an
// error of the delivery the process is killed.
func (c *Container) forwardListener(f *seccomp.Filter, socket *os.File, p *Process, status specs.ContainerState) (wait func() error) {
	if !process.HasListener(f) || socket == nil {
		return func() error { return nil }
	}
	done := make(chan error, 1)
	go func() {
		err := c.deliver(socket, p, status)
		if err != nil {
			p.Signal(int(unix.SIGKILL))
		}
		done <- err
	}()
	return func() error { return <-done }
}

func (c *Container) deliver(socket *os.File, p *Process, status specs.ContainerState) error {
	listener, err := process.AwaitListener(socket, p, c.stepDeadline())
	if listener == nil || err != nil {
		return err
	}
	defer listener.Close()
	s := c.plan.Seccomp
	state := specs.ContainerProcessState{
		Version: specs.Version, Fds: []string{specs.SeccompFdName}, Pid: p.Pid(), Metadata: s.ListenerMetadata, State: *c.rec.State(status),
	}
	if err := seccomp.SendToAgent(s.ListenerPath, state, listener); err != nil {
		return fmt.Errorf("linux.seccomp.listenerPath: hand the listener to the agent: %w; start the agent first", err)
	}
	return nil
}

// serveTraps takes the listener of a process that is executing its own file, and so
// has sent it, and answers its calls.
func (c *Container) serveTraps(socket *os.File) error {
	if socket == nil || c.traps == nil {
		return nil
	}
	fd, err := program.ReceiveFile(socket)
	if err != nil {
		return fmt.Errorf("take the seccomp listener: %w", err)
	}
	if fd < 0 {
		return nil // a filter of an outer container's is in force
	}
	return c.traps.Serve(os.NewFile(uintptr(fd), "seccomp listener"))
}
