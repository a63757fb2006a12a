// SPDX-License-Identifier: Apache-2.0

package task

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/containerd/containerd/api/events"
	api "github.com/containerd/containerd/api/runtime/task/v2"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/protobuf/types/known/emptypb"

	"sysbox/runtime"
	"sysbox/shim/stdio"
)

// Start resumes init, which then calls execve, or starts an exec.
func (s *Service) Start(ctx context.Context, r *api.StartRequest) (*api.StartResponse, error) {
	c, p, err := s.findProcess(r.GetID(), r.GetExecID())
	if err != nil {
		return nil, toGRPC(err)
	}
	p.lifecycle.Lock()
	defer p.lifecycle.Unlock()
	if p.execID == "" {
		err = c.startInit(ctx, p)
	} else {
		err = c.startExec(ctx, p)
	}
	if err != nil {
		return nil, toGRPC(err)
	}
	return &api.StartResponse{Pid: uint32(p.pid)}, nil
}

func (c *container) startInit(ctx context.Context, p *process) error {
	c.mu.Lock()
	err := p.state.checkTransition("start")
	c.mu.Unlock()
	if err != nil {
		return err
	}
	if err := p.io.OpenStdin(); err != nil {
		return err
	}
	if err := c.rt.Start(ctx); err != nil {
		return err // if init has exited, watchInit publishes it
	}
	c.mu.Lock()
	p.state = running
	c.mu.Unlock()
	c.s.events.Publish(&events.TaskStart{ContainerID: c.id, Pid: uint32(p.pid)})
	return nil
}

func (c *container) startExec(ctx context.Context, p *process) error {
	if err := c.admitExec(p); err != nil {
		return err
	}
	rt, err := c.runExec(ctx, p)
	c.mu.Lock()
	defer c.mu.Unlock()
	close(p.starting)
	if err != nil {
		c.execExited()
		p.stop(runtime.Exit{Status: statusNotStarted, At: time.Now()})
		return err
	}
	p.rt, p.pid, p.state = rt, rt.Pid(), running
	c.s.events.Publish(&events.TaskExecStarted{ContainerID: c.id, ExecID: p.execID, Pid: uint32(p.pid)})
	go c.watchExec(p)
	return nil
}

// mayStartExec counts the exec as live if it may start.
func (c *container) admitExec(p *process) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := p.state.checkTransition("start"); err != nil {
		return err
	}
	if c.initExited {
		return stopped.checkTransition("exec in")
	}
	if c.paused || c.pausing {
		return fmt.Errorf("cannot exec in a paused container: resume it first: %w", errdefs.ErrFailedPrecondition)
	}
	c.liveExecs++
	p.starting = make(chan struct{})
	return nil
}

func (c *container) runExec(ctx context.Context, p *process) (Process, error) {
	if err := p.io.Open(ctx); err != nil {
		return nil, err
	}
	rt, err := c.rt.Exec(ctx, runtime.ExecRequest{ID: p.execID, Process: p.spec, Terminal: p.terminal, Stdio: p.io.Child()})
	if err != nil {
		p.io.Close()
		return nil, err
	}
	if err := p.io.Started(rt.Console()); err != nil {
		// The process runs without its terminal, but it can be killed.
		c.s.log.Error("take over the terminal", "id", c.id, "exec", p.execID, "err", err)
	}
	return rt, nil
}

// Exec registers a process, which Start starts later.
func (s *Service) Exec(_ context.Context, r *api.ExecProcessRequest) (*emptypb.Empty, error) {
	return s.with(r.GetID(), func(c *container) error { return c.addExec(r) })
}

// processURL is the type under which callers send an exec's process.
const processURL = "opencontainers/runtime-spec/1/Process"

func (c *container) addExec(r *api.ExecProcessRequest) error {
	if r.GetExecID() == "" || r.GetExecID() == c.id {
		return fmt.Errorf("exec_id is %q; it must not be empty or equal the container's id: %w", r.GetExecID(), errdefs.ErrInvalidArgument)
	}
	if u := r.GetSpec().GetTypeUrl(); u != "" && !strings.HasSuffix(u, processURL) {
		return fmt.Errorf("spec has type %q; use %s: %w", u, processURL, errdefs.ErrInvalidArgument)
	}
	var spec specs.Process
	if err := json.Unmarshal(r.GetSpec().GetValue(), &spec); err != nil {
		return fmt.Errorf("spec of exec %s: %w: %w", r.GetExecID(), err, errdefs.ErrInvalidArgument)
	}
	spec.Terminal = r.GetTerminal()
	p := newProcess(c, r.GetExecID(), stdio.Config{
		ID: c.id, Namespace: c.s.namespace,
		Stdin: r.GetStdin(), Stdout: r.GetStdout(), Stderr: r.GetStderr(), Terminal: r.GetTerminal(),
		UID: c.init.streams.UID, GID: c.init.streams.GID,
	})
	p.spec = &spec
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.initExited {
		return stopped.checkTransition("exec in")
	}
	if c.execs[p.execID] != nil {
		return fmt.Errorf("exec %s of container %s: %w", p.execID, c.id, errdefs.ErrAlreadyExists)
	}
	c.execs[p.execID] = p
	c.s.events.Publish(&events.TaskExecAdded{ContainerID: c.id, ExecID: p.execID})
	return nil
}
