// SPDX-License-Identifier: Apache-2.0

package task

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/containerd/containerd/api/events"
	api "github.com/containerd/containerd/api/runtime/task/v2"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/emptypb"
)

// Kill sends a signal to one process or, with All, to every process of the
// container.
func (s *Service) Kill(ctx context.Context, r *api.KillRequest) (*emptypb.Empty, error) {
	err := checkSignal(r.GetSignal())
	if err != nil {
		return nil, toGRPC(err)
	}
	c, p, err := s.findProcess(r.GetID(), r.GetExecID())
	switch {
	case err != nil:
	case r.GetAll() && p.execID == "":
		err = asNotFound(c.rt.SignalAll(ctx, int(r.GetSignal())), c.id)
	default:
		err = p.signal(ctx, int(r.GetSignal()))
	}
	if err == nil && r.GetSignal() == uint32(unix.SIGKILL) {
		err = c.thawKilled(ctx)
	}
	if err != nil {
		return nil, toGRPC(err)
	}
	return &emptypb.Empty{}, nil
}

// thawKilled resumes a paused container that was killed: under cgroup v1 a
// frozen process does not die (freezer-subsystem.txt).
func (c *container) thawKilled(ctx context.Context) error {
	c.mu.Lock()
	paused := c.paused
	c.mu.Unlock()
	if !paused {
		return nil
	}
	if err := c.rt.Resume(ctx); err != nil && !isGone(err) {
		return fmt.Errorf("thaw container %s after it was killed while paused: %w", c.id, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.paused = false
	return nil
}

// Pause freezes the container.
func (s *Service) Pause(ctx context.Context, r *api.PauseRequest) (*emptypb.Empty, error) {
	return s.with(r.GetID(), func(c *container) error { return c.pause(ctx) })
}

func (c *container) pause(ctx context.Context) error {
	c.mu.Lock()
	err := c.init.state.checkTransition("pause")
	if err == nil && (c.paused || c.pausing) {
		err = fmt.Errorf("cannot pause a paused container: %w", errdefs.ErrFailedPrecondition)
	}
	c.pausing = c.pausing || err == nil
	c.mu.Unlock()
	if err != nil {
		return err
	}
	err = c.rt.Pause(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pausing, c.paused = false, err == nil
	if err == nil {
		c.s.events.Publish(&events.TaskPaused{ContainerID: c.id})
	}
	return err
}

// Resume thaws the container.
func (s *Service) Resume(ctx context.Context, r *api.ResumeRequest) (*emptypb.Empty, error) {
	return s.with(r.GetID(), func(c *container) error { return c.resume(ctx) })
}

func (c *container) resume(ctx context.Context) error {
	c.mu.Lock()
	err := c.init.state.checkTransition("resume")
	if err == nil && !c.paused {
		err = fmt.Errorf("cannot resume a container that is not paused: %w", errdefs.ErrFailedPrecondition)
	}
	c.mu.Unlock()
	if err != nil {
		return err
	}
	if err := c.rt.Resume(ctx); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.paused {
		c.paused = false
		c.s.events.Publish(&events.TaskResumed{ContainerID: c.id})
	}
	return nil
}

// resourcesURL is the type of the resources that callers send.
const resourcesURL = "opencontainers/runtime-spec/1/LinuxResources"

// Update applies new limits.
func (s *Service) Update(ctx context.Context, r *api.UpdateTaskRequest) (*emptypb.Empty, error) {
	return s.with(r.GetID(), func(c *container) error { return c.update(ctx, r) })
}

func (c *container) update(ctx context.Context, r *api.UpdateTaskRequest) error {
	if u := r.GetResources().GetTypeUrl(); u != "" && !strings.HasSuffix(u, resourcesURL) {
		return fmt.Errorf("resources have type %q; use %s: %w", u, resourcesURL, errdefs.ErrInvalidArgument)
	}
	var res specs.LinuxResources
	if err := json.Unmarshal(r.GetResources().GetValue(), &res); err != nil {
		return fmt.Errorf("resources: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	c.mu.Lock()
	err := c.init.state.checkTransition("update")
	c.mu.Unlock()
	if err != nil {
		return err
	}
	return c.rt.Update(ctx, &res)
}

// ResizePty sets the size of a terminal. If the process does not have its
// terminal yet, it gets that size later.
func (s *Service) ResizePty(_ context.Context, r *api.ResizePtyRequest) (*emptypb.Empty, error) {
	c, p, err := s.findProcess(r.GetID(), r.GetExecID())
	if err == nil && p.terminal { // without a terminal there is nothing to resize
		c.mu.Lock()
		err = p.state.checkTransition("resize")
		c.mu.Unlock()
	}
	if err != nil {
		return nil, toGRPC(err)
	}
	if err := p.io.Resize(r.GetWidth(), r.GetHeight()); err != nil {
		return nil, toGRPC(fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument))
	}
	return &emptypb.Empty{}, nil
}

// CloseIO ends the stdin of a process once its writers have left. It also takes
// effect before and during the Start of an exec: a client may have written
// everything before Start has answered.
func (s *Service) CloseIO(_ context.Context, r *api.CloseIORequest) (*emptypb.Empty, error) {
	_, p, err := s.findProcess(r.GetID(), r.GetExecID())
	if err != nil {
		return nil, toGRPC(err)
	}
	if r.GetStdin() {
		p.io.CloseStdin()
	}
	return &emptypb.Empty{}, nil
}

// Checkpoint is not implemented.
func (s *Service) Checkpoint(context.Context, *api.CheckpointTaskRequest) (*emptypb.Empty, error) {
	return nil, toGRPC(fmt.Errorf("checkpoint is not supported: %w", errdefs.ErrNotImplemented))
}

// Connect returns pids. It never fails: for an unknown container the task's
// pid is 0. After a failed Connect containerd would remove the bundle and never
// call Shutdown.
func (s *Service) Connect(_ context.Context, r *api.ConnectRequest) (*api.ConnectResponse, error) {
	res := &api.ConnectResponse{ShimPid: uint32(os.Getpid())}
	if c, err := s.find(r.GetID()); err == nil {
		res.TaskPid = uint32(c.init.pid)
	}
	return res, nil
}
