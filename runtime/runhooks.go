// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"context"
	"fmt"
	"io"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"sysbox/runtime/hooks"
	"sysbox/runtime/host"
	"sysbox/runtime/plan"
)

// runHooks runs the hooks of one kind where the spec wants them run. It may
// be called on a thread with namespaces of its own: another thread runs the
// hooks of the host.
func (c *Container) runHooks(ctx context.Context, kind hooks.Kind) error {
	list := hooks.Of(c.plan.Hooks, kind)
	if len(list) == 0 {
		return nil
	}
	state := c.rec.State(stateAt[kind])
	switch kind {
	case hooks.CreateContainer:
		// Its path is the host's, so it stays in this thread's mount
		// namespace, where the container's root is attached, and in the
		// host's user namespace, which owns that.
		all := uint64(1)<<(host.Facts().CapLast+1) - 1
		return c.enterHooks(ctx, kind, list, state, helper{
			process: hookProcess(all), namespaces: c.namespaces &^ (unix.CLONE_NEWNS | unix.CLONE_NEWUSER | unix.CLONE_NEWIPC | unix.CLONE_NEWCGROUP | unix.CLONE_NEWTIME),
		})
	case hooks.StartContainer:
		// Its path is the container's: what is there may be anything, and is confined as
		// what the container was made for.
		init := c.plan.Process
		p := hookProcess(init.Caps.Bounding)
		p.NoNewPrivs, p.AppArmorProfile, p.SELinuxLabel = init.NoNewPrivs, init.AppArmorProfile, init.SELinuxLabel
		return c.enterHooks(ctx, kind, list, state, helper{process: p, namespaces: c.namespaces, filter: c.filter})
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
func (c *Container) enterHooks(ctx context.Context, kind hooks.Kind, list []specs.Hook, state *specs.State, h helper) error {
	var err error
	if h.input, err = hooks.Encode(state); err != nil {
		return err
	}
	h.keep = func(r io.Reader) string { return hooks.Tail(r) }
	for i, hook := range list {
		if err := c.enterHook(ctx, hook, h); err != nil {
			return hooks.Name(kind, i, hook, err)
		}
	}
	return nil
}

func (c *Container) enterHook(ctx context.Context, hook specs.Hook, h helper) error {
	ctx, cancel := hooks.Limit(ctx, hook)
	defer cancel()
	h.process.Program, h.process.Args, h.process.Env = hook.Path, hooks.Argv(hook), hooks.Env(hook)
	said, exit, err := h.run(ctx, c)
	if err != nil || exit.Status == 0 {
		return err
	}
	err = fmt.Errorf("exit status %d", exit.Status)
	if said != "" {
		err = fmt.Errorf("%w: %s", err, said)
	}
	return err
}
