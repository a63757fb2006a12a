package runtime

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"sysbox/runtime/hooks"
	"sysbox/runtime/plan"
	"sysbox/runtime/process"
)

// runHooks runs the hooks of one kind where the spec wants them run. It may
// be called on a thread with namespaces of its own: hooks of the host's are
// run by another.
func (c *Container) runHooks(ctx context.Context, kind hooks.Kind) error {
	list := hooks.Of(c.plan.Hooks, kind)
	if len(list) == 0 {
		return nil
	}
	state := c.rec.state(stateAt[kind])
	switch kind {
	case hooks.CreateContainer:
		// Its path is the host's, so it stays in this thread's mount
		// namespace, where the container's root is attached, and in the
		// host's user namespace, which owns that.
		all := uint64(1)<<(hostFacts().CapLast+1) - 1
		return c.enterHooks(ctx, kind, list, state, c.namespaces&^(unix.CLONE_NEWNS|unix.CLONE_NEWUSER|unix.CLONE_NEWIPC|unix.CLONE_NEWCGROUP|unix.CLONE_NEWTIME), hookProcess(all), nil)
	case hooks.StartContainer:
		// Its path is the container's: what is there may be anything, and is confined as
		// what the container was made for.
		init := c.plan.Process
		p := hookProcess(init.Caps.Bounding)
		p.NoNewPrivs, p.AppArmorProfile, p.SELinuxLabel = init.NoNewPrivs, init.AppArmorProfile, init.SELinuxLabel
		return c.enterHooks(ctx, kind, list, state, c.namespaces, p, c.filter)
	}
	done := make(chan error, 1)
	go func() { done <- hooks.RunAll(ctx, kind, list, state, c.rec.Bundle) }()
	return <-done
}

var stateAt = map[hooks.Kind]specs.ContainerState{
	hooks.Prestart:        specs.StateCreating,
	hooks.CreateRuntime:   specs.StateCreating,
	hooks.CreateContainer: specs.StateCreating,
	hooks.StartContainer:  specs.StateCreated,
	hooks.Poststart:       specs.StateRunning,
	hooks.Poststop:        specs.StateStopped,
}

// hookProcess is a hook's process with these capabilities.
func hookProcess(caps uint64) plan.Process {
	return plan.Process{Cwd: "/", Caps: plan.Capabilities{Bounding: caps, Effective: caps, Permitted: caps}}
}

// enterHooks runs hooks as processes in the container's namespaces.
func (c *Container) enterHooks(ctx context.Context, kind hooks.Kind, list []specs.Hook, state *specs.State, namespaces uint64, p plan.Process, filter *process.Filter) error {
	input, err := hooks.Encode(state)
	if err != nil {
		return err
	}
	for i, h := range list {
		if err := c.enterHook(ctx, h, input, namespaces, p, filter); err != nil {
			return hooks.Name(kind, i, h, err)
		}
	}
	return nil
}

func (c *Container) enterHook(ctx context.Context, h specs.Hook, input []byte, namespaces uint64, p plan.Process, filter *process.Filter) error {
	ctx, cancel := hooks.Limit(ctx, h)
	defer cancel()
	stdin, feed, err := os.Pipe()
	if err != nil {
		return err
	}
	defer feed.Close()
	said, stderr, err := os.Pipe()
	if err != nil {
		stdin.Close()
		return err
	}
	defer said.Close()
	p.Program, p.Args, p.Env = h.Path, hooks.Argv(h), hooks.Env(h)
	proc, err := c.enter(p, Stdio{Stdin: stdin, Stderr: stderr}, namespaces, filter, nil)
	stdin.Close()
	stderr.Close()
	if err != nil {
		return err
	}
	defer proc.close()
	go func() {
		_, _ = feed.Write(input) // a hook need not read it
		feed.Close()
	}()
	text := make(chan string, 1)
	go func() { text <- hooks.Tail(said) }()
	exit, err := proc.Wait(ctx)
	if err != nil {
		proc.Signal(int(unix.SIGKILL))
		<-proc.done
		return context.Cause(ctx)
	}
	said.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if exit.Status == 0 {
		return nil
	}
	err = fmt.Errorf("exit status %d", exit.Status)
	if said := <-text; said != "" {
		err = fmt.Errorf("%w: %s", err, said)
	}
	return err
}
